"""A decoding step of fixed shapes, captured once as a CUDA graph and replayed for every token."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from on_gpu.timing import repeated
from rscap.captioner.batch import Batch
from rscap.model.decoding import Decoding, prefill, step
from rscap.model.packed import PackedModel

STEPS = 12


@dataclass(slots=True)
class Still:
    """A cache whose tensors never change their shape: a new token's keys and values go where `slot` says."""

    keys: list[Tensor]
    values: list[Tensor]
    slot: Tensor
    """int[1]"""

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """float[B, H, 1, D] of the new token; returns all slots, those to come as well."""
        self.keys[layer].index_copy_(2, self.slot, keys)
        self.values[layer].index_copy_(2, self.slot, values)
        return self.keys[layer], self.values[layer]


class Step:
    """Reads and writes nothing but its own tensors, so that it can be replayed."""

    def __init__(self, packed: PackedModel, state: Decoding, tokens: Tensor) -> None:
        cache, filled = state.cache, state.cache.filled
        for kept in (*cache.keys, *cache.values):
            kept[:, :, filled:] = 0  # read, though hidden
        rows, slots = len(tokens), cache.keys[0].shape[2]
        device = tokens.device
        self.packed, self.dtype = packed, state.dtype
        self.still = Still(cache.keys, cache.values, torch.full((1,), filled, device=device))
        self.visible = torch.zeros(rows, 1, slots, dtype=torch.bool, device=device)
        self.visible[:, :, :filled] = True
        self.position = torch.full((1, 1), state.next_position, device=device)
        self.tokens = tokens.clone()

    def __call__(self) -> None:
        """Greedy, one token for every row; windows are wider than any caption here and hide nothing."""
        packed, model = self.packed, self.packed.paligemma.model.language_model
        self.visible.index_fill_(2, self.still.slot, True)
        with packed.autocast():
            hidden = model.embed_tokens(self.tokens).to(self.dtype)
            sliding = None if packed.window is None else self.visible
            masks = packed.per_layer_type(self.visible, sliding, hidden.dtype)
            rotary = model.rotary_emb(hidden, self.position)
            for index, layer in enumerate(model.layers):
                kind = packed.paligemma.config.text_config.layer_types[index] if isinstance(masks, dict) else None
                mask = masks if kind is None else masks[kind]
                hidden = layer(hidden, attention_mask=mask, position_embeddings=rotary, past_key_values=self.still)
            logits = packed.head(model.norm(hidden))
        self.tokens.copy_(logits.argmax(dim=-1))
        self.still.slot.add_(1)
        self.position.add_(1)


@torch.inference_mode()
def graphed(packed: PackedModel, batch: Batch) -> dict[str, Any]:
    """Seconds of a replayed step, and the share of tokens that are those of `rscap.model.decoding.step`."""
    try:
        wanted = _tokens(packed, batch)
        logits, state = prefill(packed, batch, room=STEPS + 2)
        again = Step(packed, state, logits.argmax(dim=-1, keepdim=True))
        began = time.perf_counter()
        graph, start = _captured(again)
        capture = time.perf_counter() - began
        start()
        found = []
        for _ in range(STEPS):
            graph.replay()
            found.append(again.tokens.clone())
        start()
        times = repeated(graph.replay, packed.device, warm=1, timed=STEPS, enough_s=1.0)
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}"[:500]}
    return {
        "step_s": sorted(times)[len(times) // 2],
        "same_tokens": (torch.cat(found, dim=1) == wanted).float().mean().item(),
        "same_first_tokens": (found[0] == wanted[:, :1]).float().mean().item(),
        "capture_s": capture,
    }


def _tokens(packed: PackedModel, batch: Batch) -> Tensor:
    """int[B, STEPS]: greedy choices after the first, by the ordinary step."""
    logits, state = prefill(packed, batch, room=STEPS)
    chosen = logits.argmax(dim=-1, keepdim=True)
    found = []
    for _ in range(STEPS):
        chosen = step(packed, chosen, state).argmax(dim=-1)
        found.append(chosen)
    return torch.cat(found, dim=1)


def _captured(again: Step) -> tuple[torch.cuda.CUDAGraph, Any]:
    """The graph, and a function that puts its tensors back to where they began."""
    moving = (again.tokens, again.still.slot, again.position, again.visible)
    before = [one.clone() for one in moving]

    def start() -> None:
        for one, was in zip(moving, before, strict=True):
            one.copy_(was)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            again()
    torch.cuda.current_stream().wait_stream(side)
    start()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        again()
    return graph, start
