"""Make notebooks/*.ipynb from notebooks/*.py: `python tools/notebook.py`.

The source is a Python file in cells (`# %%`, `# %% [markdown]`), so that it is linted, reviewed and tested as code. A
line `# !command` becomes `!command`, which a notebook runs in a shell with `{name}` filled in; a `pass` that only keeps
an indented block from being empty in Python is left out.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
_MARK = re.compile(r"^# %%(?P<markdown> \[markdown\])?(?: tags=\[(?P<tags>[^\]]*)\])?$")
_SHELL = re.compile(r"^(?P<indent>\s*)# !(?P<command>.*)$")


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the source."""

    markdown: bool
    tags: tuple[str, ...]
    lines: tuple[str, ...]

    def source(self) -> str:
        """The cell's text as a notebook holds it."""
        if self.markdown:
            return "\n".join(line.removeprefix("#").removeprefix(" ") for line in self.lines)
        shown = [_SHELL.sub(r"\g<indent>!\g<command>", line) for line in self.lines]
        return "\n".join(line for line in shown if line.strip() != "pass")

    def python(self) -> str:
        """The cell as Python, its shell lines as calls of `shell(command)`."""
        return "\n".join(_SHELL.sub(r'\g<indent>shell(f"""\g<command>""")', line) for line in self.lines)


def cells(text: str) -> list[Cell]:
    """The cells of a source file."""
    found: list[tuple[re.Match[str], list[str]]] = []
    for line in text.splitlines():
        if mark := _MARK.match(line):
            found.append((mark, []))
        else:
            found[-1][1].append(line)
    return [
        Cell(
            markdown=mark["markdown"] is not None,
            tags=tuple(tag.strip(' "') for tag in (mark["tags"] or "").split(",") if tag),
            lines=tuple("\n".join(lines).strip("\n").split("\n")),
        )
        for mark, lines in found
    ]


def notebook(text: str) -> str:
    """The .ipynb of a source file (nbformat 4.5), without outputs."""
    made: list[dict[str, Any]] = []
    for number, cell in enumerate(cells(text)):
        kind = (
            {"cell_type": "markdown"}
            if cell.markdown
            else {"cell_type": "code", "execution_count": None, "outputs": []}
        )
        metadata = {"tags": list(cell.tags)} if cell.tags else {}
        made.append(
            {"id": f"cell-{number:02}", **kind, "metadata": metadata, "source": cell.source().splitlines(keepends=True)}
        )
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    whole = {
        "cells": made,
        "metadata": {"accelerator": "GPU", "kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    for source in sorted(NOTEBOOKS.glob("*.py")):
        target = source.with_suffix(".ipynb")
        target.write_text(notebook(source.read_text(encoding="utf-8")), encoding="utf-8")
        print(target)


if __name__ == "__main__":
    main()
