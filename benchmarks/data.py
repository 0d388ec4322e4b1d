"""How fast images are decoded and batched, and how an audit's time and memory grow with the number of images.

    nice -n -5 python benchmarks/data.py ../shared/data/risc-mini [--repetitions 3] [--out FILE] [--busy-ok]

Batching: what training's loader does with an image and its five captions (decode, scale to 224, normalise, tokenise,
pack, 16 to a batch), in images/s: in this process, with one worker, and with two, in turn. This process and its workers
are pinned to one core, and for two workers to two.

Audit: all that `rscap data audit` does, from opening the folder to the findings, pinned to one core, each time in a
fresh process: of the real images, and of 1, 3 and 10 times as many made ones. A made image is the mean of two parts,
cut at random places and scales, of one real image and of one drawn by chance: look-alikes are then rare at any scale,
which ten crops of one picture would not be. They are saved as JPEG, so that a file costs about as much as a real one
and the same at every scale; their captions are the real ones with some words in front.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common import RESULTS, alternate, check_load, count, write_record
from rscap.data import Source, open_source
from rscap.records import Example

BATCH = 16
SIDE, IMAGE_TOKENS = 224, 256
SCALES = (1, 3, 10)
RISC_IMAGES = 44_521
TARGET_SECONDS = 600.0
QUALITY = 95
"""JPEG quality that gives a made image, smoother than those it is made of, about the bytes of a real one."""
PARTS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


def pin(cores: int) -> None:
    """Keep this process, and those it starts, on the first `cores` cores that it may use."""
    os.sched_setaffinity(0, sorted(_ALLOWED)[:cores])


_ALLOWED = os.sched_getaffinity(0)


def batching(source: Source, repetitions: int) -> dict[str, Any]:
    """Images/s of the loader that training uses, without and with worker processes."""
    import torch

    from rscap.captioner.batch import Encoder
    from rscap.captioner.loader import batches
    from rscap.captioner.prompt import Prompter
    from rscap.model.families import ImageSpec
    from rscap.model.load import load_base
    from rscap.recipe import ModelSection

    torch.set_num_threads(1)
    base = load_base(ModelSection(base="nano", dtype="float32"), device="cpu")
    prompter = Prompter(replace(base.layout, image_tokens=IMAGE_TOKENS))
    encoder = Encoder(prompter=prompter, image=ImageSpec(resolution_px=SIDE, mean=base.image.mean, std=base.image.std))
    examples = list(source.examples)

    def speed(workers: int) -> float:
        pin(max(workers, 1))
        loader = batches(examples, partial(_encode, encoder), size=BATCH, pad=prompter.pad, workers=workers)
        done = next(loader).images  # the workers have started
        begin = time.perf_counter()
        seen = sum(batch.images for batch in loader)
        assert done + seen == len(examples)
        return seen / (time.perf_counter() - begin)

    found = alternate({str(workers): partial(speed, workers) for workers in (0, 1, 2)}, repetitions=repetitions)
    pin(len(_ALLOWED))
    return {
        "images": len(examples),
        "batch": BATCH,
        "images_per_s": {workers: round(statistics.median(speeds), 1) for workers, speeds in found.items()},
        "every_images_per_s": {workers: [round(one, 1) for one in speeds] for workers, speeds in found.items()},
    }


def _encode(encoder: Any, example: Example) -> Any:
    return encoder(example, prefix="caption en", captions=example.captions)


def write_made(source: Source, folder: Path, scale: int) -> None:
    """A data set of `scale` images made of each picture, in RISC's own layout: captions.csv beside resized/."""
    (folder / "resized").mkdir(parents=True)
    with (folder / "captions.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["source", "split", "image", *(f"caption_{k}" for k in range(1, 6))])
        for index, example in enumerate(source.examples):
            picture = example.image.load()
            stem, suffix = example.id.rsplit("_", 1)
            for number in range(scale):
                rng = np.random.default_rng([index, number])
                other = source.examples[int(rng.integers(len(source.examples)))].image.load()
                name = f"{stem}_{number}{suffix.removesuffix('.jpg').rjust(6, '0')}.jpg"
                blend(picture, other, rng).save(folder / "resized" / name, quality=QUALITY)
                captions = [f"in the {PARTS[number]} part {caption}" for caption in example.captions]
                writer.writerow([example.source, example.split, name, *captions])


def blend(one: Image.Image, other: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The mean of a part of each picture, made a little lighter or darker."""
    gain = rng.uniform(0.75, 1.2)
    parts = (crop(picture, one.size, rng) for picture in (one, other))
    return Image.blend(*parts, alpha=0.5).point(lambda value: value * gain)


def crop(picture: Image.Image, size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """Part of a picture, scaled to `size`."""
    share = rng.uniform(0.5, 0.8)
    left, top = (float(rng.uniform(0, 1 - share)) * side for side in picture.size)
    box = (left, top, left + share * picture.width, top + share * picture.height)
    return picture.resize(size, Image.Resampling.BILINEAR, box=box)


def one_audit(folder: Path) -> dict[str, Any]:
    """Audit a folder as the command does, in this process."""
    from rscap.data.audit import audit
    from rscap.quality import disagreements

    imported_mb = _peak_mb()
    wall, processor = time.perf_counter(), time.process_time()
    source = open_source(folder, check="none")
    found = audit(source, more=disagreements(source))
    return {
        "images": len(source.examples),
        "seconds": round(time.perf_counter() - wall, 2),
        "cpu_seconds": round(time.process_time() - processor, 2),
        "peak_mb": _peak_mb(),
        "imports_mb": imported_mb,
        "bytes_a_file": round(statistics.fmean(one.stat().st_size for one in (folder / "resized").iterdir())),
        "findings": found.counts,
    }


def _peak_mb() -> int:
    """Peak resident memory of this program; `ru_maxrss` would count what the process was before it started it."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) // 1024


def audit_in_a_process(folder: Path, repetitions: int) -> dict[str, Any]:
    """The audit of one folder on one core, the run with the median time; `every_seconds` has them all."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    found = []
    for _ in range(repetitions):
        pin(1)
        command = [sys.executable, __file__, str(folder), "--one-audit"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        pin(len(_ALLOWED))
        found.append(json.loads(done.stdout.splitlines()[-1]))
        print(folder.name, found[-1], file=sys.stderr)
    every = [one["seconds"] for one in found]
    median = sorted(found, key=lambda one: one["seconds"])[(len(found) - 1) // 2]
    return {**median, "ms_an_image": round(1000 * median["seconds"] / median["images"], 3), "every_seconds": every}


def audits(real: Path, scales: Sequence[int], repetitions: int) -> dict[str, Any]:
    """Audits of the real images and of made ones at each scale, and what they say about an audit of all of RISC."""
    found = {"real": audit_in_a_process(real, repetitions)}
    source = open_source(real, check="none")
    for scale in scales:
        with tempfile.TemporaryDirectory(prefix="rscap-bench-") as place:
            folder = Path(place) / f"made-{scale}x"
            write_made(source, folder, scale)
            found[f"{scale}x"] = audit_in_a_process(folder, repetitions)
    first, last = found[f"{scales[0]}x"], found[f"{scales[-1]}x"]
    growth = {name: round(last[name] / first[name], 2) for name in ("images", "seconds", "cpu_seconds", "peak_mb")}
    per_image = max(last["seconds"] / last["images"], found["real"]["seconds"] / found["real"]["images"])
    return {
        "audits": found,
        "growth": {"from": f"{scales[0]}x", "to": f"{scales[-1]}x", **growth},
        "risc": {
            "images": RISC_IMAGES,
            "seconds_on_one_core": round(per_image * RISC_IMAGES, 1),
            "within_10_minutes": per_image * RISC_IMAGES < TARGET_SECONDS,
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder of real images in RISC's layout")
    parser.add_argument("--repetitions", type=count, default=3, help="turns of each measurement (%(default)s)")
    parser.add_argument("--scales", type=count, nargs="+", default=list(SCALES), help="times the images (%(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS / "data.json", help="the JSON record")
    parser.add_argument("--busy-ok", action="store_true", help="measure on a busy machine, and say so in the record")
    parser.add_argument("--one-audit", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one_audit:
        print(json.dumps(one_audit(options.data)))
        return
    load = check_load(busy_ok=options.busy_ok)
    record = write_record(
        options.out,
        load=load,
        threads=1,
        batching=batching(open_source(options.data, check="none"), options.repetitions),
        audit=audits(options.data, options.scales, options.repetitions),
    )
    print(json.dumps({key: record[key] for key in ("load", "batching", "audit")}, indent=2))


if __name__ == "__main__":
    main()
