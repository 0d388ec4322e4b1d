"""What decoding gives for one image, and when images leave the computation."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from torch import Tensor

LEAVING_SHARE = 0.25
"""Leaving costs a copy of what remains of the cache, about as much as a step's attention: not for every image."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """Generated ids of one image, `<eos>` included where it was reached."""

    ids: list[int]
    near_ties: int
    """Choices that rounding errors could turn; see `NEAR_TIE`."""

    @classmethod
    def until(cls, eos: int, ids: list[int], near_ties: int) -> Decoded:
        """Ids up to the first `eos`."""
        return cls(ids=ids[: ids.index(eos) + 1] if eos in ids else ids, near_ties=near_ties)


class Leaving(Enum):
    """Which images of a batch leave before the next step."""

    NONE, DONE, ALL = "none", "done", "all"

    @classmethod
    def of(cls, done: Tensor) -> Leaving:
        """Of bool[B]: those that are done, once they are enough. The one moment of a step at which the host waits."""
        count = int(done.sum())
        if count == len(done):
            return cls.ALL
        return cls.DONE if count >= LEAVING_SHARE * len(done) else cls.NONE
