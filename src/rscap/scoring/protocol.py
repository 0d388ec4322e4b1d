"""The three protocols: what happens to a string before any metric sees it; `rscap.metrics` lists their metrics.

| protocol   | strings                                                            | metrics                          |
|------------|--------------------------------------------------------------------|----------------------------------|
| `coco`     | PTB-tokenised, lower-cased, punctuation dropped, as coco-caption   | BLEU, METEOR, ROUGE-L, CIDEr     |
| `raw`      | as they are, split at white space                                  | BLEU, METEOR, ROUGE-L, CIDEr     |
| `sentence` | split at white space; first reference only                         | mean sentence BLEU-4, ROUGE-L F1 |
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from rscap.errors import ScoreError

PROTOCOLS = ("coco", "raw", "sentence")


def check(protocol: str) -> None:
    """Raise ScoreError unless `protocol` is one of PROTOCOLS."""
    if protocol not in PROTOCOLS:
        raise ScoreError(f"unknown protocol {protocol!r}", hint=f"one of {', '.join(PROTOCOLS)}")


def tokenizer_label(protocol: str) -> str:
    """The name of the protocol's tokenizer in the signature."""
    check(protocol)
    if protocol == "coco":
        from rscap.scoring.ptb import TOKENIZER_VERSION

        return TOKENIZER_VERSION
    return "none" if protocol == "raw" else "split+porter"


def prepare(protocol: str, texts: Sequence[str]) -> list[str]:
    """Every text as the protocol's metrics see it: words joined by single spaces under `coco`, untouched otherwise.

    Under `coco` the order counts for a few texts: coco-caption hands all captions to its tokenizer as one file, and
    whether the full stop of "… in area B." belongs to a word is decided by how the next line begins.
    """
    check(protocol)
    if protocol != "coco":
        return list(texts)
    from rscap.scoring.ptb import tokenize_all

    return [" ".join(tokens) for tokens in tokenize_all(texts)]


def prepare_remembered(protocol: str, texts: Sequence[str]) -> list[str]:
    """As `prepare`, each text by itself, for texts that come again in every epoch: the last 65,536 are remembered."""
    check(protocol)
    return [_coco_text(text) for text in texts] if protocol == "coco" else list(texts)


@lru_cache(maxsize=65_536)
def _coco_text(text: str) -> str:
    from rscap.scoring.ptb import tokenize

    return " ".join(tokenize(text))
