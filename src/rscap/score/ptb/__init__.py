"""Penn Treebank tokenisation as coco-caption does it (first version: plain captions only)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rscap.errors import ScoreError

TOKENIZER_VERSION = "ptb-3.4.1/1"

_WORD = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


def tokenize(caption: str) -> list[str]:
    """The lower-cased tokens of one caption, punctuation dropped."""
    if not isinstance(caption, str):
        raise ScoreError(f"a caption must be a string, found {type(caption).__name__}")
    return _WORD.findall(caption.lower())


def tokenize_all(captions: Iterable[str]) -> list[list[str]]:
    """`tokenize` of each caption, in order."""
    return [tokenize(caption) for caption in captions]
