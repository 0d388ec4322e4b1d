"""`rscap scene` on rasters that it has to read right: what comes out, in every format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import geopandas
import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
from geojson_pydantic import FeatureCollection
from rasterio.transform import Affine, from_origin
from shapely import Polygon, from_wkb, unary_union
from shapely.geometry import shape

import rscap
from command_line import rscap as command
from rscap.errors import RscapError, SceneError, StoreError
from rscap.recipe import GenerateSection
from scene_files import UTM, Echo, noise, write_raster


def features(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def lines(path: Path) -> list[dict[str, Any]]:
    return features(path)


def run(scenes: Any, out: Path, model: Any = None, **options: Any) -> Any:
    return rscap.caption_scene(scenes, model or Echo(), out, progress=False, **options)


def test_the_model_sees_the_pixels_of_each_window(tmp_path: Path) -> None:
    """8 bits pass unchanged; footprints are where the transform puts them; records come row by row."""
    bands = noise(3, 100, 150)
    scene, echo = write_raster(tmp_path / "a.tif", bands), Echo()
    result = run(scene, tmp_path / "out.geojsonl", echo, window=50)
    found = features(tmp_path / "out.geojsonl")
    assert (result.captioned, result.skipped, result.complaints) == (6, 0, {})
    assert [(one["properties"]["row"], one["properties"]["column"]) for one in found] == [
        (row, column) for row in range(2) for column in range(3)
    ]
    for one in found:
        x, y, width, height = one["properties"]["window"]
        seen = echo.pictures[f"{scene}#{one['properties']['row']},{one['properties']['column']}"]
        assert (seen == bands[:, y : y + height, x : x + width].transpose(1, 2, 0)).all()
        native = Polygon(one["properties"]["footprint_native"]["coordinates"][0])
        assert native.bounds == (500_000 + x / 2, 5_500_000 - (y + 50) / 2, 500_000 + (x + 50) / 2, 5_500_000 - y / 2)
        assert one["properties"]["gsd"] == pytest.approx([0.5, 0.5], rel=1e-3)
        assert one["properties"]["digest"].startswith("file:")


def test_every_format_holds_the_same_captions(tmp_path: Path) -> None:
    """GeoJSON by geojson-pydantic, GeoParquet by geopandas and by DuckDB without extensions, CSV by hand."""
    write_raster(tmp_path / "a.tif", noise(3, 60, 100))
    write_raster(tmp_path / "b.tif", noise(3, 60, 100), crs="EPSG:4326", transform=from_origin(13.0, 52.0, 1e-5, 1e-5))
    run([tmp_path / "b.tif", tmp_path / "a.tif"], tmp_path / "out", window=50, stride=40)
    whole = FeatureCollection.model_validate_json((tmp_path / "out" / "captions.geojson").read_text())
    rows = features(tmp_path / "out" / "captions.geojsonl")
    assert [one.model_dump()["properties"] for one in whole.features] == [one["properties"] for one in rows]
    table = geopandas.read_parquet(tmp_path / "out" / "captions.parquet")
    assert list(table["caption"]) == [one["properties"]["caption"] for one in rows]
    assert table.crs == "OGC:CRS84"
    assert all(a.equals_exact(shape(b["geometry"]), 1e-11) for a, b in zip(table.geometry, rows, strict=True))
    west = min(shape(one["geometry"]).bounds[0] for one in rows)
    query = f"SELECT caption, geometry FROM '{tmp_path}/out/captions.parquet' WHERE bbox.xmin <= {west}"
    (_, wkb) = duckdb.sql(query).fetchall()[0]
    assert from_wkb(wkb).bounds[0] == pytest.approx(west, abs=1e-11)
    text = (tmp_path / "out" / "captions.csv").read_text(encoding="utf-8").splitlines()
    assert len(text) == 1 + len(rows)
    assert text[0].startswith("scene,row,column,caption,confidence,flags,window")


class Tired(Echo):
    """Asked in batches of some size; gives up after some batches."""

    def __init__(self, batch_size: int, patience: int = 1000) -> None:
        super().__init__()
        self.settings, self.patience = GenerateSection(batch_size=batch_size), patience

    def predictions(self, pictures: Any) -> Any:
        self.patience -= 1
        if self.patience < 0:
            raise KeyboardInterrupt
        return super().predictions(pictures)


def test_results_do_not_depend_on_order_batches_or_interruption(tmp_path: Path) -> None:
    """Scenes in another order, other batches, and calls that are cut off give the same bytes; no window is asked twice
    but those of the batch that was cut off."""
    scenes = [write_raster(tmp_path / f"{name}.tif", noise(3, 90, 130, seed=ord(name))) for name in "abc"]
    run(scenes, tmp_path / "once", Tired(7), window=20)
    expected = {path.name: path.read_bytes() for path in (tmp_path / "once").glob("captions.*")}
    asked: list[str] = []
    for patience in range(4):
        tired = Tired(16, patience)
        with pytest.raises(KeyboardInterrupt):
            run(reversed(scenes), tmp_path / "cut", tired, window=20)
        asked += tired.asked
        with (tmp_path / "cut" / "ledger.jsonl").open("ab") as stream:
            stream.write(b'{"kind": "window", "scene": "hal')  # as a kill in the middle of a write leaves it
    last = Tired(5)
    run(reversed(scenes), tmp_path / "cut", last, window=20)
    assert {path.name: path.read_bytes() for path in (tmp_path / "cut").glob("captions.*")} == expected
    assert sorted(asked + last.asked) == sorted({*asked, *last.asked})
    assert len(asked + last.asked) == 3 * 35


def test_a_deep_scene_is_stretched_once(tmp_path: Path) -> None:
    """The same value has the same brightness in every window; the numbers are in the provenance; a range says them."""
    ramp = np.linspace(1000, 5000, 200 * 100).reshape(1, 100, 200).astype("uint16")
    scene, echo = write_raster(tmp_path / "a.tif", ramp), Echo()
    run(scene, tmp_path / "out", echo, window=50, value_range=(1000, 5000))
    shown = np.vstack([np.hstack([echo.pictures[f"{scene}#{row},{column}"] for column in range(4)]) for row in (0, 1)])
    assert (shown[..., 0] == np.rint((ramp[0].astype(float) - 1000) * 255 / 4000)).all()
    run(scene, tmp_path / "percentiles", window=50)
    numbers = json.loads((tmp_path / "percentiles" / "provenance.json").read_text())["scenes"][str(scene)]["stretch"]
    assert numbers["limits"][0] == pytest.approx([1080, 4920], abs=2)
    assert numbers["kind"] == "percentiles"


def test_scale_and_offset_come_before_the_stretch(tmp_path: Path) -> None:
    """`--range` means physical values where the file has scale and offset tags."""
    scene = write_raster(tmp_path / "a.tif", np.full((1, 20, 20), 5000, dtype="uint16"))
    with rasterio.open(scene, "r+") as file:
        file.scales, file.offsets = (0.0001,), (-0.1,)
    echo = Echo()
    run(scene, tmp_path / "out.csv", echo, value_range=(0.0, 0.8))
    assert (echo.pictures[f"{scene}#0,0"] == round(0.4 / 0.8 * 255)).all()


def test_invalid_pixels_are_not_shown_nor_counted(tmp_path: Path) -> None:
    """Nodata, NaN, a mask and alpha: windows below half are skipped and listed; the median fills the other holes."""
    values = noise(1, 40, 80, high=200).astype("float32")
    values[:, :, :30] = np.nan
    float_scene = write_raster(tmp_path / "nan.tif", values)
    mask = np.ones((40, 80), dtype=bool)
    mask[:, :30] = False
    mask_scene = write_raster(tmp_path / "mask.tif", noise(3, 40, 80), mask=mask)
    rgba = np.concatenate([noise(3, 40, 80), np.where(mask, 255, 0).astype("uint8")[None]])
    alpha_scene = write_raster(tmp_path / "rgba.tif", rgba, photometric="RGB", ALPHA="YES")
    nodata = noise(3, 40, 80)
    nodata[:, :, :30] = 0
    nodata[0, :, 60:] = 0  # no red, yet a pixel
    nodata_scene = write_raster(tmp_path / "nodata.tif", nodata, nodata=0)
    for scene in (float_scene, mask_scene, alpha_scene, nodata_scene):
        echo = Echo()
        result = run(scene, tmp_path / f"{scene.stem}.geojsonl", echo, window=40)
        assert (result.captioned, result.skipped) == (1, 1), scene
        (skipped,) = lines(tmp_path / f"{scene.stem}.geojsonl.rscap" / "skipped.jsonl")
        assert (skipped["window"], skipped["valid_share"]) == ([0, 0, 40, 40], 0.25)
        whole = run(scene, tmp_path / f"{scene.stem}-all.geojsonl", echo, window=40, min_valid=0.0)
        fill = json.loads(whole.out.with_name(f"{whole.out.name}.rscap").joinpath("provenance.json").read_text())
        colour = fill["scenes"][str(scene)]["stretch"]["fill"]
        assert (echo.pictures[f"{scene}#0,0"][:, :30] == colour).all()
        assert not (echo.pictures[f"{scene}#0,0"][:, 30:] == colour).all()


def test_bands_are_named_or_refused(tmp_path: Path) -> None:
    """By number, description, common_name; four bands that say nothing are refused with their list; others go on."""
    bands = noise(4, 20, 20)
    silent = write_raster(tmp_path / "silent.tif", bands)
    named = write_raster(tmp_path / "named.tif", bands, descriptions=("Blue", "Green", "Red", "NIR"))
    tagged = write_raster(tmp_path / "tagged.tif", bands)
    with rasterio.open(tagged, "r+") as file:
        for number, colour in enumerate(("blue", "green", "red", "nir"), start=1):
            file.update_tags(number, common_name=colour)
    echo = Echo()
    result = run([silent, named, tagged], tmp_path / "out", echo)
    assert list(result.complaints) == [str(silent)]
    assert "nothing says which of its 4 bands are red, green and blue" in result.complaints[str(silent)]
    assert "4  uint8  undefined" in result.complaints[str(silent)]
    for scene in (named, tagged):
        assert (echo.pictures[f"{scene}#0,0"] == bands[[2, 1, 0]].transpose(1, 2, 0)).all()
    run(silent, tmp_path / "chosen", echo, bands=(3, 2, 1))
    assert (echo.pictures[f"{silent}#0,0"] == bands[[2, 1, 0]].transpose(1, 2, 0)).all()


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    """The model sees the colours of the palette."""
    scene = write_raster(tmp_path / "a.tif", noise(1, 20, 20, high=2), photometric="PALETTE")
    with rasterio.open(scene, "r+") as file:
        file.write_colormap(1, {1: (255, 0, 0, 255), 2: (0, 0, 255, 255)})
    echo = Echo()
    run(scene, tmp_path / "out", echo)
    colours = {tuple(colour) for colour in echo.pictures[f"{scene}#0,0"].reshape(-1, 3).tolist()}
    assert colours == {(255, 0, 0), (0, 0, 255)}


def test_another_pixel_size_is_another_grid(tmp_path: Path) -> None:
    """At twice the ground size a scene has a quarter of the windows, of the same ground in half the pixels."""
    bands = np.kron(noise(3, 40, 40), np.ones((1, 2, 2), dtype="uint8"))
    scene, echo = write_raster(tmp_path / "a.tif", bands, transform=from_origin(5e5, 5.5e6, 0.5, 0.5)), Echo()
    with rasterio.open(scene) as file:
        metres = rscap_ground(file)
    run(scene, tmp_path / "out.geojsonl", echo, window=20, gsd=2 * metres)
    found = features(tmp_path / "out.geojsonl")
    assert len(found) == 4
    assert (echo.pictures[f"{scene}#0,0"] == bands[:, :40:2, :40:2].transpose(1, 2, 0)).all()
    native = unary_union([shape(one["properties"]["footprint_native"]) for one in found])
    assert native.bounds == pytest.approx((5e5, 5.5e6 - 40, 5e5 + 40, 5.5e6))


def rscap_ground(file: Any) -> float:
    from pyproj import CRS

    from rscap.scene.ground import Ground, ground_size

    found = ground_size(Ground.of(file.transform, CRS.from_user_input(file.crs.to_wkt())), 40, 40)
    assert found is not None
    return found[0]


def test_south_up_is_turned_over_and_rotated_stays(tmp_path: Path) -> None:
    """A picture stored from south to north is not shown as a mirror image; footprints of both are right."""
    bands = noise(3, 30, 30)
    south = write_raster(tmp_path / "south.tif", bands, transform=Affine(0.5, 0, 5e5, 0, 0.5, 5.5e6))
    turned = write_raster(tmp_path / "turned.tif", bands, transform=Affine(0.4, 0.3, 5e5, 0.3, -0.4, 5.5e6))
    echo = Echo()
    run([south, turned], tmp_path / "out", echo)
    assert (echo.pictures[f"{south}#0,0"] == bands[:, ::-1].transpose(1, 2, 0)).all()
    assert (echo.pictures[f"{turned}#0,0"] == bands.transpose(1, 2, 0)).all()
    first, second = features(tmp_path / "out" / "captions.geojsonl")
    assert shape(first["properties"]["footprint_native"]).bounds == (5e5, 5.5e6, 5e5 + 15, 5.5e6 + 15)
    assert shape(second["properties"]["footprint_native"]).area == pytest.approx(30 * 30 * 0.25)


def test_without_a_place_on_the_earth_no_longitude_is_claimed(tmp_path: Path) -> None:
    """Pixels alone, Mars, a world file without a CRS: `geometry` is null, and GeoParquet has their own coordinates."""
    pixels = write_raster(tmp_path / "pixels.tif", noise(3, 20, 20), crs=None, transform=None)
    world = write_raster(tmp_path / "world.tif", noise(3, 20, 20), crs=None)
    mars = write_raster(tmp_path / "mars.tif", noise(3, 20, 20), crs="+proj=eqc +R=3396190 +units=m +no_defs")
    for scene in (pixels, world, mars):
        out = tmp_path / scene.stem
        assert run(scene, out).complaints == {}
        (one,) = features(out / "captions.geojsonl")
        assert one["geometry"] is None
        geo = json.loads(pq.read_schema(out / "captions.parquet").metadata[b"geo"])
        assert list(geo["columns"]) == ["footprint_native"] == [geo["primary_column"]]
        assert (geo["columns"]["footprint_native"]["crs"] is None) == (scene is not mars)
        assert len(geopandas.read_parquet(out / "captions.parquet")) == 1
        item = json.loads((out / "items" / f"{scene.name}.json").read_text())
        assert item["geometry"] is None
        assert "bbox" not in item
    assert "name it with --crs" in " ".join(run(world, tmp_path / "told").notes)
    run(world, tmp_path / "placed.geojsonl", crs=UTM)
    assert features(tmp_path / "placed.geojsonl")[0]["geometry"] is not None


def test_repeats_over_the_same_ground_are_merged(tmp_path: Path) -> None:
    """With overlap a caption that is said again of the same ground is counted, and its outline covers both windows."""
    scene = write_raster(tmp_path / "a.tif", np.full((3, 40, 100), 90, dtype="uint8"))
    result = run(scene, tmp_path / "out.geojsonl", window=40, stride=20)
    found = features(tmp_path / "out.geojsonl")
    assert (result.captioned, result.merged, len(found)) == (4, 2, 2)
    assert found[0]["properties"]["merged"] == [[20, 0, 40, 40]]
    assert shape(found[0]["properties"]["footprint_native"]).bounds[::2] == (5e5, 5e5 + 30)


def test_an_area_of_interest_leaves_the_rest_out(tmp_path: Path) -> None:
    """Windows whose cells touch the area, by bounds or by GeoJSON, on the same grid as without it."""
    scene = write_raster(tmp_path / "a.tif", noise(3, 100, 100))
    run(scene, tmp_path / "all.geojsonl", window=25)
    all_of_them = features(tmp_path / "all.geojsonl")
    wanted = shape(all_of_them[5]["geometry"]).buffer(-1e-6)
    area = tmp_path / "area.json"
    area.write_text(json.dumps({"type": "Feature", "properties": {}, "geometry": wanted.__geo_interface__}))
    run(scene, tmp_path / "some.geojsonl", window=25, aoi=area)
    run(scene, tmp_path / "same.geojsonl", window=25, aoi=wanted.bounds)
    assert features(tmp_path / "some.geojsonl") == features(tmp_path / "same.geojsonl") == [all_of_them[5]]
    with pytest.raises(SceneError, match="neither a GeoJSON file nor bounds"):
        run(scene, tmp_path / "x.geojsonl", aoi="here")


def test_a_place_that_is_taken_is_refused(tmp_path: Path) -> None:
    """A file of somebody else, and captions that were asked for otherwise; nothing of either is touched."""
    scene = write_raster(tmp_path / "a.tif", noise(3, 20, 20))
    (tmp_path / "own.geojson").write_text("mine")
    with pytest.raises(StoreError, match="no ledger of rscap belongs to it"):
        run(scene, tmp_path / "own.geojson")
    assert (tmp_path / "own.geojson").read_text() == "mine"
    run(scene, tmp_path / "out", window=10)
    with pytest.raises(StoreError, match="window was 10, now 20"):
        run(scene, tmp_path / "out", window=20)


def test_a_call_whose_model_could_not_be_loaded_holds_no_place(tmp_path: Path) -> None:
    """Nothing was captioned, so the next call may ask otherwise, of the same place."""
    scene = write_raster(tmp_path / "a.tif", noise(3, 20, 20))

    class Broken(Echo):
        def predictions(self, pictures: Any) -> Any:
            raise RscapError("these weights are not here")

    with pytest.raises(RscapError, match="not here"):
        run(scene, tmp_path / "out", Broken(), window=10)
    assert run(scene, tmp_path / "out", window=20).captioned == 1


def test_a_file_that_was_changed_is_captioned_again(tmp_path: Path) -> None:
    """The ledger is for the file as it was: a changed one is captioned again, an unchanged one is not."""
    scene, echo = write_raster(tmp_path / "a.tif", noise(3, 20, 20)), Echo()
    run(scene, tmp_path / "out", echo)
    run(scene, tmp_path / "out", echo)
    assert len(echo.asked) == 1
    bands = noise(3, 20, 20, seed=1)
    write_raster(scene, bands)
    run(scene, tmp_path / "out", echo)
    assert len(echo.asked) == 2
    (one,) = features(tmp_path / "out" / "captions.geojsonl")
    assert one["properties"]["caption"] == "colour " + " ".join(f"{v:.1f}" for v in bands.mean(axis=(1, 2)))


def test_a_partitioned_table_is_read_as_one(tmp_path: Path) -> None:
    """A folder of files that geopandas and DuckDB open as one table, in the order of one file."""
    scene = write_raster(tmp_path / "a.tif", noise(3, 100, 100))
    run(scene, tmp_path / "one.parquet", window=20)
    run(scene, tmp_path / "parts.parquet", window=20, partition=10)
    parts = tmp_path / "parts.parquet"
    assert sorted(path.name for path in parts.iterdir()) == [f"part-0000{number}.parquet" for number in range(3)]
    whole = geopandas.read_parquet(tmp_path / "one.parquet")
    table = geopandas.read_parquet(parts)
    assert table.crs == whole.crs == "OGC:CRS84"
    assert list(table["caption"]) == list(whole["caption"])
    rows = duckdb.sql(f'SELECT caption FROM \'{parts}/*.parquet\' ORDER BY "row", "column"').fetchall()
    assert [caption for (caption,) in rows] == list(whole["caption"])
    run(scene, parts, window=20)  # one file takes the place of the folder again
    assert parts.read_bytes() == (tmp_path / "one.parquet").read_bytes()


def test_the_command_says_what_it_did(tmp_path: Path) -> None:
    """Files on standard output, counts and notes on standard error; 1 where a scene failed; `--dry-run` writes nothing;
    `search` finds captions by words, in every format."""
    write_raster(tmp_path / "a.tif", noise(3, 64, 64))
    model = ["--model", "nano", "--dtype", "float32", "--window", "32", "--set", "generate.max_new_tokens=6"]
    tried = command("scene", "a.tif", *model, "--out", "dry", "--dry-run", cwd=tmp_path)
    assert "1 scene, 4 windows, 0 skipped" in tried.stderr
    assert not (tmp_path / "dry").exists()
    done = command("scene", "a.tif", "gone.tif", *model, "--out", "out", cwd=tmp_path)
    assert done.code == 1
    assert done.stdout.splitlines()[0] == "out/captions.geojson"
    assert "4 windows captioned, 0 skipped" in done.stderr
    assert "gone.tif: cannot be opened" in done.stderr
    words = features(tmp_path / "out" / "captions.geojsonl")[0]["properties"]["caption"].split()[:2]
    names = ("", "captions.geojson", "captions.geojsonl", "captions.parquet", "captions.csv")
    found = {command("search", f"out/{name}", " ".join(reversed(words)), cwd=tmp_path).stdout for name in names}
    (text,) = found
    assert words[0] in text
    assert command("search", "out", "zebra", cwd=tmp_path).stderr == "0 captions\n"
