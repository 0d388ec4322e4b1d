"""Borders without data: the black or white strips that a shift, a rotation or a warp leaves at the edge of an image."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_BLACK, _WHITE = 32, 232
_SHARE = 0.9
"""A line is without data where at least this share of its grey values is that dark, or that light."""
_DEEPEST = 8
"""At most an eighth of the side is taken for a border."""
_SMEARED = 2
"""Lines next to a border into which compression has carried it."""


class Border(NamedTuple):
    """How many lines at each side are without data."""

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
    """How many of the first lines are without data."""
    deepest = len(lines) // _DEEPEST
    depth = 0
    while depth < deepest and _empty(lines[depth]):
        depth += 1
    return min(depth + _SMEARED, deepest) if depth else 0


def _empty(line: NDArray[np.uint8]) -> bool:
    return bool((line <= _BLACK).mean() >= _SHARE or (line >= _WHITE).mean() >= _SHARE)
