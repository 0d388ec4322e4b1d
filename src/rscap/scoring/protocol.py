"""The three protocols: what happens to a string before any metric sees it; `rscap.metrics` lists their metrics.

| protocol   | strings                                                            | metrics                          |
|------------|--------------------------------------------------------------------|----------------------------------|
| `coco`     | PTB-tokenised, lower-cased, punctuation dropped, as coco-caption   | BLEU, METEOR, ROUGE-L, CIDEr     |
| `raw`      | as they are, split at white space                                  | BLEU, METEOR, ROUGE-L, CIDEr     |
| `sentence` | split at white space; first reference only                         | mean sentence BLEU-4, ROUGE-L F1 |

The signature of a score names the conditions it was computed under, the protocol among them; two scores with different
signatures are different quantities:

    protocol:coco|tok:ptb-3.4.1/1|refs:5,distinct:4.7|dup:keep|idf:self:ab12cd34/1500|n:1500|decode:greedy-64|…
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rscap import __version__
from rscap.errors import ScoreError
from rscap.metrics import known
from rscap.records import ScoreSheet

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """All that a score depends on besides the candidates."""

    protocol: str
    tokenizer: str
    references_per_image: float
    distinct_per_image: float
    duplicates: str
    pool: str
    """`self:DIGEST/N` (the references that were passed), `file:DIGEST/N` (a given pool), or `none`."""
    n: int
    decode: str | None
    data: str
    foreign: tuple[str, ...] = ()
    """Metrics that rscap did not compute, `name@source`."""
    content: str | None = None
    """The version of the word lists behind the content errors, where these were counted."""

    def fields(self) -> dict[str, Any]:
        """As a score sheet holds them, apart."""
        return {
            "protocol": self.protocol,
            "tokenizer": self.tokenizer,
            "reference_duplicates": self.duplicates,
            "references_per_image": self.references_per_image,
            "distinct_references_per_image": self.distinct_per_image,
            "pool": self.pool,
            "data": self.data,
            "decode": self.decode,
        }

    def __str__(self) -> str:
        return "|".join(
            [
                f"protocol:{self.protocol}",
                f"tok:{self.tokenizer}",
                f"refs:{_short(self.references_per_image)},distinct:{_short(self.distinct_per_image)}",
                f"dup:{self.duplicates}",
                f"idf:{self.pool}",
                f"n:{self.n}",
                f"decode:{self.decode or 'unstated'}",
                f"data:{self.data}",
                *([f"content:{self.content}"] if self.content else []),
                *([f"foreign:{','.join(self.foreign)}"] if self.foreign else []),
                f"rscap:{__version__}",
            ]
        )


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def data_digest(references: Mapping[str, Sequence[str]]) -> str:
    """Eight hexadecimal digits that name ids and references, whatever their order."""
    rows = sorted((example, sorted(captions)) for example, captions in references.items())
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:8]


def score_line(sheet: ScoreSheet, metric: str = "CIDEr") -> str:
    """One score as it should be quoted: `CIDEr-D 1.51 [1.46, 1.56]  protocol:coco|tok:ptb-3.4.1/1|…`.

    A CIDEr that needs care says why behind the number: `CIDEr-D 0.00 (one image)  …`.
    """
    line = known(metric)
    name, digits = (line.quoted_as or metric, line.digits) if line else (metric, 3)
    interval = sheet.intervals.get(metric)
    bounds = f" [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]" if interval else ""
    kinds = ", ".join(sheet.extra.get("cautions", {})) if metric == "CIDEr" else ""
    care = f" ({kinds})" if kinds else ""
    return f"{name} {sheet.corpus[metric]:.{digits}f}{bounds}{care}  {sheet.signature}"
