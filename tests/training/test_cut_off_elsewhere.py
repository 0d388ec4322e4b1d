"""Outside the loop too a run that cannot go on says so, and goes on later: before it, after it, and on a full disk."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from safetensors import SafetensorError

import rscap.cli
from recipes import small_recipe
from rscap.captioner import ModelRef
from rscap.errors import Interrupted, StoreError
from rscap.exporting.request import ExportRequest, export
from rscap.recipe import Recipe, parse_recipe
from rscap.stopping import StopRequest, heeded, stopping
from rscap.store import RunFolder, no_room, read_json, read_jsonl, write_json
from rscap.training import session as running
from rscap.training.checkpoints import Checkpoints
from rscap.training.session import train
from rscap.training.team import Team

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
FULL_TOO = SafetensorError(f"Error while serializing: I/O error: {os.strerror(errno.ENOSPC)} (os error 28)")


def recipe() -> Recipe:
    """Three steps of nano, a checkpoint after each."""
    return small_recipe(
        {"data": {"train_limit": 8}, "train": {"max_steps": 3, "micro_batch": 2, "checkpoint_every": 1}},
        {"seed": 0, "generate": None},
    )


def auto() -> Recipe:
    table = recipe().model_dump(mode="json", exclude_none=True)
    return parse_recipe(table | {"train": table["train"] | {"gradient_checkpointing": "auto"}})


def run(folder: Path, *, resume: bool = False, said: list[str] | None = None) -> RunFolder:
    return train(recipe(), folder, say=(said if said is not None else []).append, resume=resume)


def weights(folder: RunFolder) -> bytes:
    return (folder.adapter / "adapter_model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run."""
    return run(tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture
def finished(whole: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of it."""
    return RunFolder(Path(shutil.copytree(whole.path, tmp_path / "run")))


@pytest.mark.parametrize("error", [FULL, FULL_TOO], ids=["system", "safetensors"])
def test_a_disk_that_is_full_when_the_adapter_is_written(
    error: Exception, whole: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two sentences and not a traceback; with room again the run ends as it would have."""

    def full(*_: Any) -> NoReturn:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(running, "save_adapter", full)
        with pytest.raises(StoreError, match="No space left") as caught:
            run(tmp_path / "run")
    assert f"rscap train {tmp_path / 'run'} --resume" in str(caught.value.hint)
    assert RunFolder(tmp_path / "run").status().state == "failed"
    assert weights(run(tmp_path / "run", resume=True)) == weights(whole)


@pytest.mark.parametrize("part", ["calibration", "_prepared", "save_adapter"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_or_after_the_loop(
    number: signal.Signals, part: str, whole: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a start is computed or the adapter written, the run ends at once, as `interrupted`, and can go on."""
    plain = getattr(running, part)

    def signalled(*arguments: Any, **names: Any) -> Any:
        os.kill(os.getpid(), number)
        return plain(*arguments, **names)

    with monkeypatch.context() as patch:
        patch.setattr(running, part, signalled)
        with pytest.raises(Interrupted, match=number.name) as caught:
            run(tmp_path / "run")
    assert "--resume" in str(caught.value.hint)
    assert RunFolder(tmp_path / "run").status().state == "interrupted"
    assert not list((tmp_path / "run").glob(".saving-*"))
    assert weights(run(tmp_path / "run", resume=True)) == weights(whole)


def test_what_nohup_ignores_stays_ignored() -> None:
    """A run begun with `nohup` outlives its terminal: the hang-up that it was told to ignore stops nothing."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert signal.SIGHUP not in heeded()
        with stopping(), StopRequest() as request:
            os.kill(os.getpid(), signal.SIGHUP)
        assert request.name is None
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        assert signal.SIGHUP in heeded()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_adapter_that_is_gone_is_written_again(finished: RunFolder) -> None:
    """`finished` is not believed where the result is missing; the last checkpoint has it."""
    before = weights(finished)
    shutil.rmtree(finished.adapter)
    assert weights(run(finished.path, resume=True)) == before


def test_weights_that_are_not_those_of_the_training_are_refused(finished: RunFolder) -> None:
    """One byte of the adapter is another: neither captions nor an export are made of it; --resume writes it again."""
    file = finished.adapter / "adapter_model.safetensors"
    before = file.read_bytes()
    file.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    with pytest.raises(StoreError, match=r"adapter_model\.safetensors is not what training wrote"):
        ModelRef.of(str(finished.path)).load("cpu")
    with pytest.raises(StoreError, match="not what training wrote"):
        export(ExportRequest(run=finished.path), say=lambda _: None)
    file.unlink()
    with pytest.raises(StoreError, match="is missing") as caught:
        ModelRef.of(str(finished.path)).load("cpu")
    assert "--resume" in str(caught.value.hint)
    shutil.rmtree(finished.adapter)
    run(finished.path, resume=True)
    assert file.read_bytes() == before
    ModelRef.of(str(finished.path)).load("cpu")


def test_a_run_of_an_earlier_version_is_loaded(finished: RunFolder) -> None:
    """Its status.json remembers no weights."""
    write_json(finished.status_file, {"state": "finished"})
    ModelRef.of(str(finished.path)).load("cpu")


@pytest.mark.parametrize("left", [None, 100])
def test_a_log_that_lost_lines_is_told(left: int | None, finished: RunFolder) -> None:
    """Gone or cut short: which file, how long it was, and both ways on."""
    shutil.rmtree(finished.adapter)
    if left is None:
        finished.train_log.unlink()
    else:
        os.truncate(finished.train_log, left)
    with pytest.raises(StoreError, match=rf"train\.jsonl has {left or 0} bytes, but had \d+") as caught:
        run(finished.path, resume=True)
    assert "one before it" in str(caught.value.hint)


def test_times_that_cannot_be_read_stop_nothing(finished: RunFolder) -> None:
    """speed.jsonl is of no consequence: a broken line of it is left out."""
    shutil.rmtree(finished.adapter)
    finished.speed_log.write_text('{"step": 1\n' + finished.speed_log.read_text(encoding="utf-8"), encoding="utf-8")
    run(finished.path, resume=True)
    assert [row["step"] for row in read_jsonl(finished.speed_log)] == [1, 2, 3]


def test_beginning_again_for_want_of_checkpoints_is_said(finished: RunFolder) -> None:
    """Their folder is gone: all steps are done again, and the person hears of it."""
    before = weights(finished)
    shutil.rmtree(finished.adapter)
    shutil.rmtree(finished.checkpoints)
    said: list[str] = []
    run(finished.path, resume=True, said=said)
    assert any("no checkpoint: the run starts again" in line for line in said)
    assert weights(finished) == before
    assert Checkpoints(finished.checkpoints, 1).steps()[-1] == 3


def test_a_provenance_that_says_nothing_is_told(finished: RunFolder) -> None:
    """Whether data and base are those of the beginning cannot be known: no traceback, and not silence."""
    shutil.rmtree(finished.adapter)
    for nothing in ({}, [], {"data": 1, "base": {}}):
        write_json(finished.provenance_file, nothing)
        with pytest.raises(StoreError, match=r"provenance\.json is damaged"):
            run(finished.path, resume=True)
        with pytest.raises(StoreError, match=r"provenance\.json is damaged"):
            running.recomputes_activations(auto(), finished, Team(torch.device("cpu")), print)


def test_another_number_of_processes_is_told(finished: RunFolder) -> None:
    """Sums over processes have other last bits: said on the screen, and kept with the sitting."""
    shutil.rmtree(finished.adapter)
    write_json(finished.provenance_file, {**read_json(finished.provenance_file), "processes": 2})
    said: list[str] = []
    run(finished.path, resume=True, said=said)
    assert any("changed since the run began: processes" in line for line in said)
    assert read_json(finished.provenance_file)["resumed"][-1]["processes"] == 1


@pytest.mark.parametrize("error", [FULL, FULL_TOO], ids=["system", "safetensors"])
def test_no_command_shows_a_traceback_for_a_full_disk(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever was being written: an error, a hint, exit code 2."""

    def full() -> NoReturn:
        raise error

    monkeypatch.setattr(rscap.cli, "app", full)
    with pytest.raises(SystemExit) as caught:
        rscap.cli.main()
    assert caught.value.code == 2
    assert "No space left on device" in capsys.readouterr().err


def test_other_errors_are_not_taken_for_a_full_disk() -> None:
    """A missing file or a damaged tensor stays what it is."""
    assert no_room(FileNotFoundError(errno.ENOENT, "no such file")) is None
    assert no_room(SafetensorError("HeaderTooLarge")) is None
    assert no_room(ValueError(os.strerror(errno.ENOSPC))) is None
