"""A reader that goes away ends a command with 141 and no word; work goes on without its terminal."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rscap.progress import ProgressBar, screen, to_stderr

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

    def __init__(self, error: type[OSError]) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error(5, "gone")

    def flush(self) -> None:
        raise self.error(5, "gone")


def a_message() -> None:
    to_stderr("one line")


def a_bar() -> None:
    with ProgressBar("training") as bar:
        bar(1, 2)


@pytest.mark.parametrize("work", [a_message, a_bar])
@pytest.mark.parametrize("error", [BrokenPipeError, OSError, ConnectionResetError])
def test_work_goes_on_without_a_terminal(
    work: Callable[[], None], error: type[OSError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message or a bar that nobody can read stops nothing."""
    monkeypatch.setattr(sys, "stderr", Gone(error))
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
    monkeypatch.setattr(sys, "stderr", Gone(BrokenPipeError))
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
