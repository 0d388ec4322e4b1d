"""Scenes that cannot be captioned, or not whole: each is told by name with the way out, and the others go on."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.rpc import RPC

import rscap
from rscap.errors import SceneError, StoreError
from rscap.store import archive
from scene_files import Echo, noise, write_raster


def complex_numbers(path: Path) -> None:
    write_raster(path, noise(1, 20, 20).astype("complex64"))


def text(path: Path) -> None:
    path.write_text("not a raster")


def empty(path: Path) -> None:
    path.touch()


def missing(path: Path) -> None:
    path.unlink(missing_ok=True)


def rational_polynomials(path: Path) -> None:
    write_raster(path, noise(3, 20, 20), crs=None, transform=None)
    with rasterio.open(path, "r+") as file:
        ones = [1.0] + [0.0] * 19
        file.rpcs = RPC(0.0, 1.0, 0.0, 1.0, ones, ones, 0.0, 1.0, 0.0, 1.0, ones, ones, 0.0, 1.0)


def nothing_valid(path: Path) -> None:
    write_raster(path, np.zeros((3, 20, 20), dtype="uint8"), nodata=0)


def cut_short(path: Path) -> None:
    write_raster(path, noise(3, 200, 200), tiled=True, blockxsize=64, blockysize=64)
    os.truncate(path, 1000)


BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "complex": (complex_numbers, "holds complex numbers"),
    "text": (text, "cannot be opened"),
    "empty": (empty, "cannot be opened"),
    "missing": (missing, "there is no such file"),
    "RPCs": (rational_polynomials, "orthorectify it first"),
    "nodata": (nothing_valid, "no pixel is valid: all are nodata"),
    "cut short": (cut_short, "can"),
}


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_each_bad_scene_is_told_and_the_others_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line a scene on standard error, a list in the result and in the provenance; good scenes are captioned, and
    features of bad ones are in no file."""
    scenes = {name: tmp_path / f"{name}.tif" for name in BAD}
    for name, (make, _) in BAD.items():
        make(scenes[name])
    good = write_raster(tmp_path / "good.tif", noise(3, 20, 20))
    result = rscap.caption_scene([*scenes.values(), good], Echo(), tmp_path / "out")
    told = capsys.readouterr().err
    assert result.captioned == 1
    assert set(result.complaints) == set(map(str, scenes.values()))
    provenance = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert set(provenance["failed"]) == set(result.complaints)
    for name, (_, words) in BAD.items():
        assert words in result.complaints[str(scenes[name])], name
        assert f": {scenes[name]}: " in told, name
    lines = (tmp_path / "out" / "captions.geojsonl").read_text().splitlines()
    assert [json.loads(line)["properties"]["scene"] for line in lines] == [str(good)]


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (3, 3)])
def test_tiny_scenes_work(tmp_path: Path, shape: tuple[int, int]) -> None:
    """A scene smaller than a window is one window of its own size; of one row or column, one window a piece."""
    scene = write_raster(tmp_path / "a.tif", noise(3, *shape))
    result = rscap.caption_scene(scene, Echo(), tmp_path / "out", window=32, progress=False)
    assert result.captioned == (2 if 50 in shape else 1)
    assert result.complaints == {}


def damaged(path: Path) -> Path:
    """A tiled raster of which one block holds rubbish."""
    write_raster(path, noise(3, 128, 128), tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    with rasterio.open(path) as file:
        place = int(file.get_tag_item("BLOCK_OFFSET_1_1", "TIFF", bidx=1))
    with path.open("r+b") as stream:
        stream.seek(place)
        stream.write(b"\xff" * 64)
    return path


def test_a_damaged_block_costs_its_own_windows_alone(tmp_path: Path) -> None:
    """They are listed as skipped, the scene as damaged; mended, `retry` captions it as if nothing had been."""
    scene = damaged(tmp_path / "a.tif")
    result = rscap.caption_scene(scene, Echo(), tmp_path / "out", window=64, progress=False)
    assert (result.captioned, result.skipped) == (3, 1)
    assert "1 window cannot be read" in result.complaints[str(scene)]
    (skipped,) = [json.loads(line) for line in (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()]
    assert skipped["window"] == [64, 64, 64, 64]
    stat = scene.stat()
    write_raster(scene, noise(3, 128, 128), tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    os.utime(scene, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    echo = Echo()
    again = rscap.caption_scene(scene, echo, tmp_path / "out", window=64, progress=False, retry=True)
    assert (again.captioned, again.skipped, again.complaints) == (4, 0, {})


@pytest.mark.parametrize("what", ["changed", "vanished"])
def test_a_file_that_changes_while_it_is_read_is_not_used(tmp_path: Path, what: str) -> None:
    """Nothing of it is in a file; once it is at rest, `retry` captions it."""
    scene = write_raster(tmp_path / "a.tif", noise(3, 40, 40))
    content = scene.read_bytes()

    class Restless(Echo):
        def predictions(self, pictures: Any) -> Any:
            scene.unlink()
            if what == "changed":
                scene.write_bytes(content + b" ")
            return super().predictions(pictures)

    result = rscap.caption_scene(scene, Restless(), tmp_path / "out", progress=False)
    assert result.captioned == 0
    assert what in result.complaints[str(scene)]
    assert (tmp_path / "out" / "captions.geojsonl").read_text() == ""
    scene.write_bytes(content)
    assert rscap.caption_scene(scene, Echo(), tmp_path / "out", progress=False, retry=True).captioned == 1


def test_a_full_disk_ends_the_call_and_nothing_is_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the ledger and says how to go on; no final file appears; the same call then ends well."""
    scene = write_raster(tmp_path / "a.tif", noise(3, 40, 40))
    real = archive.Ledger._write

    class Full:
        """A stream on a disk that takes half a line."""

        def __init__(self, stream: Any) -> None:
            self.stream = stream

        def write(self, content: bytes) -> None:
            self.stream.write(content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "no space left")

        def close(self) -> None:
            self.stream.close()

    def full(self: Any, content: bytes) -> None:
        if b'"kind": "window"' in content:
            self._stream = Full(self._stream)
        real(self, content)

    monkeypatch.setattr(archive.Ledger, "_write", full)
    with pytest.raises(StoreError, match=r"a\.tif: nothing more can be written to .*\n.*the same command then goes on"):
        rscap.caption_scene(scene, Echo(), tmp_path / "out", progress=False)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".lock", "ledger.jsonl"]
    monkeypatch.undo()
    assert rscap.caption_scene(scene, Echo(), tmp_path / "out", progress=False).captioned == 1


def test_options_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    """Before a scene is opened."""
    scene = write_raster(tmp_path / "a.tif", noise(3, 20, 20))
    for options, words in (
        ({"stride": 300}, "would leave ground uncovered"),
        ({"stretch": (98.0, 2.0)}, "percentiles rise"),
        ({"value_range": (5.0, 5.0)}, "the second value is the larger"),
        ({"min_valid": 2.0}, "is a share of pixels"),
        ({"aoi": (10.0, 50.0, 11.0, 40.0)}, "SOUTH below NORTH"),
    ):
        with pytest.raises(SceneError) as error:
            rscap.caption_scene(scene, Echo(), tmp_path / "out", progress=False, **options)
        assert words in str(error.value)
    with pytest.raises(SceneError, match="no scene in this folder"):
        rscap.caption_scene((tmp_path / "nothing").mkdir() or tmp_path / "nothing", Echo(), tmp_path / "out")
