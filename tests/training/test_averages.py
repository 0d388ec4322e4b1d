"""The moving average of what learns, and smoothed targets: right by their formulas, and exact on resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import rscap
from recipes import small_recipe
from rscap.errors import RecipeError, StoreError
from rscap.model.adapters import prepare
from rscap.model.load import load_base
from rscap.planning.parameters import Setting, residents
from rscap.planning.shapes import shapes_of_base
from rscap.recipe import Recipe
from rscap.store import RunFolder, read_jsonl
from rscap.training import loop
from rscap.training.checkpoints import read_checkpoint
from rscap.training.optimiser import averaged, learned, trainable
from rscap.training.session import train
from rscap.training.start import Start

STEPS, DECAY = 4, 0.3


def recipe(**changes: Any) -> Recipe:
    """Four updates, every one of them kept, with an evaluation by which weights are selected."""
    steps = {
        "max_steps": STEPS,
        "micro_batch": 2,
        "learning_rate": 1e-2,
        "ema_decay": DECAY,
        "label_smoothing": 0.1,
        "checkpoint_every": 1,
        "keep_checkpoints": STEPS,
        **changes,
    }
    return small_recipe({"data": {"train_limit": 8}, "adapter": {"dropout": 0.1}, "train": steps})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that was not cut off."""
    return train(recipe(), tmp_path_factory.mktemp("averages") / "whole", say=lambda _: None)


def checkpoint(run: RunFolder, step: int) -> Any:
    return read_checkpoint(run.checkpoints / f"step-{step:06}")


def of_adapter(weights: dict[str, Tensor]) -> list[Tensor]:
    return [value for name, value in sorted(weights.items()) if "lora_B" in name]


def test_the_average_is_that_of_its_formula(whole: RunFolder) -> None:
    """From the raw weights of every checkpoint: decay min(d, (1 + n) / (10 + n)) after update n; the adapter is the
    average after the last, which differs from the last weights."""
    raw = [checkpoint(whole, step).weights for step in range(1, STEPS + 1)]
    # LoRA's B begins at 0.
    expected = {name: torch.zeros_like(value) for name, value in raw[0].items() if "lora_B" in name}
    for number, weights in enumerate(raw, 1):
        decay = min(DECAY, (1 + number) / (10 + number))
        expected = {name: decay * value + (1 - decay) * weights[name] for name, value in expected.items()}
    kept = averaged(checkpoint(whole, STEPS).optimiser)
    assert set(kept) == set(raw[0])
    for name, value in expected.items():
        torch.testing.assert_close(kept[name], value, rtol=1e-5, atol=1e-8)
        assert not torch.equal(value, raw[-1][name])
    adapter = load_file(whole.adapter / "adapter_model.safetensors")
    for mine, saved in zip(of_adapter(dict(learned(checkpoint(whole, STEPS)))), of_adapter(adapter), strict=True):
        assert torch.equal(mine, saved)


def test_a_run_with_averages_resumes_bit_for_bit(
    whole: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off after two updates and resumed: the same log, the same averages, the same adapter."""
    step = loop.TrainLog.step

    def dying(self: loop.TrainLog, **values: Any) -> None:
        step(self, **values)
        if values["step"] == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop.TrainLog, "step", dying)
        with pytest.raises(KeyboardInterrupt):
            train(recipe(), tmp_path / "cut", say=lambda _: None)
    resumed = train(recipe(), tmp_path / "cut", say=lambda _: None, resume=True)
    last = f"checkpoints/step-{STEPS:06}"
    for name in ("train.jsonl", "adapter/adapter_model.safetensors", f"{last}/optimiser.safetensors"):
        assert (resumed.path / name).read_bytes() == (whole.path / name).read_bytes(), name


def test_training_itself_is_as_without_an_average(whole: RunFolder, tmp_path: Path) -> None:
    """Only what is kept differs: losses and raw weights are those of a run without an average."""
    without = train(recipe(ema_decay=None), tmp_path / "run", say=lambda _: None)
    assert (without.path / "train.jsonl").read_bytes() == (whole.path / "train.jsonl").read_bytes()
    mine, other = checkpoint(without, STEPS), checkpoint(whole, STEPS)
    assert all(torch.equal(value, other.weights[name]) for name, value in mine.weights.items())
    assert averaged(mine.optimiser) == {}
    assert learned(mine) is mine.weights


def test_evaluations_and_selection_are_of_the_average(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the panel is captioned the model holds the averages, then its weights again; what is selected and saved
    is the average of that step."""
    seen, panel = list[Tensor](), loop.evaluate_panel

    def looking(captioner: Any, *given: Any, **options: Any) -> Any:
        held = dict(captioner.packed.net.named_parameters())
        seen.append(held[min(name for name in held if "lora_B" in name)].detach().clone())
        return panel(captioner, *given, **options)

    monkeypatch.setattr(loop, "evaluate_panel", looking)
    made = recipe(max_steps=2, evaluate_every=1, evaluate_images=1)
    table = made.model_dump(mode="json", exclude_none=True) | {"selection": {"metric": "loss"}}
    run = train(rscap.read_recipe(table), tmp_path / "run", say=lambda _: None)
    name = min(name for name in checkpoint(run, 1).weights if "lora_B" in name)
    for step, value in enumerate(seen, 1):
        assert torch.equal(value, averaged(checkpoint(run, step).optimiser)[name])
    status = run.status()
    assert status.selected is not None
    saved = of_adapter(load_file(run.adapter / "adapter_model.safetensors"))
    best = of_adapter(averaged(checkpoint(run, status.selected.step).optimiser))
    assert all(torch.equal(one, other) for one, other in zip(saved, best, strict=True))


def test_another_run_can_begin_with_the_average_or_with_the_last_weights(whole: RunFolder) -> None:
    """`model.start` of a run is what it keeps, its average; of one of its checkpoints, the weights as they were."""
    last = whole.checkpoints / f"step-{STEPS:06}"
    saved = read_checkpoint(last)
    for path, expected in ((whole.path, averaged(saved.optimiser)), (last, saved.weights)):
        table = recipe().model_dump(mode="json", exclude_none=True)
        made = rscap.read_recipe(table, f"model.start={path}")
        start = Start.of(made)
        assert start is not None
        net = prepare(load_base(made.model).model, made.towers, made.adapter, seed=3)
        start.fill(net)
        assert start.describe()["run"] == str(path)
        for name, parameter in trainable(net).items():
            assert torch.equal(parameter, expected[name]), name
    gone = rscap.read_recipe(table, f"model.start={whole.checkpoints / 'step-000099'}")
    with pytest.raises(StoreError, match="step-000099"):
        Start.of(gone)


def test_smoothing_is_of_training_alone(tmp_path: Path) -> None:
    """The loss of training is that of smoothed targets, that of the panel is not: a run that hardly learns has the
    same panel loss either way, and another training loss."""
    settings = {"max_steps": 1, "learning_rate": 1e-12, "evaluate_every": 1, "evaluate_images": 2, "ema_decay": None}
    rows = []
    for smoothing in (0.0, 0.2):
        made = recipe(**settings, label_smoothing=smoothing)
        rows.append(read_jsonl(train(made, tmp_path / str(smoothing), say=lambda _: None).train_log))
    (plain, plain_panel), (smoothed, smoothed_panel) = rows
    assert smoothed["loss"] > plain["loss"] + 0.1
    assert smoothed_panel["loss"] == pytest.approx(plain_panel["loss"], rel=1e-6)


def test_an_average_is_part_of_the_plan() -> None:
    """Four bytes a trainable parameter, whether adapted or trained."""
    for towers in ({}, {"projector": "trained"}):
        with_average, without = (
            sum(one.optimiser for one in residents(shapes_of_base("nano"), Setting(made)).values())
            for made in (
                small_recipe({"towers": towers, "train": {"ema_decay": 0.999}}),
                small_recipe({"towers": towers}),
            )
        )
        assert with_average * 2 == without * 3


def test_an_average_of_ranks_that_are_taken_away_is_refused() -> None:
    """AdaLoRA sets ranks to zero on its way; an average would bring them back."""
    with pytest.raises(RecipeError, match="ema_decay would bring back"):
        small_recipe({"adapter": {"method": "adalora"}, "train": {"ema_decay": 0.9}})
