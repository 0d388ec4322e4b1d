"""The caption loss without holding all logits: head, cross-entropy and gradients are computed a few rows at a time.

A row of Gemma's logits is 257,216 numbers, a megabyte in float32, and an image with five captions has some 70 of
them. The gradient of a sum of cross-entropies is known as soon as its logits are (softmax minus one-hot), so each chunk
of rows is made, used for loss and gradients, and freed. Nothing is computed twice: the matrix products are those of
the plain loss, and the backward pass keeps S x H numbers, and V x H if the head is trainable.
The same idea: Liger Kernel's fused linear cross-entropy (arXiv:2410.10989).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK_LOGITS = 2**26
"""Logits alive at a time: 256 MiB in float32, 260 rows of Gemma's vocabulary. Fewer rows than some 200 would leave
a GPU's matrix units waiting for the head's weights to be read; at small vocabularies all rows are one chunk."""

_HEADROOM = 1024.0
"""Gradients of logits are below 1 and mostly far below; in float16 they are carried this many times larger."""


class Draw(NamedTuple):
    """How tokens were drawn; their probabilities are then those of the draw, not of the model."""

    temperature: float
    forbidden: Tensor
    """int[F]: ids that cannot be drawn."""
    rows: Tensor
    """bool[S]: the supervised positions whose targets were drawn; the other targets are captions that people wrote."""

    def part(self, rows: slice) -> Draw:
        """The same for some of the positions."""
        return self._replace(rows=self.rows[rows])

    def scores(self, logits: Tensor) -> Tensor:
        """The input of the softmax, made in place of logits float[S, V]."""
        if len(self.forbidden):
            never = logits[:, self.forbidden].masked_fill(self.rows.unsqueeze(1), -torch.inf)
            logits[:, self.forbidden] = never
        return logits.div_(self.divisors(logits))

    def divisors(self, logits: Tensor) -> Tensor:
        """float[S, 1]: the temperature where targets were drawn, 1 elsewhere."""
        return logits.new_ones(len(self.rows)).masked_fill(self.rows, self.temperature).unsqueeze(1)


def chunk_rows(vocabulary: int) -> int:
    """Rows of logits that are made at a time."""
    return max(1, CHUNK_LOGITS // vocabulary)


def summed_loss(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    cap: float | None,
    dtype: torch.dtype,
    rows: int | None = None,
    weights: Tensor | None = None,
    draw: Draw | None = None,
    smoothing: float = 0.0,
) -> Tensor:
    """Summed cross-entropy of `hidden @ weight.T`, soft-capped if `cap` is given (Gemma 2, arXiv:2408.00118).

    Args:
        hidden: float[S, H], the last hidden states at the supervised positions.
        weight: float[V, H], the language-model head; its gradient is computed only if it is trainable.
        targets: int[S].
        cap: logits become `cap * tanh(logits / cap)`; None leaves them.
        dtype: precision of the matrix products; softmax and sums are done in float32, or float64 where given.
        rows: rows at a time; `chunk_rows` of the vocabulary when left out. The result does not depend on it.
        weights: float[S], of each position in the sum; 1 when left out.
        draw: how targets were drawn, if they were.
        smoothing: share of every target that is spread evenly over the vocabulary (arXiv:1512.00567, section 7), for a
            loss with gradients. Without gradients the loss is the plain one.

    Raises:
        ValueError: targets that were drawn are smoothed.
    """
    rows = rows or chunk_rows(len(weight))
    if smoothing and draw is not None:
        raise ValueError("targets that were drawn are learned as they were drawn, and cannot be smoothed")
    if torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad):
        return _SummedLoss.apply(hidden, weight, targets, cap, dtype, rows, weights, draw, smoothing)
    losses = token_losses(hidden, weight, targets, cap=cap, dtype=dtype, rows=rows, draw=draw)
    return losses.sum() if weights is None else (losses * weights).sum()


@torch.no_grad()
def token_losses(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    cap: float | None,
    dtype: torch.dtype,
    rows: int | None = None,
    draw: Draw | None = None,
) -> Tensor:
    """float[S]: the cross-entropy of each row, without gradients; arguments as in `summed_loss`."""
    rows = rows or chunk_rows(len(weight))
    cast = weight.to(dtype)
    with torch.autocast(hidden.device.type, enabled=False):
        losses = []
        for begin in range(0, len(hidden), rows):
            part = slice(begin, begin + rows)
            logits = _logits(hidden[part], cast, cap)
            scores = logits if draw is None else draw.part(part).scores(logits)
            losses.append(F.cross_entropy(scores, targets[part], reduction="none"))
    return torch.cat(losses) if losses else hidden.new_zeros(0)


class _SummedLoss(torch.autograd.Function):
    """Loss and gradients of all chunks in the forward pass; the backward pass scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        cap: float | None,
        dtype: torch.dtype,
        rows: int,
        weights: Tensor | None,
        draw: Draw | None,
        smoothing: float,
    ) -> Tensor:
        cast = weight.to(dtype)
        of_hidden = torch.empty_like(hidden) if hidden.requires_grad else None
        of_weight = None
        headroom = _HEADROOM if dtype == torch.float16 else 1.0
        total = torch.zeros((), dtype=_wide(dtype), device=hidden.device)
        with torch.autocast(hidden.device.type, enabled=False):
            for begin in range(0, len(hidden), rows):
                part = slice(begin, begin + rows)
                own = None if weights is None else weights[part]
                here_drawn = None if draw is None else draw.part(part)
                loss, of_logits = _loss_and_gradient(hidden[part], cast, targets[part], cap, own, here_drawn, smoothing)
                total += loss
                of_logits = (of_logits if headroom == 1.0 else of_logits.mul_(headroom)).to(dtype)
                if of_hidden is not None:
                    of_hidden[part] = of_logits @ cast
                if weight.requires_grad:
                    here = (of_logits.T @ hidden[part].to(dtype)).to(weight.dtype)
                    of_weight = here if of_weight is None else of_weight.add_(here)
        for gradient in (of_hidden, of_weight):
            if gradient is not None and headroom != 1.0:
                gradient.div_(headroom)
        ctx.save_for_backward(of_hidden, of_weight)
        return total

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        # In place, since V x H may be gigabytes; autograd itself refuses a second backward pass over what changed.
        gradients = [None if gradient is None else gradient.mul_(upstream) for gradient in ctx.saved_tensors]
        return *gradients, *[None] * 7


def _logits(hidden: Tensor, weight: Tensor, cap: float | None) -> Tensor:
    """float[R, V] in float32 or wider, capped."""
    logits = (hidden.to(weight.dtype) @ weight.T).to(_wide(weight.dtype))
    return logits if cap is None else torch.tanh(logits / cap) * cap


def _loss_and_gradient(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    cap: float | None,
    weights: Tensor | None,
    draw: Draw | None,
    smoothing: float,
) -> tuple[Tensor, Tensor]:
    """Summed loss of some rows, and its gradient with respect to their logits before capping."""
    logits = _logits(hidden, weight, cap)
    slope = None if cap is None else 1 - (logits / cap).square()
    if draw is not None:
        logits = draw.scores(logits)
    log_sum = logits.logsumexp(dim=1, keepdim=True)
    places = targets.unsqueeze(1)
    losses = log_sum - logits.gather(1, places)
    if smoothing:
        losses = (1.0 - smoothing) * losses + smoothing * (log_sum - logits.mean(dim=1, keepdim=True))
    gradient = logits.sub_(log_sum).exp_()
    gradient.scatter_add_(1, places, gradient.new_full(places.shape, smoothing - 1.0))
    if smoothing:
        gradient.sub_(smoothing / gradient.shape[1])
    if draw is not None:
        gradient.div_(draw.divisors(gradient))
    if weights is not None:
        scale = weights.to(losses.dtype).unsqueeze(1)
        losses, gradient = losses * scale, gradient.mul_(scale)
    return losses.sum(), gradient if slope is None else gradient.mul_(slope)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
