"""README and docs: every command that they print exists, with the options that it is given."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer

from checkout import ROOT
from rscap.cli import app

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
COMMANDS = typer.main.get_command(app)


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every `rscap …` in a page: those of fenced blocks, and those in backticks of its text."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    fenced = re.findall(r"^```(?:bash)?\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in fenced for line in block.splitlines()]
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    lines += [" ".join(found.split()) for found in re.findall(r"`(rscap [^`]+)`", prose)]
    for line in lines:
        for part in re.split(r"&&|\|\||[|;]", line.partition(" #")[0]):
            if found := re.match(r"\s*(?:\$ )?rscap ([a-z].*)", part):
                yield shlex.split(found[1].replace("'", '"') if found[1].count("'") % 2 else found[1])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_prints_commands_that_exist(page: Path) -> None:
    """No command or option on a page is one that was renamed, or never was."""
    for words in commands(page):
        command: click.Command = COMMANDS
        rest = list(words)
        while (below := getattr(command, "commands", {})) and rest:
            name = rest.pop(0)
            assert name in below, f"rscap {' '.join(words)}"
            command = below[name]
        known = {one for each in command.params for one in (*each.opts, *each.secondary_opts)} | {"--help"}
        for word in rest:
            if re.match(r"--[a-z]", word):
                assert word.partition("=")[0] in known, f"rscap {' '.join(words)}"
