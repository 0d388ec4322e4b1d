"""What the rest of the house needs to know of a base model, without its weights."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSpec:
    """How pixels are prepared for the vision tower."""

    resolution_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
