"""Every option and command explains itself, and the help shows what is written."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
import typer
from rich.text import Text

from rscap.cli import app


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """A command with all that are below it, by its full name."""
    yield name, command
    for inside, below in getattr(command, "commands", {}).items():
        yield from commands(below, f"{name} {inside}")


COMMANDS = dict(commands(typer.main.get_command(app), "rscap"))


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_is_shown_as_it_is_written(name: str) -> None:
    """Nothing in brackets is taken for markup, as `rscap[meteor]` once was, and no option is without help."""
    command = COMMANDS[name]
    texts = {"the command": command.help, **{str(one.name): getattr(one, "help", None) for one in command.params}}
    for option, text in texts.items():
        assert text, option
        assert Text.from_markup(text).plain == text, option
