"""What a scene costs besides its captions: memory at two sizes, and time beside that of the nano model.

    python benchmarks/scenes.py [--small 1000] [--large 30000] [--layout tiled|strips] [--windows 128] [--busy-ok]

Memory: a raster of 16-bit colour is captioned in a process of its own by a captioner that answers at once, all formats
are written, and the peak is the largest resident set of that process; the target is that the larger scene takes at most
1.2 times the memory of the smaller one. Time: the processor seconds of one window more (reading, stretching, the ledger
and all final files; from the difference of the two scenes) beside those of captioning it with nano in float32; the goal
is at most 15 %.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

import rscap
from common import Phases, check_load, count, environment, options
from rscap.records import Picture, Prediction
from rscap.store import read_json, write_json

MEMORY_TARGET, TIME_TARGET = 1.2, 0.15
_BLOCK = 512


class AtOnce:
    """Answers without looking."""

    name, prefix = "at once", None

    def predictions(self, pictures: Sequence[Picture]) -> Iterator[Prediction]:
        for picture in pictures:
            caption = f"a field beside a road {hash(picture.id) % 97}"
            yield Prediction(example_id=picture.id, caption=caption, prefix="", tokens=8, stopped="eos")


def make(path: Path, side: int, layout: str) -> None:
    """A raster of `side` x `side` pixels, three bands of 16 bits, in which no two blocks are the same."""
    random = np.random.default_rng(0)
    pattern = random.integers(200, 4000, (3, _BLOCK, _BLOCK // 8), dtype=np.uint16).repeat(8, axis=2)
    size: dict[str, Any] = {"width": side, "height": side, "count": 3, "dtype": "uint16"}
    tiles: dict[str, Any] = {"tiled": True, "blockxsize": _BLOCK, "blockysize": _BLOCK} if layout == "tiled" else {}
    place = from_origin(400_000, 5_600_000, 0.5, 0.5)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        crs="EPSG:32633",
        transform=place,
        photometric="RGB",
        compress="zstd",
        zstd_level=1,
        **size,
        **tiles,
    ) as file:
        for y in range(0, side, _BLOCK):
            tall = min(_BLOCK, side - y)
            for x in range(0, side, _BLOCK):
                wide = min(_BLOCK, side - x)
                content = pattern[:, :tall, :wide] + np.uint16((x + y) // _BLOCK)
                file.write(content, window=Window(x, y, wide, tall))


def caption(path: Path, out: Path) -> dict[str, Any]:
    """Caption a raster at once, in this process: windows, seconds, peak in MiB, processor seconds, also by step."""
    from rscap.scene import job, reading, stretch
    from rscap.scene.identity import Identity
    from rscap.store.archive import Ledger

    steps = Phases()
    steps.watch(reading, "find_stretch", "survey")
    steps.watch(reading, "read_values", "reading")
    steps.watch(stretch.Stretch, "__call__", "stretching")
    steps.watch(Identity, "of_window", "digest")
    steps.watch(Ledger, "add", "ledger")
    steps.watch(job, "_finish", "final files")
    began, work = time.perf_counter(), time.process_time()
    result = rscap.caption_scene(path, AtOnce(), out, progress=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    windows = result.captioned + result.skipped
    seconds = time.perf_counter() - began
    return {
        "windows": windows,
        "seconds": seconds,
        "windows_a_second": windows / seconds,
        "peak_mib": peak,
        "processor_seconds": {
            "all": time.process_time() - work,
            **{name: one["processor"] for name, one in steps.seconds.items()},
        },
    }


def in_a_process(path: Path, out: Path) -> dict[str, Any]:
    """`caption` in a fresh process."""
    command = [sys.executable, __file__, "--one", str(path), "--to", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def nano_seconds(path: Path, windows: int) -> float:
    """Processor seconds that nano takes to caption one window in float32 on one thread, in batches of 16."""
    import torch
    from PIL import Image

    from rscap.data import opened

    torch.set_num_threads(1)
    with rasterio.open(path) as file:
        raw = file.read(window=Window(0, 0, 224, 224))
    pictures = [
        Picture(
            id=str(number), image=opened(Image.fromarray(((raw + number) >> 4).astype(np.uint8).transpose(1, 2, 0)))
        )
        for number in range(windows)
    ]
    with rscap.load("nano", device="cpu", dtype="float32") as model:
        list(model.answers(pictures[:16]))
        began = time.process_time()
        for start in range(0, windows, 16):
            list(model.answers(pictures[start : start + 16]))
        return (time.process_time() - began) / windows


def memory(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Peaks at two sizes."""
    found: dict[str, Any] = {"layout": given.layout}
    for name, side in (("small", given.small), ("large", given.large)):
        make(folder / f"{name}.tif", side, given.layout)
        found[name] = {"side": side, **in_a_process(folder / f"{name}.tif", folder / name)}
    return found | {"ratio": found["large"]["peak_mib"] / found["small"]["peak_mib"], "target": MEMORY_TARGET}


def costs(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Processor milliseconds of one window more, by step, beside those of captioning it."""
    found: dict[str, Any] = {}
    for name, side in (("small", 1000), ("large", 10_000)):
        make(folder / f"{name}.tif", side, given.layout)
        found[name] = in_a_process(folder / f"{name}.tif", folder / name)
    windows = found["large"]["windows"] - found["small"]["windows"]
    small, large = (found[name]["processor_seconds"] for name in ("small", "large"))
    a_window = {step: 1000 * (large[step] - small[step]) / windows for step in large}
    captioning = 1000 * nano_seconds(folder / "small.tif", given.windows)
    return found | {
        "milliseconds_a_window": a_window,
        "captioning_milliseconds_a_window": captioning,
        "share_of_captioning": a_window["all"] / captioning,
        "target": TIME_TARGET,
    }


def on_ray(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """An archive on 1 and 2 workers."""
    from scenes_ray import measured

    (folder / "archive").mkdir()
    make(folder / "scene.tif", given.side, "tiled")
    for number in range(given.scenes):
        (folder / "archive" / f"{number:04}.tif").hardlink_to(folder / "scene.tif")
    return {"scenes": given.scenes, "side": given.side, **measured(folder / "archive", folder)}


def map_page(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The page of 5,000 windows in a browser."""
    from scenes_map import measured

    return measured(folder, given.repetitions)


PARTS = {"memory": memory, "time": costs, "ray": on_ray, "map": map_page}


def main() -> None:
    parser = options(__doc__, repetitions=15, out="scenes.json")
    parser.add_argument("--part", choices=tuple(PARTS))
    parser.add_argument("--small", type=count, default=1000)
    parser.add_argument("--large", type=count, default=30_000)
    parser.add_argument("--layout", choices=("tiled", "strips"), default="tiled")
    parser.add_argument("--windows", type=count, default=128, help="windows that nano captions")
    parser.add_argument("--scenes", type=count, default=40)
    parser.add_argument("--side", type=count, default=2000, help="of each scene on Ray, in pixels")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--to", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(caption(given.one, given.to)))
        return
    if not given.part:
        parser.error("name a part with --part")
    load = check_load(busy_ok=given.busy_ok)
    with tempfile.TemporaryDirectory() as folder:
        found = PARTS[given.part](given, Path(folder))
    print(json.dumps(found, indent=2))
    others = read_json(given.out) if given.out.is_file() else {}
    part = {"environment": environment(threads=1), "load": {**asdict(load), "after": os.getloadavg()}, **found}
    write_json(given.out, {**others, given.part: part})


if __name__ == "__main__":
    main()
