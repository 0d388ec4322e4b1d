"""The values of a window, with what is valid of them: nodata, NaN, alpha and mask bands, scale and offset, palettes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import MaskFlags
from rasterio.errors import RasterioError
from rasterio.windows import Window

from rscap.errors import SceneError
from rscap.scene.bands import Bands


class Unreadable(SceneError):
    """A part of a scene that cannot be read."""


@dataclass(frozen=True, slots=True)
class Values:
    """What the file says of C bands in H x W pixels."""

    bands: NDArray[Any]
    """[C, H, W], as they are stored."""
    band_valid: NDArray[np.bool_]
    """[C, H, W]: each band by its own mask."""
    valid: NDArray[np.bool_]
    """[H, W]: pixels that can be shown."""
    deep: bool
    """Whether the values have more than 8 bits, so that a stretch must say which are black and white."""
    bits: int = 8
    """Of 8-bit values: how many bits are used (`NBITS`)."""
    scales: tuple[tuple[float, float], ...] = ()
    """(scale, offset) of each band of deep values."""

    def physical(self, place: int) -> NDArray[np.float64]:
        """float64[H, W]: a band with its scale and offset applied."""
        return in_units(self.bands[place], *(self.scales[place] if self.scales else (1.0, 0.0)))

    @property
    def narrow_limits(self) -> tuple[tuple[float, float], ...]:
        """Of values of fewer than 8 bits, the limits that make the largest one white; else none."""
        return ((0.0, 2.0**self.bits - 1),) * len(self.bands) if self.bits < 8 else ()

    @classmethod
    def joined(cls, parts: Sequence[Values]) -> Values:
        """Several parts as one strip of pixels."""
        flat = [part.bands.reshape(len(part.bands), 1, -1) for part in parts]
        masks = [part.band_valid.reshape(len(part.bands), 1, -1) for part in parts]
        valid = [part.valid.reshape(1, -1) for part in parts]
        first = parts[0]
        return cls(
            np.concatenate(flat, axis=2),
            np.concatenate(masks, axis=2),
            np.concatenate(valid, axis=1),
            first.deep,
            first.bits,
            first.scales,
        )

    def valid_alone(self) -> Values:
        """The valid pixels as one strip."""
        kept = self.valid
        return Values(
            self.bands[:, kept][:, None],
            self.band_valid[:, kept][:, None],
            kept[kept][None],
            self.deep,
            self.bits,
            self.scales,
        )


def read_values(
    path: str,
    dataset: Any,
    bands: Bands,
    window: Window | None = None,
    out_shape: tuple[int, int] | None = None,
) -> Values:
    """Read some bands of a window, at full size or shrunk to `out_shape` (height, width).

    Raises:
        Unreadable: the file is damaged there, or gone; says what GDAL said.
    """
    indexes = list(bands.indexes)
    shape = None if out_shape is None else (len(indexes), *out_shape)
    try:
        raw = dataset.read(indexes, window=window, out_shape=shape)
        masks = _masks(dataset, indexes, window, out_shape, raw.shape)
        alpha = _alpha(dataset, window, out_shape)
        black = (raw == 0).all(axis=0)
        absent = (
            _absent(dataset, indexes[0], black, window) if _may_be_absent(dataset, black & masks.any(axis=0)) else None
        )
    except (RasterioError, OSError, ValueError, MemoryError) as error:
        raise Unreadable(f"{path}: cannot be read{_where(window)}: {_reason(error)}", hint=_WAY_OUT) from None
    if raw.dtype.kind == "f":
        masks &= np.isfinite(raw)
    valid: NDArray[np.bool_] = np.asarray(masks.all(axis=0) if raw.dtype.kind == "f" else masks.any(axis=0))
    if alpha is not None:
        valid &= alpha > 0
    if absent is not None:
        valid &= ~absent
    masks &= valid
    if bands.kind == "palette":
        return _looked_up(dataset, bands, raw[0], valid)
    if raw.dtype == np.uint8:
        return Values(raw, masks, valid, deep=False, bits=_bits(dataset, indexes[0]))
    scales = tuple((float(dataset.scales[index - 1]), float(dataset.offsets[index - 1])) for index in indexes)
    return Values(raw, masks, valid, deep=True, scales=scales)


_WAY_OUT = "is the file whole? `gdalinfo -checksum` reads all of it; copy it again, or repair it with gdal_translate"


def _where(window: Window | None) -> str:
    if window is None:
        return ""
    return f" at x {window.col_off}, y {window.row_off}, {window.width} x {window.height} pixels"


def _reason(error: BaseException) -> str:
    """What GDAL said first: rasterio's own message only points to it."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(getattr(error, "errmsg", "") or error).strip()
    return text.split("\n")[0] or type(error).__name__


def _masks(
    dataset: Any,
    indexes: list[int],
    window: Window | None,
    out_shape: tuple[int, int] | None,
    shape: tuple[int, ...],
) -> NDArray[np.bool_]:
    """bool[C, H, W]: nodata of each band, or one mask for all of them."""
    flags = [dataset.mask_flag_enums[index - 1] for index in indexes]
    if all(MaskFlags.all_valid in one for one in flags):
        return np.ones(shape, dtype=bool)
    if all(MaskFlags.per_dataset in one for one in flags):
        one_mask = dataset.read_masks(indexes[0], window=window, out_shape=out_shape)
        return np.repeat((one_mask > 0)[None], len(indexes), axis=0)
    several = None if out_shape is None else (len(indexes), *out_shape)
    return np.asarray(dataset.read_masks(indexes, window=window, out_shape=several) > 0)


def _alpha(dataset: Any, window: Window | None, out_shape: tuple[int, int] | None) -> NDArray[Any] | None:
    """The alpha band, also where nodata hides it from the masks, or a type of float from GDAL."""
    names = [one.name for one in dataset.colorinterp]
    if "alpha" not in names:
        return None
    read: NDArray[Any] = dataset.read(names.index("alpha") + 1, window=window, out_shape=out_shape)
    return read


def _may_be_absent(dataset: Any, black: NDArray[np.bool_]) -> bool:
    """Whether black pixels, bool[H, W], can be those of blocks that a TIFF leaves out.

    They cannot where its size says that it has all blocks: without compression GDAL may give other blocks than those
    of the file.
    """
    if dataset.driver != "GTiff" or not black.any():
        return False
    if dataset.compression is not None:
        return True
    size = sum(np.dtype(kind).itemsize for kind in dataset.dtypes) * dataset.width * dataset.height
    file = Path(dataset.name)
    return file.is_file() and file.stat().st_size < size


def _absent(dataset: Any, band: int, black: NDArray[np.bool_], window: Window | None) -> NDArray[np.bool_]:
    """bool[H, W]: pixels of blocks that a TIFF leaves out. GDAL reads them as 0, though nothing was measured there."""
    tall, wide = dataset.block_shapes[band - 1]
    whole = window or Window(0, 0, dataset.width, dataset.height)
    height, width = black.shape
    down = ((whole.row_off + (np.arange(height) + 0.5) * whole.height / height) // tall).astype(int)
    across = ((whole.col_off + (np.arange(width) + 0.5) * whole.width / width) // wide).astype(int)
    rows, tops, row_of = np.unique(down, return_index=True, return_inverse=True)
    columns, lefts, column_of = np.unique(across, return_index=True, return_inverse=True)
    all_black = np.logical_and.reduceat(np.logical_and.reduceat(black, tops, axis=0), lefts, axis=1)
    absent = np.zeros(all_black.shape, dtype=bool)
    for row, column in np.argwhere(all_black):
        offset = f"BLOCK_OFFSET_{columns[column]}_{rows[row]}"
        absent[row, column] = dataset.get_tag_item(offset, "TIFF", bidx=band) is None
    found: NDArray[np.bool_] = absent[np.ix_(row_of, column_of)]
    return found


def _looked_up(dataset: Any, bands: Bands, raw: NDArray[Any], valid: NDArray[np.bool_]) -> Values:
    """Colours of palette indexes; entries that are transparent are not valid."""
    table = np.zeros((max(256, int(raw.max(initial=0)) + 1), 4), dtype=np.uint8)
    for entry, colour in dataset.colormap(bands.indexes[0]).items():
        if entry < len(table):
            table[entry] = colour
    colours = table[raw]
    valid = valid & (colours[..., 3] > 0)
    shown = np.moveaxis(colours[..., :3], -1, 0)
    return Values(shown, np.repeat(valid[None], 3, axis=0), valid, deep=False)


def in_units(stored: NDArray[Any], scale: float, offset: float) -> NDArray[np.float64]:
    """Stored values in the units that scale and offset give them."""
    wide = stored.astype(np.float64)
    return wide if (scale, offset) == (1.0, 0.0) else wide * scale + offset


def _bits(dataset: Any, index: int) -> int:
    bits = dataset.tags(index, ns="IMAGE_STRUCTURE").get("NBITS", "8")
    return int(bits) if bits.isdigit() and 1 <= int(bits) <= 8 else 8
