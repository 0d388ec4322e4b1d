"""One line of a score table: a run or a baseline with its scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["run", "baseline"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One corpus score with its 95 % interval over images, where there is one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One run or baseline; `cells` lacks the metrics that were not scored."""

    label: str
    kind: Kind
    state: str
    n: int
    unscored: int
    signature: str
    cells: Mapping[str, Cell]
    warnings: tuple[str, ...] = ()
    """What makes the scores mean something else than they seem to, as sentences without the label."""

    @property
    def finished(self) -> bool:
        return self.state == "finished"
