"""docs/architecture.md: its floors are those that import-linter checks, and its table has every room."""

from __future__ import annotations

import re
from configparser import ConfigParser

from checkout import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def floors() -> list[str]:
    """The layers of the first contract, from the top; parentheses mark rooms that may be absent."""
    contracts = ConfigParser()
    contracts.read(ROOT / ".importlinter", encoding="utf-8")
    layers = contracts["importlinter:contract:floors"]["layers"]
    return [re.sub(r"[()]", "", line.strip()) for line in layers.splitlines() if line.strip()]


def test_the_floors_on_the_page_are_those_that_are_checked() -> None:
    """The list of floors is the contract, line by line."""
    section = PAGE.split("## Floors", 1)[1]
    printed = re.findall(r"^```\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL)[0]
    assert printed.splitlines() == floors()


def test_the_page_describes_every_room() -> None:
    """The table of rooms has a line for each of them."""
    table = [line for line in PAGE.split("## Floors", 1)[1].splitlines() if line.startswith("| `")]
    described = {name.strip("/").removesuffix(".py") for line in table for name in re.findall(r"`([\w./]+)`", line)}
    rooms = {room.strip() for floor in floors() for room in floor.split("|")} - {"__main__"}
    assert rooms <= described, rooms - described
