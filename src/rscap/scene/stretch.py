"""From the values of a scene to 8 bits, by one rule for the whole scene; the provenance holds the numbers used.

Eight bits pass unchanged. Deeper values are stretched between two numbers per band, found once from valid pixels of an
overview (or of a spread of small windows, where the file has no overviews), or given by the caller. Never per window:
the same ground would look different in each of them, and captions would change with the grid.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from rscap.errors import SceneError
from rscap.scene.bands import Bands
from rscap.scene.values import Unreadable, Values, in_units, read_values

SAMPLE_PIXELS = 2**20
"""At most about this many pixels are looked at for the statistics of a scene."""
_PATCH = 64
_WHOLE_PIXELS = 2**22
"""A file without overviews is read whole up to this size, and beyond it in patches."""
DARK = 16
"""A scene of which 98 % of valid pixels are below this, of 255, is reported as almost black."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StretchRule:
    """What the caller asks: percentiles (low, high), `minmax`, or a range of values."""

    kind: Literal["percentiles", "minmax", "range"] = "percentiles"
    low: float = 2.0
    high: float = 98.0
    joint: bool = False
    """One pair of numbers for all bands, which keeps their balance, in place of one for each band."""

    def __post_init__(self) -> None:
        if self.kind == "percentiles" and not 0 <= self.low < self.high <= 100:
            raise SceneError(
                f"--stretch {self.low:g},{self.high:g}: percentiles rise from 0 to 100", hint="such as --stretch 2,98"
            )
        if self.kind == "range" and not (np.isfinite([self.low, self.high]).all() and self.low < self.high):
            raise SceneError(
                f"--range {self.low:g} {self.high:g}: the second value is the larger", hint="such as --range 0 3000"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """The rule of one scene, in numbers: from values (scale and offset applied) to 0 … 255."""

    kind: str
    """`unchanged`, `percentiles`, `minmax` or `range`."""
    limits: tuple[tuple[float, float], ...]
    """(value that becomes 0, value that becomes 255) of each band; empty for `unchanged`."""
    fill: tuple[int, int, int]
    """The scene's median colour, which stands in for invalid pixels."""
    sampled: int
    """How many valid pixels the numbers were found from."""
    sampled_from: str
    """`overview`, `patches`, `whole scene`, or `search`."""
    notes: tuple[str, ...] = ()

    @classmethod
    def known(cls, numbers: Mapping[str, Any]) -> Stretch:
        """The rule whose `numbers` these are."""
        red, green, blue = numbers["fill"]
        return cls(
            kind=numbers["kind"],
            limits=tuple((float(low), float(high)) for low, high in numbers["limits"]),
            fill=(red, green, blue),
            sampled=numbers["sampled_pixels"],
            sampled_from=numbers["sampled_from"],
        )

    @property
    def numbers(self) -> dict[str, Any]:
        """As the provenance holds it."""
        return {
            "kind": self.kind,
            "limits": [list(pair) for pair in self.limits],
            "fill": list(self.fill),
            "sampled_pixels": self.sampled,
            "sampled_from": self.sampled_from,
        }

    def __call__(self, values: Values) -> NDArray[np.uint8]:
        """uint8[H, W, 3] of the values of a window; invalid pixels have the scene's median colour."""
        colour = to_colour(values, self.limits)
        colour[~values.valid] = self.fill
        return colour


def to_colour(values: Values, limits: tuple[tuple[float, float], ...]) -> NDArray[np.uint8]:
    """uint8[H, W, 3] without regard to validity; grey is repeated in all three."""
    bands = values.bands
    if limits:
        shown = np.empty(bands.shape, dtype=np.uint8)
        for place, pair in enumerate(limits):
            scale = values.scales[place] if values.scales else (1.0, 0.0)
            if bands.dtype in _TABLED:
                shown[place] = _table(bands.dtype.str, scale, pair)[bands[place].view(np.uint16)]
            else:
                shown[place] = _scaled(values.physical(place), *pair)
        bands = shown
    if len(bands) == 1:
        bands = np.repeat(bands, 3, axis=0)
    return np.ascontiguousarray(np.moveaxis(bands, 0, -1)).astype(np.uint8, copy=False)


_TABLED = (np.dtype(np.uint16), np.dtype(np.int16))


@lru_cache(maxsize=64)
def _table(kind: str, scale: tuple[float, float], limits: tuple[float, float]) -> NDArray[np.uint8]:
    """uint8[65536]: what every stored value of 16 bits becomes, by its bit pattern."""
    stored = np.arange(2**16, dtype=np.uint16).view(kind)
    return _scaled(in_units(stored, *scale), *limits)


def _scaled(band: NDArray[np.float64], low: float, high: float) -> NDArray[np.uint8]:
    """0 … 255 between two values; where they are equal, below, at and above it are 0, 127 and 255."""
    wide = band
    if high > low:
        with np.errstate(invalid="ignore", over="ignore"):
            wide = (band - low) * (255.0 / (high - low))
    else:
        wide = np.sign(np.nan_to_num(wide - low)) * 127.5 + 127.5
    return np.rint(np.clip(np.nan_to_num(wide, nan=0.0, posinf=255.0, neginf=0.0), 0.0, 255.0)).astype(np.uint8)


def find_stretch(path: str, source: Any, bands: Bands, rule: StretchRule) -> Stretch | None:
    """The numbers of a scene; None where it has no valid pixel.

    Args:
        path: names the scene in errors.
        source: the dataset at full size.
        bands: those that are shown.
        rule: what the caller asks.

    Raises:
        SceneError: the scene cannot be read.
    """
    found, came_from = _sample(path, source, bands)
    if not found.valid.any():
        return None
    limits = _limits(found, rule) if found.deep else found.narrow_limits
    colour = to_colour(found, limits)[found.valid]
    fill = tuple(int(value) for value in np.rint(np.median(colour, axis=0)))
    kind = rule.kind if found.deep else "unchanged" if not limits else "few bits"
    return Stretch(
        kind=kind,
        limits=limits,
        fill=(fill[0], fill[1], fill[2]),
        sampled=int(found.valid.sum()),
        sampled_from=came_from,
        notes=_notes(colour, found, limits),
    )


def _limits(found: Values, rule: StretchRule) -> tuple[tuple[float, float], ...]:
    if rule.kind == "range":
        return ((rule.low, rule.high),) * len(found.bands)
    shares = (rule.low, rule.high) if rule.kind == "percentiles" else (0.0, 100.0)
    values = [found.physical(place)[valid] for place, valid in enumerate(found.band_valid)]
    if rule.joint:
        values = [np.concatenate(values)] * len(values)
    pairs = [np.percentile(one, shares) if one.size else np.zeros(2) for one in values]
    return tuple((float(low), float(high)) for low, high in pairs)


def _notes(colour: NDArray[np.uint8], found: Values, limits: tuple[tuple[float, float], ...]) -> tuple[str, ...]:
    if all(low == high for low, high in limits) and limits:
        return ("all valid pixels have one value: there is nothing to see",)
    if (colour == colour[0]).all():
        return ("all valid pixels have one colour: there is nothing to see",)
    if np.percentile(colour.max(axis=1), 98) < DARK:
        way = "--range LO HI or --stretch" if found.deep else "convert it with `gdal_translate -scale`"
        return (f"almost black: 98 % of its pixels are darker than {DARK} of 255; brighten it: {way}",)
    return ()


def _sample(path: str, source: Any, bands: Bands) -> tuple[Values, str]:
    """Values spread over the scene, in one strip of pixels, and where they came from."""
    pixels = source.width * source.height
    if source.overviews(bands.indexes[0]) or pixels <= _WHOLE_PIXELS:
        shrink = max(1.0, (pixels / SAMPLE_PIXELS) ** 0.5)
        shape = (max(1, round(source.height / shrink)), max(1, round(source.width / shrink)))
        came_from = "overview" if source.overviews(bands.indexes[0]) and shrink > 1 else "whole scene"
        try:
            found = read_values(path, source, bands, out_shape=shape)
        except Unreadable:  # one damaged block of a scene whose other windows are worth captioning
            found, came_from = _patched(path, source, bands), "patches"
    else:
        found, came_from = _patched(path, source, bands), "patches"
    if found.valid.any():
        return found, came_from
    return _searched(path, source, bands), "search"


def _patched(path: str, source: Any, bands: Bands) -> Values:
    """The values of the patches that can be read."""
    read, error = list[Values](), None
    for window in _patches(source):
        try:
            read.append(read_values(path, source, bands, window))
        except Unreadable as unreadable:
            error = error or unreadable
    if not read and error:
        raise error
    return Values.joined(read)


def _patches(source: Any) -> Iterator[Window]:
    """16 x 16 small windows, spread evenly."""
    side = int((SAMPLE_PIXELS // _PATCH**2) ** 0.5)
    for y in np.linspace(0, max(source.height - _PATCH, 0), side).astype(int):
        for x in np.linspace(0, max(source.width - _PATCH, 0), side).astype(int):
            yield Window(int(x), int(y), min(_PATCH, source.width), min(_PATCH, source.height))


def _searched(path: str, source: Any, bands: Bands) -> Values:
    """The first valid pixels of a scene whose sample has none: few data in a wide frame."""
    step, kept, count = 1024, list[Values](), 0
    for y in range(0, source.height, step):
        for x in range(0, source.width, step):
            window = Window(x, y, min(step, source.width - x), min(step, source.height - y))
            try:
                found = read_values(path, source, bands, window)
            except Unreadable:  # reported when its windows are read
                continue
            if found.valid.any():
                kept.append(found.valid_alone())
                count += int(found.valid.sum())
            if count >= SAMPLE_PIXELS:
                return Values.joined(kept)
    return Values.joined(kept) if kept else _patched(path, source, bands)
