"""Encode a prefix once, then extend captions by one token a step, reading the keys and values so far.

Several branches may follow one prefix (the beams of a search). They share its keys and values, and those of common
ancestors: as in training, the cache holds one sequence per image, and a mask says who reads what.

    slots      I I I … <bos> caption en \n | a   two | plane planes | on  in  …    two branches, a slot each a step
    visible    1 1 1 …   1      1    1  1  | 1   0   | 1     0      | 1   0        branch 0: a plane on
               1 1 1 …   1      1    1  1  | 1   0   | 1     0      | 0   1        branch 1 left "two" for "a plane in"

Choosing other parents therefore only selects rows of `visible`; keys and values never move.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rscap.errors import NotFinite
from rscap.model.attention import additive
from rscap.model.packed import PackedBatch, PackedModel, keys_and_values
from rscap.model.replay import Still
from rscap.recipe import Logits

TOGETHER = 4
"""Prefixes that a CPU encodes at once, so that what passes from layer to layer stays in its caches: a tenth of the time
of 16 at bench-49M."""
PREFIXES = 64
"""Prefixes that a GPU encodes at once: enough to keep it busy, and a bound on the memory of large batches."""


class Cache:
    """Keys and values of all layers, with room for all tokens to come: a step writes its own and copies nothing.

    Attention layers call `update` in turn, as they would on a transformers cache.
    """

    def __init__(self, keys: list[Tensor], values: list[Tensor]) -> None:
        self.keys, self.values, self.filled = keys, values, 0

    @classmethod
    def of(cls, packed: PackedModel, *, rows: int, slots: int, dtype: torch.dtype) -> Cache:
        """An empty cache: float[B, G, slots, D] in `dtype` for each layer."""
        config = packed.text_config
        shape = (rows, config.num_key_value_heads, slots, config.head_dim)
        layers = range(config.num_hidden_layers)
        keys, values = ([torch.empty(shape, dtype=dtype, device=packed.device) for _ in layers] for _ in range(2))
        return cls(keys, values)

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Store float[B, G, N, D] of N new tokens; returns those of all tokens so far."""
        end = self.filled + keys.shape[2]
        self.keys[layer][:, :, self.filled : end] = keys
        self.values[layer][:, :, self.filled : end] = values
        if not self.filled:
            return keys, values
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]

    def rows(self, start: int, end: int) -> Cache:
        """The same memory, of some images only."""
        keys, values = ([one[start:end] for one in tensors] for tensors in (self.keys, self.values))
        return Cache(keys, values)

    def keep(self, rows: Tensor) -> None:
        """Drop the images not among `rows`, int[B'], layer by layer, so that memory hardly grows."""
        for kept in (self.keys, self.values):
            for layer, tensor in enumerate(kept):
                kept[layer] = tensor[rows]


@dataclass(slots=True)
class Decoding:
    """The state of decoding: B images with W branches each, and K slots filled so far."""

    cache: Cache
    visible: Tensor | None
    """bool[B, W, K]: the slots that each branch reads; None while an image has one branch, which reads them all."""
    positions: Tensor | None
    """int[K]: the position of the token in each slot, for models with a sliding window."""
    next_position: int
    dtype: torch.dtype
    """Precision of hidden states between layers; the same as in the prefix."""
    checksum: Tensor
    """float[]: the sum of all logits so far, which is not finite if one of them was not."""
    logits_in: Logits = "model"
    """How the head computes: see `PackedModel.head`."""
    still: Still | None = None
    """Computes the steps where their shapes are fixed, so that no image can leave; None elsewhere."""

    def keep(self, rows: Tensor) -> None:
        """Continue with some of the images only; `rows` is int[B']."""
        self.cache.keep(rows)
        if self.visible is not None:
            self.visible = self.visible[rows]

    def check_finite(self) -> None:
        """Refuse captions that were chosen from logits that are not finite; waits for the device.

        Raises:
            NotFinite: an activation or a weight overflowed.
        """
        if not bool(self.checksum.isfinite()):
            raise NotFinite("logits are not finite: an activation or a weight overflowed")


def prefill(
    packed: PackedModel, batch: PackedBatch, *, room: int, logits_in: Logits = "model", replay: bool = False
) -> tuple[Tensor, Decoding]:
    """Encode prefixes of one length P: logits float[B, V] of the first token, and the state to continue from.

    `room` is how many tokens may follow, over all branches of an image. A prefix attends to itself as a whole, whatever
    the window, or causally where the family says so. For all tokens but the last, the last layer computes keys and
    values only. With `replay`, for one branch an image, steps may come from a graph (`rscap.model.replay`);
    `Decoding.still` then says so.
    """
    (rows, length), dtype = batch.tokens.shape, packed.stream
    slots = length + room
    still = None
    if replay:
        still = packed.stills.get(packed, images=rows, slots=slots, dtype=dtype, logits_in=logits_in)
    if still is None:
        cache = Cache.of(packed, rows=rows, slots=slots, dtype=packed.products(dtype))
    else:
        cache = Cache(still.keys, still.values)
        still.begin(length)
    logits, start = [], 0
    with packed.cached_attention():
        for part in batch.parts(TOGETHER if packed.device.type == "cpu" else PREFIXES):
            logits.append(_prefill(packed, part, cache.rows(start, start + len(part.tokens)), logits_in))
            start += len(part.tokens)
    cache.filled = length
    first = torch.cat(logits)
    return first, Decoding(
        cache=cache,
        visible=None,
        positions=None if packed.window is None else batch.positions[0],
        next_position=length + packed.family.first_position,
        dtype=dtype,
        checksum=first.sum(),
        logits_in=logits_in,
        still=still,
    )


def _prefill(packed: PackedModel, batch: PackedBatch, cache: Cache, logits_in: Logits) -> Tensor:
    model = packed.language
    with packed.autocast():
        hidden = packed.embed(batch)
        rotary = model.rotary_emb(hidden, batch.positions)
        mask = _prefix_mask(packed, hidden)
        *layers, last = model.layers
        for layer in layers:
            hidden = layer(hidden, attention_mask=mask, position_embeddings=rotary, past_key_values=cache)
        given = keys_and_values(last, hidden, rotary)
        cache.update(given.keys, given.values, len(layers))
        hidden = last(
            hidden[:, -1:],
            attention_mask=None,
            position_embeddings=tuple(part[:, -1:] for part in rotary),
            past_key_values=given,
        )
        return packed.head(model.norm(hidden[:, -1]), logits_in)


def _prefix_mask(packed: PackedModel, hidden: Tensor) -> Tensor | None:
    """None where a prefix attends to itself as a whole; else the mask of tokens that see those before them."""
    if not packed.family.causal_prefix:
        return None
    length, config = hidden.shape[1], packed.text_config
    visible = torch.ones(1, length, length, dtype=torch.bool, device=hidden.device).tril()
    heads = config.num_attention_heads // config.num_key_value_heads
    return additive(visible, heads=heads, dtype=packed.products(hidden.dtype))


def step(packed: PackedModel, tokens: Tensor, state: Decoding, *, parents: Tensor | None = None) -> Tensor:
    """One more token for each branch, int[B, W]: logits float[B, W, V] of the token after it. Updates `state`.

    `parents`, int[B, W], says which branch each token continues; left out, each continues its own.
    """
    if state.still is not None:
        logits = state.still.step(tokens)
        state.checksum = state.checksum + logits.sum()
        return logits
    model = packed.language
    _grow(state, tokens, parents)
    with packed.autocast(), packed.cached_attention():
        hidden = model.embed_tokens(tokens).to(state.dtype)
        masks = _masks(packed, state)
        rotary = model.rotary_emb(hidden, torch.full((1, 1), state.next_position, device=tokens.device))
        for index, layer in enumerate(model.layers):
            mask = masks[packed.layer_type(index)]
            hidden = layer(hidden, attention_mask=mask, position_embeddings=rotary, past_key_values=state.cache)
        logits = packed.head(model.norm(hidden), state.logits_in)
    state.cache.filled += tokens.shape[1]
    state.next_position += 1
    state.checksum = state.checksum + logits.sum()
    return logits


def _grow(state: Decoding, tokens: Tensor, parents: Tensor | None) -> None:
    """A slot for each new token: a branch reads what its parent reads, and its own."""
    rows, width = tokens.shape
    if state.positions is not None:
        state.positions = torch.cat([state.positions, state.positions.new_full((width,), state.next_position)])
    seen = state.visible
    if seen is None and width == 1:
        return
    if seen is None:
        seen = torch.ones(rows, 1, state.cache.filled, dtype=torch.bool, device=tokens.device)
    if parents is not None:
        seen = seen.gather(1, parents.unsqueeze(2).expand(-1, -1, seen.shape[2]))
    own = torch.eye(width, dtype=torch.bool, device=tokens.device).expand(rows, -1, -1)
    state.visible = torch.cat([seen, own], dim=2)


def _masks(packed: PackedModel, state: Decoding) -> dict[str, Tensor | None]:
    """The mask of a step by layer type; None where every branch reads all slots."""
    config, window, visible = packed.text_config, packed.window, state.visible
    near = None
    if window is not None and state.positions is not None and state.next_position > window:
        near = (state.next_position - state.positions < window).view(1, 1, -1)
    close = visible if near is None else near if visible is None else visible & near
    heads = config.num_attention_heads // config.num_key_value_heads
    dtype = packed.products(state.dtype)
    full, sliding = (None if seen is None else additive(seen, heads=heads, dtype=dtype) for seen in (visible, close))
    return {"full_attention": full, "sliding_attention": sliding}
