"""The next token of each row, and whether the choice was a near-tie: the best one, or one drawn."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

NEAR_TIE = 1e-4
"""Two scores (logits, log-probabilities), or a draw and the edge of a token's share, no further apart than this may
come out the other way round in a batch of another shape: floating-point sums depend on it."""


def best(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The best token of each row of float[B, V]: int[B], and bool[B], where the second best is as good."""
    first, second = scores.topk(2, dim=-1).values.unbind(-1)
    return scores.argmax(dim=-1), first - second < NEAR_TIE


def drawn(scores: Tensor, at: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Tokens drawn in proportion to softmax(scores), by the inverse of the cumulative distribution.

    `at` holds one number in [0, 1) a row. Tokens lie in the order of their ids, not of their scores: rounding errors
    then move the edges of their shares a little and swap none.
    """
    wide = scores.cpu() if scores.device.type == "mps" else scores  # which knows no float64
    reached = wide.double().softmax(dim=-1).cumsum(dim=-1)
    total = reached[:, -1:].contiguous()
    threshold = torch.tensor(at, dtype=torch.float64, device=wide.device).unsqueeze(1) * total
    # No token beyond the last that has a share, even where the product was rounded up to the total.
    tokens = torch.minimum(torch.searchsorted(reached, threshold, right=True), torch.searchsorted(reached, total))
    above = reached.gather(1, tokens)
    below = torch.where(tokens > 0, reached.gather(1, (tokens - 1).clamp(min=0)), 0.0)
    close = torch.minimum(above - threshold, threshold - below) < NEAR_TIE
    return tokens.squeeze(1).to(scores.device), close.squeeze(1).to(scores.device)
