"""Bytes that were read of a remote scene, beside those that its windows need.

GDAL counts what it downloads, but rasterio has no function that asks for the count, so GDAL's own is called. What is
needed are the compressed blocks of a TIFF under the windows, each once, as its directory says.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import rasterio
import rasterio._io

from rscap.scene.opening import Raster, is_remote
from rscap.scene.windows import Box


@dataclass(slots=True)
class Traffic:
    """What was downloaded of a remote scene."""

    before: int | None

    @property
    def read(self) -> int | None:
        """Bytes so far; None of a local scene, or where GDAL does not tell."""
        now = None if self.before is None else _downloaded()
        return None if now is None or self.before is None else now - self.before


@contextmanager
def counted(path: str) -> Iterator[Traffic]:
    """Count what is downloaded of a remote scene while the block lasts; nothing of a local one."""
    if not is_remote(path):
        yield Traffic(None)
        return
    with rasterio.Env(CPL_VSIL_NETWORK_STATS_ENABLED="YES"):
        yield Traffic(_downloaded())


def _downloaded() -> int | None:
    """Bytes that GDAL has downloaded in this process since it was first asked."""
    ask = _statistics()
    if ask is None:
        return None
    methods = json.loads(ask() or "{}").get("methods", {})
    return sum(int(one.get("downloaded_bytes", 0)) for one in methods.values())


@cache
def _statistics() -> Callable[[], bytes] | None:
    """GDAL's `VSINetworkStatsGetAsSerializedJSON`, found through the library that rasterio has loaded."""
    try:
        gdal = ctypes.CDLL(rasterio._io.__file__)
        tell, free = gdal.VSINetworkStatsGetAsSerializedJSON, gdal.VSIFree
        gdal.VSINetworkStatsReset()  # it looks only once whether it is to count
    except (OSError, AttributeError):
        return None
    tell.restype, tell.argtypes, free.argtypes = ctypes.c_void_p, [ctypes.c_void_p], [ctypes.c_void_p]

    def ask() -> bytes:
        text = tell(None)
        found = ctypes.string_at(text) if text else b""
        free(text)
        return found

    return ask


@dataclass(slots=True)
class Downloads:
    """What was downloaded of a remote scene, and the blocks that its windows need: of one process, or of several."""

    read: int | None = 0
    """Bytes; None where GDAL does not tell."""
    blocks: dict[tuple[int, int], int] | None = field(default_factory=dict)
    """Compressed bytes of each block, by row and column; None where the file does not tell: it is no TIFF, or is
    warped by control points."""

    @property
    def needed(self) -> int | None:
        """Bytes of the blocks, each once."""
        return None if self.blocks is None else sum(self.blocks.values())

    def add(self, other: Downloads) -> None:
        """What another process, or an earlier call of this one, has downloaded."""
        self.read = None if self.read is None or other.read is None else self.read + other.read
        self.blocks = None if self.blocks is None or other.blocks is None else self.blocks | other.blocks


class Needed:
    """Collects the blocks under the windows of a scene."""

    def __init__(self, raster: Raster, bands: tuple[int, ...]) -> None:
        self._raster = raster
        separate = raster.source.profile.get("interleave") == "band"
        self._bands = bands if separate else bands[:1]
        self.blocks: dict[tuple[int, int], int] | None = None if raster.blocks is None else {}
        """As `Downloads` has them."""

    def add(self, window: Box) -> None:
        """One more window that is read."""
        dataset = self._raster.blocks
        if dataset is None:
            return
        across, down = dataset.width / self._raster.width, dataset.height / self._raster.height
        tall, wide = dataset.block_shapes[0]
        for row in range(int(window.y * down) // tall, (max(int(window.bottom * down) - 1, 0)) // tall + 1):
            for column in range(int(window.x * across) // wide, (max(int(window.right * across) - 1, 0)) // wide + 1):
                if self.blocks is not None and (row, column) not in self.blocks:
                    self._note(dataset, row, column)

    def _note(self, dataset: Any, row: int, column: int) -> None:
        size = self._size(dataset, row, column)
        if size is None or self.blocks is None:
            self.blocks = None
        else:
            self.blocks[row, column] = size

    def _size(self, dataset: Any, row: int, column: int) -> int | None:
        """Bytes of a block in all bands that are read; None where the file does not tell."""
        total = 0
        for band in self._bands:
            size = dataset.get_tag_item(f"BLOCK_SIZE_{column}_{row}", "TIFF", bidx=band)
            if size is None:
                offset = dataset.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=band)
                return None if offset is None else total  # a block without data takes no bytes
            total += int(size)
        return total
