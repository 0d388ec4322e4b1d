"""Measurements of every image, in one decoding: size, brightness, a digest of its pixels and a fingerprint.

Borders without data, the black or white strips that a shift, a rotation or a warp leaves at the edge, are overwritten
before colour, spread and fingerprint are measured.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rscap.errors import ImageError
from rscap.records import Example

_BLACK, _WHITE = 32, 232
_SHARE = 0.9
"""A line is without data where at least this share of its grey values is that dark, or that light."""
_DEEPEST = 8
"""At most an eighth of the side is taken for a border."""
_SMEARED = 2
"""Lines next to a border into which compression has carried it."""


class Border(NamedTuple):
    """Number of lines without data at each side."""

    top: int
    bottom: int
    left: int
    right: int


def border(grey: NDArray[np.uint8]) -> Border:
    """The border of uint8[H, W] grey values; (0, 0, 0, 0) where there is none."""
    return Border(_depth(grey), _depth(grey[::-1]), _depth(grey.T), _depth(grey.T[::-1]))


def without_border(picture: Image.Image, grey: Image.Image) -> Image.Image:
    """The picture with its border overwritten by the lines next to it, in its own size; the same where it has none.

    So a copy that was shifted is like its original in every measure that looks at edges.

    Args:
        picture: RGB or grey.
        grey: the same picture in grey.
    """
    own = border(np.asarray(grey))
    if not any(own):
        return picture
    pixels = np.asarray(picture)
    inner = pixels[own.top : len(pixels) - own.bottom, own.left : pixels.shape[1] - own.right]
    margins = [(own.top, own.bottom), (own.left, own.right), (0, 0)][: pixels.ndim]
    return Image.fromarray(np.pad(inner, margins, mode="edge"))


def _depth(lines: NDArray[np.uint8]) -> int:
    """Number of first lines without data."""
    deepest = len(lines) // _DEEPEST
    depth = 0
    while depth < deepest and _empty(lines[depth]):
        depth += 1
    return min(depth + _SMEARED, deepest) if depth else 0


def _empty(line: NDArray[np.uint8]) -> bool:
    return bool((line <= _BLACK).mean() >= _SHARE or (line >= _WHITE).mean() >= _SHARE)


Floats = NDArray[np.float32]

SIDE = 32
"""Images are shrunk to SIDE x SIDE grey pixels for their fingerprint."""
FREQUENCIES = 8
"""The fingerprint holds the FREQUENCIES x FREQUENCIES lowest frequencies in both directions."""
_DIGEST_BYTES = 12


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """One image, measured. Brightness is the mean of the grey values, contrast their standard deviation, 0 … 255."""

    width: int
    height: int
    brightness: float
    contrast: float
    colour: tuple[float, float, float]
    """Mean red, green and blue, 0 … 255, without the border; flips and turns do not change it."""
    spread: float
    """Standard deviation of the grey values of the shrunk picture, without the border; no turn changes it."""
    pixels: str
    """Digest of size and RGB pixels: equal for equal pictures whatever the file format."""
    fingerprint: Floats
    """float32[FREQUENCIES, FREQUENCIES] of length 1, without the border; entry [0, 0], the brightness, is 0."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An image that could not be decoded, and why."""

    reason: str


def measure(picture: Image.Image) -> ImageFacts:
    """Measure one RGB image."""
    grey = picture.convert("L")
    small = without_border(picture, grey).resize((SIDE, SIDE), Image.Resampling.BOX)
    colour = np.asarray(small, dtype=np.float32).reshape(-1, 3).mean(axis=0)
    histogram = np.asarray(grey.histogram(), dtype=np.float64)
    levels = np.arange(256)
    mean = float(histogram @ levels / histogram.sum())
    digest = hashlib.blake2b(f"{picture.width}x{picture.height}".encode(), digest_size=_DIGEST_BYTES)
    digest.update(picture.tobytes())
    return ImageFacts(
        width=picture.width,
        height=picture.height,
        brightness=mean,
        contrast=float(np.sqrt(histogram @ (levels - mean) ** 2 / histogram.sum())),
        colour=(float(colour[0]), float(colour[1]), float(colour[2])),
        spread=float(np.asarray(small.convert("L"), dtype=np.float32).std()),
        pixels=digest.hexdigest(),
        fingerprint=fingerprint(small),
    )


class Gallery:
    """The facts of n images in columns: 300 bytes an image, however large the images are."""

    def __init__(self, n: int) -> None:
        self.unreadable: dict[int, str] = {}
        """Position and reason of each image that could not be decoded; its columns are zero."""
        self.colours: Floats = np.zeros((n, 3), dtype=np.float32)
        self.spreads: Floats = np.zeros(n, dtype=np.float32)
        self.fingerprints: Floats = np.zeros((n, FREQUENCIES, FREQUENCIES), dtype=np.float32)
        self._sizes = np.zeros((n, 2), dtype=np.int32)
        self._greys = np.zeros((n, 2), dtype=np.float32)
        self._pixels = np.zeros((n, _DIGEST_BYTES), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.colours)

    def __getitem__(self, index: int) -> ImageFacts | Unreadable:
        if index in self.unreadable:
            return Unreadable(self.unreadable[index])
        red, green, blue = self.colours[index].tolist()
        return ImageFacts(
            width=int(self._sizes[index, 0]),
            height=int(self._sizes[index, 1]),
            brightness=float(self._greys[index, 0]),
            contrast=float(self._greys[index, 1]),
            colour=(red, green, blue),
            spread=float(self.spreads[index]),
            pixels=self.pixels(index).hex(),
            fingerprint=self.fingerprints[index],
        )

    def pixels(self, index: int) -> bytes:
        """The digest of one image's size and pixels."""
        return self._pixels[index].tobytes()

    def put(self, index: int, facts: ImageFacts | Unreadable) -> None:
        """Keep the facts of one image."""
        if isinstance(facts, Unreadable):
            self.unreadable[index] = facts.reason
            return
        self._sizes[index] = facts.width, facts.height
        self._greys[index] = facts.brightness, facts.contrast
        self.colours[index] = facts.colour
        self.spreads[index] = facts.spread
        self._pixels[index] = np.frombuffer(bytes.fromhex(facts.pixels), dtype=np.uint8)
        self.fingerprints[index] = facts.fingerprint


def measure_all(examples: Sequence[Example], *, progress: Callable[[], None] | None = None) -> Gallery:
    """Measure every image, one in memory at a time; `progress` is called after each."""
    gallery = Gallery(len(examples))
    for index, example in enumerate(examples):
        try:
            gallery.put(index, measure(example.image.load()))
        except ImageError as error:
            gallery.put(index, Unreadable(error.in_one_line))
        if progress is not None:
            progress()
    return gallery


def fingerprint(small: Image.Image) -> Floats:
    """The lowest frequencies of a SIDE x SIDE picture (2-D DCT-II), flattened in spectrum and scaled to length 1.

    Natural images lose amplitude with frequency f as 1/f (Field, 1987); multiplying by f lets every frequency speak.
    A picture of one colour has the zero fingerprint.
    """
    grey = np.asarray(small.convert("L"), dtype=np.float32)
    cosine, weight = _basis()
    spectrum = cosine @ (grey - grey.mean()) @ cosine.T * weight
    length = float(np.linalg.norm(spectrum))
    return (spectrum / length if length > 1e-3 else np.zeros_like(spectrum)).astype(np.float32)


@cache
def _basis() -> tuple[Floats, Floats]:
    frequency = np.arange(FREQUENCIES)
    place = np.arange(SIDE)
    cosine = np.cos(np.pi * (place[None, :] + 0.5) * frequency[:, None] / SIDE) * np.sqrt(2 / SIDE)
    weight = np.hypot(frequency[:, None], frequency[None, :])
    return cosine.astype(np.float32), weight.astype(np.float32)
