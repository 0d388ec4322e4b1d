"""Where pixels lie: a transform into a CRS, whether that is the Earth, and how many metres a pixel covers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Geod, Transformer
from rasterio.transform import Affine

Floats = NDArray[np.float64]

_EARTH_RADIUS_M = 6_378_137.0
_SAME_BODY = 0.005
"""Ellipsoids and spheres of the Earth differ by 0.2 %; Venus, the next body in size, is 5 % smaller."""


@dataclass(frozen=True)
class Ground:
    """From pixels (x to the right, y down, corners at whole numbers) to a CRS, and on to longitude and latitude."""

    transform: Affine
    crs: CRS | None
    earth: bool
    """Whether the CRS is one of the Earth: only then does a scene have longitude and latitude."""

    @classmethod
    def of(cls, transform: Affine, crs: CRS | None) -> Ground:
        return cls(transform, crs, crs is not None and is_earth(crs))

    @property
    def placed(self) -> bool:
        """Whether the transform says more than the pixels' own numbers."""
        return not self.transform.is_identity

    @cached_property
    def name(self) -> str | None:
        """The CRS as `EPSG:32633` where it has such a name, else as WKT; None where there is none."""
        return None if self.crs is None else crs_name(self.crs)

    @cached_property
    def in_degrees(self) -> bool:
        """Whether the CRS itself has longitudes and latitudes in degrees."""
        return self.crs is not None and self.crs.is_geographic and self.crs.axis_info[0].unit_name == "degree"

    @property
    def mirrored(self) -> bool:
        """Whether the rows run from south to north, so that the picture as stored is a mirror image."""
        turned: float = self.transform.determinant
        return self.crs is not None and turned > 0

    def native(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Coordinates in the CRS of pixel positions."""
        a, b, c, d, e, f = self.transform[:6]
        return a * x + b * y + c, d * x + e * y + f

    def pixel(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Pixel positions of coordinates in the CRS."""
        a, b, c, d, e, f = (~self.transform)[:6]
        return a * x + b * y + c, d * x + e * y + f

    def lonlat(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Longitude and latitude (WGS 84, degrees) of coordinates in the CRS; infinite where there are none.

        Longitudes of a geographic CRS stay next to its own, also beyond 180, so that an edge never jumps.
        """
        lon, lat = self._to_lonlat.transform(x, y)
        lon, lat = np.asarray(lon, dtype=np.float64), np.asarray(lat, dtype=np.float64)
        if self.in_degrees:
            with np.errstate(invalid="ignore"):
                lon = lon + 360.0 * np.round((x - lon) / 360.0)
        return lon, lat

    def on_body(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Longitude and latitude in degrees on the ellipsoid of the CRS, whatever body that is; infinite where none.

        On the Earth they are those of `lonlat`, elsewhere those of the CRS itself.
        """
        if self.earth:
            return self.lonlat(x, y)
        lon, lat = self._to_body.transform(x, y)
        return np.asarray(lon, dtype=np.float64), np.asarray(lat, dtype=np.float64)

    @cached_property
    def body(self) -> Geod | None:
        """The ellipsoid on which distances are measured: WGS 84 on the Earth, elsewhere that of the CRS.

        None without a CRS, and of an engineering CRS, which lies on no body.
        """
        if self.earth:
            return Geod(ellps="WGS84")
        return None if self.crs is None or self.crs.geodetic_crs is None else self.crs.get_geod()

    def from_lonlat(self, lon: Floats, lat: Floats) -> tuple[Floats, Floats]:
        """Coordinates in the CRS."""
        x, y = self._to_lonlat.transform(lon, lat, direction="INVERSE")
        return np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)

    @cached_property
    def poles(self) -> Floats:
        """float[N, 2]: the pixel positions of the poles that the CRS knows, as points of a plane."""
        if not self.earth or self.in_degrees:
            return np.empty((0, 2))
        x, y = self.from_lonlat(np.zeros(2), np.array([90.0, -90.0]))
        known = np.isfinite(x) & np.isfinite(y)
        return np.column_stack(self.pixel(x[known], y[known]))

    @cached_property
    def _to_lonlat(self) -> Transformer:
        assert self.crs is not None
        return Transformer.from_crs(self.crs, "OGC:CRS84", always_xy=True)

    @cached_property
    def _to_body(self) -> Transformer:
        assert self.crs is not None
        return Transformer.from_crs(self.crs, self.crs.geodetic_crs, always_xy=True)


def is_earth(crs: CRS) -> bool:
    """Whether a CRS describes the Earth, by the size of its ellipsoid; an engineering CRS has none."""
    geodetic = crs.geodetic_crs
    if geodetic is None or geodetic.ellipsoid is None:
        return False
    return abs(geodetic.ellipsoid.semi_major_metre - _EARTH_RADIUS_M) < _SAME_BODY * _EARTH_RADIUS_M


def crs_name(crs: CRS) -> str:
    """`EPSG:32633` where the CRS has such a name, else its WKT."""
    authority = crs.to_authority(min_confidence=100)
    return ":".join(authority) if authority else crs.to_wkt()


def ground_size(ground: Ground, x: float, y: float) -> tuple[float, float] | None:
    """Metres that one pixel at a pixel position covers, along a row and down a column; None where nothing tells."""
    return ground_sizes(ground, np.array([x], dtype=np.float64), np.array([y], dtype=np.float64))[0]


def ground_sizes(ground: Ground, x: Floats, y: Floats) -> list[tuple[float, float] | None]:
    """`ground_size` of N pixel positions.

    It is the geodesic distance between the middles of a pixel's edges on the body's own ellipsoid, so that degrees and
    Mercator metres are what they are there, on the Earth as on Mars.
    """
    if ground.body is None:
        return [None] * len(x)
    xs, ys = np.stack([x - 0.5, x + 0.5, x, x]), np.stack([y, y, y - 0.5, y + 0.5])
    lon, lat = (one.reshape(xs.shape) for one in ground.on_body(*ground.native(xs.ravel(), ys.ravel())))
    placed = np.asarray(np.isfinite(lon).all(axis=0) & np.isfinite(lat).all(axis=0))
    lon, lat = np.where(placed, lon, 0.0), np.where(placed, lat, 0.0)
    _, _, metres = ground.body.inv(lon[[0, 2]], lat[[0, 2]], lon[[1, 3]], lat[[1, 3]])
    across, down = np.asarray(metres)
    return [_positive(*pair) if known else None for *pair, known in zip(across, down, placed, strict=True)]


def _positive(across: float, down: float) -> tuple[float, float] | None:
    return (float(across), float(down)) if across > 0 and down > 0 else None
