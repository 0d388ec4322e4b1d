"""Footprints: right to a tenth of a pixel along every edge, cut at the antimeridian, closed over the poles."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from pyproj import CRS, Geod, Transformer
from rasterio.transform import Affine
from shapely import MultiPolygon, Polygon, contains_xy, get_parts

from checkout import shared
from rscap.scene.ground import Ground, ground_size
from rscap.scene.outline import outline
from rscap.scene.windows import Box

PLACES = {
    "UTM": ("EPSG:32633", Affine(10, 0, 300_000, 0, -10, 5_500_000), Box(0, 0, 10_980, 10_980)),
    "rotated": ("EPSG:32633", Affine(0.5, 0.3, 500_000, 0.3, -0.5, 5_500_000), Box(7, 9, 224, 224)),
    "south up": ("EPSG:32633", Affine(0.5, 0, 500_000, 0, 0.5, 5_500_000), Box(7, 9, 224, 224)),
    "Europe, equal area": ("EPSG:3035", Affine(1000, 0, 2_500_000, 0, -1000, 5_500_000), Box(0, 0, 4000, 4000)),
    "Lambert": ("EPSG:2154", Affine(20, 0, 650_000, 0, -20, 6_860_000), Box(100, 100, 9000, 9000)),
    "antimeridian, UTM": ("EPSG:32660", Affine(100, 0, 570_585, 0, -100, 5_847_615), Box(0, 0, 2325, 2355)),
    "antimeridian, Mercator": ("EPSG:3857", Affine(100, 0, 20_027_508, 0, -100, 5e6), Box(0, 0, 200, 200)),
    "antimeridian, degrees": ("EPSG:4269", Affine(0.001, 0, 179.9, 0, -0.001, 55), Box(0, 0, 200, 200)),
    "0 to 360 degrees": ("EPSG:4326", Affine(1, 0, 0, 0, -1, 90), Box(150, 30, 60, 20)),
    "north pole": ("EPSG:3413", Affine(1000, 0, -500_000, 0, -1000, 500_000), Box(0, 0, 1000, 1000)),
    "corner at the pole": ("EPSG:3413", Affine(1000, 0, 0, 0, -1000, 0), Box(0, 0, 224, 224)),
    "edge through the pole": ("EPSG:3413", Affine(1000, 0, -100_000, 0, -1000, 0), Box(0, 0, 224, 224)),
    "south pole": ("EPSG:3031", Affine(1000, 0, -500_000, 0, -1000, 500_000), Box(0, 0, 1000, 1000)),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_footprint_covers_the_window_and_nothing_else(place: str) -> None:
    """Valid, counter-clockwise, within -180 … 180; random pixels inside the window lie in it and those outside do not,
    up to a tenth of a pixel from the edge."""
    crs, transform, window = PLACES[place]
    found = outline(Ground.of(transform, CRS.from_user_input(crs)), window).lonlat
    assert found is not None
    assert found.is_valid
    west, south, east, north = found.bounds
    assert -180 <= west < east <= 180
    assert -90 <= south < north <= 90
    assert all(part.exterior.is_ccw for part in get_parts(found))
    random = np.random.default_rng(0)
    across = random.uniform(-0.2, 1.2, 300) * window.width
    down = random.uniform(-0.2, 1.2, 300) * window.height
    edge = random.uniform(0, 1, 300)
    sides = np.array([-0.1, 0.1])  # a tenth of a pixel outside and inside of the upper edge
    across = np.concatenate([across, np.repeat(edge * window.width, 2)])
    down = np.concatenate([down, np.tile(sides, 300)])
    inside = (across > 0) & (across < window.width) & (down > 0) & (down < window.height)
    x, y = Ground.of(transform, None).native(across + window.x, down + window.y)
    lon, lat = Transformer.from_crs(crs, "OGC:CRS84", always_xy=True).transform(x, y)
    lon = (np.asarray(lon) + 180) % 360 - 180
    assert (contains_xy(found, lon, lat) == inside).mean() > 0.999


def test_the_antimeridian_cuts_a_footprint_in_two() -> None:
    """A part on either side, each reaching 180 degrees exactly, and together as large as the window."""
    crs, transform, window = PLACES["antimeridian, UTM"]
    found = outline(Ground.of(transform, CRS.from_user_input(crs)), window)
    assert isinstance(found.lonlat, MultiPolygon)
    bounds = sorted(part.bounds for part in found.lonlat.geoms)
    assert bounds[0][0] == -180.0
    assert bounds[1][2] == 180.0
    area = abs(Geod(ellps="WGS84").geometry_area_perimeter(found.lonlat)[0])
    assert area == pytest.approx(found.native.area, rel=1e-3)


def test_a_window_around_a_pole_reaches_it_at_every_longitude() -> None:
    """One polygon from -180 to 180 and up to 90 degrees."""
    crs, transform, window = PLACES["north pole"]
    found = outline(Ground.of(transform, CRS.from_user_input(crs)), window).lonlat
    assert isinstance(found, Polygon)
    assert (found.bounds[0], found.bounds[2], found.bounds[3]) == (-180.0, 180.0, 90.0)


def test_mars_and_pixels_have_no_longitude() -> None:
    """Only an outline in their own coordinates, and metres where the CRS lies on a body."""
    mars = CRS.from_proj4("+proj=eqc +R=3396190 +units=m +no_defs")
    ground = Ground.of(Affine(5, 0, 0, 0, -5, 0), mars)
    assert outline(ground, Box(0, 0, 10, 10)).lonlat is None
    assert ground_size(ground, 5, 5) == pytest.approx((5.0, 5.0))
    pixels = Ground.of(Affine.identity(), None)
    assert outline(pixels, Box(1, 2, 3, 4)).native.bounds == (1, 2, 4, 6)
    assert ground_size(pixels, 5, 5) is None


@pytest.mark.parametrize(("crs", "step"), [("EPSG:3857", 1.0), ("EPSG:4326", 1e-5)])
def test_metres_are_measured_on_the_ground(crs: str, step: float) -> None:
    """At 60 degrees north a metre of Web Mercator is half a metre, and a degree of longitude is half as long as one of
    latitude."""
    y = 60.0 if crs == "EPSG:4326" else 8_399_737.89
    found = ground_size(Ground.of(Affine(step, 0, 0, 0, -step, y), CRS.from_user_input(crs)), 0, 0)
    assert found is not None
    expected = (0.5, 0.5) if crs == "EPSG:3857" else (0.5577, 1.1141)
    assert found == pytest.approx(expected, rel=4e-3)


def test_metres_of_mars_are_measured_on_mars() -> None:
    """A HiRISE scene whose CRS keeps widths at 10 degrees south lies at 14.6, so its pixels are narrower there by the
    ratio of the cosines; a degree of Mars is as long as Mars' own radius makes it."""
    with rasterio.open(shared("data") / "scenes" / "cog_hirise_mars.tif") as scene:
        ground = Ground.of(scene.transform, CRS.from_wkt(scene.crs.to_wkt()))
        radius = CRS.from_wkt(scene.crs.to_wkt()).ellipsoid.semi_major_metre
        middle = scene.width / 2, scene.height / 2
    latitude = ground.native(*middle)[1] / radius  # type: ignore[arg-type]
    narrower = np.cos(latitude) / np.cos(np.radians(10))
    assert narrower < 0.99
    assert ground_size(ground, *middle) == pytest.approx((scene.transform.a * narrower, -scene.transform.e), rel=1e-6)
    degrees = Ground.of(Affine(0.01, 0, 0, 0, -0.01, 0), CRS.from_user_input("IAU_2015:49900"))
    assert ground_size(degrees, 0, 0) == pytest.approx((3_396_190 * np.pi / 180 / 100,) * 2, rel=1e-6)
