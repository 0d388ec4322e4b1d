"""Ten times the images take at most ten and a half times the time, and no more memory: `rscap train`, whole.

    python benchmarks/linear.py [--images 100] [--repetitions 2] [--threads N] [--busy-ok]

A folder of JPEG files with five captions each is made, and a tenth of it beside it. Then the built-in nano model learns
each for one epoch, in turn, in a process of its own: open the folder, decode every image once to see that it can be,
train, write the adapter. The time is that of `rscap.training.session.train`, without starting Python; the memory is
the most that the process ever held (resident bytes, as the system tells).
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import ImageEnhance

from common import alternate, check_load, count, options, write_record
from rscap.data import open_source

TIMES, MOST_TIME, MOST_MEMORY = 10, 10.5, 1.1
"""Ten times the images: at most so many times the time, and so many times the memory."""


def make_folder(folder: Path, images: int) -> None:
    """`captions.csv` and `resized/`: pictures of the sample, each a little brighter than the one before."""
    examples = [one for one in open_source("sample").split("train") if len(one.captions) == 5]
    (folder / "resized").mkdir(parents=True)
    with (folder / "captions.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["source", "split", "image", *(f"caption_{number}" for number in range(1, 6))])
        for number in range(images):
            example = examples[number % min(len(examples), 200)]
            picture = ImageEnhance.Brightness(example.image.load()).enhance(0.7 + 0.6 * number / images)
            picture.save(folder / "resized" / f"x_{number}.jpg", quality=87)
            writer.writerow(["x", "train", f"x_{number}.jpg", *example.captions])


def learn(folder: Path, out: Path, *, threads: int) -> dict[str, float]:
    """Train on a folder in another process: seconds, and the most bytes it held."""
    command = [sys.executable, __file__, "--learn", str(folder), "--out", str(out), "--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"training on {folder} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def train_here(folder: Path, out: Path, *, threads: int) -> dict[str, float]:
    """What the other process does."""
    import torch

    from rscap.recipe import parse_recipe
    from rscap.training.session import train

    torch.set_num_threads(threads)
    recipe = parse_recipe(
        {
            "data": {"source": str(folder), "captions": "all"},
            "model": {"base": "nano", "dtype": "float32"},
            "adapter": {"rank": 16},
            "train": {"epochs": 1, "micro_batch": 5, "learning_rate": 1e-4},
        }
    )
    began = time.perf_counter()
    train(recipe, out, say=lambda _: None)
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": time.perf_counter() - began, "peak_bytes": kilobytes * 1024}


def measure(folder: Path, *, images: int, repetitions: int, threads: int) -> dict[str, Any]:
    """Both sizes in turn, and their ratios."""
    sizes = {"one": images, "ten": TIMES * images}
    for name, size in sizes.items():
        make_folder(folder / name, size)
    runs = iter(range(2 * repetitions))
    turns = alternate(
        {
            name: lambda name=name: learn(folder / name, folder / f"run-{next(runs)}", threads=threads)  # type: ignore[misc]
            for name in sizes
        },
        repetitions=repetitions,
    )
    found = {
        name: {
            "images": size,
            **{what: statistics.median(turn[what] for turn in turns[name]) for what in ("seconds", "peak_bytes")},
            "turns": turns[name],
        }
        for name, size in sizes.items()
    }
    ratios = {what: found["ten"][what] / found["one"][what] for what in ("seconds", "peak_bytes")}
    more = found["ten"]["peak_bytes"] - found["one"]["peak_bytes"]
    return {**found, "ratios": ratios, "more_bytes_an_image": more / (sizes["ten"] - sizes["one"])}


def main(arguments: list[str] | None = None) -> None:
    parser = options(__doc__, repetitions=2, out="linear.json")
    parser.add_argument("--images", type=count, default=100, help="images of the smaller folder (%(default)s)")
    parser.add_argument("--learn", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.learn:
        print(json.dumps(train_here(given.learn, given.out, threads=given.threads)))
        return
    load = check_load(busy_ok=given.busy_ok)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), images=given.images, repetitions=given.repetitions, threads=given.threads)
    ratios = result["ratios"]
    met = ratios["seconds"] <= MOST_TIME and ratios["peak_bytes"] <= MOST_MEMORY
    write_record(
        given.out,
        load=load,
        threads=given.threads,
        settings={"repetitions": given.repetitions, "base": "nano", "dtype": "float32", "rank": 16, "micro_batch": 5},
        targets={"seconds": MOST_TIME, "peak_bytes": MOST_MEMORY, "met": met},
        **result,
    )
    for name in ("one", "ten"):
        one = result[name]
        print(f"{one['images']:6,} images: {one['seconds']:7.2f} s, {one['peak_bytes'] / 2**20:7.0f} MiB")
    print(
        f"{TIMES} times the images: {ratios['seconds']:.2f} times the time, {ratios['peak_bytes']:.3f} times the memory"
        f" ({result['more_bytes_an_image']:,.0f} bytes more an image); targets {'' if met else 'not '}met"
    )
    if load.busy:
        print(f"the machine was busy (load {load.before[0]:.2f}): do not trust the times")


if __name__ == "__main__":
    main()
