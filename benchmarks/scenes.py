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
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

import rscap
from common import check_load, count, options, write_record
from rscap.records import Picture, Prediction

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


def caption(path: Path, out: Path) -> dict[str, float]:
    """Caption a raster at once, in this process: windows, seconds, processor seconds, peak in MiB."""
    began, work = time.perf_counter(), time.process_time()
    result = rscap.caption_scene(path, AtOnce(), out, progress=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return {
        "windows": result.captioned + result.skipped,
        "seconds": time.perf_counter() - began,
        "processor_seconds": time.process_time() - work,
        "peak_mib": peak,
    }


def in_a_process(path: Path, out: Path) -> dict[str, float]:
    """`caption` in a fresh process."""
    command = [sys.executable, __file__, "--one", str(path), "--to", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def nano_seconds(path: Path, windows: int) -> float:
    """Processor seconds that nano takes to caption one window in float32."""
    from PIL import Image

    from rscap.data import opened

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
        list(model.answers(pictures))
        return (time.process_time() - began) / windows


def main() -> None:
    parser = options(__doc__, repetitions=1, out="scenes.json")
    parser.add_argument("--small", type=count, default=1000)
    parser.add_argument("--large", type=count, default=30_000)
    parser.add_argument("--layout", choices=("tiled", "strips"), default="tiled")
    parser.add_argument("--windows", type=count, default=128, help="windows that nano captions")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--to", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(caption(given.one, given.to)))
        return
    load = check_load(busy_ok=given.busy_ok)
    found: dict[str, Any] = {"layout": given.layout}
    with tempfile.TemporaryDirectory() as folder:
        for name, side in (("small", given.small), ("large", given.large)):
            scene = Path(folder) / f"{name}.tif"
            make(scene, side, given.layout)
            found[name] = {"side": side, **in_a_process(scene, Path(folder) / name)}
            print(name, found[name], flush=True)
        found["nano_processor_seconds_a_window"] = nano_seconds(Path(folder) / "small.tif", given.windows)
    more = {key: found["large"][key] - found["small"][key] for key in ("processor_seconds", "windows")}
    a_window = more["processor_seconds"] / more["windows"]
    found |= {
        "memory_ratio": found["large"]["peak_mib"] / found["small"]["peak_mib"],
        "memory_target": MEMORY_TARGET,
        "processor_seconds_a_window": a_window,
        "share_of_captioning": a_window / found["nano_processor_seconds_a_window"],
        "share_target": TIME_TARGET,
    }
    print(json.dumps(found, indent=2))
    write_record(given.out, load=load, threads=given.threads, scenes=found)


if __name__ == "__main__":
    main()
