"""Words of a caption as the tables count them, and text normalisation.

Normalisation is explicit and recorded: nothing changes a caption that a recipe did not name.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace

from rscap.records import Example

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


INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\ufffe\uffff]")
"""Zero-width characters, soft hyphens, direction marks and byte-order marks."""


def _spaces(text: str) -> str:
    return " ".join(text.split())


def _invisible(text: str) -> str:
    return INVISIBLE.sub("", text)


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _lower(text: str) -> str:
    return text.lower()


def _full_stop(text: str) -> str:
    """End with " ." as RISC's captions do, whatever the sentence ended with."""
    return re.sub(r"[\s.]*$", "", text) + " ."


def _no_full_stop(text: str) -> str:
    return re.sub(r"[\s.]+$", "", text) or text


NORMALISATIONS: dict[str, Callable[[str], str]] = {
    "spaces": _spaces,
    "invisible": _invisible,
    "nfc": _nfc,
    "lower": _lower,
    "full-stop": _full_stop,
    "no-full-stop": _no_full_stop,
}
"""`spaces`: single spaces, none outside · `invisible`: zero-width characters dropped · `nfc`: composed Unicode ·
`lower`: lower case · `full-stop`: ends with " ." · `no-full-stop`: ends without."""


def normalised(examples: Sequence[Example], steps: Sequence[str], *, without: Sequence[str] = ()) -> list[Example]:
    """The examples with `steps` applied in order to each caption. A caption that would become empty stays as it is.

    Args:
        examples: in whatever splits.
        steps: names of NORMALISATIONS.
        without: splits whose captions stay as they are.
    """
    return [
        replace(example, captions=tuple(_apply(caption, steps) for caption in example.captions))
        if steps and example.split not in without
        else example
        for example in examples
    ]


def _apply(caption: str, steps: Sequence[str]) -> str:
    text = caption
    for step in steps:
        text = NORMALISATIONS[step](text)
    return text if text.strip() else caption
