"""Penn Treebank tokenisation as coco-caption does it: the words that every caption metric counts.

coco-caption (Chen et al., arXiv:1504.00325) tokenises with Stanford CoreNLP 3.4.1's `PTBTokenizer -preserveLines
-lowerCase` and drops a list of punctuation tokens. `tokenize` yields the same strings without Java. It was written from
observed behaviour; `docs/ptb.md` says how it was compared, and where it knowingly differs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from rscap.errors import ScoreError
from rscap.scoring.ptb.characters import (
    BEFORE_NUMBERS,
    CAPITALISED_CLOSERS,
    CLOSERS,
    OTHER_ABBREVIATIONS,
    SPLIT_WORDS,
    TITLES,
)
from rscap.scoring.ptb.lexer import lex

__all__ = ["TOKENIZER_VERSION", "tokenize", "tokenize_all"]

TOKENIZER_VERSION = "ptb-3.4.1/1"

# A caption of plain words and numbers apart by spaces, each with at most one mark behind it, needs no lexer …
_PLAIN_CHUNK = r"(?:(?![A-Za-z]\.)[A-Za-z]++(?:-[A-Za-z]++)*+[.,:;?!]?+|[0-9]++[.,:;?!]?+(?! *+[0-9])|[.,:;?!])(?= |\Z)"
_PLAIN = re.compile(rf"(?: *+{_PLAIN_CHUNK})*+ *+")
_PLAIN_TOKEN = re.compile(r"[a-z0-9-]+")
# … unless a word is one that is split, or may keep its full stop.
_SPECIAL = frozenset(
    (
        *TITLES,
        *CLOSERS,
        *CAPITALISED_CLOSERS,
        *BEFORE_NUMBERS,
        *OTHER_ABBREVIATIONS,
        *("".join(pair) for pair in SPLIT_WORDS),
    )
)


# An initial or an abbreviation before a number is decided by what comes next, even on the next line.
_LEANS_FORWARD = re.compile(r"\.\s*\Z")


def tokenize(caption: str) -> list[str]:
    """The tokens of one caption, lower-cased, without punctuation; `" ".join` of them is coco-caption's string.

    A line break of any kind inside the caption is a space. The caption is tokenised on its own, as if an empty
    line followed.

    Raises:
        ScoreError: `caption` is not a string, or holds half of a surrogate pair.
    """
    tokens = _plain(caption)
    return lex(caption) if tokens is None else tokens


def tokenize_all(captions: Iterable[str]) -> list[list[str]]:
    """The tokens of captions that coco-caption writes into one file, in this order.

    It differs from `tokenize` of each caption in two ways that come from the Java program reading that file: a caption
    that ends in an initial ("in area B.") or in "no." loses its full stop by what the next line begins with ("The …",
    "5 …"), and the last line has no line break behind it, so that an emoticon or `'ll` at its very end falls apart.

    Raises:
        ScoreError: as `tokenize`.
    """
    lines = list(captions)
    plain = {line: _plain(line) for line in dict.fromkeys(lines)}
    lexed: dict[tuple[str, str], list[str]] = {}
    tokens = []
    for place, line in enumerate(lines):
        known = plain[line]
        if known is None:
            key = line, _following(lines, place)
            known = lexed[key] = lexed[key] if key in lexed else lex(*key)
        tokens.append(known.copy())
    return tokens


def _plain(caption: str) -> list[str] | None:
    """The tokens of a caption that needs no lexer; None for any other."""
    if not isinstance(caption, str):
        raise ScoreError(f"a caption must be a string, found {type(caption).__name__}: {caption!r:.80}")
    if _PLAIN.fullmatch(caption):
        tokens = _PLAIN_TOKEN.findall(caption.lower())
        if _SPECIAL.isdisjoint(tokens):
            return tokens
    return None


def _following(lines: list[str], index: int) -> str:
    """The text after this line that the Java program looks at: to the end of the next non-empty line, if it matters."""
    if index == len(lines) - 1:
        return ""
    if not _LEANS_FORWARD.search(lines[index]):
        return "\n"
    seen = ""
    for line in lines[index + 1 :]:
        seen += "\n" + line
        if line.strip():
            return seen + "\n" if line is not lines[-1] else seen
    return seen
