"""Captions of 16 tokens, greedy, with an adapter in each form that it can have."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from on_gpu.graphs import graphed
from on_gpu.machine import Machine
from on_gpu.models import Models, Wanted, adapted, random_model
from on_gpu.timing import dispatched, kernels, repeated, seconds
from on_gpu.variations import with_cudnn
from peaks import micro_batch
from rscap.captioner.decoding import decode
from rscap.model.decoding import prefill, step
from rscap.model.packed import PackedModel
from rscap.planning.parameters import Setting
from rscap.planning.shapes import shapes_of
from rscap.planning.timeline import generation_moving

TOKENS, NEVER = 16, -1
"""Tokens of a caption; the id that ends one, which no token has."""

FLOAT32 = "float32 adapter"
"""What rscap decodes with, and what the other forms are compared with."""

Logits = tuple[Tensor, Tensor]
"""Of the first token, and of the second, the first being the same for all forms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """Every form of a model's adapter at every number of images."""

    kind: ClassVar[str] = "decoding"

    geometry: str
    precision: str = "bf16"
    images: tuple[int, ...] = (32, 128)
    cudnn: bool = False
    """Whether cuDNN's attention may be taken."""

    @property
    def name(self) -> str:
        return f"decoding, {self.geometry}, {self.precision}" + ", cuDNN's attention" * self.cudnn

    @property
    def wanted(self) -> Wanted:
        return Wanted(geometry=self.geometry, precision=self.precision)

    def measure(self, models: Models, machine: Machine) -> dict[str, Any]:
        """Forms one after another, on one model; one that fails costs no other its figures."""
        models.drop()
        found: dict[str, Any] = {}
        logits: dict[int, Logits] = {}
        for form, packed in self._forms(machine.device):
            for images in self.images:
                with with_cudnn(packed) if self.cudnn else nullcontext():
                    try:
                        one = self._measure(packed, images, machine, logits, form)
                    except Exception as error:
                        one = {"failed": f"{type(error).__name__}: {error}"[:500]}
                found[f"{form}, {images} images"] = one
        return {"geometry": self.geometry, "precision": self.precision, "forms": found}

    def _forms(self, device: torch.device) -> Iterator[tuple[str, PackedModel]]:
        model = random_model(self.wanted, device)
        yield "no adapter", PackedModel(model, compute_dtype=self.wanted.dtype).eval()
        net: Any = adapted(model, self.wanted, device).requires_grad_(False)
        packed = PackedModel(net, compute_dtype=self.wanted.dtype).eval()
        yield FLOAT32, packed
        with packed.held_for_captions():
            yield "16-bit adapter", packed
        if self.precision != "nf4":
            yield "merged", PackedModel(net.merge_and_unload(), compute_dtype=self.wanted.dtype).eval()

    def _measure(
        self, packed: PackedModel, images: int, machine: Machine, logits: dict[int, Logits], form: str
    ) -> dict[str, Any]:
        device, on_gpu = machine.device, machine.device.type == "cuda"
        batch = micro_batch(packed.bare, images, suffixes=()).to(device)

        def captions(length: int) -> None:
            settings = self.wanted.recipe(decoded=images, length=length).generate
            decode(packed, batch, settings=settings, eos=NEVER)

        cold = seconds(lambda: captions(TOKENS), device)
        first = statistics.median(repeated(lambda: captions(1), device, warm=1, timed=3, enough_s=1.0))
        before = torch.cuda.memory_allocated() if on_gpu else 0
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        whole = statistics.median(repeated(lambda: captions(TOKENS), device, warm=1, timed=3, enough_s=1.0))
        peak = torch.cuda.max_memory_allocated() - before if on_gpu else None
        setting = Setting(self.wanted.recipe(decoded=images, length=TOKENS), "cuda" if on_gpu else "cpu")
        shapes = shapes_of(packed.bare.config, name=self.geometry)
        return {
            "cold_s": cold,
            "first_token_s": first,
            "step_s": (whole - first) / (TOKENS - 1),
            "images_per_s": images / whole,
            "moving_bytes": peak,
            "predicted": {"moving_bytes": generation_moving(shapes, setting, prefix=batch.tokens.shape[1])},
            **_one_step(packed, batch, logits, images, form),
            "graph": graphed(packed, batch) if on_gpu else None,
        }

    def line(self, result: dict[str, Any]) -> str:
        return "".join(f"\n    {name:32}{_line(one)}" for name, one in result["forms"].items())


def _line(one: dict[str, Any]) -> str:
    if "failed" in one:
        return str(one["failed"])
    words = [
        f"{one['images_per_s']:.1f} images/s",
        f"prefix {1e3 * one['first_token_s']:.1f} ms",
        f"step {1e3 * one['step_s']:.2f} ms",
        f"at first {one['cold_s']:.2f} s",
        f"{one['dispatched']:,} operations",
    ]
    if one["launched"]:
        did = one["launched"]
        words += [f"{did['kernels']:,} kernels", f"busy {1e3 * did['busy_s']:.2f} ms"]
        moving = one["predicted"]["moving_bytes"]
        words.append(f"{one['moving_bytes'] / 2**30:.2f} GiB moving (plan {moving / 2**30:.2f})")
    if one["logits_apart"] is not None:
        words.append(f"logits apart {one['logits_apart']:.1e}")
    if one["graph"]:
        graph = one["graph"]
        words.append(
            f"as a graph {1e3 * graph['step_s']:.2f} ms, {100 * graph['same_tokens']:.0f} % of tokens the same"
            if "step_s" in graph
            else f"as a graph: {graph['failed']}"
        )
    return ", ".join(words)


@torch.no_grad()  # inference mode would hide casts among the views
def _one_step(packed: PackedModel, batch: Any, logits: dict[int, Logits], images: int, form: str) -> dict[str, Any]:
    """Operations and kernels of a decoding step alone, and how far its logits are from those of the float32 adapter."""
    first, state = prefill(packed, batch, room=4)
    tokens = torch.arange(10, 10 + images, device=packed.device).unsqueeze(1)
    second = step(packed, tokens, state)
    if form == FLOAT32:
        logits[images] = first, second
    distance = None
    if images in logits:
        distance = max(
            (one - other).abs().max().item() for one, other in zip((first, second), logits[images], strict=True)
        )
    return {
        "logits_apart": distance,
        "dispatched": dispatched(lambda: step(packed, tokens, state)),
        "launched": kernels(lambda: step(packed, tokens, state), packed.device, longest=6),
    }
