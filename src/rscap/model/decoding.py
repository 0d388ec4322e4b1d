"""Encode a prefix once, then extend captions by one token a step, reading the keys and values so far.

Several branches may follow one prefix (the beams of a search). They share its keys and values, and each other's too
where one continues another: as in training, the cache holds one sequence per image, and a mask says who reads what.

    slots      I I I … <bos> caption en \n | a   two | plane planes | on  in  …    two branches, a slot each a step
    visible    1 1 1 …   1      1    1  1  | 1   0   | 1     0      | 1   0        branch 0: a plane on
               1 1 1 …   1      1    1  1  | 1   0   | 1     0      | 0   1        branch 1 left "two" for "a plane in"

Choosing other parents therefore only selects rows of `visible`; keys and values never move.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rscap.model.packed import PackedBatch, PackedModel, keys_and_values

TOGETHER = 4
"""Prefixes that a CPU encodes at once, so that what passes from layer to layer stays in its caches: a tenth of the time
of 16 at bench-49M."""


class Cache:
    """Keys and values of all layers, with room for `room` more tokens: a step writes its own and copies nothing.

    Attention layers call `update` in turn, as they would on a transformers cache.
    """

    def __init__(self, *, room: int) -> None:
        self.room, self.filled = room, 0
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Store float[B, H, N, D] of N new tokens; returns those of all tokens so far."""
        if layer == len(self.keys):
            self.keys.append(self._roomy(keys))
            self.values.append(self._roomy(values))
            return keys, values
        end = self.filled + keys.shape[2]
        self.keys[layer][:, :, self.filled : end] = keys
        self.values[layer][:, :, self.filled : end] = values
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]

    def keep(self, rows: Tensor) -> None:
        """Drop the images not among `rows`, int[B'], layer by layer, so that memory hardly grows."""
        for kept in (self.keys, self.values):
            for layer, tensor in enumerate(kept):
                kept[layer] = tensor[rows]

    def join(self, others: Sequence[Cache]) -> None:
        """Append the images of other caches, which are empty afterwards; layer by layer, as above."""
        for layer in range(len(self.keys)):
            for kept, *added in (
                (self.keys, *(other.keys for other in others)),
                (self.values, *(other.values for other in others)),
            ):
                kept[layer] = torch.cat([kept[layer], *(tensors[layer] for tensors in added)])
                for tensors in added:
                    tensors[layer] = tensors[layer][:0].clone()

    def _roomy(self, given: Tensor) -> Tensor:
        rows, heads, filled, width = given.shape
        roomy = given.new_empty(rows, heads, filled + self.room, width)
        roomy[:, :, :filled] = given
        return roomy


@dataclass(slots=True)
class Decoding:
    """The state of decoding: B images with W branches each, and K slots filled so far."""

    cache: Cache
    visible: Tensor
    """bool[B, W, K]: the slots that each branch reads."""
    positions: Tensor
    """int[K]: the position of the token in each slot."""
    next_position: int
    dtype: torch.dtype
    """Precision of hidden states between layers, as the prefix had them."""

    def keep(self, rows: Tensor) -> None:
        """Continue with some of the images only; `rows` is int[B']."""
        self.cache.keep(rows)
        self.visible = self.visible[rows]

    def join(self, others: Sequence[Decoding]) -> Decoding:
        """Add the images of other states, which have reached the same token."""
        if others:
            self.cache.join([other.cache for other in others])
            self.visible = torch.cat([self.visible, *(other.visible for other in others)])
        return self


def prefill(packed: PackedModel, batch: PackedBatch, *, room: int) -> tuple[Tensor, Decoding]:
    """Encode prefixes of one length P: logits float[B, V] of the first token, and the state to continue from.

    `room` is how many tokens may follow, over all branches of an image. A prefix attends to itself as a whole, whatever
    the window. For all tokens but the last, the last layer computes keys and values only.
    """
    at_once = TOGETHER if packed.device.type == "cpu" else len(batch.tokens)
    parts = [_prefill(packed, part, room=room) for part in batch.parts(at_once)]
    (_, state), *others = parts
    return torch.cat([logits for logits, _ in parts]), state.join([other for _, other in others])


def _prefill(packed: PackedModel, batch: PackedBatch, *, room: int) -> tuple[Tensor, Decoding]:
    cache, model = Cache(room=room), packed.paligemma.model.language_model
    rows, length = batch.tokens.shape
    positions = torch.arange(1, length + 1, device=batch.tokens.device)
    with packed.autocast():
        hidden = packed.embed(batch)
        everything = torch.ones(1, length, length, dtype=torch.bool, device=positions.device)
        masks = packed.per_layer_type(everything, None if packed.window is None else everything, hidden.dtype)
        rotary = model.rotary_emb(hidden, batch.positions)
        *layers, last = model.layers
        for index, layer in enumerate(layers):
            mask = _of_layer(packed, index, masks)
            hidden = layer(hidden, attention_mask=mask, position_embeddings=rotary, past_key_values=cache)
        given = keys_and_values(last, hidden, rotary)
        cache.update(given.keys, given.values, len(layers))
        hidden = last(
            hidden[:, -1:],
            attention_mask=_of_layer(packed, len(layers), masks)[:, :, -1:],
            position_embeddings=tuple(part[:, -1:] for part in rotary),
            past_key_values=given,
        )
        logits = packed.head(model.norm(hidden[:, -1]))
    cache.filled = length
    visible = torch.ones(rows, 1, length, dtype=torch.bool, device=positions.device)
    return logits.float(), Decoding(cache, visible, positions, next_position=length + 1, dtype=hidden.dtype)


def step(packed: PackedModel, tokens: Tensor, state: Decoding, *, parents: Tensor | None = None) -> Tensor:
    """One more token for each branch, int[B, W]: logits float[B, W, V] of the token after it. Moves `state` on.

    `parents`, int[B, W], says which branch each token continues; left out, each continues its own.
    """
    model = packed.paligemma.model.language_model
    _grow(state, tokens, parents)
    with packed.autocast():
        hidden = model.embed_tokens(tokens).to(state.dtype)
        masks = _masks(packed, state, hidden.dtype)
        rotary = model.rotary_emb(hidden, torch.full((1, 1), state.next_position, device=tokens.device))
        for index, layer in enumerate(model.layers):
            mask = _of_layer(packed, index, masks)
            hidden = layer(hidden, attention_mask=mask, position_embeddings=rotary, past_key_values=state.cache)
        logits = packed.head(model.norm(hidden))
    state.cache.filled += tokens.shape[1]
    state.next_position += 1
    return logits.float()


def _grow(state: Decoding, tokens: Tensor, parents: Tensor | None) -> None:
    """A slot for each new token: a branch reads what its parent reads, and its own."""
    rows, width = tokens.shape
    seen = state.visible
    if parents is not None:
        seen = seen.gather(1, parents.unsqueeze(2).expand(-1, -1, seen.shape[2]))
    own = torch.eye(width, dtype=torch.bool, device=tokens.device).expand(rows, -1, -1)
    state.visible = torch.cat([seen, own], dim=2)
    state.positions = torch.cat([state.positions, state.positions.new_full((width,), state.next_position)])


def _masks(packed: PackedModel, state: Decoding, dtype: torch.dtype) -> Any:
    """Masks of a step, per layer type where there is a window."""
    window = packed.window
    if window is None:
        return packed.per_layer_type(state.visible, None, dtype)
    near = state.next_position - state.positions < window
    return packed.per_layer_type(state.visible, state.visible & near, dtype)


def _of_layer(packed: PackedModel, layer: int, masks: Any) -> Any:
    return masks[packed.paligemma.config.text_config.layer_types[layer]] if isinstance(masks, dict) else masks
