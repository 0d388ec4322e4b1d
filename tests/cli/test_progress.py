"""Progress bars and messages: where they appear, and where they do not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from rscap.progress import ProgressBar, no_progress, reporting, to_stderr

PROGRAM = """
import sys
from rscap.progress import ProgressBar, to_stderr

with ProgressBar("captions", shown=sys.argv[1] == "yes") as bar:
    for done in (1, 2, 3):
        bar(done, 3, f"loss {done / 4}")
    to_stderr("a message [of one line]")
"""


def in_a_terminal(shown: str) -> str:
    """What the program above prints on a standard error that is a terminal."""
    master, slave = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    subprocess.run([sys.executable, "-c", PROGRAM, shown], stderr=slave, check=True, env=environment)
    os.close(slave)
    printed = b""
    try:
        while piece := os.read(master, 1 << 16):
            printed += piece
    except OSError:  # Linux says so at the end of a pseudo-terminal
        pass
    finally:
        os.close(master)
    return printed.decode()


def test_a_bar_is_shown_in_a_terminal() -> None:
    """A terminal shows title, count and details, and a message beside the bar comes out whole."""
    printed = in_a_terminal("yes")
    for words in ("captions", "3/3", "loss 0.75", "a message [of one line]"):
        assert words in printed


def test_a_bar_that_is_not_wanted_is_not_shown() -> None:
    """With `shown=False` a terminal gets the messages alone."""
    assert in_a_terminal("no").splitlines() == ["a message [of one line]"]


def test_a_file_gets_no_bar(capfd: pytest.CaptureFixture[str]) -> None:
    """Standard error that is no terminal gets the messages alone, every word of them."""
    with ProgressBar("captions") as bar:
        bar(1, 2)
        to_stderr("word " * 100)
    assert capfd.readouterr().err.split() == ["word"] * 100


def test_a_caller_chooses_its_progress() -> None:
    """True is a bar, False and None are silence, and a function is called with what is done."""
    seen: list[tuple[int, int]] = []
    with reporting(lambda done, total: seen.append((done, total)), "captions") as progress:
        progress(1, 2)
    assert seen == [(1, 2)]
    with reporting(True, "captions") as progress:
        assert isinstance(progress, ProgressBar)
    for nothing in (False, None):
        with reporting(nothing, "captions") as progress:
            assert progress is no_progress
