"""Words of a caption, as the tables count them."""

from __future__ import annotations

import re
from collections.abc import Sequence

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


def tokens(caption: str) -> list[str]:
    """The caption split at white space: a final " ." is a token, as in RISC's own counts."""
    return caption.split()


def words(caption: str) -> list[str]:
    """Lower-cased words without punctuation, `open-air` and `plane's` as one."""
    return _WORD.findall(caption.lower())


def sibling_similarity(captions: Sequence[str]) -> float | None:
    """Mean over all pairs of captions of the Jaccard index of their word sets, 0 … 1; None for fewer than two."""
    sets = [frozenset(words(caption)) for caption in captions]
    pairs = [(one, other) for i, one in enumerate(sets) for other in sets[:i]]
    if not pairs:
        return None
    return sum(len(one & other) / len(one | other) if one | other else 1.0 for one, other in pairs) / len(pairs)
