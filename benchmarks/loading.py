"""How fast batches come, against how fast steps take them.

    python benchmarks/loading.py [--images 480] [--workers 0 --workers 1 …] [--threads N] [--busy-ok]

Batches are those of training (`rscap.training.updates.updates`): five captions an image, 224 pixels, 256 image tokens,
micro batches of 8. `live` decodes JPEG files; `cached` reads rows of PaliGemma-3B's size (256 x 1,152 in bfloat16,
576 KiB) from the memory map of a feature cache and checks each against its checksum. With workers the first batches,
until every worker is running, are not timed. Steps are those of `train_step.py` at bench-7M and bench-49M, timed here,
in the same process and with the same threads; the target is that loading in the training process alone is three times
as fast.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from common import Stopwatch, alternate, check_load, count, options, write_record
from linear import make_folder
from rscap.captioner.batch import Encoder
from rscap.data import open_source
from rscap.model.features import FeatureCache, Features, FeatureSpec
from rscap.recipe import Recipe, parse_recipe
from rscap.records import Example
from rscap.training.updates import updates
from train_step import IMAGES_A_STEP
from ways import Bench, build, load_examples, run_rscap, with_cached_features

MICRO_BATCH, TARGET = 8, 3.0
ROW = FeatureSpec(depends_on={"benchmark": "loading"}, tokens=256, width=1152, dtype=torch.bfloat16)


def random_features(examples: list[Example], folder: Path) -> Features:
    """A cache with one row of noise an example: as large as PaliGemma-3B's, and no model needed."""
    cache, generator = FeatureCache.open(folder, ROW), torch.Generator().manual_seed(0)
    with cache.locked():
        cache.begin()
        for example in examples:
            row = cache.row_of(torch.randn(ROW.tokens, ROW.width, generator=generator))
            cache.write([row], number=len(cache.checksums))
            cache.checksums[example.id] = zlib.crc32(row)
        cache.commit()
    return cache.features({example.id: example.id for example in examples}, {})


def recipe_with(workers: int) -> Recipe:
    return parse_recipe(
        {
            "data": {"source": "sample", "captions": "all", "workers": workers},
            "model": {"base": "nano"},
            "adapter": {},
            "train": {"micro_batch": MICRO_BATCH},
        }
    )


def load_once(encoder: Encoder, examples: list[Example], *, workers: int) -> float:
    """Images a second over one epoch, from the moment that every worker has delivered."""
    stream: Iterator[Any] = updates(examples, recipe_with(workers), encoder)
    batches = itertools.chain.from_iterable(stream)
    for _ in range(max(1, 4 * workers)):
        next(batches)
    watch, images = Stopwatch(), 0
    watch.start()
    while images < len(examples):
        images += next(batches).images
    watch.stop()
    return images / watch.times.wall[0]


def step_rates(bench: Bench, *, repetitions: int, folder: Path) -> dict[str, float]:
    """Images a second that steps take, with pixels and from cached features."""
    ways = {"live": bench, "cached": with_cached_features(bench, folder)}
    turns = alternate(
        {name: lambda one=one: run_rscap(one, steps=2) for name, one in ways.items()},  # type: ignore[misc]
        repetitions=repetitions,
    )
    seconds = {name: statistics.median(s for times in found for s in times.wall) for name, found in turns.items()}
    return {name: len(bench.examples) / second for name, second in seconds.items()}


def measure(*, images: int, workers: list[int], repetitions: int, folder: Path) -> dict[str, Any]:
    """Rates of loading and of steps, and how many times faster loading is."""
    make_folder(folder / "data", images)
    examples = open_source(str(folder / "data")).split("train")
    benches = {name: build(name, load_examples(size)) for name, size in IMAGES_A_STEP.items()}
    live = benches["bench-7M"].encoder()
    encoders = {"live": live, "cached": replace(live, features=random_features(examples, folder / "features"))}
    turns = alternate(
        {
            (name, number): lambda one=one, number=number: load_once(one, examples, workers=number)  # type: ignore[misc]
            for name, one in encoders.items()
            for number in workers
        },
        repetitions=repetitions,
    )
    rates = {name: {} for name in encoders}
    for (name, number), found in turns.items():
        rates[name][str(number)] = {"images_per_s": statistics.median(found), "turns": found}
    steps = {name: step_rates(bench, repetitions=repetitions, folder=folder / name) for name, bench in benches.items()}
    return {
        "loading": rates,
        "steps_images_per_s": steps,
        "times_faster": {
            name: {way: rates[way][str(workers[0])]["images_per_s"] / taken for way, taken in of.items()}
            for name, of in steps.items()
        },
    }


def main(arguments: list[str] | None = None) -> None:
    parser = options(__doc__, repetitions=3, out="loading.json")
    parser.add_argument("--images", type=count, default=480, help="images of an epoch (%(default)s)")
    parser.add_argument("--workers", type=int, action="append", help="numbers of worker processes (0, 1, 2)")
    given = parser.parse_args(arguments)
    load = check_load(busy_ok=given.busy_ok)
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        workers = sorted(given.workers or (0, 1, 2))
        result = measure(images=given.images, workers=workers, repetitions=given.repetitions, folder=Path(folder))
    met = all(ratio >= TARGET for ways in result["times_faster"].values() for ratio in ways.values())
    write_record(
        given.out,
        load=load,
        threads=given.threads,
        settings={"repetitions": given.repetitions, "images": given.images, "micro_batch": MICRO_BATCH},
        targets={"times_faster": TARGET, "met": met},
        **result,
    )
    for way, rates in result["loading"].items():
        shown = ", ".join(f"{number} workers {one['images_per_s']:,.0f}" for number, one in rates.items())
        print(f"{way:8} images/s: {shown}")
    for name, ways in result["times_faster"].items():
        print(f"{name}: loading is {', '.join(f'{ratio:.1f} times as fast ({way})' for way, ratio in ways.items())}")
    print(f"target ({TARGET:g} times): {'' if met else 'not '}met")
    if load.busy:
        print(f"the machine was busy (load {load.before[0]:.2f}): do not trust the times")


if __name__ == "__main__":
    main()
