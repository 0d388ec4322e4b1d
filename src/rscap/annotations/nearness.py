"""How names that do not meet differ: by case, suffix, folder, zeros, or what else most of them share."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote


@dataclass(frozen=True, slots=True)
class Reading:
    """A reading of names under which they would meet others. rscap reports it and never applies it."""

    difference: str
    """What differs, as `their case`."""
    count: int
    """How many of the names would meet."""
    name: str
    """The first of them."""
    near: tuple[str, ...]
    """What it would meet: one name, or the first two where it could be several."""

    def __str__(self) -> str:
        """`by their case: 'a.jpg' and 'A.jpg'`."""
        return f"by {self.difference}: {self.name!r} and {' or '.join(map(repr, self.near))}"


def nearest_reading(names: Collection[str], there: Collection[str]) -> Reading | None:
    """The simplest reading under which most of `names` meet one of `there`; None where it would be less than half.

    Args:
        names: those that met nothing as they are.
        there: what they might have meant; each is a path with `/`.
    """
    best: Reading | None = None
    for difference, fold in _READINGS.items():
        by_fold = _by_fold(there, fold)
        met = {name: near for name in names if (key := fold(name)) and (near := by_fold.get(key))}
        if difference == _NUMBERS and not _is_one_to_one(met):
            continue
        if len(met) * 2 >= len(names) and (best is None or len(met) > best.count):
            first = next(iter(met))
            best = Reading(difference, len(met), first, tuple(sorted(met[first])[:2]))
    return best


def _by_fold(there: Collection[str], fold: Callable[[str], str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in there:
        found.setdefault(fold(name), []).append(name)
    return found


def _is_one_to_one(met: Mapping[str, list[str]]) -> bool:
    """Equal numbers say little: each must be that of one name on both sides, and there must be several."""
    near = [one for several in met.values() for one in several]
    return len(met) > 1 and len(set(near)) == len(near) == len(met)


def _path(name: str) -> PurePosixPath:
    return PurePosixPath(unicodedata.normalize("NFC", unquote(name.strip()).replace("\\", "/")))


def _in_few_letters(name: str) -> str:
    return re.sub(r"[\s_.-]+", "", _path(name).stem.casefold())


def _without_zeros(name: str) -> str:
    return re.sub(r"(?<!\d)0+(?=\d)", "", _path(name).stem.casefold())


def _number(name: str) -> str:
    found = re.findall(r"\d+", _path(name).stem)
    return (found[-1].lstrip("0") or "0") if found else ""


_NUMBERS = "what is written around their numbers"
_READINGS: dict[str, Callable[[str], str]] = {
    "backslashes, spaces, % signs or the form of their accents": lambda name: str(_path(name)),
    "their case": lambda name: str(_path(name)).casefold(),
    "their folder": lambda name: _path(name).name,
    "their suffix": lambda name: str(_path(name).with_suffix("")) if _path(name).name else "",
    "their folder, suffix or case": lambda name: _path(name).stem.casefold(),
    "spaces, hyphens or underscores": _in_few_letters,
    "zeros before their numbers": _without_zeros,
    _NUMBERS: _number,
}
"""What is compared under each reading, the simplest first."""
