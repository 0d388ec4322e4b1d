"""Bytes that were read of a remote scene, beside those that its windows need.

GDAL counts what it downloads, but rasterio has no function that asks for the count, so GDAL's own is called. What is
needed are the compressed blocks of a TIFF under the windows, each once, as its directory says.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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


class Needed:
    """The blocks under the windows of a scene."""

    def __init__(self, raster: Raster, bands: tuple[int, ...]) -> None:
        self._raster = raster
        separate = raster.source.profile.get("interleave") == "band"
        self._bands = bands if separate else bands[:1]
        self._seen: set[tuple[int, int]] = set()
        self.bytes: int | None = 0 if raster.blocks is not None else None
        """None where the file does not tell: it is no TIFF, or is warped by control points."""

    def add(self, window: Box) -> None:
        """One more window that is read."""
        blocks = self._raster.blocks
        if self.bytes is None or blocks is None:
            return
        across, down = blocks.width / self._raster.width, blocks.height / self._raster.height
        tall, wide = blocks.block_shapes[0]
        for row in range(int(window.y * down) // tall, (max(int(window.bottom * down) - 1, 0)) // tall + 1):
            for column in range(int(window.x * across) // wide, (max(int(window.right * across) - 1, 0)) // wide + 1):
                if self.bytes is not None and (row, column) not in self._seen:
                    self._seen.add((row, column))
                    self._count(blocks, row, column)

    def _count(self, blocks: Any, row: int, column: int) -> None:
        for band in self._bands:
            size = blocks.get_tag_item(f"BLOCK_SIZE_{column}_{row}", "TIFF", bidx=band)
            if size is None:
                offset = blocks.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=band)
                self.bytes = self.bytes if offset is not None else None  # a block without data takes no bytes
                return
            assert self.bytes is not None
            self.bytes += int(size)
