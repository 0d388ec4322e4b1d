"""Reading files that may be missing or broken: what cannot be read becomes a finding, what is not there a reason."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from rscap.doctor.findings import Finding, found
from rscap.errors import RscapError, StoreError
from rscap.store import numbered_lines, read_json

T = TypeVar("T")


@dataclass(slots=True)
class Reader:
    """Reads below one folder and remembers what could not be read."""

    folder: Path
    findings: list[Finding] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    """Part of the evidence -> why it is not there."""

    def read(self, path: Path, read: Callable[[Path], T]) -> T | None:
        """What `read` makes of a file; None where it is not there, or broken, which is a finding."""
        if not path.exists():
            return None
        try:
            return read(path)
        except Exception as error:  # whatever is wrong with a file is what the doctor was asked for
            text = error.message if isinstance(error, RscapError) else f"{type(error).__name__}: {error}"
            self.findings.append(found("unreadable", text, where=self.name(path)))
            return None

    def name(self, path: Path) -> str:
        """A path as findings name it: below the folder where it lies there."""
        return path.relative_to(self.folder).as_posix() if path.is_relative_to(self.folder) else str(path)


def mapping(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        StoreError: the file holds something else.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise StoreError(f"{path} holds a JSON {type(value).__name__}, not an object")
    return value


def json_lines(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """The objects of a JSON Lines file with their line numbers; a last line that is still being written is left out.

    Raises:
        StoreError: another line is broken.
    """
    rows = []
    for number, line in numbered_lines(path, growing=True):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise StoreError(f"{path}, line {number}: not JSON ({error.msg})") from error
        if not isinstance(row, dict):
            raise StoreError(f"{path}, line {number}: expected a JSON object, found {type(row).__name__}")
        rows.append((number, row))
    return rows


def key_lines(path: Path) -> dict[str, int]:
    """The line of every `section.key` of a TOML file in which each key has a line of its own."""
    places: dict[str, int] = {}
    section = ""
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if header := re.match(r"\s*\[([\w.]+)\]", line):
            section = f"{header[1]}."
        elif key := re.match(r"\s*(\w+)\s*=", line):
            places.setdefault(section + key[1], number)
    return places


def number(value: Any) -> float | None:
    """A float, NaN and infinity included, from a number or its text; None for anything else."""
    try:
        return None if value is None or isinstance(value, bool) or value == "" else float(value)
    except (TypeError, ValueError):
        return None


def whole(value: Any) -> int | None:
    """An int, where the value is one."""
    found_number = number(value)
    return None if found_number is None or not math.isfinite(found_number) else int(found_number)
