"""Augmentation for overhead images that reads the captions.

Overhead images have no upright direction: a scene turned by 90° or mirrored is as good a picture, and its captions
stay true, unless one of them names a direction. Then the image is left as it is. Light and colour may change a little,
unless a caption names a colour.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from PIL import ImageEnhance
from PIL.Image import Image, Resampling, Transpose

from rscap.data.draw import key, uniform
from rscap.errors import DataError

DIRECTIONS = re.compile(
    r"\b(?:left|right|top|bottom|upper|lower|above|below|up|down|north|south|east|west)(?:ern|most|ward|wards|side|"
    r"east|west|eastern|western)?\b|clockwise|horizontal|vertical",
    re.IGNORECASE,
)
"""Words that a turned or mirrored image would make untrue."""

COLOURS = re.compile(
    r"\b(?:red|orange|yellow|green|blue|cyan|purple|pink|brown|gr[ae]y|black|white|gold|golden|turquoise|emerald|khaki|"
    r"beige|dark|light|bright|colou?r)(?:ish|er|ed|ful|s)?\b",
    re.IGNORECASE,
)
"""Words that other colours or another light would make untrue."""

_TURNS: tuple[Transpose | None, ...] = (
    None,
    Transpose.ROTATE_90,
    Transpose.ROTATE_180,
    Transpose.ROTATE_270,
    Transpose.FLIP_LEFT_RIGHT,
    Transpose.FLIP_TOP_BOTTOM,
    Transpose.TRANSPOSE,
    Transpose.TRANSVERSE,
)


def tells_directions(captions: Sequence[str]) -> bool:
    """Does some caption name a direction or a place in the picture?"""
    return any(DIRECTIONS.search(caption) for caption in captions)


def turn(image: Image, captions: Sequence[str], *, seed: int, epoch: int, example_id: str) -> Image:
    """One of the eight turns and mirrorings of an image, by (seed, epoch, example id); none if captions forbid it.

    `captions` are all references of the image, not only those that this epoch learns: the eight are drawn alike for
    every caption scheme.
    """
    if tells_directions(captions):
        return image
    chosen = _TURNS[key("turn", seed, epoch, example_id) % len(_TURNS)]
    return image if chosen is None else image.transpose(chosen)


def names_colours(captions: Sequence[str]) -> bool:
    """Does some caption name a colour or the light?"""
    return any(COLOURS.search(caption) for caption in captions)


def recolour(
    image: Image, captions: Sequence[str], *, strength: float, seed: int, epoch: int, example_id: str
) -> Image:
    """The image with brightness, contrast and saturation each scaled by a factor within 1 ± `strength` (0 … 0.5).

    The factors are drawn by (seed, epoch, example id); the image stays as it is where a caption names a colour.

    Raises:
        DataError: `strength` is out of its range.
    """
    if not 0 <= strength <= 0.5:
        raise DataError(f"the strength of recolouring is from 0 to 0.5, not {strength}")
    if strength == 0 or names_colours(captions):
        return image
    for what, enhancer in (
        ("brightness", ImageEnhance.Brightness),
        ("contrast", ImageEnhance.Contrast),
        ("saturation", ImageEnhance.Color),
    ):
        factor = 1 + strength * (2 * uniform(what, seed, epoch, example_id) - 1)
        image = enhancer(image).enhance(factor)
    return image


def crop(image: Image, captions: Sequence[str], *, least: float, seed: int, epoch: int, example_id: str) -> Image:
    """A window of at least the share `least` of each side, drawn by (seed, epoch, example id), at the image's own size.

    A window moves what is in the middle, so the image stays as it is where a caption names a direction.

    Raises:
        DataError: `least` is out of its range.
    """
    if not 0.5 <= least <= 1:
        raise DataError(f"the least share of a side that a crop keeps is from 0.5 to 1, not {least}")
    if least == 1 or tells_directions(captions):
        return image
    shares = [uniform(what, seed, epoch, example_id) for what in ("width", "height", "x", "y")]
    width, height = ((least + (1 - least) * share) * side for share, side in zip(shares[:2], image.size, strict=True))
    left, top = shares[2] * (image.width - width), shares[3] * (image.height - height)
    return image.resize(image.size, Resampling.BILINEAR, box=(left, top, left + width, top + height))


def vary(image: Image, captions: Sequence[str], *, seed: int, epoch: int, example_id: str) -> Image:
    """A turn, a crop that keeps three quarters of each side or more, and light and colour within a quarter."""
    turned = turn(image, captions, seed=seed, epoch=epoch, example_id=example_id)
    cropped = crop(turned, captions, least=0.75, seed=seed, epoch=epoch, example_id=example_id)
    return recolour(cropped, captions, strength=0.25, seed=seed, epoch=epoch, example_id=example_id)
