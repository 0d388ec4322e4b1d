"""Speed and memory of one training step: rscap's packed batch against transformers' `Trainer`, side by side.

    python benchmarks/train_step.py [--geometry bench-7M …] [--repetitions 4] [--steps 3] [--threads N] [--busy-ok]

All train the same random weights on the same images with five captions each, in float32 with AdamW; but for the last
with the same LoRA (rank 16 on the seven linear layers of every block of the language model; the rest frozen).

rscap     `rscap.training.loop.fit`: one sequence an image, its five captions packed behind it
cached    the same, from cached vision features
trainer   `Trainer.train`, `PaliGemmaProcessor(suffix=…)` and `get_peft_model`: one sequence a caption, five an image
notebook  the same with prior work B's settings, but for its 4-bit weights: micro batches of 4, gradient checkpointing,
          rsLoRA, and a bare list of targets, which adapts the vision tower too

One step is the same captions in all ways: 4 images or 20 pairs at bench-7M, 2 or 10 at bench-49M and at bench-smol. The
last has the shape of SmolVLM2: 64 image tokens of 256 patches, a causal prefix. Beside the ratio of speeds stands
that of operations, which is what packing alone can gain: the less, the shorter the prefix. The Trainer takes its pairs
as one micro batch, or with --micro-batch as several that it accumulates.

Each repetition trains one warm-up step and --steps timed ones, one way after the other, and so on in turn. A step is
forward, backward, clipping and optimiser, without collation, which is timed apart. Before anything is timed, loss and
gradients are compared: like must be measured with like. Seconds of the processor stand beside those of the clock; with
one thread they hardly depend on what else the machine does.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import weakref
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from common import Stopwatch, Times, alternate, check_load, count, options, write_record
from rscap.model.adapters import quiet_peft, trainable_parameters
from ways import (
    RANK,
    Bench,
    build,
    collate_rscap,
    collate_trainer,
    load_examples,
    run_rscap,
    run_trainer,
    trainer_of,
    with_cached_features,
)

WAYS = ("rscap", "cached", "trainer", "notebook")
IMAGES_A_STEP = {"bench-7M": 4, "bench-49M": 2, "bench-smol": 2}
TARGETS = {"rscap": {"captions_per_s": 5.0, "bytes_kept": 4.0}, "cached": {"captions_per_s": 6.0, "bytes_kept": 4.0}}
"""Times better than the Trainer."""
SMOL_TARGETS = {"rscap": {"captions_per_s": 2.5}, "cached": {"captions_per_s": 2.5}}
"""The same at a SmolVLM2-shaped size, whose prefix is a quarter as long."""
LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-4, 1e-3


@dataclass(slots=True, eq=False, weakref_slot=True)
class Saved:
    """A tensor that autograd keeps for backward."""

    tensor: Tensor


def kept_bytes(forward: Callable[[], Tensor], net: nn.Module) -> int:
    """Bytes of the distinct storages that autograd holds for backward when `forward` ends, parameters excluded."""
    alive: weakref.WeakSet[Saved] = weakref.WeakSet()

    def pack(tensor: Tensor) -> Saved:
        alive.add(saved := Saved(tensor))
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved.tensor):
        loss = forward()
    own = {parameter.untyped_storage().data_ptr() for parameter in net.parameters()}
    storages = [saved.tensor.untyped_storage() for saved in alive]
    sizes = {storage.data_ptr(): storage.nbytes() for storage in storages}
    del loss  # until here it held the graph, and the graph what was saved
    return sum(size for address, size in sizes.items() if address not in own)


def measure_bytes(benches: dict[str, Bench]) -> dict[str, int]:
    """Bytes kept for backward by one micro batch each way, counted by the same instrument."""
    kept = {}
    for name, bench in benches.items():
        bench.packed.train()
        batch = bench.packed_batch()
        kept[name] = kept_bytes(lambda: bench.packed(batch) / batch.supervised, bench.packed)  # noqa: B023
    for name, rival in bench.rivals.items():
        inputs = bench.collate_pairs(bench.pairs()[: rival.micro_batch])
        rival.model.train()
        with trainer_of(bench, Stopwatch(), steps=1, rival=name) as trainer, quiet_peft():
            if rival.checkpointing:
                trainer.model.activation_checkpointing_enable({"use_reentrant": False})
            kept[name] = kept_bytes(lambda: trainer.compute_loss(trainer.model, dict(inputs)), rival.model)  # noqa: B023
    return kept


def compare(bench: Bench, cached: Bench) -> dict[str, Any]:
    """Loss and adapter gradients of one step, in one micro batch each, of the ways that compute the same.

    Raises:
        SystemExit: they differ, so that a comparison of speed would be one of different things.
    """
    batch, inputs = bench.packed_batch(), bench.collate_pairs(bench.pairs())
    losses, gradients = {}, {}
    for name, one in (("rscap", bench), ("cached", cached)):
        losses[name], gradients[name] = _taught(one.packed, lambda: one.packed(one.packed_batch()) / batch.supervised)  # noqa: B023
    model = bench.rivals["trainer"].model
    with trainer_of(bench, Stopwatch(), steps=1) as trainer:
        losses["trainer"], gradients["trainer"] = _taught(
            model, lambda: trainer.compute_loss(trainer.model, dict(inputs))
        )
    relative = {name: abs(losses[name] / losses["trainer"] - 1.0) for name in TARGETS}
    apart = {name: _distance(gradients[name], gradients["trainer"]) for name in TARGETS}
    for name in TARGETS:
        if not relative[name] <= LOSS_TOLERANCE or not apart[name] <= GRADIENT_TOLERANCE:
            raise SystemExit(
                f"{bench.geometry}: {name} and the Trainer do not compute the same: loss {losses[name]} and "
                f"{losses['trainer']}, gradients apart by {apart[name]:.1e} of their norm; no speed is reported"
            )
    return {
        "supervised_tokens": batch.supervised,
        "sequences": {"rscap": list(batch.tokens.shape), "trainer": list(inputs["input_ids"].shape)},
        "loss": {**losses, "relative_difference": max(relative.values())},
        "gradient_difference": max(apart.values()),
    }


def _taught(net: nn.Module, loss_of: Callable[[], Tensor]) -> tuple[float, list[Tensor | None]]:
    """The loss, and the gradients that it leaves."""
    loss = loss_of()
    loss.backward()
    gradients = [None if one.grad is None else one.grad.clone() for one in trainable_parameters(net)]
    net.zero_grad()
    return loss.item(), gradients


def _distance(ours: Iterable[Tensor | None], theirs: Iterable[Tensor | None]) -> float:
    """Norm of the difference over the norm; what has no gradient on either side counts as a difference."""
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=True)]
    if any(a is None or b is None for a, b in pairs):
        return math.inf
    apart = math.fsum(float((a - b).square().sum()) for a, b in pairs if a is not None and b is not None)
    return math.sqrt(apart / math.fsum(float(b.square().sum()) for _, b in pairs if b is not None))


def measure(bench: Bench, *, repetitions: int, steps: int, folder: Path) -> dict[str, Any]:
    """Everything about one geometry: likeness, bytes, times and their ratios. `folder` takes the cached features."""
    ours = {"rscap": bench, "cached": with_cached_features(bench, folder)}
    alike, kept = compare(bench, ours["cached"]), measure_bytes(ours)
    times = alternate(
        {
            **{name: partial(run_rscap, one, steps=steps) for name, one in ours.items()},
            **{name: partial(run_trainer, bench, steps=steps, rival=name) for name in bench.rivals},
        },
        repetitions=repetitions,
    )
    collation = alternate(
        {
            **{name: partial(collate_rscap, one) for name, one in ours.items()},
            **{name: partial(collate_trainer, bench, rival=name) for name in bench.rivals},
        },
        repetitions=repetitions,
    )
    ways = {name: summary(bench, times[name], collation[name]) | {"bytes_kept": kept[name]} for name in times}
    return {
        "geometry": bench.geometry,
        "parameters": sum(parameter.numel() for parameter in bench.packed.parameters()),
        "learning": sum(parameter.numel() for parameter in trainable_parameters(bench.packed)),
        "images_a_step": len(bench.examples),
        "captions_a_step": bench.captions,
        "trainer_micro_batch": bench.rivals["trainer"].micro_batch,
        "operations": operations(ours),
        **alike,
        **ways,
        "ratios": {name: ratios(ways[name], ways["trainer"]) for name in TARGETS},
        "against_notebook": {name: ratios(ways[name], ways["notebook"]) for name in TARGETS},
    }


def operations(benches: dict[str, Bench]) -> dict[str, float]:
    """Floating point operations of the products of one step, forward and backward, as torch counts them."""
    bench, found = benches["rscap"], {}
    model, inputs = bench.rivals["trainer"].model, bench.collate_pairs(bench.pairs())
    ways = {name: (lambda one=one: one.packed(one.packed_batch())) for name, one in benches.items()}
    for name, loss_of in {**ways, "trainer": lambda: model(**inputs).loss}.items():
        with FlopCounterMode(display=False) as counter:
            loss_of().backward()
        found[name] = float(counter.get_total_flops())
    for net in (bench.packed, model):
        net.zero_grad()
    return found


def summary(bench: Bench, steps: list[Times], collation: list[Times]) -> dict[str, Any]:
    """Medians over all timed steps, rates, and every time they come from, in seconds."""
    step = statistics.median(second for repetition in steps for second in repetition.wall)
    collate = statistics.median(second for repetition in collation for second in repetition.wall)
    return {
        "step_s": step,
        "step_cpu_s": statistics.median(second for repetition in steps for second in repetition.cpu),
        "collation_s": collate,
        "captions_per_s": bench.captions / step,
        "images_per_s": len(bench.examples) / step,
        "captions_per_s_with_collation": bench.captions / (step + collate),
        "steps": [asdict(repetition) for repetition in steps],
        "collations": [asdict(repetition) for repetition in collation],
    }


def ratios(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """How many times faster we are, and how many times fewer bytes we keep; the first also turn by turn."""
    faster = ("captions_per_s", "images_per_s", "captions_per_s_with_collation")
    fewer = ("step_cpu_s", "collation_s", "bytes_kept")
    turns = zip(ours["steps"], theirs["steps"], strict=True)
    return {
        **{name: ours[name] / theirs[name] for name in faster},
        **{name: theirs[name] / ours[name] for name in fewer},
        "step_s_by_repetition": [statistics.median(b["wall"]) / statistics.median(a["wall"]) for a, b in turns],
    }


def _targets(geometry: str) -> dict[str, dict[str, float]]:
    return SMOL_TARGETS if "smol" in geometry else TARGETS


def table(geometries: dict[str, Any]) -> str:
    """The result for the screen: a line a way, and the ratios."""
    lines = [f"{'':20}{'step s':>9}{'cpu s':>9}{'captions/s':>12}{'images/s':>10}{'collation s':>13}{'MiB kept':>10}"]
    for geometry, result in geometries.items():
        for way in WAYS:
            one = result[way]
            rates = f"{one['captions_per_s']:12.2f}{one['images_per_s']:10.2f}"
            rest = f"{one['collation_s']:13.3f}{one['bytes_kept'] / 2**20:10.1f}"
            lines.append(f"{geometry + ' ' + way:20}{one['step_s']:9.3f}{one['step_cpu_s']:9.3f}{rates}{rest}")
        for way, ratio in result["ratios"].items():
            turns, notebook = ratio["step_s_by_repetition"], result["against_notebook"][way]
            bound = result["operations"]["trainer"] / result["operations"][way]
            lines.append(
                f"{geometry} {way}: {ratio['captions_per_s']:.2f} times the captions/s of the Trainer, which computes "
                f"{bound:.2f} times the operations (by turn "
                f"{min(turns):.2f} to {max(turns):.2f}; {ratio['captions_per_s_with_collation']:.2f} with collation; "
                f"processor seconds {ratio['step_cpu_s']:.2f}), {ratio['bytes_kept']:.2f} times fewer bytes; "
                f"{notebook['captions_per_s']:.2f} times the captions/s of the notebook"
            )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = options(__doc__, repetitions=4, out="train_step.json")
    parser.add_argument("--geometry", choices=IMAGES_A_STEP, action="append", help="one or several; all when left out")
    parser.add_argument("--steps", type=count, default=3, help="timed steps a repetition (%(default)s)")
    parser.add_argument("--micro-batch", type=count, help="captions in a micro batch of the Trainer; all when left out")
    given = parser.parse_args(arguments)
    load = check_load(busy_ok=given.busy_ok)
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    results = {}
    for geometry in given.geometry or IMAGES_A_STEP:
        bench = build(geometry, load_examples(IMAGES_A_STEP[geometry]), micro_batch=given.micro_batch)
        with tempfile.TemporaryDirectory() as folder:
            results[geometry] = measure(bench, repetitions=given.repetitions, steps=given.steps, folder=Path(folder))
    met = all(
        one["ratios"][way][name] >= target
        for one in results.values()
        for way, targets in _targets(one["geometry"]).items()
        for name, target in targets.items()
    )
    write_record(
        given.out,
        load=load,
        threads=torch.get_num_threads(),
        settings={"repetitions": given.repetitions, "steps": given.steps, "rank": RANK, "dtype": "float32"},
        targets={"times_better_than_the_trainer": {name: _targets(name) for name in results}, "met": met},
        geometries=results,
    )
    print(table(results))
    wanted = "; ".join(
        f"{geometry} {way}: {', '.join(f'{name} {value:g}x' for name, value in targets.items())}"
        for geometry in results
        for way, targets in _targets(geometry).items()
    )
    print(f"targets ({wanted}): {'' if met else 'not '}met")
    if load.busy:
        print(f"the machine was busy (load {load.before[0]:.2f}): do not trust the times")


if __name__ == "__main__":
    main()
