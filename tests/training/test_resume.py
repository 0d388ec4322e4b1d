"""A run that was cut off ends as if nothing had happened; a damaged checkpoint is never believed."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from recipes import small_recipe
from rscap.captioner.loader import grouped
from rscap.errors import Interrupted, OutOfMemory, RecipeError, StoreError
from rscap.model.adapters import preparation
from rscap.model.adapters.start import Factors
from rscap.recipe import Recipe, dump_recipe
from rscap.store import AfterMemoryRanOut, Best, RunFolder, TrainingState, read_jsonl
from rscap.training import checkpoints, loop
from rscap.training.checkpoints import Checkpoints, read_checkpoint
from rscap.training.session import train


def recipe(**changes: Any) -> Recipe:
    """Seven steps of nano on ten images of the sample, three an epoch, a checkpoint at every second."""
    return small_recipe(
        {
            "data": {"train_limit": 10, "captions": "random", "augment": "turns"},
            "adapter": {"dropout": 0.1},
            "train": {
                "max_steps": 7,
                "micro_batch": 2,
                "accumulation": 2,
                "checkpoint_every": 2,
                "evaluate_every": 3,
                "evaluate_images": 2,
            },
            "generate": {"max_new_tokens": 4},
        },
        changes,
    )


def run(made: Recipe, folder: Path, *, resume: bool = False, said: list[str] | None = None) -> RunFolder:
    return train(made, folder, say=(said if said is not None else []).append, resume=resume)


def ends(folder: RunFolder) -> dict[str, bytes]:
    """What must not depend on how often a run was cut off: adapter, optimiser, log."""
    last = Checkpoints(folder.checkpoints, 1).steps()[-1]
    state = folder.checkpoints / f"step-{last:06}"
    files = [
        folder.train_log,
        folder.adapter / "adapter_model.safetensors",
        state / "weights.safetensors",
        state / "optimiser.safetensors",
    ]
    return {path.name: path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The run that nothing disturbed."""
    return run(recipe(), tmp_path_factory.mktemp("whole") / "run")


def cut_off(folder: Path, *, after: int, monkeypatch: pytest.MonkeyPatch, made: Recipe | None = None) -> None:
    """Stop a run right after step `after` was logged, saving nothing."""

    class Cut(Exception):
        pass

    step = loop.TrainLog.step

    def dying(self: loop.TrainLog, **values: Any) -> None:
        step(self, **values)
        if values["step"] == after:
            raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(loop.TrainLog, "step", dying)
        with pytest.raises(Cut):
            run(made or recipe(), folder)


@pytest.fixture(scope="module")
def cut_short(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    """Puts the folder of a run that was cut off somewhere; each is trained once and copied."""
    place = tmp_path_factory.mktemp("cut")

    def put(folder: Path, *, after: int) -> None:
        if not (kept := place / str(after)).exists():
            with pytest.MonkeyPatch.context() as patch:
                cut_off(kept, after=after, monkeypatch=patch)
        shutil.copytree(kept, folder)

    return put


@pytest.mark.parametrize("after", [1, 4, 5])
def test_a_run_cut_off_anywhere_ends_the_same(
    after: int, whole: RunFolder, tmp_path: Path, cut_short: Callable[..., None]
) -> None:
    """Before the first checkpoint, in the middle of an epoch, at its end: adapter, optimiser and log byte for byte."""
    cut_short(tmp_path / "run", after=after)
    resumed = run(recipe(), tmp_path / "run", resume=True)
    assert ends(resumed) == ends(whole)
    assert resumed.status().state == "finished"
    assert [row["step"] for row in read_jsonl(resumed.speed_log)] == list(range(1, 8))


def killed(command: list[str], folder: RunFolder, *, at: str, new: set[Path]) -> None:
    """Start the command and kill -9 it the moment that something new called `at` appears among the checkpoints."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not set(folder.checkpoints.glob(at)) - new and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.slow  # three processes; the same within one: test_a_run_cut_off_anywhere_ends_the_same
@pytest.mark.parametrize("method", ["lora", pytest.param("pissa", marks=pytest.mark.slow)])
def test_a_run_of_another_family_ends_the_same(
    method: str, smolnano: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SmolVLM2's twin, its projector trained too: cut off and resumed, it ends byte for byte as one that was not."""
    made = recipe(
        model={"base": str(smolnano), "pretrained": False},
        adapter={"method": method, "dropout": 0.0},
        towers={"projector": "trained"},
    )
    undisturbed = run(made, tmp_path / "whole")
    cut_off(tmp_path / "cut", after=4, monkeypatch=monkeypatch, made=made)
    assert ends(run(made, tmp_path / "cut", resume=True)) == ends(undisturbed)


def test_a_process_killed_outright_ends_the_same(whole: RunFolder, tmp_path: Path) -> None:
    """kill -9 on the command itself, in the writing of its first checkpoint and again after its next one; then
    `--resume` ends as the run that nobody disturbed."""
    (tmp_path / "recipe.toml").write_text(dump_recipe(recipe()), encoding="utf-8")
    folder = RunFolder(tmp_path / "run")
    train_it = [sys.executable, "-m", "rscap", "train"]
    killed([*train_it, str(tmp_path / "recipe.toml"), "--out", str(folder.path)], folder, at=".saving-*", new=set())
    assert folder.status().state == "started"
    there = set(folder.checkpoints.glob("step-*"))
    killed([*train_it, str(folder.path), "--resume"], folder, at="step-*", new=there)
    done = subprocess.run([*train_it, str(folder.path), "--resume"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "resuming after step" in done.stderr
    assert not list(folder.checkpoints.glob(".saving-*"))
    assert ends(folder) == ends(whole)


INTERRUPTED = '''"""What a worker does in the test below."""

import os
import shutil
import signal

from rscap.errors import DataError


def interrupted(place):
    os.kill(os.getpid(), signal.SIGINT)
    raise DataError("went on after Ctrl-C")


def name(place):
    return str(place)
'''


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_and_says_how_to_go_on(
    number: signal.Signals, whole: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The update at hand is finished, a checkpoint written, the status `interrupted`; the resumed end is the same."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which `nohup` ignores
    step = loop.TrainLog.step

    def ask(self: loop.TrainLog, **values: Any) -> None:
        step(self, **values)
        if values["step"] == 3:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(loop.TrainLog, "step", ask)
        with pytest.raises(Interrupted, match=f"{number.name} after step 3") as caught:
            run(recipe(), tmp_path / "run")
    signal.signal(signal.SIGHUP, before)
    assert "--resume" in str(caught.value.hint)
    folder = RunFolder(tmp_path / "run")
    assert folder.status().state == "interrupted"
    assert Checkpoints(folder.checkpoints, 1).steps()[-1] == 3
    assert ends(run(recipe(), folder.path, resume=True)) == ends(whole)


def test_a_worker_leaves_ctrl_c_to_the_training_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal interrupts data workers, too; they go on, so that the update at hand can be finished and saved."""
    (tmp_path / "interrupting.py").write_text(INTERRUPTED, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("interrupting")
    made = list(grouped([[0], [1]], module.interrupted, name=module.name, pad=0, workers=1))
    assert [batch.rejected[0].reason for batch in made] == ["went on after Ctrl-C"] * 2


@pytest.mark.parametrize("name", ["weights.safetensors", "optimiser.safetensors", "progress.json"])
@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_checkpoint_is_refused_by_name_and_the_one_before_used(
    name: str, damage: str, whole: RunFolder, tmp_path: Path, cut_short: Callable[..., None]
) -> None:
    """One byte changed or the end cut off, in any file: it is set aside, and the run goes on from the one before."""
    cut_short(tmp_path / "run", after=5)
    folder = RunFolder(tmp_path / "run")
    path = folder.checkpoints / "step-000004" / name
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 0x01
    path.write_bytes(content if damage == "flipped" else content[: len(content) // 2])
    said: list[str] = []
    saved = Checkpoints(folder.checkpoints, 2).newest(said.append)
    assert saved is not None
    assert saved.state.step == 2
    assert name in said[0]
    assert (folder.checkpoints / "damaged-step-000004").is_dir()


@pytest.mark.parametrize("field", ["step", "images", "tokens", "halvings", "overflows", "waited", "log_bytes"])
def test_a_digit_of_the_progress_that_changed_is_noticed(field: str, tmp_path: Path) -> None:
    """Every number of progress.json is under its digest."""
    kept = Checkpoints(tmp_path, 2)
    kept.save(TrainingState(step=1), {"a": torch.zeros(2)}, {})
    path = kept.at(1) / "progress.json"
    row = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**row, field: row[field] + 1}), encoding="utf-8")
    with pytest.raises(StoreError, match=r"progress.json is damaged"):
        read_checkpoint(kept.at(1))


def test_only_damaged_checkpoints_are_an_error(tmp_path: Path) -> None:
    """A run is never begun again in silence because its checkpoints cannot be read."""
    kept = Checkpoints(tmp_path, 2)
    kept.save(TrainingState(step=1), {"a": torch.zeros(2)}, {})
    (kept.at(1) / "weights.safetensors").unlink()
    with pytest.raises(StoreError, match="every checkpoint"):
        kept.newest(lambda _: None)
    with pytest.raises(StoreError, match="every checkpoint"):
        kept.newest(lambda _: None)


def test_the_last_and_the_best_are_kept(tmp_path: Path) -> None:
    """Of eight checkpoints, two kept and step 3 the best: 3, 7 and 8 remain."""
    kept = Checkpoints(tmp_path, 2)
    for step in range(1, 9):
        kept.save(TrainingState(step=step, best=Best(min(step, 3), 1.0)), {"a": torch.full((2,), float(step))}, {})
    assert kept.steps() == [3, 7, 8]
    kept.save(TrainingState(step=9, best=Best(9, 2.0)), {"a": torch.zeros(2)}, {})
    assert kept.steps() == [3, 8, 9]  # 8 may be gone back to, and its best is 3
    assert read_checkpoint(kept.at(3)).weights["a"].tolist() == [3.0, 3.0]


def test_a_save_cut_off_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the middle of writing, a checkpoint does not exist; its leftovers are cleared away."""
    kept = Checkpoints(tmp_path, 2)
    kept.save(TrainingState(step=1), {"a": torch.zeros(2)}, {})
    leftover = tmp_path / ".saving-xyz"
    leftover.mkdir()
    (leftover / "weights.safetensors").write_bytes(b"half")
    (tmp_path / ".start.safetensors.xyz.part").write_bytes(b"half")
    found = kept.newest(lambda _: None)
    assert found is not None
    assert found.state.step == 1
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]


def test_a_full_disk_names_the_checkpoint_that_is_still_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No space left: the error says so, which state is whole and how to go on; nothing half-written remains."""
    kept = Checkpoints(tmp_path / "checkpoints", 2)
    kept.save(TrainingState(step=1), {"a": torch.zeros(2)}, {})

    def full(*_: Any, **__: Any) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")  # what the library raises

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(StoreError, match="No space left") as caught:
        kept.save(TrainingState(step=2), {"a": torch.zeros(2)}, {})
    assert "step 1 is intact" in str(caught.value.hint)
    assert "--resume" in str(caught.value.hint)
    assert sorted(path.name for path in kept.folder.iterdir()) == ["step-000001"]


def test_another_recipe_is_refused(whole: RunFolder) -> None:
    """A run goes on by its own recipe; what differs is named."""
    with pytest.raises(RecipeError, match=r"adapter.rank: 2 → 3"):
        run(recipe(adapter={"rank": 3}), whole.path, resume=True)


def test_a_finished_run_is_left_alone(whole: RunFolder) -> None:
    """`--resume` on a finished run changes no file."""
    before = {path: path.stat().st_mtime_ns for path in whole.path.rglob("*")}
    run(recipe(), whole.path, resume=True)
    assert {path: path.stat().st_mtime_ns for path in whole.path.rglob("*")} == before


def test_changed_data_is_refused(tmp_path: Path, cut_short: Callable[..., None]) -> None:
    """A run does not go on with other images or captions than it began with."""
    cut_short(tmp_path / "run", after=3)
    provenance = tmp_path / "run" / "provenance.json"
    row = json.loads(provenance.read_text(encoding="utf-8"))
    row["data"]["digest"] = "0" * 64
    provenance.write_text(json.dumps(row), encoding="utf-8")
    with pytest.raises(StoreError, match="data changed"):
        run(recipe(), tmp_path / "run", resume=True)


def test_a_section_taken_out_is_another_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run begun with early stopping does not go on without it."""
    made = recipe(selection={"patience": 3})
    cut_off(tmp_path / "run", after=1, monkeypatch=monkeypatch, made=made)
    with pytest.raises(RecipeError, match=r"selection"):
        run(recipe(), tmp_path / "run", resume=True)


def test_a_kill_in_the_first_write_does_not_take_the_name(tmp_path: Path) -> None:
    """A folder that holds a half-written status alone is free, and a run begins in it."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".status.json.x.part").write_text("{", encoding="utf-8")
    RunFolder.check_free(tmp_path / "run")


def test_an_interrupted_run_that_finished_says_nothing_of_it(tmp_path: Path, cut_short: Callable[..., None]) -> None:
    """The status of a finished run holds no error of an earlier sitting, and the seconds of all of them."""
    cut_short(tmp_path / "run", after=3)
    assert RunFolder(tmp_path / "run").status().error
    status = run(recipe(), tmp_path / "run", resume=True).status()
    assert status.error is None
    assert status.loop_seconds > 0


def starving(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory for `limit` images at once."""
    forward = loop.PackedModel.forward

    def small(self: Any, batch: Any) -> torch.Tensor:
        if torch.is_grad_enabled() and batch.images > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(self, batch)

    monkeypatch.setattr(loop.PackedModel, "forward", small)


def test_out_of_memory_halves_the_micro_batch_and_keeps_the_update(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Micro batches of 4 do not fit, of 1 do: the same losses to rounding, it is said, and remembered on resume."""
    made = recipe(train={"micro_batch": 4, "accumulation": 1, "evaluate_every": None}, adapter={"dropout": 0.0})
    roomy = run(made, tmp_path / "roomy")
    starving(1, monkeypatch)
    said: list[str] = []
    tight = run(made, tmp_path / "tight", said=said)
    assert any("micro batches to 2 images" in line for line in said)
    assert any("micro batches to 1 image," in line for line in said)
    losses = [[row["loss"] for row in read_jsonl(one.train_log)] for one in (roomy, tight)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert [row["images"] for row in read_jsonl(tight.train_log)] == [
        row["images"] for row in read_jsonl(roomy.train_log)
    ]
    assert read_checkpoint(tight.checkpoints / "step-000007").state.halvings == 2
    assert tight.status().went_on_with == AfterMemoryRanOut(micro_batch=1, gradient_checkpointing=False)
    cut_off(tmp_path / "cut", after=5, monkeypatch=monkeypatch, made=made)
    assert ends(run(made, tmp_path / "cut", resume=True)) == ends(tight)


@pytest.mark.parametrize("size", [3, 5, 6])
def test_halving_goes_down_to_single_images(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Micro batches whose size is no power of two come down to one image as well."""
    starving(1, monkeypatch)
    train = {"micro_batch": size, "accumulation": 1, "max_steps": 1, "evaluate_every": None}
    assert len(read_jsonl(run(recipe(train=train), tmp_path / "run").train_log)) == 1


def test_one_image_that_does_not_fit_is_an_error_with_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing left to halve: the error names what to try."""
    starving(0, monkeypatch)
    with pytest.raises(OutOfMemory, match="single image") as caught:
        run(recipe(), tmp_path / "run")
    assert "gradient_checkpointing" in str(caught.value.hint)


def test_two_processes_never_train_in_one_folder(tmp_path: Path, cut_short: Callable[..., None]) -> None:
    """The folder is locked while a run is in it."""
    from filelock import FileLock

    cut_short(tmp_path / "run", after=2)
    with FileLock(tmp_path / "run" / ".lock"), pytest.raises(StoreError, match="another process"):
        run(recipe(), tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    "method", ["adalora", "vera", *(pytest.param(name, marks=pytest.mark.slow) for name in ("pissa", "eva", "corda"))]
)
def test_every_kind_of_method_resumes_bit_for_bit(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Methods that start from a decomposition or from activations, or that move their ranks while they train."""
    train = {"max_steps": 6, "evaluate_every": None, "checkpoint_every": 1}
    made = recipe(adapter={"method": method, "rank": 4, "dropout": 0.0}, train=train)
    whole = run(made, tmp_path / "whole")
    cut_off(tmp_path / "cut", after=4, monkeypatch=monkeypatch, made=made)
    assert ends(run(made, tmp_path / "cut", resume=True)) == ends(whole)


def starts_elsewhere(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine: its decomposition has other signs, and other last digits."""
    start_factors = preparation.start_factors

    def other(*arguments: Any, **options: Any) -> dict[str, Factors]:
        found = start_factors(*arguments, **options)
        return {
            name: Factors(start.a * -1.000001, None if start.b is None else start.b * -1.000001)
            for name, start in found.items()
        }

    monkeypatch.setattr(preparation, "start_factors", other)


@pytest.mark.parametrize(
    ("method", "after"),  # the first checkpoint is that of step 3
    [
        ("pissa", 4),
        ("eva", 1),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in (("pissa", 1), ("eva", 4))),
        *(pytest.param(name, after, marks=pytest.mark.slow) for name in ("olora", "corda") for after in (1, 4)),
    ],
)
def test_a_run_resumed_on_another_machine_keeps_its_start(
    method: str, after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine that resumes would compute other initial factors: the run ends bit for bit as if undisturbed."""
    train = {"max_steps": 6, "evaluate_every": None, "checkpoint_every": 3}
    made = recipe(adapter={"method": method, "rank": 4, "dropout": 0.0}, train=train)
    whole = run(made, tmp_path / "whole")
    cut_off(tmp_path / "cut", after=after, monkeypatch=monkeypatch, made=made)
    starts_elsewhere(method, monkeypatch)
    assert ends(run(made, tmp_path / "cut", resume=True)) == ends(whole)
    assert ends(run(made, tmp_path / "elsewhere")) != ends(whole)  # this start is another one


def test_a_run_begun_without_its_start_resumes_with_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """rscap 0.1 kept no initial factors: they are computed again, and the person is told what that means."""
    made = recipe(
        adapter={"method": "pissa", "rank": 4, "dropout": 0.0}, train={"max_steps": 4, "evaluate_every": None}
    )
    whole = run(made, tmp_path / "whole")
    cut_off(tmp_path / "cut", after=3, monkeypatch=monkeypatch, made=made)
    start = tmp_path / "cut" / "checkpoints" / "start.safetensors"
    start.unlink()
    said: list[str] = []
    assert ends(run(made, tmp_path / "cut", resume=True, said=said)) == ends(whole)
    assert any("no initial factors of pissa" in line for line in said)
    assert not start.exists()  # nobody knows whether these are the ones the run began with


def test_a_start_from_the_seed_alone_keeps_no_file(whole: RunFolder) -> None:
    """Plain LoRA's initial factors are a function of the seed: its checkpoints are what they were."""
    assert sorted(path.name for path in whole.checkpoints.iterdir()) == ["step-000006", "step-000007"]


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_start_is_refused(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One byte changed or the end cut off: the run does not go on from factors it did not begin with."""
    kept = Checkpoints(tmp_path, 2)
    factors = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(3, dtype=torch.bfloat16)}
    kept.write_start(factors)
    found = kept.read_start()
    assert {name: (value.dtype, value.tolist()) for name, value in found.items()} == {
        name: (value.dtype, value.tolist()) for name, value in factors.items()
    }
    path = tmp_path / "start.safetensors"
    content = bytearray(path.read_bytes())
    content[-2] ^= 0x01
    path.write_bytes(content if damage == "flipped" else content[:-2])
    with pytest.raises(StoreError, match=r"start\.safetensors is damaged"):
        kept.read_start()
