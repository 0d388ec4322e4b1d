"""Randomness without state: a draw is a pure function of its purpose.

A resumed run, another worker or another order of the rows therefore draws the same (BLAKE2b, RFC 7693, as the hash).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

_BITS = 53  # as many as a float holds exactly


def key(*parts: str | int) -> int:
    """A 64-bit number that depends on every part, on its kind and on where one part ends and the next begins."""
    text = "\x1f".join(f"{type(part).__name__[0]}{len(str(part))}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def uniform(*parts: str | int) -> float:
    """A number in [0, 1), evenly spread over different parts."""
    return (key(*parts) >> (64 - _BITS)) / (1 << _BITS)


def pick(weights: Sequence[float], *parts: str | int) -> int:
    """An index, drawn in proportion to `weights` (not negative, at least one positive)."""
    threshold = uniform(*parts) * sum(weights)
    reached = 0.0
    for index, weight in enumerate(weights):
        reached += weight
        if threshold < reached:
            return index
    return max(index for index, weight in enumerate(weights) if weight > 0)  # rounding at the very end
