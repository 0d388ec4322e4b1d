"""The interface of a scene class: facts drawn at random, and a painter and sentences that both use them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from rscap.sample.canvas import Canvas
from rscap.sample.captions import Remark


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Something the captions say of the picture, in terms of the label map, so that a test can look."""

    label: str
    count: int | None = None
    colour: str | None = None
    side: str | None = None


def way_claim(way: str) -> Claim:
    """The claim that `a gray road` or `a blue stream` makes."""
    _, colour, label = way.split()
    return Claim(label=label, count=1, colour=colour)


class Scene(Protocol):
    """The facts of one picture. Both the drawing and the sentences come from these fields and nothing else."""

    @classmethod
    def plan(cls, rng: np.random.Generator) -> Self:
        """Draw the facts."""

    def paint(self, canvas: Canvas) -> None:
        """Draw the picture."""

    def remarks(self) -> tuple[Remark, ...]:
        """At least five remarks about the facts."""

    def claims(self) -> tuple[Claim, ...]:
        """The claims that the remarks make about the picture."""
