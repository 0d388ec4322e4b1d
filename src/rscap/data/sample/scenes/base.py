"""What a scene class is: facts drawn at random, a painter and templates that both read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

import numpy as np

from rscap.data.sample.canvas import Canvas
from rscap.data.sample.captions import Templates


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Something the captions say of the picture, in terms of the label map, so that a test can look."""

    label: str
    count: int | None = None
    colour: str | None = None
    side: str | None = None


class Scene(Protocol):
    """The facts of one picture. Both the drawing and the sentences come from these fields and nothing else."""

    groups: ClassVar[Templates]

    @classmethod
    def plan(cls, rng: np.random.Generator) -> Self:
        """Draw the facts."""

    def paint(self, canvas: Canvas) -> None:
        """Draw the picture."""

    def words(self) -> Mapping[str, object]:
        """What the templates may name."""

    def claims(self) -> tuple[Claim, ...]:
        """What the captions may claim."""
