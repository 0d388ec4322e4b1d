"""The largest activations of each layer in float16, whose largest number is 65,504, and what an overflow does.

Weights are random, so magnitudes say nothing of a pretrained model: the instrument is what is tried. An overflow is
then planted, by a matrix of one layer made larger, to see who notices.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from on_gpu.machine import Machine
from on_gpu.models import Models, Wanted
from on_gpu.training import batch_of
from peaks import micro_batch
from rscap.captioner.decoding import decode
from rscap.model.decoding import prefill
from rscap.model.packed import PackedModel

LARGEST = 65_504.0
WATCHED = {
    "self_attn": "attention",
    "mlp.down_proj": "mlp",
    "post_attention_layernorm": "norm after attention",
    "post_feedforward_layernorm": "norm after mlp",
}
"""Modules of a language layer whose output is watched; of `mlp.down_proj` the input too, the product of gate and up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Activations:
    """One batch in training, and captions with an overflow."""

    kind: ClassVar[str] = "activations"

    geometry: str

    @property
    def name(self) -> str:
        return f"activations, {self.geometry}, fp16"

    def measure(self, models: Models, machine: Machine) -> dict[str, Any]:
        wanted = Wanted(geometry=self.geometry, precision="fp16")
        packed = models.get(wanted)
        batch = batch_of(packed, 8)
        with torch.no_grad(), watched(packed) as seen:
            loss = packed(batch) / batch.supervised
        layers = {kind: [most.item() for most in found] for kind, found in seen.items()}
        try:
            planted = self._planted(packed, batch, wanted)
        finally:
            models.drop()
        return {"loss": loss.item(), "layers": layers, "planted": planted}

    def _planted(self, packed: PackedModel, batch: Any, wanted: Wanted) -> dict[str, Any]:
        """Loss and captions once a layer's output is too large for float16."""
        layer = packed.bare.model.language_model.layers[1]
        with torch.no_grad():
            layer.mlp.down_proj.base_layer.weight[0, 0] = math.inf
            with watched(packed) as seen:
                loss = (packed(batch) / batch.supervised).item()
        packed.eval()
        prompts = micro_batch(packed.bare, 4, suffixes=()).to(packed.device)
        with torch.inference_mode():
            logits, _ = prefill(packed, prompts, room=4)
        try:
            found = decode(packed, prompts, settings=wanted.recipe(decoded=4, length=4).generate, eos=1)
            told = f"captions: {[one.ids for one in found]}"
        except Exception as error:
            told = f"{type(error).__name__}: {error}"[:300]
        return {
            "layer": 1,
            "largest": {kind: max(one.item() for one in found) for kind, found in seen.items()},
            "loss": loss,
            "finite_logits": bool(logits.isfinite().all()),
            "decoding": told,
        }

    def line(self, result: dict[str, Any]) -> str:
        words = [f"loss {result['loss']:.3f}"]
        for kind, found in result["layers"].items():
            most = max(found)
            left = f"{math.log2(LARGEST / most):.0f} bits left" if 0 < most < math.inf else "none left"
            words.append(f"{kind}: {most:.3g} in layer {found.index(most)} ({left})")
        planted = result["planted"]
        words.append(f"overflow planted: loss {planted['loss']}, {planted['decoding']}")
        return ", ".join(words)


@contextmanager
def watched(packed: PackedModel) -> Iterator[dict[str, list[Tensor]]]:
    """Largest magnitudes by kind, one a layer; `inf` and NaN show as themselves. Hooks are taken off at the end."""
    seen: dict[str, list[Tensor]] = defaultdict(list)
    handles = []

    def note(kind: str) -> Any:
        def hook(module: nn.Module, given: Any, made: Any) -> None:
            if kind == "mlp":
                seen["gate x up"].append(given[0].detach().abs().amax())
            made = made[0] if isinstance(made, tuple) else made
            seen[kind].append(made.detach().abs().amax())

        return hook

    for layer in packed.bare.model.language_model.layers:
        for path, kind in WATCHED.items():
            if kind.startswith("norm") and not hasattr(layer, "post_feedforward_layernorm"):
                continue  # Gemma's norm after attention stands before the MLP, and its output never joins the stream
            handles.append(layer.get_submodule(path).register_forward_hook(note(kind)))
        handles.append(layer.register_forward_hook(note("stream")))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
