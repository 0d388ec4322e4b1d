"""Archives on Ray: the bytes of a local run, whatever dies."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rscap
from checkout import ROOT
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
