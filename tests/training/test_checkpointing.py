"""Gradient checkpointing chosen from the memory at hand: by arithmetic before a run, and on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from recipes import small_recipe
from rscap.errors import RecipeError
from rscap.planning import Card, choose_checkpointing, plan_recipe
from rscap.recipe import Recipe, parse_recipe
from rscap.store import AfterMemoryRanOut, RunFolder, read_jsonl
from rscap.training import loop
from rscap.training import session as running
from rscap.training.checkpoints import read_checkpoint
from rscap.training.session import train
from rscap.training.team import Team

GIB = 2**30


def recipe(checkpointing: object = "auto", **train: Any) -> Recipe:
    """Three steps of nano on ten images of the sample."""
    steps = {"max_steps": 3, "micro_batch": 4, "gradient_checkpointing": checkpointing, **train}
    return small_recipe({"data": {"train_limit": 10}, "adapter": {"dropout": 0.1}, "train": steps})


def real(checkpointing: object) -> Recipe:
    """LoRA on PaliGemma-3B in bfloat16, on data that are not here."""
    train = {"micro_batch": 8, "accumulation": 2, "gradient_checkpointing": checkpointing}
    model = {"base": "google/paligemma-3b-pt-224"}
    return parse_recipe({"data": {"source": "caglarmert/full_riscm"}, "model": model, "adapter": {}, "train": train})


def card(gib: float) -> Card:
    return Card(name="some card", bytes=int(gib * GIB), tflops=100.0)


def at_hand(gib: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with so much memory."""
    monkeypatch.setattr(running, "available_memory", lambda _: card(gib))


def counted(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """An entry for every time that checkpointing is turned on from here."""
    calls: list[bool] = []
    plain = loop.PackedModel.checkpoint_activations
    monkeypatch.setattr(loop.PackedModel, "checkpoint_activations", lambda self: (calls.append(True), plain(self)))
    return calls


def cut_off(folder: Path, monkeypatch: pytest.MonkeyPatch, *, after: int) -> None:
    """Begin a run and stop it once step `after` was logged."""
    step = loop.TrainLog.step

    def dying(self: loop.TrainLog, **values: Any) -> None:
        step(self, **values)
        if values["step"] == after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop.TrainLog, "step", dying)
        with pytest.raises(KeyboardInterrupt):
            train(recipe(checkpoint_every=1), folder, say=lambda _: None)


def losses(folder: RunFolder) -> list[float]:
    return [row["loss"] for row in read_jsonl(folder.train_log)]


def recorded(folder: RunFolder) -> bool:
    return json.loads(folder.provenance_file.read_text(encoding="utf-8"))["gradient_checkpointing"]


def test_checkpointing_begins_where_a_card_is_too_small_without() -> None:
    """Off on every card that holds the plain step, on below, and the border is what the plain step needs."""
    needed = choose_checkpointing(real("auto"), card(80)).needed_without
    assert not choose_checkpointing(real("auto"), Card(name="just", bytes=needed, tflops=1.0)).on
    assert choose_checkpointing(real("auto"), Card(name="too small", bytes=needed - 1, tflops=1.0)).on
    assert 12 * GIB < needed < 40 * GIB


@pytest.mark.parametrize("gib", [80.0, 12.0, 6.0])
def test_a_plan_of_auto_is_the_plan_of_what_it_comes_to(gib: float) -> None:
    """`rscap plan` reckons with `auto` as a run would settle it, and proposes no change that is none."""
    on = choose_checkpointing(real("auto"), card(gib)).on
    left, settled = plan_recipe(real("auto"), card(gib)), plan_recipe(real(on), card(gib))
    assert left.written.needed == settled.written.needed
    assert left.changes == settled.changes


@pytest.mark.parametrize(("gib", "on"), [(0.01, True), (64.0, False)])
def test_a_run_recomputes_only_where_memory_is_short(
    gib: float, on: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a small machine activations are computed again, on a large one not; it is said, recorded, and losses agree."""
    at_hand(gib, monkeypatch)
    calls, said = counted(monkeypatch), list[str]()
    folder = train(recipe(), tmp_path / "auto", say=said.append)
    assert recorded(folder) is on
    assert any(f"gradient checkpointing {'on' if on else 'off'}" in line for line in said)
    assert calls == [True] * on
    asked = train(recipe(on), tmp_path / "asked", say=said.append)
    assert losses(folder) == losses(asked)


def test_a_resumed_run_keeps_its_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that is free on another day does not change a run that has begun."""
    at_hand(0.01, monkeypatch)
    cut_off(tmp_path / "run", monkeypatch, after=1)
    at_hand(64.0, monkeypatch)
    calls = counted(monkeypatch)
    train(recipe(checkpoint_every=1), tmp_path / "run", say=lambda _: None, resume=True)
    assert calls == [True]


def test_out_of_memory_turns_checkpointing_on_before_batches_are_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the arithmetic was wrong the run goes on, its update unchanged, and a resumed one remembers."""
    at_hand(64.0, monkeypatch)
    forward = loop.PackedModel.forward

    def tight(self: loop.PackedModel, batch: Any) -> torch.Tensor:
        if torch.is_grad_enabled() and not self.recomputes:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(self, batch)

    roomy = train(recipe(), tmp_path / "roomy", say=lambda _: None)
    monkeypatch.setattr(loop.PackedModel, "forward", tight)
    said: list[str] = []
    folder = train(recipe(), tmp_path / "tight", say=said.append)
    assert any("out of memory; turned gradient checkpointing on" in line for line in said)
    state = read_checkpoint(folder.checkpoints / "step-000003").state
    assert (state.recomputes, state.halvings) == (True, 0)
    assert folder.status().went_on_with == AfterMemoryRanOut(micro_batch=4, gradient_checkpointing=True)
    assert roomy.status().went_on_with is None
    assert losses(folder) == pytest.approx(losses(roomy), rel=1e-5)

    cut_off(tmp_path / "cut", monkeypatch, after=2)
    again: list[str] = []
    resumed = train(recipe(checkpoint_every=1), tmp_path / "cut", say=again.append, resume=True)
    assert not any("out of memory" in line for line in again)
    assert losses(resumed) == losses(folder)


def test_any_data_at_hand_can_be_reckoned_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """More or fewer images than are looked at: the captions of a sample, or of all, decide."""
    few = recipe().data.model_copy(update={"train_limit": None})
    made = recipe().model_copy(update={"data": few})
    whole = choose_checkpointing(made, card(1))
    monkeypatch.setattr("rscap.planning.search.LOOKED_AT", 20)
    assert choose_checkpointing(made, card(1)).needed_without <= whole.needed_without


def test_decoding_does_not_turn_checkpointing_on() -> None:
    """Captions generated between steps may need more than a step; computing activations again would not help them."""
    table = real("auto").model_dump(mode="json", exclude_none=True)
    table["train"]["evaluate_every"] = 10
    table["generate"]["batch_size"] = 256
    needed = choose_checkpointing(real("auto"), card(80)).needed_without
    assert not choose_checkpointing(parse_recipe(table), Card(name="just", bytes=needed, tflops=1.0)).on


def test_a_shape_that_is_not_known_is_trained_with_checkpointing(tmp_path: Path) -> None:
    """A base that plan cannot reckon with is no reason to refuse: the careful way, and it is said."""
    (tmp_path / "base").mkdir()
    said: list[str] = []
    table = recipe().model_dump(mode="json") | {"model": {"base": str(tmp_path / "base")}}
    team = Team(torch.device("cpu"), 0, 1)
    assert running.recomputes_activations(parse_recipe(table), RunFolder(tmp_path), team, said.append) is True
    assert "is unknown" in said[0]


def test_a_sharded_run_checkpoints_and_one_that_is_not_has_no_need(tmp_path: Path) -> None:
    """`auto` with FSDP, on a machine where the nano model fits many times over."""
    for sharded in (True, False):
        team = Team(torch.device("cpu"), 0, 2, sharded=sharded)
        assert running.recomputes_activations(recipe("auto"), RunFolder(tmp_path), team, lambda _: None) is sharded


def test_only_auto_is_a_word() -> None:
    """Anything else than true, false and auto is refused by its name."""
    with pytest.raises(RecipeError, match="gradient_checkpointing"):
        recipe("sometimes")
