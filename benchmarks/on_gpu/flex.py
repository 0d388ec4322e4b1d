"""FlexAttention over batches of several sizes: what is compiled, how long it takes, and whether gradients are right.

Gradients are compared with those of float32, beside what the plain way is apart from them, so that rounding to 16 bits
is not taken for an error.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from on_gpu.compiler import Compiler
from on_gpu.machine import Machine
from on_gpu.models import Models, Wanted, adapted, random_model
from on_gpu.timing import repeated, seconds
from on_gpu.training import apart, batch_of, gradients
from rscap.captioner.batch import Batch
from rscap.model.attention import Tokens, blocks, pairs
from rscap.model.packed import PackedModel

BATCHES = ((8, (12, 14, 16, 18, 20)), (8, (10, 11, 13, 15, 9)), (1, (12, 14, 16, 18, 20)), (1, (9, 16, 11, 12, 13)))
"""Images, and the tokens of their captions; an epoch may end with one image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flex:
    """Checkpointed training steps."""

    kind: ClassVar[str] = "flex"

    geometry: str

    @property
    def name(self) -> str:
        return f"flex, {self.geometry}, checkpointing, {len(BATCHES)} sizes"

    def measure(self, models: Models, machine: Machine) -> dict[str, Any]:
        models.drop()
        device = machine.device
        wanted = Wanted(geometry=self.geometry, checkpointing=True, attention="flex")
        packed = PackedModel(adapted(random_model(wanted, device), wanted, device), compute_dtype=wanted.dtype)
        packed.checkpoint_activations()
        packed.train()
        batches = [batch_of(packed, images, suffixes=suffixes) for images, suffixes in BATCHES]
        ordinary = packed.bare.config.text_config._attn_implementation
        plain = [gradients(packed, batch) for batch in batches]
        plain_s = [seconds(lambda: gradients(packed, batch), device) for batch in batches]  # noqa: B023

        with Compiler() as checking:
            began = time.perf_counter()
            packed.choose_attention("flex", checkpointed=True)
            check_s = time.perf_counter() - began
        passes, flex = _passes(packed, batches, device)

        packed.flex, packed.bare.config.text_config._attn_implementation = False, ordinary
        packed.net.float()
        packed.compute_dtype = torch.float32
        for one, found, ours, theirs in zip(passes, flex, plain, batches, strict=True):
            exact = gradients(packed, theirs)
            one |= {"apart": apart(found, exact), "plain_apart": apart(ours, exact)}
        for one, taken in zip(passes, plain_s, strict=True):
            one["plain_s"] = taken
        return {
            "check_s": check_s,
            "check": checking.describe(),
            "passes": passes,
            "masks": _masks(batches[0], packed.window, device),
        }

    def line(self, result: dict[str, Any]) -> str:
        masks = {name: f"{1e3 * taken:.2f} ms" for name, taken in result["masks"].items()}
        words = [f"check {result['check_s']:.1f} s, {result['check']['graphs']} graphs; masks {masks}"]
        for one in result["passes"]:
            words.append(
                f"\n    {one['images']} images: first {one['first_s']:.2f} s, then {1e3 * one['s']:.0f} ms "
                f"(plain {1e3 * one['plain_s']:.0f}), {one['compiler']['graphs']} graphs, "
                f"{one['compiler']['warnings']}, "
                f"apart from float32 {one['apart']:.1e} (plain {one['plain_apart']:.1e})"
            )
        return "".join(words)


def _passes(
    packed: PackedModel, batches: Sequence[Batch], device: torch.device
) -> tuple[list[dict[str, Any]], list[list[Tensor]]]:
    """Every batch in turn, as a run would meet them; then each once more, warm."""
    passes, found = [], []
    for batch in batches:
        with Compiler() as compiler:
            began = time.perf_counter()
            found.append(gradients(packed, batch))
            first = time.perf_counter() - began
        passes.append({"images": batch.images, "first_s": first, "compiler": compiler.describe()})
    for one, batch in zip(passes, batches, strict=True):
        one["s"] = seconds(lambda: gradients(packed, batch), device)  # noqa: B023
    return passes, found


def _masks(batch: Batch, window: int | None, device: torch.device) -> dict[str, float]:
    """Seconds to say who sees whom, in either form."""
    tokens = Tokens.of(batch.branch, batch.positions)
    found = {}
    for name, make in (("blocks", blocks), ("pairs", pairs)):
        times = repeated(lambda: make(tokens, tokens, window=window), device, warm=2, timed=7, enough_s=1.0)  # noqa: B023
        found[name] = sorted(times)[len(times) // 2]
    return found
