"""Every raster of the shared scenes: what has to become of it, and that the files are valid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyarrow.parquet as pq
import pytest
from geojson_pydantic import FeatureCollection

import rscap
from checkout import shared
from scene_files import Echo
from schemas import problems

WINDOW = 512


class Archive:
    """The folder, captioned once."""

    def __init__(self, out: Path) -> None:
        self.folder, self.out, self.echo = shared("data") / "scenes", out, Echo()
        self.result = rscap.caption_scene(self.folder, self.echo, out, window=WINDOW, progress=False)
        self.provenance = json.loads((out / "provenance.json").read_text())
        self.features = [json.loads(line) for line in (out / "captions.geojsonl").read_text().splitlines()]
        self.skipped = [json.loads(line) for line in (out / "skipped.jsonl").read_text().splitlines()]

    def of(self, name: str) -> list[dict[str, Any]]:
        return [one for one in self.features if one["properties"]["scene"] == str(self.folder / name)]

    def complaint(self, name: str) -> str | None:
        return self.result.complaints.get(str(self.folder / name))

    def facts(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.provenance["scenes"][str(self.folder / name)]
        return found


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return Archive(tmp_path_factory.mktemp("archive") / "out")


def test_what_fails_is_told_and_nothing_else_fails(archive: Archive) -> None:
    """No valid pixel, bands that say nothing, a damaged block; windows of the latter that can be read are captioned."""
    assert {Path(name).name for name in archive.result.complaints} == {
        "all-nodata.tif",
        "cog_scale.tif",
        "corrupt.tif",
        "mosaic_cog3.tif",
    }
    assert "no pixel is valid" in str(archive.complaint("all-nodata.tif"))
    assert "nothing says which of its 2 bands" in str(archive.complaint("cog_scale.tif"))
    assert "1 window cannot be read" in str(archive.complaint("corrupt.tif"))
    assert len(archive.of("corrupt.tif")) == 3
    assert archive.of("all-nodata.tif") == []


def test_every_window_is_captioned_or_listed(archive: Archive) -> None:
    """Cells of both together tile each scene."""
    for name, facts in archive.provenance["scenes"].items():
        if facts["state"] == "failed":
            continue
        lines = [one["properties"] for one in archive.features if one["properties"]["scene"] == name]
        lines += [one for one in archive.skipped if one["scene"] == name]
        covered = np.zeros((facts["height"], facts["width"]), dtype=np.uint8)
        for one in lines:
            x, y, width, height = one["cell"]
            covered[y : y + height, x : x + width] += 1
        assert (covered == 1).all(), name


def test_the_antimeridian_is_cut(archive: Archive) -> None:
    """Some windows of the scene that crosses it lie on both sides; no outline spans the globe."""
    found = archive.of("cog_dateline.tif")
    assert any(one["geometry"]["type"] == "MultiPolygon" for one in found)
    for one in found:
        parts = one["geometry"]["coordinates"]
        for part in parts if one["geometry"]["type"] == "MultiPolygon" else [parts]:
            longitudes = [point[0] for point in part[0]]
            assert max(longitudes) - min(longitudes) < 2
    item = json.loads((archive.out / "items" / "cog_dateline.tif.json").read_text())
    assert item["bbox"][0] > 177
    assert item["bbox"][2] < -178


def test_mars_and_a_photograph_claim_no_longitude(archive: Archive) -> None:
    """Their outlines are in their own coordinates."""
    for name in ("cog_hirise_mars.tif", "no_geo.jpg"):
        assert archive.of(name)
        assert all(one["geometry"] is None for one in archive.of(name))
        item = json.loads((archive.out / "items" / f"{name}.json").read_text())
        assert (item["geometry"], item.get("bbox")) == (None, None)


def test_masks_nodata_and_alpha_are_respected(archive: Archive) -> None:
    """Windows that are mostly outside of the data are skipped; shares of valid pixels are those of the files' masks."""
    assert archive.of("cog_rgb_mask.tif")[0]["properties"]["valid_share"] == pytest.approx(0.969175, abs=1e-6)
    assert archive.of("colorado_nodata.tif")[0]["properties"]["valid_share"] == pytest.approx(0.97339, abs=1e-5)
    for name in ("RGB.byte.tif", "pix4d_alpha_nodata.tif", "cog_nodata_nan.tif", "cog_cmap.tif", "cog_gcps_ovr.tif"):
        shares = [one["properties"]["valid_share"] for one in archive.of(name)]
        assert all(0.5 <= share <= 1 for share in shares), name
        assert min(shares) < 1, name
    assert any(one["scene"].endswith("cog_cmap.tif") for one in archive.skipped)


def test_pixels_are_stretched_by_what_they_are(archive: Archive) -> None:
    """8 bits and palettes pass unchanged, deeper scenes have their numbers; a palette shows its colours."""
    assert archive.facts("cogeo.tif")["stretch"]["kind"] == "unchanged"
    assert archive.facts("cog_cmap.tif")["stretch"]["kind"] == "unchanged"
    assert archive.facts("scene_band1.tif")["stretch"]["limits"] == [[2797.0, 4590.0]]
    low, high = archive.facts("cog_nodata_nan.tif")["stretch"]["limits"][0]
    assert 0 < low < high < 1
    assert archive.facts("RGBA.uint16.tif")["bands"] == [3, 2, 1]
    shown = archive.echo.pictures[archive.of("cog_cmap.tif")[0]["id"]]
    assert {(38, 115, 0), (255, 255, 115)} <= set(map(tuple, np.unique(shown.reshape(-1, 3), axis=0).tolist()))


def test_ground_control_points_place_a_scene(archive: Archive) -> None:
    """Southern India, by the file's 210 points."""
    assert "placed by 210 ground control points" in " ".join(archive.result.notes)
    item = json.loads((archive.out / "items" / "cog_gcps_ovr.tif.json").read_text())
    assert item["bbox"] == pytest.approx([75.6, 9.2, 78.2, 11.2], abs=0.1)


def test_the_time_of_a_scene_says_where_it_is_from(archive: Archive) -> None:
    """The tag of the TIFF where there is one, else the file."""
    assert archive.facts("all-nodata.tif")["time"] == "2022-01-17T10:43:43Z"
    assert archive.facts("all-nodata.tif")["time_from"] == "TIFFTAG_DATETIME"
    assert archive.facts("cogeo.tif")["time_from"] == "file"


def test_the_files_are_valid(archive: Archive) -> None:
    """GeoJSON by geojson-pydantic, the metadata of GeoParquet and every STAC Item by their schemas; geopandas reads the
    table."""
    FeatureCollection.model_validate_json((archive.out / "captions.geojson").read_text())
    geo = json.loads(pq.read_schema(archive.out / "captions.parquet").metadata[b"geo"])
    assert problems("geoparquet-1.1.0", geo) == []
    items = sorted((archive.out / "items").iterdir())
    assert len(items) == 15
    for item in items:
        assert problems("stac-item-item", json.loads(item.read_text())) == [], item.name
    table = geopandas.read_parquet(archive.out / "captions.parquet")
    assert len(table) == len(archive.features)
    assert table[table.geometry.notna()].geometry.is_valid.all()
