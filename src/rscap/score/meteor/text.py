"""A caption as METEOR sees it: numbered words, function words marked, known phrases."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """One normalised string; a text equals only itself, so that pairs of texts are cheap keys."""

    words: tuple[int, ...]
    functions: int
    """Bit 2k is set where word k is a function word; the odd bits are left to another text, see `Match.mask`."""
    weight: float
    """What all words weigh: content words DELTA, function words 1 - DELTA each."""
    places: dict[int, int]
    """Where each distinct word stands, as a mask: plain numbers, which the garbage collector need not visit."""
    spans: tuple[tuple[int, int, int], ...]
    """(start, length, node) of the phrases that have paraphrases, by start, then length."""
    phrase_places: dict[int, int]
    """Where each node of the trie of phrases stands, as a mask."""


@lru_cache(maxsize=1 << 15)
def bits(mask: int) -> tuple[int, ...]:
    """The places of the set bits, lowest first."""
    return tuple(place for place in range(mask.bit_length()) if mask >> place & 1)


def spread(words: int) -> int:
    """The first `words` even bits, set."""
    return (1 << 2 * words) // 3
