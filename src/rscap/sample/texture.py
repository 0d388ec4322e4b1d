"""Surfaces: noise, grounds and tree crowns as arrays that are cheap to crop.

All arithmetic on pixels is +, -, *, / and comparisons of float32, and all scaling is Pillow's fixed-point resize of
8-bit images: the same seed gives the same pixels on every machine (no transcendental functions, no matrix products).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float32]
Colour = tuple[int, int, int]
Where = tuple[NDArray[np.intp], NDArray[np.intp]]
"""Row and column of each of n pixels."""

BANK = 512
"""Side of the noise fields; every texture is a random crop of them."""

SUNS: tuple[tuple[float, float], ...] = ((0.8, 0.6), (-0.8, 0.6), (0.6, 0.8), (-0.6, 0.8))
"""Unit vectors (x right, y down) along which shadows fall."""


@dataclass(frozen=True, slots=True)
class Texture:
    """A surface: two colours mixed by soft blotches of `blotch` pixels, a luminance grain of amplitude `grain`, and
    perhaps thin spots where a third colour shows through.
    """

    low: Colour
    high: Colour
    blotch: int = 32
    grain: float = 9.0
    worn: Colour | None = None


@lru_cache(maxsize=16)
def noise(scale: int) -> Array:
    """A field of float32[512, 512] in [-1, 1] whose features are `scale` pixels wide (a power of two)."""
    rng = np.random.default_rng([7121, scale])
    side = BANK // scale
    coarse = Image.fromarray(rng.integers(0, 256, (side, side), dtype=np.uint8))
    fine = coarse if scale == 1 else coarse.resize((BANK, BANK), Image.Resampling.BICUBIC)
    return np.asarray(fine).astype(np.float32) / np.float32(127.5) - np.float32(1)


def crop(field: Array, shape: tuple[int, int], rng: np.random.Generator, at: Where | None = None) -> Array:
    """A random window of `shape` (height, width) of a field of float32[512, 512], or its pixels `at` alone."""
    y, x = (int(rng.integers(0, BANK - extent + 1)) for extent in shape)
    window = field[y : y + shape[0], x : x + shape[1]]
    return window if at is None else window[at]


@lru_cache(maxsize=8)
def blotches(scale: int) -> Array:
    """Weights 0..1 with which the two colours of a texture mix, float32[512, 512]."""
    return noise(scale) * np.float32(0.45) + noise(8) * np.float32(0.3) + noise(4) * np.float32(0.2) + np.float32(0.5)


@lru_cache(maxsize=1)
def speckle() -> Array:
    """Fine grain of about +-1, float32[512, 512]."""
    return noise(1) * np.float32(0.5) + noise(2) * np.float32(0.8)


@lru_cache(maxsize=1)
def thin_spots() -> Array:
    """Weights 0..0.75 with which a worn ground shows through, zero over most of it, float32[512, 512]."""
    return np.clip(
        noise(32) + noise(8) * np.float32(0.5) - noise(4) * np.float32(0.6) - np.float32(0.25), 0, np.float32(0.75)
    )


def surface(texture: Texture, shape: tuple[int, int], rng: np.random.Generator, at: Where | None = None) -> Array:
    """Pixels of a texture on the scale 0..255: float32[height, width, 3], or float32[n, 3] of the pixels `at`."""
    low, high = np.array(texture.low, np.float32), np.array(texture.high, np.float32)
    pixels = crop(blotches(texture.blotch), shape, rng, at)[..., None] * (high - low)
    pixels += low
    if texture.worn is not None:
        weight = crop(thin_spots(), shape, rng, at)[..., None]
        pixels += weight * (np.array(texture.worn, np.float32) - pixels)
    pixels += (crop(speckle(), shape, rng, at) * np.float32(texture.grain))[..., None]
    return pixels


@dataclass(frozen=True, slots=True)
class Sprite:
    """A tree crown: coverage and relative light, float32[2r+3, 2r+3]."""

    alpha: Array
    light: Array


VARIANTS = 6


@lru_cache(maxsize=512)
def crown(radius: int, variant: int, sun: int) -> Sprite:
    """One of six crowns of a radius in pixels, lit against `SUNS[sun]`."""
    rng = np.random.default_rng([311, radius, variant])
    side = 2 * radius + 3
    axis = np.arange(side, dtype=np.float32) - np.float32(radius + 1)
    dx, dy = axis[None, :] / radius, axis[:, None] / radius
    squared = dx * dx + dy * dy + crop(noise(4), (side, side), rng) * np.float32(0.35)
    alpha = np.clip((np.float32(1.05) - squared) * np.float32(radius * 0.5), 0, 1)
    lean = dx * np.float32(SUNS[sun][0]) + dy * np.float32(SUNS[sun][1])
    leaves = crop(noise(2), (side, side), rng) * np.float32(0.22) + crop(noise(1), (side, side), rng) * np.float32(0.08)
    return Sprite(alpha.astype(np.float32), (np.float32(1.0) - lean * np.float32(0.34) + leaves).astype(np.float32))


@lru_cache(maxsize=len(SUNS))
def canopy(sun: int) -> Array:
    """Relative light of a closed wood seen from above, float32[512, 512]: crowns over crowns."""
    rng = np.random.default_rng([911, sun])
    field = np.full((BANK, BANK), 0.42, np.float32)
    for _ in range(5200):
        radius = int(rng.integers(4, 9))
        sprite = crown(radius, int(rng.integers(VARIANTS)), sun)
        y, x = (int(value) for value in rng.integers(0, BANK - 2 * radius - 3, 2))
        window = field[y : y + 2 * radius + 3, x : x + 2 * radius + 3]
        tone = np.float32(0.8 + 0.35 * rng.random())
        window += sprite.alpha * (sprite.light * tone - window)
    return field
