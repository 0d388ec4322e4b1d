"""How names that do not meet differ: by case, suffix, folder, zeros, or what else most of them share."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote


@dataclass(frozen=True, slots=True)
class Reading:
    """A reading of names under which they would meet others. rscap reports it and never applies it."""

    difference: str
    """What differs, as `their case`."""
    clear: int
    """How many of the names would meet one other that no further name would meet."""
    unclear: int
    """How many would meet several, or share the one that they would meet."""
    name: str
    """The first of the clear ones; of the unclear ones where there is no other."""
    near: str
    """What it would meet; the first where it could be several."""

    def __str__(self) -> str:
        """`by their case: 'a.jpg' and 'A.jpg'`."""
        if not self.clear:
            which = f"for none of {self.unclear:,} names is it clear which one is meant" if self.unclear > 1 else ""
            which = which or "it is not clear which one is meant"
            return f"by {self.difference}, but {which}: here such as {self.name!r}, there such as {self.near!r}"
        rest = f"; for {self.unclear:,} of the names it is not clear which one is meant" if self.unclear else ""
        return f"by {self.difference}: {self.name!r} and {self.near!r}{rest}"


def nearest_reading(names: Collection[str], there: Collection[str]) -> Reading | None:
    """The simplest reading under which most of `names` meet one of `there`; None where it would be less than half.

    Args:
        names: those that met nothing as they are.
        there: what they might have meant and nobody else did; each is a path with `/`.
    """
    best: Reading | None = None
    for difference, fold in _READINGS.items():
        found = _reading(difference, fold, set(names), there)
        if found is None or (found.clear + found.unclear) * 2 < len(names):
            continue
        if best is None or (found.clear, found.unclear) > (best.clear, best.unclear):
            best = found
    return best


def _reading(
    difference: str, fold: Callable[[str], str], names: Collection[str], there: Collection[str]
) -> Reading | None:
    mine, theirs = _by_fold(names, fold), _by_fold(there, fold)
    met = {key: own for key, own in mine.items() if key and key in theirs}
    clear = [key for key, own in met.items() if len(own) == len(theirs[key]) == 1]
    unclear = sum(len(own) for key, own in met.items()) - len(clear)
    if not met or (difference == _NUMBERS and (unclear or len(clear) < 2)):  # equal numbers alone say little
        return None
    first = min(clear or met, key=lambda key: met[key][0])
    return Reading(difference, len(clear), unclear, met[first][0], theirs[first][0])


def _by_fold(names: Collection[str], fold: Callable[[str], str]) -> dict[str, list[str]]:
    """Names in order, by what they are under a reading."""
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        found.setdefault(fold(name), []).append(name)
    return found


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
