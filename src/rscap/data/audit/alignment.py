"""How well one picture lies on another at the best shift: correlation of edges and textures."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from rscap.data.borders import without_border
from rscap.data.measure import Floats

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
