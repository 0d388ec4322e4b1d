"""Rasters as they come: odd types, masks, places and names; each is right, or refused with the way out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.shutil import copy
from rasterio.transform import from_origin
from rasterio.windows import Window

import rscap
from scene_files import HALF_METRE, UTM, Echo, noise, write_raster

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
MOON = (
    'GEOGCRS["Moon",DATUM["Moon",ELLIPSOID["Moon",1737400,0,LENGTHUNIT["metre",1]]],CS[ellipsoidal,2],'
    'AXIS["lat",north],AXIS["lon",east],ANGLEUNIT["degree",0.0174532925199433]]'
)


def not_a_number(path: Path) -> None:
    bands = noise(1, 60, 60).astype("float64")
    bands[0, :30] = np.nan
    write_raster(path, bands, nodata=float("nan"))


def negative(path: Path) -> None:
    bands = noise(1, 60, 60, dtype="int16", high=3000) - np.int16(2000)
    bands[0, :30] = -32768
    write_raster(path, bands, nodata=-32768)


def infinite(path: Path) -> None:
    bands = noise(1, 60, 60).astype("float32")
    bands[0, :30] = np.inf
    write_raster(path, bands)


def deep(path: Path) -> None:
    write_raster(path, noise(3, 60, 60, dtype="uint32", high=4_000_000_000))


def sentinel(path: Path) -> None:
    names = [f"B{number:02}" for number in range(1, 9)] + ["B8A", *(f"B{number:02}" for number in range(9, 13))]
    write_raster(path, noise(13, 60, 60, dtype="uint16", high=9000), descriptions=names)


def scaled(path: Path) -> None:
    write_raster(path, noise(3, 60, 60, dtype="int16", high=9999))
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (1e-4,) * 3, (-0.1,) * 3


def transparent_palette(path: Path) -> None:
    values = noise(60, 60, high=3)
    values[:30] = 0
    picture = Image.fromarray(values).convert("P")
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    picture.save(path.with_suffix(".png"), transparency=0)
    path.with_suffix(".png").rename(path)


def tiles_left_out(path: Path) -> None:
    """A TIFF whose lower half was never written, and that names no nodata."""
    tiled: dict[str, Any] = {"tiled": True, "blockxsize": 16, "blockysize": 16, "SPARSE_OK": True, "compress": "lzw"}
    size: dict[str, Any] = {"width": 64, "height": 64, "count": 3, "dtype": "uint16"}
    with rasterio.open(
        path, "w", driver="GTiff", crs=UTM, transform=HALF_METRE, photometric="RGB", **size, **tiled
    ) as file:
        file.write(noise(3, 32, 64, dtype="uint16", high=3000), window=Window(0, 0, 64, 32))


def on_the_moon(path: Path) -> None:
    write_raster(path, noise(1, 60, 60), crs=MOON, transform=from_origin(10, 10, 0.001, 0.001))


def one_pixel(path: Path) -> None:
    write_raster(path, noise(3, 1, 1, dtype="uint16", high=3000))


# What is made, how many windows are captioned, the share of valid pixels, and whether it lies on the Earth.
RIGHT: dict[str, tuple[Callable[[Path], None], int, float, bool]] = {
    "not-a-number": (not_a_number, 1, 0.5, True),
    "negative": (negative, 1, 0.5, True),
    "infinite": (infinite, 1, 0.5, True),
    "deep": (deep, 1, 1.0, True),
    "13 bands": (sentinel, 1, 1.0, True),
    "scaled": (scaled, 1, 1.0, True),
    "palette": (transparent_palette, 1, 0.5, False),
    "tiles left out": (tiles_left_out, 1, 0.5, True),
    "moon": (on_the_moon, 1, 1.0, False),
    "-1 pixel é 地": (one_pixel, 1, 1.0, True),
}


def test_odd_rasters_are_read_as_they_are_meant(tmp_path: Path) -> None:
    """Valid shares, bands and stretches of each, in one call; off the Earth no longitude and latitude."""
    for name, (make, *_) in RIGHT.items():
        make(tmp_path / f"{name}.tif")
    echo = Echo()
    scenes = {name: str(tmp_path / f"{name}.tif") for name in RIGHT}
    rscap.caption_scene(list(scenes.values()), echo, tmp_path / "out", window=64, progress=False)
    lines = [json.loads(line) for line in (tmp_path / "out" / "captions.geojsonl").read_text().splitlines()]
    facts = json.loads((tmp_path / "out" / "provenance.json").read_text())["scenes"]
    for name, (_, captioned, share, earth) in RIGHT.items():
        own = [line for line in lines if line["properties"]["scene"] == scenes[name]]
        assert len(own) == captioned, name
        assert all(line["properties"]["valid_share"] == pytest.approx(share, abs=0.01) for line in own), name
        assert all((line["geometry"] is not None) == earth for line in own), name
    a_degree = 1_737_400 * np.pi / 180
    assert facts[scenes["moon"]]["gsd"] == pytest.approx([a_degree * np.cos(np.radians(9.97)) / 1000, a_degree / 1000])
    assert facts[scenes["13 bands"]]["bands"] == [4, 3, 2]
    assert facts[scenes["negative"]]["stretch"]["limits"][0][0] < -1900
    assert facts[scenes["deep"]]["stretch"]["limits"][0][1] > 2**31
    assert -0.1 <= facts[scenes["scaled"]]["stretch"]["limits"][0][0] < 0
    assert facts[scenes["tiles left out"]]["stretch"]["limits"][0][0] > 0
    assert echo.pictures[f"{scenes['palette']}#0,0"].reshape(-1, 3).min(axis=0).tolist()[2] == 0


def test_a_virtual_raster_without_one_of_its_files_is_refused(tmp_path: Path) -> None:
    """GDAL would read black in its place."""
    write_raster(tmp_path / "here.tif", noise(1, 60, 60))
    source = (
        '<SimpleSource><SourceFilename relativeToVRT="1">{}</SourceFilename><SourceBand>1</SourceBand>'
        '<SrcRect xOff="0" yOff="0" xSize="60" ySize="60"/><DstRect xOff="{}" yOff="0" xSize="60" ySize="60"/>'
        "</SimpleSource>"
    )
    (tmp_path / "two.vrt").write_text(
        '<VRTDataset rasterXSize="120" rasterYSize="60"><VRTRasterBand dataType="Byte" band="1">'
        + source.format("here.tif", 0)
        + source.format("gone.tif", 60)
        + "</VRTRasterBand></VRTDataset>"
    )
    result = rscap.caption_scene(tmp_path / "two.vrt", Echo(), tmp_path / "out", window=60, progress=False)
    assert result.captioned == 0
    assert "its source" in result.complaints[str(tmp_path / "two.vrt")]
    assert "gone.tif" in result.complaints[str(tmp_path / "two.vrt")]


def test_a_part_of_a_netcdf_file_is_named(tmp_path: Path) -> None:
    """The file alone is refused with the names of its parts; one of these is captioned."""
    copy(write_raster(tmp_path / "bands.tif", noise(3, 60, 60)), tmp_path / "parts.nc", driver="netCDF")
    whole, part = str(tmp_path / "parts.nc"), f"netcdf:{tmp_path / 'parts.nc'}:Band2"
    result = rscap.caption_scene([whole, part], Echo(), tmp_path / "out", window=64, progress=False)
    assert part in result.complaints[whole]
    assert result.captioned == 1


def test_control_points_need_a_crs(tmp_path: Path) -> None:
    """Refused without one; `crs` names it, and the scene lies where they say."""
    path = write_raster(tmp_path / "points.tif", noise(3, 60, 60), crs=None, transform=None)
    with rasterio.open(path, "r+") as file:
        points = [GroundControlPoint(y, x, 12 + x * 1e-5, 50 - y * 1e-5) for y in (0, 60) for x in (0, 60)]
        file.gcps = (points, CRS())
    refused = rscap.caption_scene(path, Echo(), tmp_path / "refused", window=64, progress=False)
    assert "--crs" in refused.complaints[str(path)]
    rscap.caption_scene(path, Echo(), tmp_path / "placed.geojsonl", window=64, crs="EPSG:4326", progress=False)
    ring = json.loads((tmp_path / "placed.geojsonl").read_text())["geometry"]["coordinates"][0]
    assert np.min(ring, axis=0) == pytest.approx([12.0, 49.9994], abs=2e-5)
    assert np.max(ring, axis=0) == pytest.approx([12.0006, 50.0], abs=2e-5)
