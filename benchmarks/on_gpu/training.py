"""Training steps: time, memory, kernels, beside what `rscap.planning` predicts of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from on_gpu.compiler import Compiler
from on_gpu.machine import Machine
from on_gpu.models import Models, Wanted
from on_gpu.timing import kernels, repeated
from on_gpu.variations import VARIATIONS
from peaks import SUFFIXES, micro_batch
from rscap.captioner.batch import Batch
from rscap.model.adapters import trainable_parameters
from rscap.model.packed import PackedModel
from rscap.planning.parameters import Device, Setting
from rscap.planning.search import Candidate, Situation
from rscap.planning.sequence import Lengths
from rscap.planning.shapes import shapes_of
from rscap.planning.time import operations
from rscap.recipe import Recipe
from rscap.training.optimiser import build_optimiser, build_scaler

WARM, TIMED, ENOUGH_S = 3, 10, 3.0
"""Steps before timing; steps that are timed, or fewer if they take this long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One way to train."""

    kind: ClassVar[str] = "training"

    geometry: str
    precision: str = "bf16"
    micro_batch: int = 8
    checkpointing: bool = False
    cached: bool = False
    attention: str = "plain"
    variations: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        words = ["training", self.geometry, self.precision, f"micro batch {self.micro_batch}"]
        words += ["checkpointing"] * self.checkpointing + ["cached features"] * self.cached
        words += [self.attention] * (self.attention != "plain") + [*self.variations]
        return ", ".join(words)

    @property
    def wanted(self) -> Wanted:
        return Wanted(
            geometry=self.geometry,
            precision=self.precision,
            checkpointing=self.checkpointing,
            attention=self.attention,
        )

    @property
    def recipe(self) -> Recipe:
        return self.wanted.recipe(micro_batch=self.micro_batch, cached=self.cached)

    def measure(self, models: Models, machine: Machine) -> dict[str, Any]:
        """Everything about this case."""
        packed = models.get(self.wanted)
        stepper = Stepper.of(packed, self.recipe, cached=self.cached)
        plain = [stepper.gradients() for _ in range(2)] if self.variations else None
        began = time.perf_counter()
        with ExitStack() as stack, Compiler() as compiler:
            for one in self.variations:
                stack.enter_context(VARIATIONS[one](packed))
            now = stepper.gradients() if self.variations else None
            for _ in range(WARM):
                stepper.step()
            warm_up = time.perf_counter() - began
            measured = _measure(stepper, machine.device)
            if plain is not None and now is not None:
                first, second = plain
                measured |= {"gradients_apart": apart(now, first), "gradients_repeated_apart": apart(second, first)}
        prediction = predicted(self.recipe, packed, stepper.batch, machine, name=self.geometry)
        work = prediction["tflop_an_image"] * stepper.batch.images
        return {
            "geometry": self.geometry,
            "precision": self.precision,
            "cached": self.cached,
            "tokens": list(stepper.batch.tokens.shape),
            "supervised": stepper.batch.supervised,
            "captions_per_s": stepper.batch.captions / measured["step_s"],
            "images_per_s": stepper.batch.images / measured["step_s"],
            "tflops": work / measured["step_s"],
            "share_of_peak": work / measured["step_s"] / machine.peak_tflops,
            **measured,
            "predicted": prediction,
            "warm_up_s": warm_up,
            "compiler": compiler.describe(),
        }

    def line(self, result: dict[str, Any]) -> str:
        plan, did = result["predicted"], result["launched"]
        words = [
            f"{result['images_per_s']:.1f} images/s (plan {plan['images_per_s']:.1f})",
            f"{result['captions_per_s']:.0f} captions/s",
            f"{100 * result['share_of_peak']:.1f} % of peak",
        ]
        if result["allocated_bytes"]:
            words += [
                f"{result['allocated_bytes'] / 2**30:.1f} GiB (plan {plan['allocated_bytes'] / 2**30:.1f})",
                f"{result['reserved_bytes'] / 2**30:.1f} reserved (plan {plan['reserved_bytes'] / 2**30:.1f})",
            ]
        if did:
            words += [f"{did['kernels']:,} kernels", f"busy {100 * did['busy_s'] / result['step_s']:.0f} %"]
        if "gradients_apart" in result:
            words.append(
                f"gradients apart {result['gradients_apart']:.1e} (two plain passes "
                f"{result['gradients_repeated_apart']:.1e})"
            )
        return ", ".join(words)


def _measure(stepper: Stepper, device: torch.device) -> dict[str, Any]:
    """Time, memory and kernels of steps that are warm."""
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    times = repeated(stepper.step, device, warm=1, timed=TIMED, enough_s=ENOUGH_S)
    return {
        "step_s": statistics.median(times),
        "steps": times,
        "allocated_bytes": torch.cuda.max_memory_allocated() if on_gpu else None,
        "reserved_bytes": torch.cuda.max_memory_reserved() if on_gpu else None,
        "launched": kernels(stepper.step, device),
    }


@dataclass(slots=True)
class Stepper:
    """Trains on one batch again and again, as `rscap train` does: forward, backward, clipping, fused AdamW."""

    packed: PackedModel
    batch: Batch
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler

    @classmethod
    def of(
        cls, packed: PackedModel, recipe: Recipe, *, cached: bool = False, suffixes: Sequence[int] = SUFFIXES
    ) -> Stepper:
        return cls(
            packed,
            batch_of(packed, recipe.train.micro_batch, cached=cached, suffixes=suffixes),
            build_optimiser(packed.net, recipe),
            build_scaler(packed.device, packed.compute_dtype),
        )

    def step(self) -> None:
        loss = self.packed(self.batch) / self.batch.supervised
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimiser)
        torch.nn.utils.clip_grad_norm_(trainable_parameters(self.packed), 1.0)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.optimiser.zero_grad(set_to_none=True)

    def gradients(self) -> list[Tensor]:
        return gradients(self.packed, self.batch)


def batch_of(packed: PackedModel, images: int, *, cached: bool = False, suffixes: Sequence[int] = SUFFIXES) -> Batch:
    """Images and captions on the device; features in place of pixels where they are cached."""
    batch = micro_batch(packed.bare, images, suffixes).to(packed.device)
    if not cached:
        return batch
    with torch.no_grad(), packed.autocast():
        seen = packed.seen(batch.pixel_values).to(packed.compute_dtype)
    return replace(batch, features=seen, pixel_values=torch.empty(0))


def gradients(packed: PackedModel, batch: Batch) -> list[Tensor]:
    """Of the mean loss, for everything that learns; none are left behind."""
    parameters = list(trainable_parameters(packed))
    loss = packed(batch) / batch.supervised
    return list(torch.autograd.grad(loss, parameters))


def apart(found: Sequence[Tensor], reference: Sequence[Tensor]) -> float:
    """Norm of the difference over the norm of the reference; 0 only where every number is the same."""
    difference = sum((a.double() - b.double()).square().sum() for a, b in zip(found, reference, strict=True))
    return (difference / sum(b.double().square().sum() for b in reference)).sqrt().item()  # type: ignore[union-attr]


def predicted(recipe: Recipe, packed: PackedModel, batch: Batch, machine: Machine, *, name: str) -> dict[str, Any]:
    """What `rscap plan` says of this batch on this card. It knows nothing of variations."""
    shapes = shapes_of(packed.bare.config, name=name)
    tokens, supervised = batch.tokens.shape[1], batch.supervised / batch.images
    rows = Lengths(
        prefix=tokens,
        mean_tokens=tokens,
        longest_tokens=tokens,
        mean_supervised=supervised,
        longest_supervised=round(supervised),
        captions=batch.captions / batch.images,
        images=None,
        origin="this batch",
    )
    one = Candidate(recipe=recipe, situation=Situation(shapes=shapes, rows=rows, card=machine.card))
    device: Device = "cuda" if machine.device.type == "cuda" else "cpu"
    work = operations(shapes, Setting(recipe, device), tokens=tokens, supervised=supervised).total
    return {
        "card": machine.card.name,
        "images_per_s": one.duration.images_per_s,
        "basis": one.duration.basis,
        "allocated_bytes": one.memory.total,
        "reserved_bytes": one.needed - machine.card.overhead,
        "context_bytes": machine.card.overhead,
        "tflop_an_image": work / 1e12,
    }
