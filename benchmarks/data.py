"""How fast images are decoded and batched, and how an audit's time and memory grow with the number of images.

    python benchmarks/data.py ../shared/data/risc-mini [--json OUT]

Decoding: images/s to RGB arrays of 224 x 224 in batches of 16, with 1 and 2 processes, A/B/A/B, medians of three.
Audit: all that `rscap data audit` does, at 1x, 3x and 10x the images, each in a process of its own; the larger sets are
crops of the same pictures at random places, scales and brightness, so that no two are equal.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from rscap.data import open_source
from rscap.data.audit import audit
from rscap.data.source import Source, digest
from rscap.quality import disagreements
from rscap.records import Example, ImageHandle

SIDE = 224
BATCH = 16
ROUNDS = 3
SCALES = (1, 3, 10)


@dataclass(frozen=True)
class Crop:
    """Part of another picture, scaled back to its size and made a little lighter or darker."""

    image: ImageHandle
    number: int

    @property
    def name(self) -> str:
        return f"{self.image.name} crop {self.number}"

    def load(self) -> Image.Image:
        picture = self.image.load()
        rng = np.random.default_rng([self.number, picture.width])
        share, gain = rng.uniform(0.5, 0.8), rng.uniform(0.75, 1.2)
        left, top = (float(rng.uniform(0, 1 - share)) * side for side in picture.size)
        box = (left, top, left + share * picture.width, top + share * picture.height)
        return picture.resize(picture.size, Image.Resampling.BILINEAR, box=box).point(lambda value: value * gain)


def batch(handles: list[ImageHandle]) -> int:
    """Decode one batch to uint8[B, 224, 224, 3]; returns its size in bytes, so that no pixels cross processes."""
    pictures = [handle.load().resize((SIDE, SIDE), Image.Resampling.BICUBIC) for handle in handles]
    return np.stack([np.asarray(picture) for picture in pictures]).nbytes


def decoding(source: Source) -> dict[str, float]:
    """Images/s with 1 and 2 processes, alternating, medians."""
    handles = [example.image for example in source.examples]
    batches = [handles[start : start + BATCH] for start in range(0, len(handles), BATCH)]
    speeds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(ROUNDS):
        for workers, found in speeds.items():
            with ProcessPoolExecutor(workers) as pool:
                pool.submit(batch, handles[:1]).result()  # started before the clock
                begin = time.perf_counter()
                sum(pool.map(batch, batches, chunksize=8))
                found.append(len(handles) / (time.perf_counter() - begin))
    return {f"{workers} workers": round(statistics.median(found), 1) for workers, found in speeds.items()}


def enlarged(source: Source, scale: int) -> Source:
    """The source and scale - 1 crops of each of its pictures."""
    examples: list[Example] = list(source.examples)
    for number in range(1, scale):
        for index, one in enumerate(source.examples):
            captions = tuple(f"{caption} {number}" for caption in one.captions)
            crop = Crop(one.image, number * len(source.examples) + index)
            examples.append(replace(one, id=f"{number}-{one.id}", image=crop, captions=captions))
    return replace(source, examples=examples, digest=digest(examples))


def one_audit(path: Path, scale: int) -> None:
    """Audit at one scale; prints a line of JSON."""
    source = enlarged(open_source(path, check="none"), scale)
    wall, processor = time.perf_counter(), time.process_time()
    found = audit(source, more=disagreements(source))
    print(
        json.dumps(
            {
                "images": len(source.examples),
                "seconds": round(time.perf_counter() - wall, 1),
                "cpu_seconds": round(time.process_time() - processor, 1),
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                "findings": found.counts,
            }
        )
    )


def audits(path: Path) -> list[dict]:
    """One line a scale, each measured in a fresh process with one thread."""
    lines = []
    for scale in SCALES:
        command = [sys.executable, __file__, str(path), "--audit-scale", str(scale)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        lines.append(json.loads(done.stdout.splitlines()[-1]))
        print(lines[-1], file=sys.stderr)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder of real images with captions.csv")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--audit-scale", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.audit_scale:
        one_audit(options.data, options.audit_scale)
        return
    source = open_source(options.data, check="none")
    figures = {
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "images_per_second": decoding(source),
        "audit": audits(options.data),
        "load_after": os.getloadavg()[0],
    }
    text = json.dumps(figures, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
