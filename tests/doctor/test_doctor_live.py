"""The doctor with the model in its hands: silent on what is good, and what only a measurement can tell."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from checkout import ROOT
from rscap.captioner.prompt import Prompter
from rscap.data.choice import training_examples
from rscap.doctor import diagnose, probe
from rscap.doctor.checks import CHECKS
from rscap.doctor.evidence import Evidence, Expected
from rscap.doctor.findings import Finding
from rscap.errors import RscapError
from rscap.model.load import load_base
from rscap.model.packed import PackedModel
from rscap.recipe import Recipe, dump_recipe, parse_recipe, read_recipe
from rscap.store import RunFolder, read_json, write_json


def test_a_rate_for_a_reward_is_not_tried_by_likelihood(tmp_path: Path) -> None:
    """A rate that is low for likelihood is usual for a reward: no finding, and the reason stands among what was not
    looked at. A start that is not there is named."""
    table = quick(train={"learning_rate": 1e-6}).model_dump(mode="json", exclude_none=True)
    diagnosis = diagnose(written(parse_recipe({**table, "objective": {"samples": 2}}), tmp_path))
    assert codes(diagnosis.findings) == set()
    assert "trains on a reward" in diagnosis.not_looked_at["learning rate"]
    begun = quick(model={"start": str(tmp_path / "nowhere")})
    assert codes(diagnose(written(begun, tmp_path)).findings) == {"cannot-start"}


def codes(findings: Any) -> set[str]:
    return {finding.code for finding in findings}


def test_a_good_run_has_no_finding(good_run: Path) -> None:
    """Files, model, first batch and trained weights of a good run are looked at, and nothing is found."""
    diagnosis = diagnose(good_run)
    assert diagnosis.findings == ()
    assert diagnosis.not_looked_at == {}
    assert diagnosis.sound


def test_a_good_foreign_run_has_no_finding(good_foreign: Path) -> None:
    """The same run as PEFT and the Trainer leave it, with transformers' own first batch."""
    diagnosis = diagnose(good_foreign)
    assert diagnosis.findings == ()
    assert diagnosis.not_looked_at == {}
    assert diagnosis.kind == "foreign run"


def quick(**sections: dict[str, Any]) -> Recipe:
    """A recipe whose first batch is one image with one caption."""
    table: dict[str, dict[str, Any]] = {
        "data": {"source": "sample", "train_limit": 256, "captions": "random"},
        "model": {"base": "nano", "dtype": "float32"},
        "adapter": {"rank": 8},
        "train": {"micro_batch": 1, "learning_rate": 1e-3},
        "generate": {"max_new_tokens": 32},
    }
    return parse_recipe({name: values | sections.get(name, {}) for name, values in table.items()})


def written(recipe: Recipe, folder: Path) -> Path:
    file = folder / "recipe.toml"
    file.write_text(dump_recipe(recipe), encoding="utf-8")
    return file


def test_a_good_recipe_has_no_finding(tmp_path: Path) -> None:
    """A sound recipe is tried on its first batch, and nothing is found or left unseen."""
    diagnosis = diagnose(written(quick(), tmp_path))
    assert diagnosis.findings == ()
    assert diagnosis.not_looked_at == {}


RECIPES = ROOT / "recipes"
QUICKSTART = RECIPES / "quickstart.toml"
NANO_RECIPES = sorted(file for file in RECIPES.glob("*nano*.toml") if read_recipe(file).model.base == "nano")


def test_the_recipe_of_quickstart_has_no_finding() -> None:
    """What `rscap quickstart` runs is sound."""
    assert diagnose(QUICKSTART).findings == ()


@pytest.mark.parametrize("file", NANO_RECIPES, ids=lambda file: file.stem)
def test_recipes_that_need_no_download_have_no_finding(file: Path, real_data: Path) -> None:
    """The shipped recipes for nano, on the real photographs they are for."""
    assert diagnose(file, overrides=[f"data.source={real_data / 'risc-mini'}"]).findings == ()


@pytest.mark.parametrize(
    ("code", "sections"),
    [
        ("rate-too-high", {"train": {"learning_rate": 1.0}}),
        ("rate-too-high", {"train": {"learning_rate": 1000.0}}),  # it ends below its start: at a uniform guess
        ("rate-too-low", {"train": {"learning_rate": 1e-9}}),
        ("captions-cut", {"generate": {"max_new_tokens": 8}}),
        ("few-training-images", {"data": {"train_limit": 20}}),
        ("cannot-start", {"data": {"source": "/no/such/folder"}}),
        ("cannot-start", {"adapter": {"language_targets": ["q_porj"]}}),
    ],
)
def test_a_recipe_that_will_fail_is_told(code: str, sections: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    """Learning rates are judged by what they do to a loss; data and length limits by what is there."""
    assert codes(diagnose(written(quick(**sections), tmp_path)).findings) == {code}


@pytest.mark.parametrize(("rate", "expected"), [(1e-3, set()), (1e-9, {"rate-too-low"})])
def test_a_base_that_begins_with_an_even_guess_may_still_guess(
    rate: float, expected: set[str], untrained_nano: Path, tmp_path: Path
) -> None:
    """After eight updates a base with random weights has learned little; that alone says nothing of the rate."""
    model = {"base": str(untrained_nano), "dtype": "float32", "pretrained": False}
    made = quick(model=model, train={"learning_rate": rate})
    assert codes(diagnose(written(made, tmp_path)).findings) == expected


def test_a_recipe_with_a_wrong_key_cannot_start(tmp_path: Path) -> None:
    """A recipe that cannot be read is diagnosed, with the nearest right key."""
    file = written(quick(), tmp_path)
    (finding,) = diagnose(file, overrides=["train.learning_rte=1"]).findings
    assert finding.code == "cannot-start"
    assert "learning_rate" in finding.evidence


def measured() -> list[Finding]:
    """What is found on the first batch of a sound recipe, without trying its rate."""
    recipe = quick(train={"micro_batch": 3})
    source, weights = probe._data(recipe)
    base, packed = probe._model(recipe)
    batch = probe._first_batch(recipe, training_examples(source, recipe), weights, base)
    expected = Expected(dtype=recipe.model.dtype, towers=recipe.towers.model_dump())
    evidence = probe._look(Evidence(path=Path(), expected=expected), base, packed, batch)
    return [finding for check in CHECKS for finding in check.look(evidence)]


def without_eos(patch: pytest.MonkeyPatch) -> None:
    plain = Prompter.suffix
    patch.setattr(Prompter, "suffix", lambda self, caption, **name: plain(self, caption, **name)[:-1])


def see_everything(patch: pytest.MonkeyPatch) -> None:
    form = PackedModel._form
    patch.setattr(PackedModel, "_form", lambda self, mask, dtype: form(self, torch.ones_like(mask), dtype))


def causal_prefix(patch: pytest.MonkeyPatch) -> None:
    form = PackedModel._form
    patch.setattr(
        PackedModel,
        "_form",
        lambda self, mask, dtype: form(self, mask.tril() if mask.shape[-1] == mask.shape[-2] else mask, dtype),
    )


def other_precision(patch: pytest.MonkeyPatch) -> None:
    def load(section: Any, **where: Any) -> Any:
        return load_base(section.model_copy(update={"dtype": "bfloat16"}), **where)

    patch.setattr(probe, "load_base", load)


def learning_vision(patch: pytest.MonkeyPatch) -> None:
    plain = probe.prepare

    def prepare(net: Any, *rest: Any, **more: Any) -> Any:
        made = plain(net, *rest, **more)
        net.model.vision_tower.requires_grad_(True)
        return made

    patch.setattr(probe, "prepare", prepare)


def nothing(_: pytest.MonkeyPatch) -> None:
    """No mistake."""


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        (nothing, set()),
        (without_eos, {"no-eos"}),
        (see_everything, {"answer-visible"}),
        (causal_prefix, {"prefix-causal"}),
        (other_precision, {"dtype-not-as-asked"}),
        (learning_vision, {"frozen-tower-learns"}),
    ],
)
def test_a_mistake_in_our_own_code_would_be_seen(
    plant: Callable[[pytest.MonkeyPatch], None], expected: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first batch is measured through the path that training takes, so breaking that path shows."""
    plant(monkeypatch)
    assert codes(measured()) == expected


def test_targets_of_a_packed_batch_are_counted() -> None:
    """Image, prompt and padding targets, missing and doubled <eos> of a packed batch are told apart."""
    recipe = quick(data={"captions": "all"}, train={"micro_batch": 2})
    source, weights = probe._data(recipe)
    base, _ = probe._model(recipe)
    batch = probe._first_batch(recipe, training_examples(source, recipe), weights, base)
    count = lambda changed: probe.targets_of(changed, image=base.image_token_id, eos=1)  # noqa: E731
    sound = count(batch)
    assert (sound.captions, sound.supervised) == (10, batch.targets.numel())
    assert not any((sound.image, sound.prompt, sound.padding, sound.unsupervised, sound.without_eos, sound.several_eos))
    ends = torch.nonzero(batch.targets == 1).flatten()
    targets = batch.targets.clone()
    targets[ends[3]], targets[ends[4] - 1], targets[0] = 7, 1, base.image_token_id
    changed = count(replace(batch, targets=targets))
    assert (changed.image, changed.without_eos, changed.several_eos) == (1, 1, 1)
    columns = batch.source_columns.clone()
    columns[1] = 70 - 5
    assert count(replace(batch, source_columns=columns)).prompt == 1


def edited(run: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> set[str]:
    """The findings after a change of the trained weights, in a run that keeps no digests of them."""
    file = run / "adapter" / "adapter_model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    status = read_json(run / "status.json")
    write_json(run / "status.json", {**status, "weights": {}})
    return codes(diagnose(run).findings)


def test_weights_that_were_changed_are_told(run: Path) -> None:
    """A file of weights that is not what training wrote is found by its digest."""
    file = run / "adapter" / "adapter_model.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(file).items()}, file)
    found = {finding.code: finding.evidence for finding in diagnose(run).findings}
    assert "SHA-256" in found["weights-unfit"]


def test_weights_that_do_not_fit_are_told(run: Path) -> None:
    """An adapter that lacks a key of its model is found by loading it as evaluation does."""
    assert edited(run, lambda tensors: tensors.pop(next(iter(tensors)))) == {"weights-unfit"}


def test_weights_that_learned_nothing_are_told(run: Path) -> None:
    """Trained weights that make a training batch worse than the base does: here the update with its sign turned."""

    def turn(tensors: dict[str, torch.Tensor]) -> None:
        for name, tensor in tensors.items():
            if ".lora_B." in name:
                tensor.neg_()

    assert edited(run, turn) == {"nothing-learned"}


def test_a_run_far_from_its_data_is_still_read(run: Path) -> None:
    """Where the data are not at hand the files are looked at all the same, and the reason is given."""
    text = (run / "recipe.toml").read_text(encoding="utf-8")
    (run / "recipe.toml").write_text(text.replace('"sample"', '"/gone/away"'), encoding="utf-8")
    shutil.rmtree(run / "adapter")
    diagnosis = diagnose(run)
    assert codes(diagnosis.findings) == {"result-missing"}
    assert "/gone/away" in diagnosis.not_looked_at["attention mask"]


def test_a_folder_without_anything_is_an_error(tmp_path: Path) -> None:
    """An empty folder, or a path that is nothing, is refused with what would be looked at."""
    for subject in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(RscapError) as caught:
            diagnose(subject)
        assert caught.value.hint
    RunFolder.create(tmp_path / "begun")
    assert codes(diagnose(tmp_path / "begun").findings) == {"not-finished"}


def test_an_evaluation_in_a_folder_of_its_own_knows_its_run(run: Path, tmp_path: Path) -> None:
    """A trained run asked in other words, in another folder, is told; a zero-shot evaluation has no prompt to keep."""
    folder = RunFolder.create(tmp_path / "asked")
    shutil.copytree(run / "predictions", folder.path / "predictions")
    file = folder.predictions("test")
    file.write_text(file.read_text(encoding="utf-8").replace("caption en", "describe it"), encoding="utf-8")
    shutil.copytree(run / "references", folder.path / "references")
    shutil.copytree(run / "scores", folder.path / "scores")
    folder.close("finished")
    for model, expected in ((str(run), {"prompt-differs"}), ("nano", set())):
        write_json(folder.path / "evaluation.json", {"model": model, "split": "test"})
        diagnosis = diagnose(folder.path)
        assert codes(diagnosis.findings) == expected
        assert diagnosis.not_looked_at == {}
