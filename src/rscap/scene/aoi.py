"""An area of interest: the windows whose cells touch it are captioned, and no other."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shapely import Geometry, box, is_valid, make_valid, prepare, unary_union
from shapely.errors import ShapelyError
from shapely.geometry import shape

from rscap.errors import SceneError
from rscap.scene.ground import Ground
from rscap.scene.outline import outline
from rscap.scene.windows import Box


@dataclass(frozen=True)
class Area:
    """A part of the Earth, in longitude and latitude."""

    given: str
    geometry: Geometry

    @classmethod
    def of(cls, given: str) -> Area:
        """An area from `WEST,SOUTH,EAST,NORTH` in degrees, or from a GeoJSON file (RFC 7946).

        Raises:
            SceneError: neither, or an area of no size; says what is wrong.
        """
        geometry = _of_file(Path(given)) if Path(given).is_file() else _of_bounds(given)
        if not is_valid(geometry):
            geometry = make_valid(geometry)
        if geometry.is_empty or not geometry.area > 0:
            raise SceneError(f"--aoi {given}: this area has no size", hint="give a polygon, or bounds that enclose one")
        prepare(geometry)
        return cls(given, geometry)

    def touches(self, ground: Ground, cell: Box) -> bool:
        """Whether a cell of a scene lies in this area, at least in part."""
        place = outline(ground, cell).lonlat
        return place is not None and bool(self.geometry.intersects(place))


def _of_bounds(given: str) -> Geometry:
    try:
        west, south, east, north = map(float, given.split(","))
    except ValueError:
        raise SceneError(
            f"--aoi {given}: neither a GeoJSON file nor bounds", hint="such as --aoi 13.3,52.4,13.5,52.6 in degrees"
        ) from None
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south < north <= 90):
        raise SceneError(
            f"--aoi {given}: bounds are WEST,SOUTH,EAST,NORTH in degrees of longitude and latitude",
            hint="longitude from -180 to 180, latitude from -90 to 90, SOUTH below NORTH",
        )
    if west > east:  # over the antimeridian, as RFC 7946 writes it
        return unary_union([box(west, south, 180.0, north), box(-180.0, south, east, north)])
    return box(west, south, east, north)


def _of_file(path: Path) -> Geometry:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        geometry = unary_union([shape(one) for one in _geometries(found)])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ShapelyError) as error:
        raise SceneError(f"--aoi {path}: not GeoJSON with polygons: {error}") from None
    west, south, east, north = geometry.bounds if not geometry.is_empty else (0, 0, 0, 0)
    if not (west >= -180.001 and east <= 180.001 and south >= -90.001 and north <= 90.001):
        raise SceneError(
            f"--aoi {path}: its coordinates ({west:g} to {east:g}, {south:g} to {north:g}) are not degrees",
            hint="GeoJSON holds longitude and latitude: transform it to EPSG:4326 first",
        )
    return geometry


def _geometries(found: dict[str, Any]) -> list[Any]:
    if found["type"] == "FeatureCollection":
        return [feature["geometry"] for feature in found["features"] if feature["geometry"]]
    return [found["geometry"]] if found["type"] == "Feature" else [found]
