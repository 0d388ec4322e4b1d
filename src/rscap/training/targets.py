"""The first losses of a pretrained base tell whether it is shown the right targets."""

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
    """Look at the first losses of a pretrained base, token by token.

    A uniform guess has the loss ln V on every token. A base that knows language, but not these captions, may have the
    same mean: some tokens cost it nothing and some twice as much. So the spread is looked at too.

    Raises:
        BrokenTargets: all losses lie near ln V, or near 0; says what that means.
    """
    losses = packed.token_losses(batch)
    mean, spread = losses.mean().item(), losses.std(correction=0).item()
    if guesses_evenly(packed, losses):
        uniform = math.log(packed.paligemma.config.text_config.vocab_size)
        raise BrokenTargets(
            f"the first loss is {mean:.2f} (spread {spread:.2f}); ln(vocabulary) = {uniform:.2f} is a uniform guess",
            hint="a pretrained base knows better: the targets are not the caption, or the weights are not the base's",
        )
    if mean < _SILENT:
        raise BrokenTargets(
            f"the first loss is {mean:.2g}: the answer is visible to the model, or nothing is supervised",
            hint="only the caption and its <eos> may be targets, and a token must not see itself",
        )


def guesses_evenly(packed: PackedModel, losses: torch.Tensor) -> bool:
    """Whether losses, one a token, are those of a model to which every token of its vocabulary is as likely."""
    uniform = math.log(packed.paligemma.config.text_config.vocab_size)
    return abs(losses.mean().item() / uniform - 1.0) < _UNIFORM and losses.std(correction=0).item() < _EVEN
