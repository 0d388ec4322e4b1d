"""What decoding gives for one image, and when images leave the computation."""

from __future__ import annotations

from dataclasses import dataclass

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


def leaving(done: Tensor) -> bool:
    """Whether enough of bool[B] are done for them to leave."""
    return int(done.sum()) >= LEAVING_SHARE * len(done)
