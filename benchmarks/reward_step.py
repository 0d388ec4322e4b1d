"""What an update on a reward costs beside one of likelihood, of the same images with as many captions.

    python benchmarks/reward_step.py [--run RUN] [--source FOLDER] [--images 16] [--samples 2 5 10] [--repetitions 5]

Both learn K captions an image, one K references, the other K drawn captions; the second also draws and scores them. All
weights of nano learn, in bfloat16, on one thread. Times are of this process's own work, so that other processes on the
machine change them little; the operations are those of matrix products, as torch counts them. A second reward gives
every drawn caption another value, so that each has a weight and is learned: the dearest case. CIDEr alone leaves out
captions that are as good as the others of their image, of an untrained model nearly all.

--run names a finished run of nano with all weights trained, whose captions are as long as people's; else nano is as it
ships. Beside both stands what `rscap plan` predicts, which does not know the captions.
"""

from __future__ import annotations

import argparse
import statistics
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from common import RESULTS, environment
from rscap.captioner.batch import Batch, Encoder
from rscap.data import open_source
from rscap.model.adapters import prepare
from rscap.model.load import load_base
from rscap.model.packed import PackedModel
from rscap.planning.cards import Card
from rscap.planning.drawing import drawing
from rscap.planning.search import Candidate, Situation
from rscap.planning.sequence import lengths
from rscap.planning.shapes import shapes_of_base
from rscap.recipe import Recipe, parse_recipe
from rscap.records import Example
from rscap.store import write_json
from rscap.training.objectives.likelihood import Likelihood, Objective
from rscap.training.objectives.self_critical import SelfCritical
from rscap.training.start import Start
from rscap.training.team import Team
from rscap.training.updates import updates

TRAINED = {"vision_tower": "trained", "projector": "trained", "language_model": "trained"}


def different(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """A reward that no two captions share."""
    return [(zlib.crc32(caption.encode()) % 10_007) / 10_007 for caption in captions]


def examples_of(source: str, count: int, captions: int) -> list[Example]:
    """Images with exactly `captions` references; those they have, again from the first where they have fewer."""
    chosen = open_source(source).subset("train", count, 0)
    return [
        replace(one, captions=tuple(one.captions[place % len(one.captions)] for place in range(captions)))
        for one in chosen
    ]


def step(packed: PackedModel, objective: Objective, batches: list[Batch], number: int) -> None:
    """One update's gradients."""
    packed.zero_grad(set_to_none=True)
    work = objective(batches, step=number)
    for batch in work.batches:
        (packed(batch) / work.divisor).backward()


def measured(run: Callable[[int], None], repetitions: int) -> dict[str, float]:
    """Seconds of this process's own work, the median, and floating-point operations of matrix products."""
    run(1)
    seconds = []
    for number in range(2, 2 + repetitions):
        began = time.process_time()
        run(number)
        seconds.append(time.process_time() - began)
    with FlopCounterMode(display=False) as counter:
        run(2)
    return {"seconds": statistics.median(seconds), "flop": counter.get_total_flops()}


def predicted(made: Recipe) -> dict[str, float]:
    """The ratios as `rscap plan` has them, with references in place of captions that are not known."""
    shapes = shapes_of_base("nano")
    rows, card = lengths(made, shapes=shapes), Card(name="any", bytes=0, tflops=1.0, bytes_per_s=1.0, device="cpu")
    candidate = Candidate(recipe=made, situation=Situation(shapes=shapes, rows=rows, card=card))
    all_operations, drawn = candidate.duration.operations_per_image, drawing(shapes, candidate.setting, rows).total
    return {"seconds": 1 / (1 - candidate.drawing_share), "flop": all_operations / (all_operations - drawn)}


def case(source: str, run: str | None, images: int, samples: int, repetitions: int) -> dict[str, Any]:
    """Both ways with K captions an image, and their ratios."""
    made = parse_recipe(
        {
            "data": {"source": source, "train_limit": images},
            "model": {"base": "nano", "dtype": "bfloat16", **({"start": run} if run else {})},
            "towers": TRAINED,
            "objective": {"samples": samples, "reward": {"CIDEr": 1.0, "reward_step:different": 0.1}},
            "train": {"micro_batch": images},
            "generate": {"max_new_tokens": 40},
        }
    )
    examples, team = examples_of(source, images, samples), Team(torch.device("cpu"))
    base = load_base(made.model)
    net = prepare(base.model, made.towers, None, seed=0)
    if (start := Start.of(made)) is not None:
        start.fill(net)
    packed, encoder = PackedModel(net, compute_dtype=base.compute_dtype), Encoder.of(base)
    packed.train()
    batches = next(updates(examples, made, encoder))
    ways: dict[str, Objective] = {
        "likelihood": Likelihood(team),
        "reward": SelfCritical.of(packed, encoder, made, team, examples, examples),
    }
    found = {
        name: measured(lambda number, way=way: step(packed, way, batches, number), repetitions)  # type: ignore[misc]
        for name, way in ways.items()
    }
    ratios = {unit: found["reward"][unit] / found["likelihood"][unit] for unit in ("seconds", "flop")}
    return {"samples": samples, **found, "ratio": ratios, "predicted": predicted(made)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run")
    parser.add_argument("--source", default="sample")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--samples", type=int, nargs="+", default=[2, 5, 10])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS / "reward_step.json")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    cases = [case(asked.source, asked.run, asked.images, samples, asked.repetitions) for samples in asked.samples]
    for one in cases:
        print(
            f"K = {one['samples']:2}: likelihood {one['likelihood']['seconds']:.2f} s, reward "
            f"{one['reward']['seconds']:.2f} s, {one['ratio']['seconds']:.2f} times; operations "
            f"{one['ratio']['flop']:.2f} times; predicted {one['predicted']['seconds']:.2f} and "
            f"{one['predicted']['flop']:.2f}"
        )
    about = {"source": Path(asked.source).name, "trained": asked.run is not None, "images": asked.images}
    write_json(asked.out, {**environment(threads=1), **about, "cases": cases})


if __name__ == "__main__":
    main()
