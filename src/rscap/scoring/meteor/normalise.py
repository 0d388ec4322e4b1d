"""What METEOR's `-norm` option does to an English string before words are compared.

The option tokenises much as the Moses translation toolkit does (Koehn et al. 2007), lower-cases, splits hyphenated
words and writes typographic punctuation as ASCII. Every rule was found by experiment; `docs/meteor.md` lists them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

ALPHA = "A-Za-zÀ-ÖØ-öø-ž\u0400-\u0527\u1d00-\u1d7f\ua640-\ua66e\ua67e-\ua697"
"""Latin (to U+017E) and Cyrillic, as ranges; a letter of any other script stands alone as punctuation does."""

PLAIN = re.compile(r"[A-Za-z0-9 ]*")
TO_ASCII = str.maketrans({"`": "'", "‘": "'", "’": "'", "“": '"', "”": '"', "\n": " ", "\r": " "})
BLANKS = frozenset("\u00a0\u202f\u205f\u3000") | {chr(code) for code in range(0x2000, 0x200B)}
"""Spaces of typography: they stand alone like punctuation while the periods are decided, then vanish."""

OTHER = re.compile(rf"([^{ALPHA}0-9 \t\n\v\f\r.',-])")
HYPHEN = re.compile(rf"([{ALPHA}0-9.])-([{ALPHA}0-9])")
DOTS = re.compile(r"(\.{2,})")
COMMAS = (re.compile(r"([^0-9]),([^0-9])"), re.compile(r"([0-9]),([^0-9])"), re.compile(r"([^0-9]),([0-9])"))
APOSTROPHES = (
    (re.compile(rf"([^{ALPHA}])'([^{ALPHA}])"), r"\1 ' \2"),
    (re.compile(rf"([^{ALPHA}0-9])'([{ALPHA}])"), r"\1 ' \2"),
    (re.compile(rf"([{ALPHA}])'([^{ALPHA}])"), r"\1 ' \2"),
    (re.compile(rf"([{ALPHA}])'([{ALPHA}])"), r"\1 '\2"),
    (re.compile(r"([0-9])'(s)"), r"\1 '\2"),
)
LETTER = re.compile(rf"[{ALPHA}]")
CONTROLS = "".join(map(chr, range(33)))
SPACES = re.compile(r"[ \t\n\r\f]+")


@dataclass(frozen=True, slots=True)
class Prefixes:
    """Abbreviations whose period belongs to the word, as the table in the jar lists them (case matters)."""

    always: frozenset[str]
    before_number: frozenset[str]

    @classmethod
    def parse(cls, text: str) -> Prefixes:
        """Read the table: one prefix a line, `#` begins a comment, `#NUMERIC_ONLY#` after a prefix restricts it."""
        always: set[str] = set()
        before_number: set[str] = set()
        for line in text.splitlines():
            words = line.split()
            if words and not words[0].startswith("#"):
                (before_number if "#NUMERIC_ONLY#" in words else always).add(words[0])
        return cls(frozenset(always), frozenset(before_number))


def normaliser(prefixes: Prefixes) -> Callable[[str], list[str]]:
    """The function from a string to its lower-case tokens."""

    def normalise(text: str) -> list[str]:
        if PLAIN.fullmatch(text):
            return text.lower().split()
        tokens = SPACES.split(_spaced(text))
        return _without_blanks(_with_periods(tokens, prefixes) if "." in text else tokens)

    return normalise


def _spaced(text: str) -> str:
    """All of it but the periods: typographic characters, commas, apostrophes, hyphens; space around the rest."""
    text = f" {text.translate(TO_ASCII)} ".replace("''", '"')
    text = OTHER.sub(r" \1 ", text)
    if ".." in text:
        text = DOTS.sub(r" \1 ", text)
    if "," in text:
        for pattern in COMMAS:
            text = pattern.sub(r"\1 , \2", text)
    if "-" in text:
        text = HYPHEN.sub(r"\1 \2", text.replace("--", "-"))
    if "–" in text:
        text = text.replace("–", "-")
    if "'" in text:
        for pattern, replacement in APOSTROPHES:
            text = pattern.sub(replacement, text)
    return text


def _with_periods(tokens: list[str], prefixes: Prefixes) -> list[str]:
    """Decide for every token that ends in a period whether the period is part of it; lower-case all."""
    words: list[str] = []
    for token, following in zip(tokens, [*tokens[1:], ""], strict=True):
        word = token[:-1]
        if not token.endswith(".") or not word.strip("."):
            words.append(token)
        elif "." in word and LETTER.search(word):
            words.append(word.replace(".", ""))
        elif (
            word in prefixes.always
            or "a" <= following[:1] <= "z"
            or (word in prefixes.before_number and "0" <= following[:1] <= "9")
        ):
            words.append(token)
        else:
            words += (word, ".")
    return words


def _without_blanks(tokens: list[str]) -> list[str]:
    """The tokens in lower case without those that are only space, and without control characters at either end."""
    words = [token.lower() for token in tokens if token not in BLANKS]
    while words and not (first := words[0].lstrip(CONTROLS)):
        del words[0]
    while words and not words[-1].rstrip(CONTROLS):
        del words[-1]
    if words:
        words[0] = first
        words[-1] = words[-1].rstrip(CONTROLS)
    return [word for word in words if word]
