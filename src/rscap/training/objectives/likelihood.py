"""Maximum likelihood, and the form in which every objective says what an update learns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rscap.captioner.batch import Batch
from rscap.training.team import Team


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What an update learns, this process's part of it."""

    batches: Sequence[Batch]
    """Their losses, each token times its weight, are added up over all processes and divided by `divisor`."""
    divisor: int
    """Of the whole update."""
    tokens: int
    """Supervised tokens of the whole update; with none, nothing is learned."""
    images: int
    captions: int
    facts: Mapping[str, float] = field(default_factory=dict)
    """More about the update for the log, the same on all processes."""


class Objective(Protocol):
    """What training maximises."""

    def __call__(self, micro_batches: Sequence[Batch], *, step: int) -> Work:
        """The work of update number `step`, counted from 1, on the examples of this process."""


@dataclass(frozen=True, slots=True)
class Likelihood:
    """The mean log-likelihood of a token of the captions (arXiv:2407.07726, section 3.2)."""

    team: Team

    def __call__(self, micro_batches: Sequence[Batch], *, step: int) -> Work:
        """The batches as they are."""
        batches = [batch for batch in micro_batches if batch.supervised]
        counts = [sum(getattr(one, name) for one in batches) for name in ("supervised", "images", "captions")]
        tokens, images, captions = self.team.sums(counts)
        return Work(batches=batches, divisor=tokens, tokens=tokens, images=images, captions=captions)
