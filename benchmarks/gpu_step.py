"""A training step on a GPU, at PaliGemma-3B's true geometry with random weights: speed, memory, and where time goes.

    python benchmarks/gpu_step.py [--seconds 480] [--geometry paligemma-3b] [--profile-rows 30]
    python benchmarks/gpu_step.py --device cpu --geometry nano2 --seconds 20        # to try the program

A step is forward, backward, clipping and fused AdamW over the adapters of `recipes/risc-fast.toml` (LoRA of rank 16 on
the language model), on batches that lie on the device: 224 pixels, 256 image tokens, five captions of 12 to 20 tokens.
Cases run in the order of `cases` until the seconds are spent; the record is written after each, so that a command that
is cut off leaves what it had. What does not fit in memory, or fails, is recorded as such.

`captions_per_s`, `images_per_s`   from the median of the timed steps, between two synchronisations
`tflops`            operations that the model needs (`rscap.planning.time`) a second; with checkpointing those that are
                    computed twice count as well; `share_of_peak` is over `peak_tflops`, a product of two square
                    matrices in the same precision, measured first
`peak_bytes`        the most that torch's allocator gave out in a timed step

Needs what `pip install rscap[train]` installs, and nothing from the network.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import PaliGemmaForConditionalGeneration

from common import RESULTS, Load, check_load, count, options, write_record
from peaks import micro_batch
from rscap.captioner.batch import Batch
from rscap.model.adapters import prepare, trainable_parameters
from rscap.model.geometry import paligemma_config
from rscap.model.packed import PackedModel
from rscap.model.precision import quantise
from rscap.planning.setting import Setting
from rscap.planning.shapes import shapes_of
from rscap.planning.time import operations
from rscap.recipe import Recipe, parse_recipe
from rscap.training.optimiser import build_optimiser

WARM_UP, TIMED, ENOUGH_S = 3, 10, 6.0
"""Steps before timing; steps that are timed, or fewer if they take this long."""

TARGETS = {"none": 400.0, "nf4": 200.0}
"""Captions/s on an H200, by quantisation."""
SHARE_TARGET = 0.40


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One way to train."""

    geometry: str
    quantisation: str = "none"
    micro_batch: int = 8
    checkpointing: bool = False
    cached: bool = False
    attention: str = "plain"
    compiled: bool = False
    """The language model's layers through torch.compile: to see whether it would pay."""
    profiled: bool = False

    @property
    def name(self) -> str:
        words = [self.geometry, "nf4" if self.quantisation == "nf4" else "bf16", f"micro batch {self.micro_batch}"]
        words += ["checkpointing"] * self.checkpointing + ["cached features"] * self.cached
        words += [self.attention] * (self.attention != "plain") + ["compiled"] * self.compiled
        return ", ".join(words)

    def recipe(self) -> Recipe:
        return parse_recipe(
            {
                "data": {"source": "sample", "captions": "all"},
                "model": {
                    "base": "nano",
                    "dtype": "bfloat16",
                    "quantisation": self.quantisation,
                    "attention": self.attention,
                },
                "adapter": {"rank": 16, "alpha": 32, "rank_stabilised": True},
                "train": {
                    "micro_batch": self.micro_batch,
                    "gradient_checkpointing": self.checkpointing,
                    "cache_features": self.cached,
                },
            }
        )


def cases(geometry: str) -> Iterator[Case]:
    """What matters most comes first; cases of one model stand together, since making one takes a while."""
    plain = Case(geometry=geometry)
    yield replace(plain, profiled=True)
    yield replace(plain, cached=True)
    for size in (16, 32, 1, 4):
        yield replace(plain, micro_batch=size)
    yield replace(plain, micro_batch=32, checkpointing=True)
    yield replace(plain, micro_batch=1, checkpointing=True)
    quantised = replace(plain, quantisation="nf4")
    yield replace(quantised, profiled=True)
    yield replace(quantised, micro_batch=16, checkpointing=True)
    yield replace(quantised, micro_batch=1, checkpointing=True)
    if geometry == "paligemma-3b":
        capped = replace(plain, geometry="paligemma2-3b")
        yield capped
        yield replace(capped, attention="flex")
        yield replace(capped, checkpointing=True, micro_batch=16)
        yield replace(capped, checkpointing=True, micro_batch=16, attention="flex")
    yield replace(plain, attention="flex")
    yield replace(plain, compiled=True)


def captioner_of(case: Case, device: torch.device) -> PackedModel:
    """Random weights, made on the device, quantised and adapted as the case says."""
    recipe = case.recipe()
    config = paligemma_config(case.geometry)
    torch.manual_seed(0)
    with torch.device(device):
        model = PaliGemmaForConditionalGeneration._from_config(config, dtype=torch.bfloat16)
    if case.quantisation != "none":
        quantise(model, recipe.model)
    net = prepare(model, recipe.towers, recipe.adapter, seed=0, model=recipe.model)
    packed = PackedModel(net.to(device), compute_dtype=torch.bfloat16)
    if case.checkpointing:
        packed.checkpoint_activations()
    packed.choose_attention(recipe.model.attention, checkpointed=case.checkpointing)
    if case.compiled:
        for layer in packed.paligemma.model.language_model.layers[:-1]:
            layer.compile(dynamic=True)
    return packed.train()


def batch_of(case: Case, packed: PackedModel) -> Batch:
    """Images and captions on the device; features in place of pixels where the case caches them."""
    batch = micro_batch(packed.paligemma, case.micro_batch).to(packed.device)
    if not case.cached:
        return batch
    with torch.no_grad(), packed.autocast():
        seen = packed.seen(batch.pixel_values).to(packed.compute_dtype)
    return replace(batch, features=seen, pixel_values=torch.empty(0))


@dataclass(slots=True)
class Stepper:
    """Trains on one batch again and again."""

    packed: PackedModel
    batch: Batch
    optimiser: torch.optim.Optimizer

    @classmethod
    def of(cls, case: Case, packed: PackedModel) -> Stepper:
        return cls(packed, batch_of(case, packed), build_optimiser(packed.net, case.recipe()))

    def step(self) -> None:
        loss = self.packed(self.batch) / self.batch.supervised
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable_parameters(self.packed), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)

    def timed(self) -> float:
        """Seconds of a step, between two moments at which the device has nothing to do."""
        synchronise(self.packed.device)
        began = time.perf_counter()
        self.step()
        synchronise(self.packed.device)
        return time.perf_counter() - began


def measure(case: Case, device: torch.device, *, peak_tflops: float, rows: int) -> dict[str, Any]:
    """Everything about one case."""
    began = time.perf_counter()
    stepper = Stepper.of(case, captioner_of(case, device))
    made = time.perf_counter() - began
    for _ in range(WARM_UP):
        stepper.timed()
    warm = time.perf_counter() - began - made
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    times: list[float] = []
    while len(times) < TIMED and (sum(times) < ENOUGH_S or len(times) < 3):
        times.append(stepper.timed())
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else None
    step, batch = statistics.median(times), stepper.batch
    work = operations(
        shapes_of(stepper.packed.paligemma.config, name=case.geometry),
        Setting(case.recipe(), device="cuda"),
        tokens=batch.tokens.shape[1],
        supervised=batch.supervised / batch.images,
    ).total
    tflops = work * batch.images / step / 1e12
    return {
        "step_s": step,
        "captions_per_s": batch.captions / step,
        "images_per_s": batch.images / step,
        "tokens": list(batch.tokens.shape),
        "supervised": batch.supervised,
        "tflop_an_image": work / 1e12,
        "tflops": tflops,
        "share_of_peak": tflops / peak_tflops,
        "peak_bytes": peak,
        "making_s": made,
        "warm_up_s": warm,
        "steps": times,
        "profile": profiled(stepper, rows=rows) if case.profiled else None,
    }


def profiled(stepper: Stepper, *, rows: int) -> str:
    """torch.profiler's table of one step, what takes longest first."""
    on_gpu = stepper.packed.device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as recorded:
        stepper.timed()
    by = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    return recorded.key_averages().table(sort_by=by, row_limit=rows, max_name_column_width=80)


def matrix_peak(device: torch.device, *, side: int) -> float:
    """TFLOP/s of a product of two bfloat16 matrices of `side` x `side`: the best of some runs."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = 0.0
    for _ in range(5):
        synchronise(device)
        began = time.perf_counter()
        for _ in range(5):
            a @ b
        synchronise(device)
        best = max(best, 5 * 2 * side**3 / (time.perf_counter() - began) / 1e12)
    return best


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def attempt(case: Case, device: torch.device, *, peak_tflops: float, rows: int) -> dict[str, Any]:
    """A case, or why there is no figure of it: the cases after it are measured all the same."""
    try:
        result = measure(case, device, peak_tflops=peak_tflops, rows=rows)
    except torch.OutOfMemoryError:
        result = {"failed": "out of memory"}
    except Exception as error:
        result = {"failed": f"{type(error).__name__}: {error}"[:500]}
    torch.compiler.reset()
    gc.collect()  # a model is full of circles
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return {"case": asdict(case), **result}


def report(name: str, result: dict[str, Any]) -> str:
    if "failed" in result:
        return f"{name:70} {result['failed']}"
    memory = f"{result['peak_bytes'] / 2**30:6.1f} GiB" if result["peak_bytes"] else ""
    return (
        f"{name:70}{result['captions_per_s']:8.1f} captions/s{result['images_per_s']:8.1f} images/s"
        f"{result['tflops']:8.1f} TFLOP/s{100 * result['share_of_peak']:6.1f} % of peak {memory}"
    )


def write(
    out: Path, *, load: Load, device: torch.device, peak: float, results: dict[str, Any], left: list[str]
) -> None:
    """The record so far."""
    met = {
        quantisation: max(
            (one.get("captions_per_s", 0.0) for one in results.values() if one["case"]["quantisation"] == quantisation),
            default=0.0,
        )
        >= target
        for quantisation, target in TARGETS.items()
    }
    shares = [one["share_of_peak"] for one in results.values() if "share_of_peak" in one]
    write_record(
        out,
        load=load,
        threads=torch.get_num_threads(),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        device_bytes=torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None,
        peak_tflops=peak,
        targets={"captions_per_s": TARGETS, "share_of_peak": SHARE_TARGET, "met": met}
        | {"share_met": bool(shares) and max(shares) >= SHARE_TARGET},
        cases=results,
        not_run=left,
    )


def main(arguments: list[str] | None = None) -> None:
    parser = options(__doc__, repetitions=1, out="gpu_step.json")
    parser.add_argument("--device", default="cuda", help="%(default)s")
    parser.add_argument("--geometry", default="paligemma-3b", help="%(default)s")
    parser.add_argument("--seconds", type=count, default=480, help="begin no case after so many (%(default)s)")
    parser.add_argument("--profile-rows", type=count, default=30, help="rows of the profiles (%(default)s)")
    given = parser.parse_args(arguments)
    began, device = time.perf_counter(), torch.device(given.device)
    if device.type != "cuda" and given.out == RESULTS / "gpu_step.json":
        parser.error("the committed record is of a GPU: name another file with --out")
    load = check_load(busy_ok=given.busy_ok or device.type == "cuda")
    torch.set_num_threads(given.threads)
    peak = matrix_peak(device, side=8192 if device.type == "cuda" else 256)
    print(f"peak: {peak:.1f} TFLOP/s in bfloat16", flush=True)
    results: dict[str, Any] = {}
    wanted = list(cases(given.geometry))
    for number, case in enumerate(wanted):
        if time.perf_counter() - began > given.seconds:
            break
        results[case.name] = attempt(case, device, peak_tflops=peak, rows=given.profile_rows)
        left = [one.name for one in wanted[number + 1 :]]
        write(given.out, load=load, device=device, peak=peak, results=results, left=left)
        print(report(case.name, results[case.name]), flush=True)
    for name, result in results.items():
        if result.get("profile"):
            print(f"\n{name}\n{result['profile']}")


if __name__ == "__main__":
    main()
