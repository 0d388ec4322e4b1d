"""The outline of a window, in the scene's CRS and in longitude and latitude as GeoJSON (RFC 7946) wants it.

A straight edge of a window is a curve in longitude and latitude, so points are put into it until no part of it is off
by a tenth of a pixel. An outline that crosses the antimeridian is cut there; one around a pole is closed over the pole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from shapely import Geometry, MultiPolygon, Polygon, box, get_parts, is_valid, make_valid, polygons, unary_union
from shapely.affinity import translate
from shapely.geometry.polygon import orient

from rscap.scene.ground import Ground
from rscap.scene.windows import Box

Floats = NDArray[np.float64]

OFF_PIXELS = 0.1
"""The most that an outline may be off, in pixels of the scene."""
_MOST_POINTS = 512
"""Points that are put into one edge, at most."""
_WIDEST_CHORD = 120.0
"""Degrees of longitude between two points: from 180 on, the way around the globe is not known."""
DECIMALS = 12
"""Of degrees in files: a tenth of a micrometre."""
_POLE = 90.0 - 1e-9


@dataclass(frozen=True, slots=True)
class Outline:
    """Where a window lies."""

    native: Polygon | MultiPolygon
    """In the scene's CRS, or in pixels where it has none; counter-clockwise."""
    lonlat: Polygon | MultiPolygon | None
    """On WGS 84, counter-clockwise, within -180 … 180; None off the Earth, or where the CRS has no values."""


def outline(ground: Ground, window: Box) -> Outline:
    """The outline of a window of a scene."""
    return outlines(ground, [window])[0]


def outlines(ground: Ground, windows: Sequence[Box]) -> list[Outline]:
    """The outlines of windows of a scene; thousands at once cost a fraction of as many calls of `outline`."""
    if not windows:
        return []
    corners = np.array([_corners(window) for window in windows], dtype=np.float64)
    flat = np.stack(ground.native(*corners.reshape(-1, 2).T), axis=-1)
    native = _polygons(flat.reshape(corners.shape))
    if not ground.earth:
        return [Outline(one, None) for one in native]
    places = _simple(ground, corners)
    return [
        Outline(one, _lonlat(ground, corners[number]) if places[number] is None else places[number])
        for number, one in enumerate(native)
    ]


def _corners(window: Box) -> list[tuple[int, int]]:
    return [(window.x, window.y), (window.right, window.y), (window.right, window.bottom), (window.x, window.bottom)]


def _polygons(rings: Floats) -> list[Polygon]:
    """Polygons of open rings, [N, 4, 2], counter-clockwise; the first point stays the first."""
    x, y = rings[..., 0], rings[..., 1]
    twice_area = (x * np.roll(y, -1, axis=1) - np.roll(x, -1, axis=1) * y).sum(axis=1)
    closed = np.concatenate([rings, rings[:, :1]], axis=1)
    closed[twice_area < 0] = closed[twice_area < 0, ::-1]
    return list(polygons(closed))


def _simple(ground: Ground, corners: Floats) -> list[Polygon | None]:
    """Outlines in longitude and latitude of the windows, [N, 4, 2], that are simple, as most are: straight lines
    between the corners are close enough, and neither a pole nor the antimeridian is near. None for each other one.
    """
    points = np.empty((len(corners), 9, 2))
    points[:, ::2] = np.concatenate([corners, corners[:, :1]], axis=1)
    points[:, 1::2] = (points[:, :-1:2] + points[:, 2::2]) / 2
    lon, lat = (one.reshape(len(corners), 9) for one in ground.lonlat(*ground.native(*points.reshape(-1, 2).T)))
    simple = np.isfinite(lon).all(axis=1) & np.isfinite(lat).all(axis=1) & (np.abs(lat) < _POLE).all(axis=1)
    for pole in ground.poles:
        simple &= ~((corners.min(axis=1) <= pole) & (pole <= corners.max(axis=1))).all(axis=1)
    with np.errstate(invalid="ignore"):
        simple &= (np.abs(lon) <= 180.0).all(axis=1) & (np.ptp(lon, axis=1) < _WIDEST_CHORD)
    chosen = np.flatnonzero(simple)
    around = np.stack([lon[chosen], lat[chosen]], axis=-1)
    sides = np.hypot(*np.moveaxis(points[chosen, 2::2] - points[chosen, :-1:2], -1, 0))
    close = _are_close(around, sides)
    found: list[Polygon | None] = [None] * len(corners)
    kept = _polygons(around[close, :-1:2])
    for number, polygon, valid in zip(chosen[close], kept, is_valid(kept), strict=True):
        if valid and polygon.area > 0:
            found[number] = polygon
    return found


def _lonlat(ground: Ground, corners: Floats) -> Polygon | MultiPolygon | None:
    """The outline of one window in longitude and latitude, with as many points as it needs."""
    parts = [_edge(ground, corners[place], corners[(place + 1) % 4]) for place in range(4)]
    if any(part is None for part in parts):
        return None
    ring = np.concatenate([part[:-1] for part in parts if part is not None])
    return on_the_globe(ring, geographic=ground.in_degrees)


def _edge(ground: Ground, start: Floats, end: Floats) -> Floats | None:
    """Longitudes and latitudes along one edge, [N, 2] with both ends, close enough; None where they are not finite."""
    stops = _through_poles(ground, start, end)
    pieces = [_close(ground, first, second) for first, second in pairwise(stops)]
    if any(piece is None for piece in pieces):
        return None
    kept = [piece[:-1] for piece in pieces if piece is not None]
    last = pieces[-1]
    assert last is not None
    return np.concatenate([*kept, last[-1:]])


def _close(ground: Ground, start: Floats, end: Floats) -> Floats | None:
    """Points along a part of an edge, as many as it needs."""
    count = 1
    while True:
        shares = np.linspace(0.0, 1.0, 2 * count + 1)[:, None]
        lon, lat = ground.lonlat(*ground.native(*(start * (1 - shares) + end * shares).T))
        if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
            return None
        points = np.column_stack([lon if ground.in_degrees else _unwrapped(lon), lat])
        pixels = float(np.hypot(*(end - start))) / count
        if count >= _MOST_POINTS or _are_close(points, pixels):
            return points[::2]
        count *= 2


def _are_close(points: Floats, pixels: float | Floats) -> NDArray[np.bool_]:
    """Whether chords between every second of the points, [..., N, 2], pass the points between them closely enough.

    Args:
        points: longitudes and latitudes.
        pixels: the length of the chords in pixels of the scene.
    """
    first, middle, last = points[..., :-2:2, :], points[..., 1::2, :], points[..., 2::2, :]
    chord, bend = last - first, middle - (first + last) / 2
    narrow = np.abs(chord[..., 0]).max(axis=-1) <= _WIDEST_CHORD
    shrink = np.stack([np.cos(np.radians(middle[..., 1])), np.ones(middle.shape[:-1])], axis=-1)
    chord, bend = chord * shrink, bend * shrink
    length = np.hypot(chord[..., 0], chord[..., 1])
    off = np.abs(chord[..., 0] * bend[..., 1] - chord[..., 1] * bend[..., 0]) / np.where(length > 0, length, 1.0)
    return np.asarray(narrow & (off * pixels <= OFF_PIXELS / 2 * length).all(axis=-1))


def _through_poles(ground: Ground, start: Floats, end: Floats) -> list[Floats]:
    """The ends of an edge, and a pole between them where the edge runs through one."""
    along = end - start
    stops = [start]
    for pole in ground.poles:
        share = float((pole - start) @ along / (along @ along))
        if 0 < share < 1 and np.hypot(*(start + share * along - pole)) < 1e-6:
            stops.append(pole)
    return [*stops, end]


def _unwrapped(lon: Floats) -> Floats:
    """Longitudes without jumps: each within 180 degrees of the one before it."""
    steps = np.diff(lon)
    return np.concatenate([lon[:1], lon[0] + np.cumsum(steps - 360.0 * np.round(steps / 360.0))])


def on_the_globe(ring: Floats, *, geographic: bool = False) -> Polygon | MultiPolygon:
    """A polygon within -180 … 180 from an open ring of longitudes and latitudes, [N, 2].

    Longitudes of a geographic CRS follow one another already, also where an edge spans half the globe.
    """
    if not geographic:
        ring = _without_pole_longitudes(ring)
        ring = np.column_stack([_unwrapped(ring[:, 0]), ring[:, 1]])
        around = 360.0 * np.round((ring[-1, 0] - ring[0, 0]) / 360.0)
        if around:  # it goes once around a pole, and is closed over it
            pole = float(np.copysign(90.0, ring[:, 1].mean()))
            first, latitude = ring[0]
            over = [(first + around, latitude), (first + around, pole), (first, pole)]
            ring = np.concatenate([ring, np.array(over)])
    ring[:, 1] = np.clip(ring[:, 1], -90.0, 90.0)
    polygon: Geometry = Polygon(ring)
    if not polygon.is_valid:
        polygon = make_valid(polygon)
    return _cut(polygon)


def _without_pole_longitudes(ring: Floats) -> Floats:
    """At a pole every longitude is right: the ring takes those of its neighbours there, one after the other."""
    at_pole = np.abs(ring[:, 1]) >= _POLE
    if not at_pole.any() or at_pole.all():
        return ring
    kept: list[tuple[float, float]] = []
    for place, (lon, lat) in enumerate(ring):
        if not at_pole[place]:
            kept.append((lon, lat))
            continue
        for step in (-1, 1):
            near = (place + step) % len(ring)
            while at_pole[near]:
                near = (near + step) % len(ring)
            kept.append((ring[near, 0], float(np.copysign(90.0, lat))))
    return np.array(kept)


def _cut(polygon: Geometry) -> Polygon | MultiPolygon:
    low, _, high, _ = polygon.bounds
    if low >= -180.0 and high <= 180.0:
        return oriented(polygon)
    pieces = []
    for turn in range(int(np.floor((low + 180.0) / 360.0)), int(np.ceil((high - 180.0) / 360.0)) + 1):
        part = polygon.intersection(box(-180.0 + 360.0 * turn, -90.0, 180.0 + 360.0 * turn, 90.0))
        if part.area > 0:
            pieces.append(translate(part, xoff=-360.0 * turn))
    return oriented(unary_union(pieces))


def oriented(geometry: Geometry) -> Polygon | MultiPolygon:
    """The polygons of a geometry, exterior rings counter-clockwise."""
    parts = [orient(part) for part in get_parts(geometry) if isinstance(part, Polygon) and part.area > 0]
    return parts[0] if len(parts) == 1 else MultiPolygon(parts)


def coordinates(geometry: Polygon | MultiPolygon, decimals: int | None = DECIMALS) -> dict[str, Any]:
    """A GeoJSON geometry; `decimals` rounds its coordinates, None leaves them as they are."""

    def ring(points: Any) -> list[list[float]]:
        values = np.asarray(points, dtype=np.float64)[:, :2]
        rounded: list[list[float]] = (values if decimals is None else values.round(decimals) + 0.0).tolist()
        return rounded

    def polygon(one: Polygon) -> list[list[list[float]]]:
        return [ring(one.exterior.coords), *(ring(hole.coords) for hole in one.interiors)]

    if isinstance(geometry, Polygon):
        return {"type": "Polygon", "coordinates": polygon(geometry)}
    return {"type": "MultiPolygon", "coordinates": [polygon(one) for one in geometry.geoms]}
