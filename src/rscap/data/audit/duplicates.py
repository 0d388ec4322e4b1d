"""Duplicate images, and the findings about images.

Images of equal pixels are exact duplicates. Of the others, `rscap.data.audit.search` names candidate pairs by
fingerprint, flips and turns included. Such a pair is a near duplicate when edges and textures of the two pictures,
aligned at the best shift of up to an eighth of the side, correlate by at least VERIFIED. Two runways painted alike stay
below; a recompressed, resized or shifted copy is above: docs/data.md has the figures measured on RISC's images.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from rscap.data.audit.findings import AuditFinding, about, leaking
from rscap.data.audit.search import search
from rscap.data.groups import Groups, connected
from rscap.data.images import MissingImage
from rscap.data.measure import Floats, Gallery, ImageFacts, Unreadable, measure_all, without_border
from rscap.records import Example

SIDE = 112
FRAME = 6
"""Outer lines that are not compared: a shift, a warp or compression leaves its traces there."""
_SIGMAS = (1.2, 6.0)
_MAX_SHIFT = SIDE // 8
_PADDED = 120  # at least SIDE - 2 FRAME + _MAX_SHIFT: a shift that far does not run into the other edge


def band(picture: Image.Image) -> Floats:
    """float32[100, 100]: edges and textures, without the finest (where compression lives), broad shading and frame."""
    grey = picture.convert("L")
    grey = without_border(grey, grey).resize((SIDE, SIDE), Image.Resampling.BOX)
    fine, broad = (np.asarray(grey.filter(ImageFilter.GaussianBlur(sigma)), dtype=np.float32) for sigma in _SIGMAS)
    return (fine - broad)[FRAME:-FRAME, FRAME:-FRAME]


def turned(picture: Floats, turn: int) -> Floats:
    """A square picture, float[N, N], turned as `duplicates.TURNS` says."""
    moved = picture.T if turn & 4 else picture
    if turn & 2:
        moved = moved[::-1]
    return moved[:, ::-1] if turn & 1 else moved


def align(one: Floats, other: Floats) -> tuple[float, tuple[float, float]]:
    """Largest correlation of two bands over all shifts of up to an eighth of the side, on what then overlaps.

    All shifts at once by the Fourier transform (normalised cross-correlation, Lewis 1995, without the local means,
    which the band-pass has removed).

    Returns:
        The correlation, and the shift right and down as shares of the side.
    """
    size = (_PADDED, _PADDED)
    flat = np.ones_like(one)
    spectrum = np.fft.rfft2(np.stack([one, one * one, flat]), size)
    moved = np.conj(np.fft.rfft2(np.stack([other, flat, other * other]), size))
    product, energy, other_energy = np.fft.irfft2(spectrum * moved, size)
    score = product / np.sqrt(np.maximum(energy, 0) * np.maximum(other_energy, 0) + 1.0)
    near = np.r_[: _MAX_SHIFT + 1, -_MAX_SHIFT:0]
    score = score[near][:, near]
    down, right = np.unravel_index(int(np.argmax(score)), score.shape)
    return float(score[down, right]), (float(near[right]) / SIDE, float(near[down]) / SIDE)


VERIFIED = 0.90
"""Least correlation of a near duplicate."""

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
"""Moves that bring the second image of a pair onto the first; index bits: 1 left-right, 2 top-bottom, 4 transpose
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
    """One of TURNS: the move that brings the second onto the first."""
    similarity: float
    """Correlation of edges and textures at the best shift, 0 … 1."""
    shift: tuple[float, float]
    """Shift right and down, as shares of the side, that aligns the second with the first after its turn."""


@dataclass(frozen=True, slots=True)
class Duplicates:
    """The duplicates among a list of examples, and the facts measured on their images."""

    pairs: list[Pair]
    """n - 1 pairs for each group of n duplicates: a pair whose images are in one group already is left out."""
    facts: Gallery
    candidates: int
    """Number of candidate pairs."""


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


_FLAT = 2.0
"""Contrast below which an image counts as one colour."""
_BLACK = 8.0
"""Mean brightness below which next to nothing is visible."""
_SMALLEST_PX = 32
_LONGEST_RATIO = 4.0


def picture_findings(examples: Sequence[Example], duplicates: Duplicates) -> Iterator[AuditFinding]:
    """One finding for each unreadable or odd image, and for each pair of duplicates."""
    for index, example in enumerate(examples):
        facts = duplicates.facts[index]
        if isinstance(facts, Unreadable):
            yield about([example], "unreadable-image", "error", facts.reason.removeprefix(f"{example.image.name}: "))
        elif detail := _odd(facts):
            yield about([example], "odd-image", "warning", detail)
    for pair in duplicates.pairs:
        yield _duplicate([examples[pair.first], examples[pair.second]], pair)


def missing_images(examples: Sequence[Example]) -> Iterator[AuditFinding]:
    """One finding for each image that the annotations name and that does not exist."""
    for example in examples:
        if isinstance(example.image, MissingImage):
            yield about([example], "missing-image", "error", f"{example.image.name} does not exist")


def groups_of_duplicates(examples: Sequence[Example], duplicates: Duplicates) -> list[list[Example]]:
    """Groups of examples joined by duplicate pairs, chains included; examples without a duplicate are left out."""
    pairs = [(pair.first, pair.second) for pair in duplicates.pairs]
    return [[examples[index] for index in members] for members in connected(len(examples), pairs) if len(members) > 1]


def _odd(facts: ImageFacts) -> str | None:
    short, long = sorted((facts.width, facts.height))
    if facts.contrast < _FLAT:
        return f"all of one colour: contrast {facts.contrast:.1f} of 255, brightness {facts.brightness:.0f}"
    if facts.brightness < _BLACK:
        return f"nearly black: brightness {facts.brightness:.1f} of 255"
    if short < _SMALLEST_PX:
        return f"tiny: {facts.width} x {facts.height} pixels"
    if long > _LONGEST_RATIO * short:
        return f"far from square: {facts.width} x {facts.height} pixels"
    return None


def _duplicate(members: list[Example], pair: Pair) -> AuditFinding:
    kind = "exact-duplicate" if pair.exact else "near-duplicate"
    severity = "error" if leaking(members) else "warning"
    right, down = (round(100 * share, 1) for share in pair.shift)
    moved = f", shifted by {right:+g} % right and {down:+g} % down" if (right, down) != (0, 0) else ""
    how = "equal pixel by pixel" if pair.exact else f"similarity {pair.similarity:.3f}; the second {pair.turn}{moved}"
    extra = {"similarity": round(pair.similarity, 4), "turn": pair.turn, "shift": list(pair.shift)}
    return about(members, kind, severity, how, extra=extra)  # type: ignore[arg-type]
