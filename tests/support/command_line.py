"""The command `rscap`, run in the process of the tests: starting another one would cost seconds of importing torch."""

from __future__ import annotations

import contextlib
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from rscap.cli import main


@dataclass(frozen=True)
class Done:
    """What a command left behind when it ended."""

    code: int
    stdout: str
    stderr: str


def rscap(*words: str, cwd: Path, stdout: io.StringIO | None = None, stderr: io.StringIO | None = None) -> Done:
    """Run `rscap WORDS` in the folder `cwd`; raises what the command does not turn into an exit code.

    Args:
        words: what follows `rscap` on the command line.
        cwd: the working folder of the command.
        stdout: a stream in place of standard output, such as one that fails.
        stderr: the same for standard error.
    """
    out, err = stdout or io.StringIO(), stderr or io.StringIO()
    code: int | str | None = 0
    with (
        patch.object(sys, "argv", ["rscap", *words]),
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as ended:
            code = ended.code
    return Done(code if isinstance(code, int) else int(code is not None), out.getvalue(), err.getvalue())
