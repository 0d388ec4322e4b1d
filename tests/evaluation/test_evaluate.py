"""Evaluation: a zero-shot base, a run in its own folder, files; nothing is overwritten and nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from recipes import small_recipe
from rscap import scoring
from rscap.captioner import ModelRef
from rscap.errors import DataError, ModelError, StoreError
from rscap.evaluation.request import Request, evaluate, prepare
from rscap.model.families import FAMILIES
from rscap.model.load import default_prompt
from rscap.recipe import parse_recipe
from rscap.records import Prediction, Rejected
from rscap.store import EvaluationSettings, RunFolder, read_json, read_jsonl, read_thumbnails
from rscap.training.session import train


def silent(*_: Any) -> None:
    """Neither progress nor messages."""


def carry_out(**fields: Any) -> tuple[RunFolder, dict]:
    return evaluate(prepare(Request(**fields)), progress=silent, say=silent)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps on eight images of the sample."""
    steps = {"max_steps": 2, "micro_batch": 4, "learning_rate": 1e-2}
    recipe = small_recipe({"data": {"train_limit": 8}, "train": steps, "generate": {"max_new_tokens": 6}})
    return train(recipe, tmp_path_factory.mktemp("runs") / "small", say=silent).path


def test_a_base_model_is_evaluated_without_training(tmp_path: Path) -> None:
    """A zero-shot evaluation is a run folder of its own: predictions, references, scores, panel, baselines."""
    run, sheets = carry_out(model="nano", source="sample", limit=5, dtype="float32", out=tmp_path / "zero")
    assert set(sheets) == {"zero", "constant", "nearest"}
    assert all(sheet.n == 5 for sheet in sheets.values())
    assert run.status().state == "finished"
    predictions = read_jsonl(run.predictions("test"))
    assert [row["id"] for row in predictions] == [row["id"] for row in read_jsonl(run.references("test"))]
    assert all(row["prefix"] == "caption en" and row["stopped"] in ("eos", "length") for row in predictions)
    written = json.loads(run.scores("test").read_text(encoding="utf-8"))
    assert {"signature", "n", "corpus", "intervals", "items", "unscored"} <= set(written)
    panel = read_json(run.panel("test") / "panel.json")
    assert all((run.panel("test") / entry["file"]).is_file() for entry in panel)
    assert list(read_thumbnails(run.thumbnails("test"))) == [row["id"] for row in predictions]
    assert {folder.name for folder in run.baselines()} == {"constant", "nearest"}


@pytest.mark.parametrize(
    ("family", "words"),
    [("paligemma", "caption en"), ("smolvlm", "Describe this aerial image in one sentence.")],
)
def test_a_base_model_is_asked_with_the_words_of_its_family(
    family: str, words: str, smolnano: Path, tmp_path: Path
) -> None:
    """Without a recipe, before anything is loaded: captions, evaluation and what it could go on from record the same
    words; a prompt that is given replaces them."""
    name = "nano" if family == "paligemma" else str(smolnano)
    ref = ModelRef.of(name, dtype="float32")
    assert ref.prefix == FAMILIES[family].default_prompt == words
    assert ModelRef.of(name, prefix="describe").prefix == "describe"
    run, _ = carry_out(model=name, source="sample", limit=1, dtype="float32", out=tmp_path / "zero", baselines=False)
    assert [row["prefix"] for row in read_jsonl(run.predictions("test"))] == [words]
    assert EvaluationSettings.read(run.evaluation_file).prefix == words


@pytest.mark.parametrize(
    ("base", "family"),
    [
        ("google/paligemma2-3b-pt-224", "paligemma"),
        ("HuggingFaceTB/SmolVLM2-2.2B-Instruct", "smolvlm"),
        ("someone/SmolVLM2-of-mine", "smolvlm"),
        ("no-such-folder", "paligemma"),
    ],
)
def test_words_of_a_base_that_is_not_here_follow_its_name(base: str, family: str) -> None:
    """Nothing is asked of the Hub; a base that cannot be loaded at all is no error before it is loaded."""
    assert default_prompt(base) == FAMILIES[family].default_prompt


def test_whoever_scores_needs_only_the_files(tmp_path: Path) -> None:
    """Scoring the written predictions against the written references gives the written sheet."""
    run, sheets = carry_out(
        model="nano", source="sample", limit=6, dtype="float32", out=tmp_path / "z", baselines=False
    )
    again = scoring.score_captions(
        scoring.load_candidates(run.predictions("test")), scoring.load_references(run.references("test"))
    )
    for metric, value in sheets["z"].corpus.items():
        assert again.corpus[metric] == pytest.approx(value, abs=1e-12)


def test_a_run_is_evaluated_in_its_own_folder_once(trained: Path) -> None:
    """Its own data and words go into the run folder; a second evaluation is refused, elsewhere is allowed."""
    run, _ = carry_out(model=str(trained), split="val", baselines=False)
    assert run.path == trained
    assert run.scores("val").is_file()
    with pytest.raises(StoreError, match="evaluated on val already"):
        prepare(Request(model=str(trained), split="val"))
    assert prepare(Request(model=str(trained), split="val", out=trained / "again")).out == trained / "again"


def test_a_finished_evaluation_is_shown_again(trained: Path, tmp_path: Path) -> None:
    """With `resume` the same request gives the sheets that lie there, and no model is loaded; another request does not
    get them, and without `resume` the place is taken."""
    asked = {"model": "nano", "source": "sample", "limit": 2, "dtype": "float32", "out": tmp_path / "z"}
    run, sheets = carry_out(**asked)
    again, same = carry_out(**asked, resume=True)
    assert again.path == run.path
    assert same == sheets
    with pytest.raises(StoreError, match="z holds another evaluation; they differ in limit"):
        carry_out(**{**asked, "limit": 3}, resume=True)
    with pytest.raises(StoreError):
        carry_out(**asked)


def test_naming_a_runs_own_data_changes_no_place(trained: Path) -> None:
    """`--source` and `--splits` that are those of the run lead to its own folder, others to a new one."""
    own = prepare(Request(model=str(trained), source="sample", splits="official"))
    assert own.in_place
    assert not prepare(Request(model=str(trained), source="sample", splits="seed42")).in_place


def test_an_adapted_model_says_something_else_than_its_base(trained: Path, tmp_path: Path) -> None:
    """Loading a run applies its adapter: captions differ from the base model's."""
    adapted, _ = carry_out(model=str(trained), limit=8, out=tmp_path / "a", baselines=False)
    base, _ = carry_out(model="nano", source="sample", limit=8, dtype="float32", out=tmp_path / "b", baselines=False)
    ours, theirs = ([row["caption"] for row in read_jsonl(run.predictions("test"))] for run in (adapted, base))
    assert ours != theirs


def test_a_base_model_without_data_is_refused() -> None:
    """A zero-shot evaluation has no data of its own; the error says how to name some."""
    with pytest.raises(DataError, match="no data named") as caught:
        prepare(Request(model="nano"))
    assert "--source" in str(caught.value.hint)


def test_a_misspelt_run_is_not_looked_for_on_the_hub(trained: Path) -> None:
    """Beside other runs a name without a folder is a slip; elsewhere it may be a base model's."""
    with pytest.raises(StoreError, match="there is no run") as caught:
        ModelRef.of(str(trained.parent / "rnu"))
    assert trained.name in str(caught.value.hint)
    assert ModelRef.of("google/paligemma-3b-pt-224").trained is None


def test_a_folder_that_trained_nothing_is_refused(tmp_path: Path) -> None:
    """A zero-shot folder is no model."""
    RunFolder.create(tmp_path / "zero")
    with pytest.raises(StoreError, match="trained no model"):
        prepare(Request(model=str(tmp_path / "zero")))


def test_a_model_that_cannot_be_loaded_takes_no_name(tmp_path: Path) -> None:
    """Where the model is missing no folder is made, so that the next try finds the name free."""
    with pytest.raises(ModelError, match="neither a folder nor a Hub name"):
        carry_out(model="no-such-model", source="sample", limit=2, out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_other_words_do_not_go_into_the_runs_own_folder(trained: Path) -> None:
    """A few images or another prompt sent to the run's own folder are refused; its scores are of its own test."""
    for changed in ({"limit": 3}, {"prefix": ""}, {"splits": "seed42"}):
        with pytest.raises(StoreError, match="its own data in its own words"):
            prepare(Request(model=str(trained), out=trained, **changed))


def test_what_was_trained_comes_back_as_it_was(tmp_path: Path) -> None:
    """Trained towers are read back in float32, bit for bit, whole or beside an adapter, though the base is bfloat16."""
    from safetensors.torch import load_file

    for name, towers, adapter in (
        ("whole", {"vision_tower": "trained", "projector": "trained", "language_model": "trained"}, None),
        ("beside", {"projector": "trained"}, {"rank": 2}),
    ):
        table: dict[str, Any] = {
            "data": {"source": "sample", "train_limit": 4},
            "model": {"base": "nano", "dtype": "bfloat16"},
            "towers": towers,
            "train": {"max_steps": 1, "micro_batch": 4},
        }
        recipe = parse_recipe(table if adapter is None else {**table, "adapter": adapter})
        run = train(recipe, tmp_path / name, say=silent)
        packed = ModelRef.of_run(run, recipe).load("cpu").packed
        loaded = dict(packed.net.named_parameters())
        projector = [value for key, value in loaded.items() if "projector" in key and ".original_module." not in key]
        folder = run.adapter / "adapter_model.safetensors" if adapter else run.model / "model.safetensors"
        saved = [value for key, value in load_file(folder).items() if "projector" in key]
        assert {value.dtype for value in projector} == {torch.float32}
        assert sorted(value.sum().item() for value in projector) == sorted(value.sum().item() for value in saved)


def test_files_are_captioned_in_order_and_a_broken_one_is_named(tmp_path: Path) -> None:
    """Image files need no data set; what is no image is told by name and the rest is captioned."""
    from rscap.sample import sample_examples

    paths = []
    for index, example in enumerate(sample_examples()[:2]):
        path = tmp_path / f"{index}.png"
        example.image.load().save(path)
        paths.append(path)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"not an image")
    captioner = ModelRef.of("nano", dtype="float32").load("cpu")
    first, bad, last = captioner.caption([paths[0], broken, paths[1]], errors="keep")
    assert isinstance(first, Prediction)
    assert isinstance(last, Prediction)
    assert [first.example_id, last.example_id] == [str(path) for path in paths]
    assert first.caption
    assert isinstance(bad, Rejected)
    assert bad.row == str(broken)
