"""A mosaic of real photographs on a known grid: each is captioned as it is alone, in its place, whatever happens."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from pyproj import Transformer
from rasterio.transform import from_origin
from rasterio.windows import Window
from shapely.geometry import shape

import rscap
from checkout import shared
from rscap.captioner import Captioner
from rscap.data import opened
from rscap.records import Answer, Picture

SIDE = 224
WEST, NORTH, METRES = 412_345.678, 5_654_321.25, 0.3


def mosaic(path: Path, across: int, down: int) -> dict[tuple[int, int], Path]:
    """Write photographs of risc-mini side by side, and say which lies where."""
    photographs = sorted((shared("data") / "risc-mini" / "resized").glob("*.jpg"))
    chosen = random.Random(0).sample(photographs, across * down)
    size = {"width": across * SIDE, "height": down * SIDE, "count": 3, "dtype": "uint8"}
    place = from_origin(WEST, NORTH, METRES, METRES)
    options = {"tiled": True, "blockxsize": 256, "blockysize": 256, "photometric": "RGB"}
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32632", transform=place, **size, **options) as file:
        for number, photograph in enumerate(chosen):
            row, column = divmod(number, across)
            pixels = np.asarray(Image.open(photograph).convert("RGB"))
            file.write(pixels.transpose(2, 0, 1), window=Window(column * SIDE, row * SIDE, SIDE, SIDE))
    return {divmod(number, across): photograph for number, photograph in enumerate(chosen)}


def features(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def check(found: list[dict[str, Any]], photographs: dict[tuple[int, int], Path], model: Captioner) -> None:
    """Footprints are right to a millionth of a window, and captions and confidences those of each photograph alone."""
    assert [(one["properties"]["row"], one["properties"]["column"]) for one in found] == sorted(photographs)
    alone = model.caption([photographs[place] for place in sorted(photographs)])
    assert [one["properties"]["caption"] for one in found] == [one.caption for one in alone]
    for one in found:
        row, column = one["properties"]["row"], one["properties"]["column"]
        wide = SIDE * METRES
        expected = (WEST + column * wide, NORTH - (row + 1) * wide, WEST + (column + 1) * wide, NORTH - row * wide)
        assert shape(one["properties"]["footprint_native"]).bounds == pytest.approx(expected, abs=wide * 1e-6)
        corners = np.array(one["geometry"]["coordinates"][0])
        x, y = Transformer.from_crs("OGC:CRS84", "EPSG:32632", always_xy=True).transform(*corners.T)
        assert (min(x), min(y), max(x), max(y)) == pytest.approx(expected, abs=wide * 1e-6)


def test_a_mosaic_is_captioned_as_its_photographs_alone(tmp_path: Path) -> None:
    """Twelve photographs; in batches of 16 and of 5 the files are the same."""
    photographs = mosaic(tmp_path / "mosaic.tif", across=4, down=3)
    with rscap.load("nano", device="cpu", dtype="float32") as model:
        rscap.caption_scene(tmp_path / "mosaic.tif", model, tmp_path / "out.geojsonl", progress=False)
        found = features(tmp_path / "out.geojsonl")
        check(found, photographs, model)
        (answer,) = model.answers([Picture(id="one", image=opened(photographs[1, 2]))])
        assert isinstance(answer, Answer)
        assert found[6]["properties"]["confidence"] == pytest.approx(answer.confidence, abs=0.0051)
        model.settings = model.settings.model_copy(update={"batch_size": 5})
        rscap.caption_scene(tmp_path / "mosaic.tif", model, tmp_path / "again.geojsonl", progress=False)
    assert (tmp_path / "again.geojsonl").read_bytes() == (tmp_path / "out.geojsonl").read_bytes()


@pytest.mark.slow
def test_a_large_mosaic_killed_twenty_times_ends_with_the_same_bytes(tmp_path: Path) -> None:
    """400 photographs; the command is killed at 20 random moments, and goes on each time, in other batches."""
    photographs = mosaic(tmp_path / "mosaic.tif", across=20, down=20)
    with rscap.load("nano", device="cpu", dtype="float32") as model:
        rscap.caption_scene(tmp_path / "mosaic.tif", model, tmp_path / "once.geojsonl", progress=False)
        check(features(tmp_path / "once.geojsonl"), photographs, model)
    chance, out = random.Random(1), tmp_path / "cut.geojsonl"
    ledger = tmp_path / "cut.geojsonl.rscap" / "ledger.jsonl"
    kills = 0
    for _ in range(40):
        sizes = ["--set", f"generate.batch_size={chance.choice([3, 5, 8])}"]
        command = [sys.executable, "-m", "rscap", "scene", "mosaic.tif", "--model", "nano", "--dtype", "float32"]
        child = subprocess.Popen([*command, *sizes, "--out", str(out)], cwd=tmp_path, stderr=subprocess.DEVNULL)
        start = ledger.stat().st_size if ledger.exists() else 0
        deadline = time.monotonic() + 120
        while kills < 20 and child.poll() is None and time.monotonic() < deadline:
            if ledger.exists() and ledger.stat().st_size > start:
                time.sleep(chance.uniform(0, 0.5))
                os.kill(child.pid, signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.05)
        if child.wait() == 0:
            break
    assert kills == 20
    names = [one["properties"].pop("scene") for one in features(out)]
    assert set(names) == {"mosaic.tif"}
    once = (tmp_path / "once.geojsonl").read_text().replace(str(tmp_path / "mosaic.tif"), "mosaic.tif")
    run = {one["properties"]["run"] for one in features(out)}
    other = {one["properties"]["run"] for one in features(tmp_path / "once.geojsonl")}
    assert out.read_text().replace(run.pop(), other.pop()) == once
