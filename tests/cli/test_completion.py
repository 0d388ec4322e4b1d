"""Shell completion, and lines that a terminal of 80 columns holds."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from rscap.cli import app

COMPLETE = "from rscap.cli import app; app(prog_name='rscap')"


def completed(words: str) -> list[str]:
    """What bash is offered for the last of `words`, as bash asks."""
    asked = os.environ | {
        "_RSCAP_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    found = subprocess.run([sys.executable, "-c", COMPLETE], env=asked, capture_output=True, text=True, check=True)
    return found.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("rscap eval", {"evaluate"}),
        ("rscap data s", {"split"}),
        ("rscap plan --ver", {"--verbose"}),
        ("rscap ver", {"verify"}),
    ],
)
def test_a_shell_completes_commands_and_options(words: str, offered: set[str]) -> None:
    """Bash completes the names of commands, of commands below `data`, and of options."""
    assert set(completed(words)) == offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_is_printed(shell: str) -> None:
    """`rscap --show-completion SHELL` prints a script that asks rscap."""
    result = CliRunner().invoke(app, ["--show-completion", shell])
    assert result.exit_code == 0
    assert "_RSCAP_COMPLETE" in result.stdout


@pytest.mark.parametrize("words", [["risc-fast", "--gpu", "24GB"], ["risc-qlora", "--gpu", "6GB", "--verbose"]])
def test_a_plan_begins_with_its_command_and_fits_80_columns(words: list[str]) -> None:
    """The first line is the command to run, which may be wide; no other line is wider than 80 columns."""
    lines = CliRunner().invoke(app, ["plan", *words], env={"COLUMNS": "80"}).stdout.splitlines()
    assert lines[0].startswith("rscap train ")
    assert [line for line in lines[1:] if len(line) > 80] == []
