"""Duplicate images: candidates by fingerprint, flips and turns included, then verified on the pixels.

Equal pixels are exact duplicates. Of the rest, `search` names the pairs that deserve a look; such a pair is a near
duplicate when edges and textures, laid on each other at the best shift of up to an eighth of the side, correlate by at
least VERIFIED. Two runways that are painted alike stay below, a recompressed, resized or shifted copy lies above:
measured on RISC's images, see docs/data.md.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rscap.data.audit.alignment import align, band, turned
from rscap.data.audit.search import search
from rscap.data.groups import Groups
from rscap.data.measure import Floats, Gallery, measure_all
from rscap.records import Example

VERIFIED = 0.90

TURNS: tuple[str, ...] = (
    "as it is",
    "flipped left-right",
    "flipped top-bottom",
    "turned by 180°",
    "transposed",
    "turned by 90° clockwise",
    "turned by 90° anticlockwise",
    "transposed crosswise",
)
"""How the second image of a pair must be moved to lie on the first; index bits: 1 left-right, 2 top-bottom, 4 transpose
first."""

_CACHED_BANDS = 64


@dataclass(frozen=True, slots=True)
class Pair:
    """Two examples, by position, that show the same picture."""

    first: int
    second: int
    exact: bool
    """Equal pixel by pixel."""
    turn: str
    """One of TURNS: what lays the second on the first."""
    similarity: float
    """Correlation of edges and textures at the best shift, 0 … 1."""
    shift: tuple[float, float]
    """Right and down, as shares of the side, that lay the second on the first after its turn."""


@dataclass(frozen=True, slots=True)
class Duplicates:
    """The duplicates among a list of examples, and what was measured on the way."""

    pairs: list[Pair]
    """They join every group of n duplicates, by n - 1 pairs: a pair whose images are joined already is left out."""
    facts: Gallery
    candidates: int
    """How many pairs the search named."""


def find_duplicates(examples: Sequence[Example], *, progress: Callable[[], None] | None = None) -> Duplicates:
    """The duplicate images, in time linear in their number; one image is in memory at a time, and its fingerprint."""
    facts = measure_all(examples, progress=progress)
    groups = Groups(len(examples))
    pairs = list(_exact_pairs(facts, groups))
    others = np.setdiff1d(np.arange(len(examples)), [pair.second for pair in pairs], assume_unique=True)
    found = search(facts.fingerprints, facts.colours, facts.spreads, others)
    bands = _Bands(examples)
    for first, second, turn in zip(*found, strict=True):
        if groups.joined(first, second):
            continue
        similarity, shift = align(bands[first], turned(bands[second], turn))
        if similarity >= VERIFIED:
            groups.join(first, second)
            pairs.append(Pair(int(first), int(second), False, TURNS[turn], similarity, shift))
    return Duplicates(sorted(pairs, key=lambda pair: (pair.first, pair.second)), facts, len(found.first))


def _exact_pairs(facts: Gallery, groups: Groups) -> Iterator[Pair]:
    """Of n equal images, n - 1 pairs with the first of them."""
    first: dict[bytes, int] = {}
    for index in range(len(facts)):
        if index not in facts.unreadable and (original := first.setdefault(facts.pixels(index), index)) != index:
            groups.join(original, index)
            yield Pair(original, index, True, TURNS[0], 1.0, (0.0, 0.0))


class _Bands:
    """Band-passed pictures by position, the latest few kept: candidates come in runs of the same first image."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = examples
        self._kept: OrderedDict[int, Floats] = OrderedDict()

    def __getitem__(self, index: int) -> Floats:
        if index not in self._kept:
            self._kept[index] = band(self._examples[index].image.load())
            if len(self._kept) > _CACHED_BANDS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(index)
        return self._kept[index]
