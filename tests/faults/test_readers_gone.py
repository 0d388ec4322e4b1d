"""A reader that goes away ends a command with 141 and no word; work goes on without its terminal."""

from __future__ import annotations

import errno
import io
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from command_line import rscap
from rscap.errors import WorkerLost
from rscap.progress import ProgressBar, screen, to_stderr
from rscap.store import RunFolder

if TYPE_CHECKING:
    from rscap.captioner.batch import PackedRow

COMMANDS = {
    "help": "--help",
    "version": "--version",
    "report": "report run --split val --markdown",
    "compare": "compare run b=run/baselines/nearest/scores/val.json --split val --draws 100",
    "inspect": "data inspect refs.csv --no-images",
    "score": "score --candidates hyp.json --references refs.json --no-meteor --draws 0",
}
ENDS = {
    "its reader is gone": ("| true", {0, 141}),
    "both streams are gone": ("2>&1 | true", {0, 141}),
    "output is closed": (">&-", {0}),
    "errors are closed": ("2>&-", {0}),
    "both are closed": (">&- 2>&-", {0}),
}


def shell(command: str, end: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    line = f"{sys.executable} -m rscap {command} {end}; exit ${{PIPESTATUS[0]}}"
    return subprocess.run(["bash", "-c", line], cwd=cwd, capture_output=True, text=True, check=False, timeout=100)


@pytest.mark.slow
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_stream_that_is_gone(place: Path, captions: Path, command: str, end: str) -> None:
    """No traceback and no hang, whichever stream is gone; 141 where output was lost."""
    (captions / "refs.csv").write_text("image,caption_1\na.jpg,a field\n", encoding="utf-8")
    redirection, codes = ENDS[end]
    done = shell(COMMANDS[command], redirection, place)
    assert done.returncode in codes
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_closed_pipe_is_141(captions: Path) -> None:
    """The reader is gone long before the first word is written."""
    done = shell(COMMANDS["score"], "| true", captions)
    assert (done.returncode, "Traceback" in done.stderr) == (141, False)


class Gone(io.StringIO):
    """A stream whose reader went away, or whose disk is full."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def write(self, text: str) -> int:
        raise OSError(self.number, os.strerror(self.number))  # Python makes a BrokenPipeError of EPIPE

    def flush(self) -> None:
        self.write("")


SCORE = ("score", "--candidates", "hyp.json", "--references", "refs.json", "--no-meteor", "--draws", "0")
RECIPE = """
[data]
source = "sample"
train_limit = 4
[model]
base = "nano"
dtype = "float32"
[adapter]
rank = 2
[train]
max_steps = 3
micro_batch = 2
accumulation = 1
[generate]
max_new_tokens = 2
"""
TRAIN = ("train", "r.toml", "--out", "new")
STREAMS: dict[str, tuple[tuple[str, ...], str, int, int, str]] = {
    "version, no reader": (("--version",), "stdout", errno.EPIPE, 141, ""),
    "scores, no reader": (SCORE, "stdout", errno.EPIPE, 141, ""),
    "scores as JSON, no reader": ((*SCORE, "--json"), "stdout", errno.EPIPE, 141, ""),
    "a sheet to -, no reader": ((*SCORE, "--out", "-"), "stdout", errno.EPIPE, 141, ""),
    "a recipe, no reader": (("recipe", "show", "quickstart"), "stdout", errno.EPIPE, 141, ""),
    "an inspection, no reader": (("data", "inspect", "refs.json", "--no-images"), "stdout", errno.EPIPE, 141, ""),
    "a report, no reader": (("report", "run", "--split", "val", "--markdown"), "stdout", errno.EPIPE, 141, ""),
    "scores, a full disk": (SCORE, "stdout", errno.ENOSPC, 2, "error: nothing more can be written: No space left"),
    "scores, a broken disk": (SCORE, "stdout", errno.EIO, 2, "error: Input/output error"),
    "errors without a reader": (SCORE, "stderr", errno.EPIPE, 0, "BLEU-4"),
    "errors on a full disk": (SCORE, "stderr", errno.ENOSPC, 0, "BLEU-4"),
    "a report, errors without a reader": (("report", "run", "--split", "val"), "stderr", errno.EPIPE, 0, "report.html"),
    "a refusal that nobody reads": (("score", "--references", "none.json"), "stderr", errno.EPIPE, 2, ""),
    "training that nobody watches": (TRAIN, "stderr", errno.EPIPE, 0, ""),
}


@pytest.mark.torch
@pytest.mark.parametrize("kind", STREAMS)
def test_what_a_command_does_without_a_stream(place: Path, captions: Path, kind: str) -> None:
    """A lost reader of results is 141 without a word, a full disk an error; lost messages stop no work."""
    words, name, number, code, line = STREAMS[kind]
    (place / "r.toml").write_text(RECIPE, encoding="utf-8")
    done = rscap(*words, cwd=place, **{name: Gone(number)})
    assert done.code == code
    other = done.stderr if name == "stdout" else done.stdout
    assert line in other
    assert line or not other
    if words[0] == "train":
        assert RunFolder(place / "new").status().state == "finished"


def a_message() -> None:
    to_stderr("one line")


def a_bar() -> None:
    with ProgressBar("training") as bar:
        bar(1, 2)


@pytest.mark.parametrize("work", [a_message, a_bar])
@pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOSPC, errno.EIO, errno.ECONNRESET, errno.EBADF])
def test_work_goes_on_without_a_terminal(
    work: Callable[[], None], number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message or a bar that nobody can read stops nothing."""
    monkeypatch.setattr(sys, "stderr", Gone(number))
    work()


def test_messages_go_nowhere_where_there_is_no_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`print` would take standard output, which may be data."""
    monkeypatch.setattr(sys, "stderr", None)
    a_message()
    assert capsys.readouterr().out == ""


def test_rich_ends_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself it answers a closed pipe with `SystemExit`, which no `except OSError` catches."""
    monkeypatch.setattr(sys, "stderr", Gone(errno.EPIPE))
    with pytest.raises(BrokenPipeError):
        screen(stderr=True).print("x")


@pytest.mark.torch
def test_batches_of_workers_are_those_made_here() -> None:
    """Bytes through a pipe in place of shared memory: every tensor is the same, also one of 16 bits."""
    from dataclasses import fields

    import torch

    from rscap.captioner.batch import PackedRow, collate, pack
    from rscap.captioner.loader import _Parcel

    rows = [
        PackedRow(
            example_id=str(number), pixels=torch.rand(3, 4, 4), captions=2, **pack([2, 3], [[4 + number, 1], [5, 6, 1]])
        )
        for number in range(3)
    ]
    batch = collate(rows, pad=0)
    halved = batch._with_tensors(lambda one: one.bfloat16() if one.is_floating_point() else one)
    for made in (batch, halved):
        opened = _Parcel.of(made).batch()
        for name in (field.name for field in fields(made)):
            one, other = getattr(made, name), getattr(opened, name)
            assert torch.equal(one, other) if torch.is_tensor(one) else one == other
            assert getattr(one, "dtype", None) == getattr(other, "dtype", None)


CAUGHT = "Caught {} in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File …\n{}"
LOST: dict[str, tuple[Exception, str]] = {
    "killed": (
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
        "DataLoader worker (pid 7) is killed by signal: Killed.",
    ),
    "a small /dev/shm": (
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that …\nmore"),
        "is killed by signal: Bus error",
    ),
    "two at once": (RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"), "(pid(s) 7, 8) exited"),
    "few descriptors": (
        RuntimeError("Too many open files. Communication with the workers is no longer possible."),
        "Too many open files.",
    ),
    "descriptors of a worker": (
        OSError(CAUGHT.format("OSError", "OSError: [Errno 24] Too many open files")),
        "OSError: [Errno 24] Too many open files",
    ),
    "a full disk of a worker": (
        OSError(CAUGHT.format("OSError", "OSError: [Errno 28] No space left on device")),
        "OSError: [Errno 28] No space left on device",
    ),
    "memory of a worker": (MemoryError(CAUGHT.format("MemoryError", "MemoryError")), "MemoryError"),
    "an array too large": (
        RuntimeError(CAUGHT.format("MemoryError", "MemoryError: Unable to allocate 2.00 TiB")),
        "Unable to allocate 2.00 TiB",
    ),
    "processes": (
        BlockingIOError(CAUGHT.format("BlockingIOError", "BlockingIOError: [Errno 11] Resource unavailable")),
        "[Errno 11] Resource unavailable",
    ),
    "the process that starts them": (ConnectionResetError(errno.ECONNRESET, "reset by peer"), "reset by peer"),
    "its last words": (EOFError(), "EOFError"),
    "the thread that pins": (RuntimeError("Pin memory thread exited unexpectedly"), "Pin memory thread exited"),
}


def losing_workers(error: Exception, *, after: int) -> type:
    """A loader that works in this process, and whose workers seem to end after some batches."""
    from torch.utils.data import DataLoader

    class Losing(DataLoader):
        def __init__(self, *args: Any, **options: Any) -> None:
            alone = {"num_workers": 0, "prefetch_factor": None, "multiprocessing_context": None}
            super().__init__(*args, **{**options, **alone, "worker_init_fn": None})

        def __iter__(self) -> Any:
            for batch in islice(super().__iter__(), after):
                yield pickle.loads(pickle.dumps(batch))  # as it comes through a pipe
            raise error

    return Losing


def encode(number: int) -> PackedRow:
    import torch

    from rscap.captioner.batch import PackedRow, pack

    return PackedRow(example_id=str(number), pixels=torch.rand(3, 4, 4), captions=1, **pack([2, 3], [[4, 1]]))


@pytest.mark.torch
@pytest.mark.parametrize("kind", LOST)
def test_a_worker_that_ends_is_an_error_with_its_reason(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever torch raises: the batches made before come, then what the worker died of and what to try."""
    from rscap.captioner.loader import grouped

    error, line = LOST[kind]
    monkeypatch.setattr("rscap.captioner.loader.DataLoader", losing_workers(error, after=2))
    coming = grouped([[0], [1], [2]], encode, name=str, pad=0, workers=2)
    assert [next(coming).example_ids for _ in range(2)] == [("0",), ("1",)]
    with pytest.raises(WorkerLost, match=r"^a data worker ended: ") as caught:
        next(coming)
    assert line in caught.value.message
    assert "fewer data.workers" in str(caught.value.hint)


@pytest.mark.torch
@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), OSError(5, "bad"), MemoryError()])
def test_other_errors_are_no_lost_workers(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """They come through as they are."""
    from rscap.captioner.loader import grouped

    monkeypatch.setattr("rscap.captioner.loader.DataLoader", losing_workers(error, after=0))
    with pytest.raises(type(error)) as caught:
        next(grouped([[0]], encode, name=str, pad=0, workers=2))
    assert caught.value is error


@pytest.mark.torch
@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_list_is_finished_without_workers(after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An evaluation loses nothing: each batch comes once, in order, and a line tells of the worker."""
    from rscap.captioner.loader import batches

    class LosingOnce(losing_workers(RuntimeError("Pin memory thread exited unexpectedly"), after=after)):  # type: ignore[misc]
        def __iter__(self) -> Any:
            monkeypatch.undo()
            return super().__iter__()

    monkeypatch.setattr("rscap.captioner.loader.DataLoader", LosingOnce)
    said: list[str] = []
    coming = batches(range(5), encode, size=2, pad=0, workers=2, say=said.append)  # type: ignore[type-var]
    assert [batch.example_ids for batch in coming] == [("0", "1"), ("2", "3"), ("4",)]
    assert said == [
        "a data worker ended: Pin memory thread exited unexpectedly; this process reads the other images itself"
    ]


@pytest.mark.torch
def test_training_saves_what_it_has_where_a_worker_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state of the last update is a checkpoint, the hint says how to go on, and the run does."""
    error, _ = LOST["killed"]
    (tmp_path / "r.toml").write_text(RECIPE, encoding="utf-8")
    monkeypatch.setattr("rscap.captioner.loader.DataLoader", losing_workers(error, after=2))
    done = rscap(*TRAIN, "--set", "data.workers=1", cwd=tmp_path)
    assert done.code == 2
    found = re.search(r"hint: +the state of step (\d) is saved: resume with `rscap train \S*new --resume`", done.stderr)
    assert found, done.stderr
    monkeypatch.setattr("rscap.captioner.loader.DataLoader", losing_workers(error, after=9))
    resumed = rscap("train", "new", "--resume", cwd=tmp_path)
    assert f"resuming after step {found[1]}" in resumed.stderr
    assert RunFolder(tmp_path / "new").status().state == "finished"
