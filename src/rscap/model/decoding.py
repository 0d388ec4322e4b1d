"""Prefixes are computed once, then captions grow by one token a step, reading the keys and values so far."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache

from rscap.model.captioner import Captioner, Packed


@dataclass(slots=True)
class Decoding:
    """A batch half decoded: keys and values so far, and the next position of its rows."""

    cache: DynamicCache
    next_position: int


def prefill(captioner: Captioner, batch: Packed) -> tuple[Tensor, Decoding]:
    """Encode prefixes of one length P: logits float[B, V] of the first token, and the state to go on from."""
    cache = DynamicCache()
    with captioner.autocast():
        embeddings = captioner.embed(batch)
        outputs = captioner.paligemma.model.language_model(
            inputs_embeds=embeddings,
            position_ids=batch.positions,
            attention_mask=captioner.masks(batch, embeddings.dtype),
            past_key_values=cache,
            use_cache=True,
        )
        logits = captioner.head(outputs.last_hidden_state[:, -1])
    return logits.float(), Decoding(cache=cache, next_position=batch.tokens.shape[1] + 1)


def step(captioner: Captioner, tokens: Tensor, state: Decoding) -> Tensor:
    """One more token per row, int[B]: logits float[B, V] of the token after it. Moves `state` on."""
    model = captioner.paligemma.model.language_model
    position, window = state.next_position, captioner.window
    with captioner.autocast():
        embeddings = model.embed_tokens(tokens.unsqueeze(1))
        seen = torch.arange(1, position + 1, device=tokens.device)
        full = torch.ones(len(tokens), 1, position, dtype=torch.bool, device=tokens.device)
        outputs = model(
            inputs_embeds=embeddings,
            position_ids=torch.full_like(tokens.unsqueeze(1), position),
            attention_mask=captioner.per_layer_type(
                full, None if window is None else full & (position - seen < window), embeddings.dtype
            ),
            past_key_values=state.cache,
            use_cache=True,
        )
        logits = captioner.head(outputs.last_hidden_state[:, -1])
    state.next_position += 1
    return logits.float()
