"""Rasters for tests, and a captioner that answers at once."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine, from_origin

from rscap.records import Picture, Prediction

UTM = "EPSG:32633"
HALF_METRE = from_origin(500_000.0, 5_500_000.0, 0.5, 0.5)


def noise(*shape: int, seed: int = 0, dtype: str = "uint8", high: int = 255) -> NDArray[Any]:
    """Random values from 1, the same on every call."""
    return np.random.default_rng(seed).integers(1, high, shape, endpoint=True).astype(dtype)


def write_raster(
    path: Path,
    bands: NDArray[Any],
    *,
    crs: str | None = UTM,
    transform: Affine | None = HALF_METRE,
    mask: NDArray[np.bool_] | None = None,
    descriptions: Sequence[str] = (),
    **options: Any,
) -> Path:
    """Write [C, H, W] as a GeoTIFF: three bands are red, green and blue unless `photometric` says otherwise."""
    count, height, width = bands.shape
    options = {"photometric": "RGB" if count == 3 else "MINISBLACK", **options}
    placed = {} if transform is None else {"transform": transform}
    size = {"width": width, "height": height, "count": count, "dtype": bands.dtype}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        file = rasterio.open(path, "w", driver="GTiff", crs=crs, **size, **placed, **options)
    with file:
        file.write(bands)
        if mask is not None:
            file.write_mask(mask)
        for number, text in enumerate(descriptions, start=1):
            file.set_band_description(number, text)
    return path


class Echo:
    """Says the mean colour of a picture, and remembers what it was asked."""

    name, prefix = "echo", None

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.pictures: dict[str, NDArray[np.uint8]] = {}

    def predictions(self, pictures: Sequence[Picture]) -> Iterator[Prediction]:
        for picture in pictures:
            pixels = np.asarray(picture.image.load())
            self.asked.append(picture.id)
            self.pictures[picture.id] = pixels
            words = " ".join(f"{value:.1f}" for value in pixels.reshape(-1, 3).mean(axis=0))
            yield Prediction(example_id=picture.id, caption=f"colour {words}", prefix="", tokens=4, stopped="eos")
