"""Check the targets of a pretrained base by its first losses."""

from __future__ import annotations

import math

import torch

from rscap.captioner.batch import Batch
from rscap.errors import BrokenTargets
from rscap.model.packed import PackedModel

_UNIFORM = 0.1  # share of ln V
_EVEN = 1.0  # nats
_SILENT = 1e-3


@torch.no_grad()
def check_targets(packed: PackedModel, batch: Batch) -> None:
    """Check the first losses of a pretrained base, one for each token.

    A uniform guess has the loss ln V on every token. A base that knows language, but not these captions, can have the
    same mean, with some tokens near 0 and some twice as high; so the standard deviation counts as well.

    Raises:
        BrokenTargets: all losses are near ln V, or near 0; says what that means.
    """
    losses = packed.token_losses(batch)
    mean, spread = losses.mean().item(), losses.std(correction=0).item()
    if guesses_evenly(packed, losses):
        uniform = math.log(packed.paligemma.config.text_config.vocab_size)
        raise BrokenTargets(
            f"the first loss is {mean:.2f} (standard deviation {spread:.2f}), as for a uniform guess: ln(vocabulary) = "
            f"{uniform:.2f}",
            hint="a pretrained base does better: the targets are not the caption, or these are not its weights",
        )
    if mean < _SILENT:
        raise BrokenTargets(
            f"the first loss is {mean:.2g}: the model sees the answer, or no token is supervised",
            hint="only the caption and its <eos> may be targets, and no position may see the token that it predicts",
        )


def guesses_evenly(packed: PackedModel, losses: torch.Tensor) -> bool:
    """Whether losses, one for each token, are those of a model that gives all tokens the same probability."""
    uniform = math.log(packed.paligemma.config.text_config.vocab_size)
    return abs(losses.mean().item() / uniform - 1.0) < _UNIFORM and losses.std(correction=0).item() < _EVEN
