"""Memory that runs out: what is tried, in which order, and what a larger card takes back."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import rscap
import rscap.cli
from cards import T4
from recipes import small_recipe
from rscap.allocator import GROWING, NAME, OLD_NAME, let_segments_grow
from rscap.captioner import decoding
from rscap.data import open_source
from rscap.model.memory import is_out_of_memory
from rscap.recipe import Recipe
from rscap.store import BaseOrigin, DataOrigin, Provenance, RunFolder, TrainingState, read_jsonl
from rscap.training import log, loop, room
from rscap.training.checkpoints import read_checkpoint
from rscap.training.room import restore_room
from rscap.training.session import recomputes_activations, train
from rscap.training.team import Team

GIB = 2**30
SHORT = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.mark.parametrize(
    "said",
    [
        "CUDA out of memory. Tried to allocate 256.00 MiB",
        "[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ],
)
def test_memory_that_ran_out_is_recognised(said: str) -> None:
    """As the allocator, cuBLAS and cuDNN word it; another error of a runtime is another error."""
    assert is_out_of_memory(RuntimeError(said))
    assert not is_out_of_memory(ValueError(said))
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))


@pytest.mark.parametrize(("free", "yes"), [(3 * 2**20, True), (8 * GIB, False)])
def test_an_internal_error_means_memory_on_a_full_card_alone(
    free: int, yes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """cuDNN says INTERNAL_ERROR of a full card and of other faults."""
    T4.plug_in(monkeypatch)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (free, 16 * GIB))
    assert is_out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR")) is yes


def recipe(**train: Any) -> Recipe:
    """Two updates of four images each, with dropout."""
    steps = {"max_steps": 2, "micro_batch": 4, "gradient_checkpointing": "auto", **train}
    return small_recipe({"data": {"train_limit": 8}, "adapter": {"dropout": 0.1}, "train": steps})


def losses(run: RunFolder) -> list[float]:
    return [row["loss"] for row in read_jsonl(run.train_log) if row["event"] == "step"]


def failing(monkeypatch: pytest.MonkeyPatch, fails: Callable[[loop.PackedModel, Any], bool]) -> None:
    """Training steps for which memory runs out where `fails` says so."""
    forward = loop.PackedModel.forward

    def tight(self: loop.PackedModel, batch: Any, **options: Any) -> torch.Tensor:
        if torch.is_grad_enabled() and fails(self, batch):
            raise SHORT
        return forward(self, batch, **options)

    monkeypatch.setattr(loop.PackedModel, "forward", tight)


def test_an_allocation_that_fails_once_costs_a_second_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache is emptied and the same update tried again: same losses to the bit, and nothing given up."""
    whole = train(recipe(), tmp_path / "whole", say=lambda _: None)
    left, said, released = [True], list[str](), list[str]()
    release = room.release
    monkeypatch.setattr(room, "release", lambda device: (released.append(device.type), release(device)))
    failing(monkeypatch, lambda *_: bool(left) and left.pop())
    run = train(recipe(), tmp_path / "once", say=said.append)
    assert [line for line in said if "memory" in line and "step" in line] == [
        "step 1: out of memory; trying the same update again with an empty cache"
    ]
    assert released == ["cpu"]
    assert losses(run) == losses(whole)
    assert run.status().went_on_with is None


def test_what_is_given_up_comes_in_order_and_back_on_a_larger_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Empty the cache, recompute activations, then halve micro batches. A run that resumes where there is more memory
    goes on as its recipe says."""
    size = [8 * GIB]
    for module in (loop, room):
        monkeypatch.setattr(module, "memory_size", lambda _: size[0])
    said = list[str]()
    step = loop.TrainLog.step

    def dying(self: loop.TrainLog, **values: Any) -> None:
        step(self, **values)
        if values["step"] == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        failing(patch, lambda packed, batch: not packed.recomputes or batch.images > 2)
        patch.setattr(loop.TrainLog, "step", dying)
        with pytest.raises(KeyboardInterrupt):
            train(recipe(checkpoint_every=1), tmp_path / "run", say=said.append)
    told = [line.partition("out of memory; ")[2] for line in said if "out of memory" in line]
    assert [line.split(",")[0] for line in told] == [
        "trying the same update again with an empty cache",
        "turned gradient checkpointing on",
        "reduced micro batches to 2 images",
    ]
    state = read_checkpoint(tmp_path / "run" / "checkpoints" / "step-000001").state
    assert (state.recomputes, state.halvings, state.short_at) == (True, 1, 8 * GIB)
    size[0] = 24 * GIB
    run = train(recipe(checkpoint_every=1), tmp_path / "run", say=said.append, resume=True)
    assert any("of 8.0 GiB; on this one, of 24.0 GiB, the run continues as its recipe says" in line for line in said)
    assert run.status().went_on_with is None


@pytest.mark.parametrize(("memory", "kept"), [(7 * GIB, True), (8.5 * GIB, True), (24 * GIB, False)])
def test_only_a_larger_card_takes_it_back(memory: int, kept: bool) -> None:
    """Two cards of one kind differ by some hundred MiB."""
    state, said = TrainingState(halvings=2, recomputes=True, short_at=8 * GIB), list[str]()
    restore_room(state, int(memory), said.append)
    assert (state.halvings, state.recomputes) == ((2, True) if kept else (0, False))
    assert bool(said) is not kept


def test_memory_that_runs_out_again_soon_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second failure within a few updates is not tried as it was: gaps between blocks do not come back so fast."""
    said, passes = list[str](), list[bool]()

    def first_pass_of_each_update(packed: loop.PackedModel, batch: Any) -> bool:
        passes.append(True)
        return len(passes) in (1, 3)  # 2 is the second try of the first update

    failing(monkeypatch, first_pass_of_each_update)
    run = train(recipe(), tmp_path / "run", say=said.append)
    assert [line for line in said if "out of memory" in line] == [
        "step 1: out of memory; trying the same update again with an empty cache",
        "step 2: out of memory; turned gradient checkpointing on, the update stays the same",
    ]
    assert run.status().went_on_with is not None


def test_checkpointing_is_decided_once_on_each_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was chosen for a small card does not bind a run that resumes on a large one, where it is chosen anew."""
    run, said = RunFolder(tmp_path), list[str]()
    began = Provenance(
        device_name="Tesla T4", gradient_checkpointing=True, data=DataOrigin(digest="d"), base=BaseOrigin(name="nano")
    )
    began.write(run.provenance_file)
    assert recomputes_activations(recipe(), run, Team(T4.plug_in(monkeypatch)), said.append) is True
    assert said == []
    assert recomputes_activations(recipe(), run, Team(torch.device("cpu")), said.append) is False
    assert "gradient checkpointing off" in said[0]


def test_the_cache_is_released_after_an_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Captions leave blocks of other sizes than an update needs."""
    released = list[str]()
    monkeypatch.setattr(loop, "release", lambda device: released.append(device.type))
    train(recipe(max_steps=1, evaluate_every=1, evaluate_images=1), tmp_path / "run", say=lambda _: None)
    assert released == ["cpu"]


def test_taken_and_reserved_memory_are_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a GPU, both peaks since the update before; of a CPU, the process as it is."""
    reset = list[Any]()
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 5)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda _: 7)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset.append)
    assert log.memory_since(torch.device("cuda", 0)) == (5, 7)
    assert reset == [torch.device("cuda", 0)]
    assert log.memory_since(torch.device("cpu")).reserved is None


def test_captions_whose_memory_runs_out_once_are_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is decoded again as it was; only if that fails too are its halves, and the captions are the same."""
    images = [example.image.load() for example in open_source("sample").subset("train", 4, 0)]
    with rscap.load("nano", device="cpu") as model:
        expected = model.caption(images, max_new_tokens=3)
        sizes, decode = list[int](), decoding.decode
        for failures, tried in ((1, [4, 4]), (2, [4, 4, 2, 2])):
            sizes.clear()

            def short(packed: Any, batch: Any, *, _failures: int = failures, **options: Any) -> Any:
                sizes.append(batch.images)
                if len(sizes) <= _failures:
                    raise SHORT
                return decode(packed, batch, **options)

            monkeypatch.setattr(decoding, "decode", short)
            assert [one.caption for one in model.caption(images, max_new_tokens=3)] == [one.caption for one in expected]
            assert sizes == tried


@pytest.fixture
def before_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has not imported torch, on a system with growing segments, whose user chose nothing."""
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(sys, "platform", "linux")
    for name in (NAME, OLD_NAME):
        monkeypatch.delenv(name, raising=False)


def test_the_command_line_asks_for_segments_that_grow(before_torch: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a command runs, by the name that the installed torch reads."""
    seen = list[str | None]()
    monkeypatch.setattr(rscap.cli, "app", lambda: seen.append(os.environ.get(NAME)))
    with pytest.raises(SystemExit):
        rscap.cli.main()
    assert seen == [GROWING]


@pytest.mark.parametrize("name", [NAME, OLD_NAME])
def test_what_the_user_chose_stays(name: str, before_torch: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the new name or the old one; and nothing is set once torch has read it."""
    monkeypatch.setenv(name, "max_split_size_mb:128")
    let_segments_grow()
    assert [os.environ.get(one) for one in (NAME, OLD_NAME)].count(GROWING) == 0
    monkeypatch.delenv(name)
    monkeypatch.setitem(sys.modules, "torch", torch)
    let_segments_grow()
    assert NAME not in os.environ


def test_an_older_torch_reads_the_older_name(before_torch: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """2.9 renamed it."""
    monkeypatch.setattr("rscap.allocator.version", lambda _: "2.8.1+cu126")
    let_segments_grow()
    assert (os.environ.get(OLD_NAME), os.environ.get(NAME)) == (GROWING, None)
