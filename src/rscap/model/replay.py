"""Decoding steps of fixed shapes, which a GPU replays as one graph.

A step of a model of 3 billion parameters starts some 900 kernels, and starting them takes longer than computing them:
on an H200 16 ms against 4 (docs/speed.md). A CUDA graph starts them at once, but only if no tensor changes its shape or
its place. So keys and values lie in tensors with room for the longest caption; a token reads all slots under a mask
that opens one slot a step; and images whose caption is finished stay in the batch until all are finished.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rscap.recipe import Logits

if TYPE_CHECKING:
    from rscap.model.packed import PackedModel

LARGEST = 256
"""Rows of a graph; more images are decoded without one, since then the GPU computes longer than it takes to start."""
_KEPT = 2
"""Graphs that are kept, each with its keys and values; the oldest goes first."""


class Still:
    """One decoding step for `rows` images of up to `slots` tokens, on tensors that stay where they are.

    Attention layers call `update` in turn, as they would on a transformers cache.
    """

    def __init__(self, packed: PackedModel, *, rows: int, slots: int, dtype: torch.dtype, logits_in: Logits) -> None:
        config, device = packed.text_config, packed.device
        groups, heads = config.num_key_value_heads, config.num_attention_heads
        shape, products = (rows, groups, slots, config.head_dim), packed.products(dtype)

        def room() -> list[Tensor]:  # zeros, since slots that are hidden are read all the same
            return [torch.zeros(shape, dtype=products, device=device) for _ in range(config.num_hidden_layers)]

        self.packed, self.dtype, self.logits_in = packed, dtype, logits_in
        self.keys, self.values = room(), room()
        self.mask = torch.zeros(1, 1, heads // groups, slots, dtype=products, device=device)
        self.slot = torch.zeros(1, dtype=torch.long, device=device)
        self.position = torch.zeros(1, 1, dtype=torch.long, device=device)
        self.tokens = torch.zeros(rows, 1, dtype=torch.long, device=device)
        self.logits = torch.empty(0)
        self.graph: Any = None

    def begin(self, filled: int) -> None:
        """Continue after prefixes of `filled` tokens, which lie in the first slots."""
        self.slot.fill_(filled)
        self.position.fill_(filled + self.packed.family.first_position)
        self.mask.fill_(torch.finfo(self.mask.dtype).min)
        self.mask[..., :filled] = 0

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Store float[B, G, 1, D] of the new token; returns all slots, including those still empty."""
        self.keys[layer].index_copy_(2, self.slot, keys.to(self.mask.dtype))
        self.values[layer].index_copy_(2, self.slot, values.to(self.mask.dtype))
        return self.keys[layer], self.values[layer]

    def step(self, tokens: Tensor) -> Tensor:
        """One more token for the first images, int[B, 1]: their logits float[B, 1, V], until the next step."""
        self.tokens[: len(tokens)].copy_(tokens)
        if self.graph is None:
            self._compute()
        else:
            self.graph.replay()
        return self.logits[: len(tokens)]

    def _compute(self) -> None:
        model = self.packed.language
        self.mask.index_fill_(3, self.slot, 0)
        with self.packed.autocast(), self.packed.cached_attention():
            hidden = model.embed_tokens(self.tokens).to(self.dtype)
            rotary = model.rotary_emb(hidden, self.position)
            for layer in model.layers:
                hidden = layer(hidden, attention_mask=self.mask, position_embeddings=rotary, past_key_values=self)
            self.logits = self.packed.head(model.norm(hidden), self.logits_in)
        self.slot.add_(1)
        self.position.add_(1)

    def capture(self) -> None:
        """Record the step as a CUDA graph, which from then on takes its place."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):  # what libraries set up at first use must not be recorded
                self.begin(1)
                self._compute()
        torch.cuda.current_stream().wait_stream(side)
        self.begin(1)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._compute()
        self.graph = graph


@dataclass(slots=True)
class Stills:
    """The graphs of one model."""

    made: list[Still] = field(default_factory=list)
    weights: tuple[int, ...] = ()
    """The addresses of the weights that the graphs read."""
    failure: str | None = None
    """Why graphs cannot be used here; steps are then started one kernel at a time, with the same result."""
    told: bool = False
    """Whether the user was told of it."""

    def get(
        self, packed: PackedModel, *, images: int, slots: int, dtype: torch.dtype, logits_in: Logits
    ) -> Still | None:
        """A step for this many images and tokens; None where it does not pay or cannot be used."""
        if self.failure is not None or not usable(packed, images=images, slots=slots):
            return None
        if (now := packed.places()) != self.weights:
            self.made.clear()
            self.weights = now
        slots = -(-slots // 16) * 16
        for still in self.made:
            if len(still.tokens) >= images and (still.mask.shape[-1], still.logits_in) == (slots, logits_in):
                return still
        del self.made[: len(self.made) - _KEPT + 1]
        try:
            rows = 1 << (images - 1).bit_length()
            still = Still(packed, rows=rows, slots=slots, dtype=dtype, logits_in=logits_in)
            if packed.device.type == "cuda":
                still.capture()
        except RuntimeError as error:  # memory included: steps without a graph need less of it
            self.failure = (str(error).splitlines() or [type(error).__name__])[0]
            return None
        self.made.append(still)
        return still

    def drop(self) -> None:
        """Drop all graphs and free their memory."""
        self.made.clear()


def usable(packed: PackedModel, *, images: int, slots: int) -> bool:
    """True on a CUDA device for a model that only captions: training moves the 16-bit copies of its weights."""
    window = packed.window
    fits = images <= LARGEST and (window is None or slots < window)
    return packed.device.type == "cuda" and fits and not any(one.requires_grad for one in packed.net.parameters())
