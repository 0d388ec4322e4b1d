"""Candidate pairs of duplicates: a search whose time grows with the number of images, not of pairs.

1. **Keys** (multi-index hashing). A fingerprint is blurred, so that a shift of some pixels changes it little; any
   KEY_ENTRIES of its STRONGEST entries, with their signs, are a key. A key is written in that one of the eight flips
   and turns in which it is smallest, so that turned copies have it, too.
2. **Neighbours.** Images with a key in common are ordered by their mean green; each is compared with at most WINDOW
   behind it. They are rivals when their colours differ by at most COLOUR_STEPS, their spread of greys by at most
   SPREAD_RATIO, and their blurred fingerprints, one of them flipped or turned as fits best, have a cosine of at least
   ALIKE.
3. **Rivals** whose fingerprints, laid on each other at the best shift, still have a cosine of at least ALIGNED are
   candidates; of each image the RIVALS best.

Each step does a bounded amount of work for an image: all of it is linear in their number.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rscap.data.measure import FREQUENCIES, Floats

COLOUR_STEPS = 4.5
SPREAD_RATIO = 1.25
ALIKE = 0.70
ALIGNED = 0.77
STRONGEST = 8
KEY_ENTRIES = 4
WINDOW = 64
RIVALS = 8

Indices = NDArray[np.int64]

_BLUR = 5.0  # frequencies: that of which a blurred fingerprint keeps 1/e
_IMAGES_AT_ONCE = 4096
_KEYS_AT_ONCE = 2**18
_PAIRS_AT_ONCE = 4096
_SIDE = 16
_MAX_SHIFT = 2  # of _SIDE: an eighth
_PADDED = _SIDE + _MAX_SHIFT  # a shift of up to _MAX_SHIFT then does not run into the other edge
_SIGN = (-1.0) ** np.arange(FREQUENCIES, dtype=np.float32)
_BUTTERFLY: Floats = np.array([[1, 1], [1, -1]], dtype=np.float32)


class CandidatePairs(NamedTuple):
    """Pairs by position, first < second, sorted; `turns[i]` lays the second of pair i on the first."""

    first: Indices
    second: Indices
    turns: Indices


def search(prints: Floats, colours: Floats, spreads: Floats, among: Indices) -> CandidatePairs:
    """The candidate pairs among some of n images.

    Args:
        prints: float32[n, F, F], see `rscap.data.measure.fingerprint`; zero prints are left out.
        colours: float32[n, 3], mean red, green and blue.
        spreads: float32[n], standard deviation of the shrunk picture's greys.
        among: positions of the images to be compared.
    """
    seen = among[np.abs(prints[among]).max(axis=(1, 2), initial=0) > 0]
    by_green = seen[np.argsort(colours[seen, 1], kind="stable")]
    rivals = [np.empty((3, 0), dtype=np.int64)]
    for one, other, turn in _rivals(_blurred(prints, by_green), _looks(colours[by_green], spreads[by_green])):
        rivals.append(np.stack([by_green[one], by_green[other], turn]))
    first, second, turns = _distinct(*_ordered(*np.concatenate(rivals, axis=1)), len(prints))
    score = np.zeros(len(first), dtype=np.float32)
    for rows in _parts(len(first), _PAIRS_AT_ONCE):
        score[rows] = _aligned(prints, first[rows], second[rows], turns[rows])
    kept = (score >= ALIGNED) & _among_the_best(first, second, score)
    return CandidatePairs(first[kept], second[kept], turns[kept])


def turned_print(prints: Floats, turn: int) -> Floats:
    """Fingerprints of turned pictures: a flip changes the sign of odd frequencies, a transposition swaps the axes."""
    moved = prints.swapaxes(-1, -2) if turn & 4 else prints
    if turn & 2:
        moved = moved * _SIGN[:, None]
    return moved * _SIGN[None, :] if turn & 1 else moved


def keys(blurred: Floats) -> NDArray[np.uint32]:
    """uint32[n, K]: a number for each choice of KEY_ENTRIES of the STRONGEST entries, the same for turned pictures."""
    found = np.empty((len(blurred), len(_choices())), dtype=np.uint32)
    for rows in _parts(len(blurred), _IMAGES_AT_ONCE):
        flat = blurred[rows].reshape(-1, FREQUENCIES**2)
        strongest = np.argsort(-np.abs(flat), axis=1, kind="stable")[:, :STRONGEST]
        negative = np.take_along_axis(flat, strongest, axis=1) < 0
        found[rows] = np.min([_keys_of(strongest, negative, turn) for turn in range(8)], axis=0)
    return found


def _keys_of(entries: Indices, negative: NDArray[np.bool_], turn: int) -> NDArray[np.uint32]:
    """The keys of images, given their strongest entries, as they would be after one of the eight turns."""
    rows, columns = np.divmod(entries, FREQUENCIES)
    row, column = (columns, rows) if turn & 4 else (rows, columns)
    sign = negative ^ ((row & (turn >> 1) & 1) > 0) ^ ((column & turn & 1) > 0)
    moved = ((row * FREQUENCIES + column) * 2 + sign).astype(np.uint32)
    return np.stack([_key(moved[:, list(chosen)]) for chosen in _choices()], axis=1)


@cache
def _choices() -> list[tuple[int, ...]]:
    return list(combinations(range(STRONGEST), KEY_ENTRIES))


def _key(entries: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Entries below 2 F², in any order, as one number."""
    number = np.zeros(len(entries), dtype=np.uint32)
    for column in np.sort(entries, axis=1).T:
        number = number * np.uint32(2 * FREQUENCIES**2) + column
    return number


def _looks(colours: Floats, spreads: Floats) -> Floats:
    """float32[n, 4]: what must differ by at most 1 in each column; the second is that of the order."""
    spread = np.log(np.maximum(spreads, np.float32(1.0))) / np.float32(np.log(SPREAD_RATIO))
    return np.column_stack([colours / np.float32(COLOUR_STEPS), spread])


def _rivals(blurred: Floats, looks: Floats) -> Iterator[tuple[Indices, Indices, Indices]]:
    """(one, other, turn of the other) of images with a common key, both sorted by green; some come repeatedly."""
    own = keys(blurred)
    flat = own.ravel()
    order = np.argsort(flat, kind="stable")
    for rows in _parts(len(order), _KEYS_AT_ONCE):
        places = order[rows.start : rows.stop + WINDOW]
        yield from _neighbours(flat[places], places // own.shape[1], rows.stop - rows.start, blurred, looks)


def _neighbours(
    keys: NDArray[np.uint32], owner: Indices, count: int, blurred: Floats, looks: Floats
) -> Iterator[tuple[Indices, Indices, Indices]]:
    """The rivals of the first `count` entries of a sorted list of keys among those behind them."""
    active = np.arange(min(count, len(keys)))
    for step in range(1, WINDOW + 1):
        active = active[active + step < len(keys)]
        one, other = owner[active], owner[active + step]
        close = (keys[active] == keys[active + step]) & (looks[other, 1] - looks[one, 1] <= 1)
        active, one, other = active[close], one[close], other[close]
        if not len(active):
            return
        near = (np.abs(looks[one] - looks[other]) <= 1).all(axis=1) & (one != other)
        one, other = np.divmod(np.unique(one[near] * len(blurred) + other[near]), len(blurred))
        for rows in _parts(len(one), _PAIRS_AT_ONCE):
            left, right = one[rows], other[rows]
            cosine = _cosines(blurred[left], blurred[right])
            turn = cosine.argmax(axis=1)
            alike = cosine[np.arange(len(turn)), turn] >= ALIKE
            yield left[alike], right[alike], turn[alike]


def _cosines(one: Floats, other: Floats) -> Floats:
    """float32[n, 8]: cosines of n pairs of prints, the second of each turned in each of the eight ways.

    A flip changes signs by parity alone: four partial sums, by parity of row and column, give four flips.
    """
    straight, crossed = (_by_parity(one * moved) for moved in (other, other.swapaxes(1, 2)))
    sums = np.stack([straight, crossed], axis=1)
    return (_BUTTERFLY @ sums @ _BUTTERFLY).reshape(len(one), 8).astype(np.float32, copy=False)


def _by_parity(product: Floats) -> Floats:
    """float32[n, 2, 2]: the sum over even and odd rows and columns."""
    half = FREQUENCIES // 2
    return product.reshape(len(product), half, 2, half, 2).sum(axis=(1, 3))


def _ordered(one: Indices, other: Indices, turn: Indices) -> tuple[Indices, Indices, Indices]:
    """The smaller position first; the turn that then lays the second on the first is the inverse."""
    inverse = np.array([0, 1, 2, 3, 4, 6, 5, 7])
    return np.minimum(one, other), np.maximum(one, other), np.where(one < other, turn, inverse[turn])


def _distinct(first: Indices, second: Indices, turns: Indices, n: int) -> tuple[Indices, Indices, Indices]:
    _, places = np.unique(first * n + second, return_index=True)
    return first[places], second[places], turns[places]


def _aligned(prints: Floats, first: Indices, second: Indices, turns: Indices) -> Floats:
    """float32[n]: the largest cosine of each pair over shifts of up to an eighth of the side, on what then overlaps."""
    other = np.stack([turned_print(prints[place], int(turn)) for place, turn in zip(second, turns, strict=True)])
    left, right = _picture(prints[first]), _picture(other)
    flat = np.ones((1, _SIDE, _SIDE), dtype=np.float32)
    product = _correlated(left, right)
    energy, other_energy = _correlated(left * left, flat), _correlated(flat, right * right)
    score = product / np.sqrt(np.maximum(energy * other_energy, 1e-12))
    return score.max(axis=(1, 2))


def _picture(prints: Floats) -> Floats:
    """float32[n, _SIDE, _SIDE]: what the fingerprint holds of the picture (inverse 2-D DCT-II)."""
    frequency, place = np.arange(FREQUENCIES), np.arange(_SIDE)
    cosine = np.cos(np.pi * (place[None, :] + 0.5) * frequency[:, None] / _SIDE).astype(np.float32)
    return (cosine.T @ prints @ cosine).astype(np.float32, copy=False)


def _correlated(one: Floats, other: Floats) -> Floats:
    """Sums of products at every shift of up to _MAX_SHIFT, by the Fourier transform."""
    size = (_PADDED, _PADDED)
    spectrum = np.fft.rfft2(one, size) * np.conj(np.fft.rfft2(other, size))
    near = np.r_[: _MAX_SHIFT + 1, -_MAX_SHIFT:0]
    return np.fft.irfft2(spectrum, size)[:, near][:, :, near].astype(np.float32)


def _among_the_best(first: Indices, second: Indices, score: Floats) -> NDArray[np.bool_]:
    """Is the pair one of the RIVALS best of one of its two images?"""
    image = np.concatenate([first, second])
    order = np.lexsort((-np.concatenate([score, score]), image))
    image = image[order]
    rank = np.arange(len(image)) - np.searchsorted(image, image, side="left")
    best = np.zeros(len(image), dtype=bool)
    best[order] = rank < RIVALS
    return best[: len(first)] | best[len(first) :]


def _parts(count: int, size: int) -> Iterator[slice]:
    """The places 0 … count - 1, `size` at a time."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def _blurred(prints: Floats, places: Indices) -> Floats:
    """The prints of some images with less weight on high frequencies, of length 1."""
    frequency = np.arange(FREQUENCIES)
    weight = np.exp(-((np.hypot(frequency[:, None], frequency[None, :]) / _BLUR) ** 2)).astype(np.float32)
    blurred = prints[places]
    blurred *= weight
    blurred /= np.maximum(np.sqrt(np.einsum("nuv,nuv->n", blurred, blurred)), np.float32(1e-12))[:, None, None]
    return blurred
