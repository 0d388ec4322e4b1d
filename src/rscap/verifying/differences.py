"""What a verification found: figures that differ from what their files give, and what could not be checked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

TOLERANCE = 1e-9
"""Relative difference of two floats that the order of sums on another machine can explain."""

_ABSENT = object()
_SHOWN = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One figure or file that is not what the files with it give."""

    file: str
    """Where it stands."""
    where: str
    """The key or the place in the file; empty for the file as a whole."""
    sentence: str
    """What it says and what it should say."""

    def __str__(self) -> str:
        return f"{self.file}{', ' if self.where else ''}{self.where}: {self.sentence}"


@dataclass(slots=True)
class Protocol:
    """What a verification has done so far, in order."""

    checked: list[str] = field(default_factory=list)
    """What was recomputed, a line each."""
    findings: list[Finding] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    """What could not be recomputed, and why."""

    def differs(self, file: str, where: str, sentence: str) -> None:
        self.findings.append(Finding(file=file, where=where, sentence=sentence))

    def skip(self, sentence: str) -> None:
        """Note what could not be checked, once."""
        if sentence not in self.unchecked:
            self.unchecked.append(sentence)


def parted(told: Any, found: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Every place at which two JSON values differ, as (its keys, a sentence), in the order of `told`.

    Args:
        told: as the file says.
        found: as recomputed.
        where: the keys that lead to them.
    """
    if isinstance(told, Mapping) and isinstance(found, Mapping):
        for key in [*told, *(key for key in found if key not in told)]:
            yield from parted(told.get(key, _ABSENT), found.get(key, _ABSENT), f"{where}.{key}" if where else str(key))
    elif _is_list(told) and _is_list(found) and len(told) == len(found):
        for number, (one, other) in enumerate(zip(told, found, strict=True)):
            yield from parted(one, other, f"{where}[{number}]")
    elif not _same(told, found):
        yield where, f"it says {_text(told)}, and its files give {_text(found)}"


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _same(told: Any, found: Any) -> bool:
    numbers = isinstance(told, int | float) and isinstance(found, int | float)
    if not numbers or isinstance(told, bool) or isinstance(found, bool):
        return bool(type(told) is type(found) and told == found)
    return math.isclose(told, found, rel_tol=TOLERANCE, abs_tol=TOLERANCE * 1e-3)


def _text(value: Any) -> str:
    if value is _ABSENT:
        return "nothing"
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
