"""Archives on Ray: the bytes of a local run, whatever dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rscap
from checkout import ROOT
from ranges import served
from scene_files import Echo, noise, write_raster

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]  # Ray leaves sockets and warnings of its own


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of two cores on this machine, whose workers find this checkout."""
    ray = pytest.importorskip("ray", reason="needs the extra `ray`")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (ROOT / "src", ROOT / "tests" / "support"))))
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


def archive(folder: Path, scenes: int, broken: int = 0) -> None:
    """Small scenes of one to nine windows, and files that are none."""
    folder.mkdir()
    sizes = np.random.default_rng(0).integers(10, 90, (scenes, 2))
    for number, (height, width) in enumerate(sizes):
        write_raster(folder / f"{number:04}.tif", noise(3, int(height), int(width), seed=number))
    for number in range(broken):
        (folder / f"broken-{number}.tif").write_bytes(b"not a raster")


def test_bytes_of_remote_scenes_are_counted(tmp_path: Path, ray: Any) -> None:
    """Of a remote scene the provenance says what all workers downloaded, no more than the server sent; and the blocks
    under its windows, each once: as many bytes as a local run finds."""
    (tmp_path / "web").mkdir()
    for number in range(2):
        bands = np.kron(noise(3, 64, 64, seed=number), np.ones((1, 8, 8), dtype="uint8"))
        write_raster(
            tmp_path / "web" / f"{number}.tif", bands, tiled=True, blockxsize=128, blockysize=128, compress="lzw"
        )
    with served(tmp_path / "web") as server:
        urls = [server.url(f"{number}.tif") for number in range(2)]
        options: dict[str, Any] = {"window": 100, "progress": False}
        rscap.caption_scene(urls, Echo(), tmp_path / "local", **options)
        before = server.sent
        rscap.caption_scene(urls, Echo(), tmp_path / "ray", engine="ray", workers=2, **options)
        sent = server.sent - before
    assert files(tmp_path / "ray") == files(tmp_path / "local")
    local, found = (
        json.loads((tmp_path / name / "provenance.json").read_text())["scenes"] for name in ("local", "ray")
    )
    assert [found[url]["bytes_needed"] for url in urls] == [local[url]["bytes_needed"] for url in urls]
    assert all(found[url]["bytes_read"] >= found[url]["bytes_needed"] > 0 for url in urls)
    assert sum(found[url]["bytes_read"] for url in urls) <= sent


class Deadly(Echo):
    """Kills its process the first time that it sees a window of a scene, once in all processes."""

    def __init__(self, flag: Path, scene: str, times: int = 1) -> None:
        super().__init__()
        self.flag, self.scene, self.times = flag, scene, times

    def predictions(self, pictures: Any) -> Any:
        with self.flag.with_suffix(".log").open("a") as log:
            log.writelines(f"{picture.id}\n" for picture in pictures)
        if any(self.scene in picture.id for picture in pictures):
            for number in range(self.times):
                try:
                    self.flag.with_suffix(f".{number}").touch(exist_ok=False)
                except FileExistsError:
                    continue
                os.kill(os.getpid(), signal.SIGKILL)
        return super().predictions(pictures)


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("captions.*")}


@pytest.mark.parametrize("workers", [1, 2])
def test_the_same_bytes_as_a_local_run(tmp_path: Path, ray: Any, workers: int) -> None:
    """Also with broken scenes among them, which are listed."""
    archive(tmp_path / "in", 30, broken=2)
    local = rscap.caption_scene(tmp_path / "in", Echo(), tmp_path / "local", window=30, progress=False)
    found = rscap.caption_scene(
        tmp_path / "in", Echo(), tmp_path / "ray", window=30, progress=False, engine="ray", workers=workers
    )
    assert files(tmp_path / "ray") == files(tmp_path / "local")
    assert found.complaints == local.complaints
    assert len(found.complaints) == 2


def test_a_worker_that_is_killed_costs_its_batches_alone(tmp_path: Path, ray: Any) -> None:
    """Another takes its place; the result is that of a local run, and no window is captioned a third time."""
    archive(tmp_path / "in", 30)
    rscap.caption_scene(tmp_path / "in", Echo(), tmp_path / "local", window=30, progress=False)
    deadly = Deadly(tmp_path / "flag", "0007.tif")
    found = rscap.caption_scene(
        tmp_path / "in", deadly, tmp_path / "ray", window=30, progress=False, engine="ray", workers=2
    )
    assert found.complaints == {}
    assert files(tmp_path / "ray") == files(tmp_path / "local")
    asked = Counter((tmp_path / "flag.log").read_text().split("\n"))
    assert max(asked.values()) <= 3


def test_a_scene_that_kills_every_worker_is_given_up(tmp_path: Path, ray: Any) -> None:
    """It fails with its reason, and so do those of its batch alone; `retry` captions them."""
    archive(tmp_path / "in", 4)
    deadly = Deadly(tmp_path / "flag", "0002.tif", times=3)
    found = rscap.caption_scene(
        tmp_path / "in", deadly, tmp_path / "ray", window=30, progress=False, engine="ray", workers=1
    )
    assert "3 workers ended" in found.complaints[str(tmp_path / "in" / "0002.tif")]
    again = rscap.caption_scene(
        tmp_path / "in", deadly, tmp_path / "ray", window=30, progress=False, engine="ray", workers=1, retry=True
    )
    assert again.complaints == {}


DRIVER = """
import sys
from pathlib import Path
import ray, rscap
from test_ray_driver import Slow
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
options = {"window": 30, "progress": False, "engine": "ray", "workers": 2}
result = rscap.caption_scene(Path("in"), Slow(Path("flag")), Path("out"), **options)
print(len(result.complaints))
"""
SLOW = """
import os, signal
from pathlib import Path
from scene_files import Echo


class Slow(Echo):
    def __init__(self, flag):
        super().__init__()
        self.flag = flag.absolute()

    def predictions(self, pictures):
        with self.flag.with_suffix(".log").open("a") as log:
            log.writelines(f"{picture.id}\\n" for picture in pictures)
        if any("0700.tif" in picture.id for picture in pictures):
            try:
                self.flag.with_suffix(".killed").touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().predictions(pictures)
"""


@pytest.mark.slow
def test_a_thousand_scenes_survive_their_driver_and_a_worker(tmp_path: Path) -> None:
    """1,000 scenes and 5 broken files; the driver and later a worker are killed; the second call ends complete, lists
    the 5, and asks for no window again that the ledger had."""
    pytest.importorskip("ray", reason="needs the extra `ray`")
    archive(tmp_path / "in", 1000, broken=5)
    rscap.caption_scene(tmp_path / "in", Echo(), tmp_path / "local", window=30, progress=False)
    (tmp_path / "driver.py").write_text(DRIVER)
    (tmp_path / "test_ray_driver.py").write_text(SLOW)
    paths = os.pathsep.join(map(str, (ROOT / "src", ROOT / "tests" / "support", tmp_path)))
    started: dict[str, Any] = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": paths}, "text": True}
    ledger = tmp_path / "out" / "ledger.jsonl"
    driver = subprocess.Popen([sys.executable, "driver.py"], stdout=subprocess.PIPE, **started)
    while driver.poll() is None and not (ledger.exists() and ledger.read_bytes().count(b"\n") > 600):
        time.sleep(0.1)
    assert driver.poll() is None, "it was not killed in the middle"
    driver.kill()
    driver.wait()
    known = {f"{one['scene']}#{one['row']},{one['column']}" for one in _windows(ledger)}
    before = (tmp_path / "flag.log").stat().st_size
    done = subprocess.run([sys.executable, "driver.py"], stdout=subprocess.PIPE, check=True, **started)
    assert done.stdout.split()[-1] == "5"
    assert (tmp_path / "flag.killed").exists()
    asked = (tmp_path / "flag.log").read_text()[before:].split("\n")
    assert not known & set(asked)
    assert _captions(tmp_path / "out") == _captions(tmp_path / "local")


def _windows(ledger: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in ledger.read_text().split("\n")[:-1]]
    return [line for line in lines if line["kind"] == "window"]


def _captions(out: Path) -> list[tuple[Any, ...]]:
    """Every caption with its place, by the scene's own name: the two calls named the folder otherwise."""
    features = [json.loads(line) for line in (out / "captions.geojsonl").read_text().splitlines()]
    keys = ("row", "column", "caption", "cell", "valid_share", "digest", "footprint_native")
    return [(Path(one["properties"]["scene"]).name, *(one["properties"][key] for key in keys)) for one in features]
