"""Rasters made of scenes of the sample; importing this needs the extra `geo`."""

from __future__ import annotations

from typing import Any

import numpy as np
from rasterio.io import MemoryFile
from rasterio.transform import from_origin

from rscap.sample import sample_examples


def geotiff(*numbers: int, driver: str = "GTiff", **more: Any) -> bytes:
    """Scenes of the sample side by side, half a metre a pixel, at a place in UTM zone 33."""
    pixels = np.concatenate([np.array(sample_examples()[number].image.load()) for number in numbers], axis=1)
    profile = {"driver": driver, "width": pixels.shape[1], "height": 224, "count": 3, "dtype": "uint8"}
    placed = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_000_000, 0.5, 0.5), "photometric": "RGB", **more}
    with MemoryFile() as memory:
        with memory.open(**profile, **placed) as target:
            target.write(pixels.transpose(2, 0, 1))
        return bytes(memory.read())
