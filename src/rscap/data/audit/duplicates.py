"""Duplicate images: candidates by fingerprint, flips and turns included, then verified on the pixels.

1. Equal pixels are exact duplicates.
2. Two images are candidates when the means of their colours differ by at most COLOUR_STEPS and their fingerprints, one
   of them flipped or turned as fits best, have a cosine of at least CANDIDATE. Images sorted by brightness are
   compared within a narrow window, not each with each.
3. A candidate is verified by the correlation of edges and textures (a band-pass of 112 x 112 grey pixels) at the best
   shift of up to an eighth of the side. Two runways that are painted alike stay below VERIFIED, a recompressed, resized
   or shifted copy lies above: measured on RISC's images, see docs/data.md.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from rscap.data.measure import FREQUENCIES, Floats, ImageFacts, Unreadable, measure_all
from rscap.records import Example

CANDIDATE = 0.68
COLOUR_STEPS = 6.0
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

_BAND_SIDE = 112
_BAND_SIGMAS = (1.2, 6.0)
_MAX_SHIFT = _BAND_SIDE // 8
_BLOCK = 256
_CACHED_BANDS = 256
_SIGN = (-1.0) ** np.arange(FREQUENCIES, dtype=np.float32)


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
    """All duplicate pairs of a list of examples, and what was measured on the way."""

    pairs: list[Pair]
    facts: list[ImageFacts | Unreadable]
    candidates: int
    """How many pairs were verified on their pixels."""


def find_duplicates(examples: Sequence[Example], *, progress: Callable[[], None] | None = None) -> Duplicates:
    """Every pair of duplicate images; of n exact copies, n - 1 pairs with the first of them."""
    facts = measure_all(examples, progress=progress)
    exact = list(_exact_pairs(facts))
    copies = {pair.second for pair in exact}
    bands = _Bands(examples)
    near, candidates = [], 0
    for first, second, turn in _candidates(facts, without=copies):
        candidates += 1
        similarity, shift = align(bands[first], turned(bands[second], turn))
        if similarity >= VERIFIED:
            near.append(Pair(first, second, False, TURNS[turn], similarity, shift))
    return Duplicates(sorted([*exact, *near], key=lambda pair: (pair.first, pair.second)), facts, candidates)


def _exact_pairs(facts: Sequence[ImageFacts | Unreadable]) -> Iterator[Pair]:
    first: dict[str, int] = {}
    for index, one in enumerate(facts):
        if isinstance(one, ImageFacts) and (original := first.setdefault(one.pixels, index)) != index:
            yield Pair(original, index, True, TURNS[0], 1.0, (0.0, 0.0))


def _candidates(facts: Sequence[ImageFacts | Unreadable], without: set[int]) -> Iterator[tuple[int, int, int]]:
    """(first, second, turn) of every pair whose fingerprints and colours agree, first < second."""
    kept = [i for i, one in enumerate(facts) if isinstance(one, ImageFacts) and i not in without]
    measured = [one for one in (facts[i] for i in kept) if isinstance(one, ImageFacts)]
    if len(kept) < 2:
        return
    colours = np.array([one.colour for one in measured], dtype=np.float32)
    by_green = np.argsort(colours[:, 1], kind="stable")
    position, colours = np.array(kept)[by_green], colours[by_green]
    prints = np.stack([measured[i].fingerprint for i in by_green])
    for start in range(0, len(position), _BLOCK):
        stop = min(start + _BLOCK, len(position))
        edge = int(np.searchsorted(colours[:, 1], colours[stop - 1, 1] + COLOUR_STEPS, side="right"))
        best, turn = _best_turns(prints[start:stop], prints[start:edge])
        near = np.abs(colours[start:stop, None] - colours[None, start:edge]).max(axis=2) <= COLOUR_STEPS
        own = np.arange(stop - start)[:, None] < np.arange(edge - start)[None, :]
        for row, column in np.argwhere(own & near & (best >= CANDIDATE)):
            yield _ordered(int(position[start + row]), int(position[start + column]), int(turn[row, column]))


def _best_turns(one: Floats, other: Floats) -> tuple[Floats, NDArray[np.int8]]:
    """float[A, B] largest cosine over the eight turns of `other`, and int8[A, B] which turn has it."""
    flat = one.reshape(len(one), -1)
    best = np.full((len(one), len(other)), -1.0, dtype=np.float32)
    turn = np.zeros(best.shape, dtype=np.int8)
    for number in range(len(TURNS)):
        cosine = flat @ turned_print(other, number).reshape(len(other), -1).T
        better = cosine > best
        turn[better] = number
        np.maximum(best, cosine, out=best)
    return best, turn


def _ordered(one: int, other: int, turn: int) -> tuple[int, int, int]:
    """The pair with the smaller position first; the turn that then lays the second on the first is the inverse."""
    return (one, other, turn) if one < other else (other, one, {5: 6, 6: 5}.get(turn, turn))


def turned_print(prints: Floats, turn: int) -> Floats:
    """Fingerprints of turned pictures: a flip changes the sign of odd frequencies, a transposition swaps the axes."""
    moved = prints.swapaxes(-1, -2) if turn & 4 else prints
    if turn & 2:
        moved = moved * _SIGN[:, None]
    return moved * _SIGN[None, :] if turn & 1 else moved


def turned(picture: Floats, turn: int) -> Floats:
    """A square picture, float[N, N], turned as TURNS says."""
    moved = picture.T if turn & 4 else picture
    if turn & 2:
        moved = moved[::-1]
    return moved[:, ::-1] if turn & 1 else moved


def band(picture: Image.Image) -> Floats:
    """float32[112, 112]: edges and textures, neither the finest (where compression lives) nor broad shading."""
    grey = picture.convert("L").resize((_BAND_SIDE, _BAND_SIDE), Image.Resampling.BOX)
    fine, broad = (np.asarray(grey.filter(ImageFilter.GaussianBlur(sigma)), dtype=np.float32) for sigma in _BAND_SIGMAS)
    return fine - broad


def align(one: Floats, other: Floats) -> tuple[float, tuple[float, float]]:
    """Largest correlation over all shifts of up to an eighth of the side, each on what then overlaps, and that shift.

    All shifts at once by the Fourier transform (normalised cross-correlation, Lewis 1995, without the local means,
    which the band-pass has removed).
    """
    side, padded = len(one), (2 * len(one), 2 * len(one))
    spectrum = np.fft.rfft2(np.stack([one, one * one, np.ones_like(one)]), padded)
    moved = np.conj(np.fft.rfft2(np.stack([other, np.ones_like(other), other * other]), padded))
    product, energy, other_energy = np.fft.irfft2(spectrum * moved, padded)
    score = product / np.sqrt(np.maximum(energy, 0) * np.maximum(other_energy, 0) + 1.0)
    shifts = np.fft.fftfreq(2 * side, 1 / (2 * side))
    allowed = np.abs(shifts) <= _MAX_SHIFT
    score[~(allowed[:, None] & allowed[None, :])] = -1.0
    down, right = np.unravel_index(int(np.argmax(score)), score.shape)
    return float(score[down, right]), (float(shifts[right]) / side, float(shifts[down]) / side)


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
