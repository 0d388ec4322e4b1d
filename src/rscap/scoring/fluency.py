"""What a model gives up first when it is trained on a score: whole sentences, variety, length.

A reward without an end-of-sentence word ends captions in "on the"; a learning rate that is too high gives many images
one caption. Both happen while CIDEr still rises, so these are counted as well.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_OPEN = """
a an the this that these those its their about above across after against along among around as at before behind below
beneath beside besides between beyond by for from in inside into near of off on onto opposite outside over past through
throughout to toward towards under underneath upon via with within without and but or nor so because although though
while whereas if unless until since than when where which who whose is are was were
"""
OPEN_WORDS = frozenset(_OPEN.split())
"""Articles, prepositions, conjunctions and forms of "to be": words that no English sentence about an image ends in."""
_REPEATED = 3


def words(caption: str) -> list[str]:
    """The words of a caption, in lower case."""
    return _WORD.findall(caption.lower())


def ends_badly(caption: str) -> bool:
    """Whether the last word is an article, a preposition, a conjunction or a form of "to be"."""
    said = words(caption)
    return bool(said) and said[-1] in OPEN_WORDS


def repeats_itself(caption: str) -> bool:
    """Whether three words in a row occur twice."""
    said = words(caption)
    groups = [tuple(said[begin : begin + _REPEATED]) for begin in range(len(said) - _REPEATED + 1)]
    return len(set(groups)) < len(groups)


def fluency(captions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """What captions have lost, beside their references; empty where there are no captions.

    Returns:
        `bad_endings` and `reference_bad_endings`: shares; `length_ratio`: words of a caption over those of a reference,
        on average; `distinct_captions`: different captions over all; `distinct_words`: different words over all words;
        `repeated`: share of captions in which three words in a row occur twice.
    """
    if not captions:
        return {}
    written = [text for own in references for text in own]
    said = [word for caption in captions for word in words(caption)]
    length = sum(len(words(text)) for text in written) / max(1, len(written))
    return {
        "bad_endings": _share(map(ends_badly, captions)),
        "reference_bad_endings": _share(map(ends_badly, written)),
        "length_ratio": len(said) / len(captions) / max(length, 1e-9),
        "distinct_captions": len(set(captions)) / len(captions),
        "distinct_words": len(set(said)) / max(1, len(said)),
        "repeated": _share(map(repeats_itself, captions)),
    }


def _share(found: map[bool]) -> float:
    values = list(found)
    return sum(values) / max(1, len(values))
