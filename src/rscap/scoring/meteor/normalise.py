"""Captions as METEOR sees them: normalised by its `-norm` option, words numbered, known phrases found, equal ones once.

The option tokenises much as the Moses translation toolkit does (Koehn et al. 2007), lower-cases, splits hyphenated
words and writes typographic punctuation as ASCII. Every rule was found by experiment; `docs/meteor.md` lists them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from rscap.scoring.meteor.formula import DELTA
from rscap.scoring.meteor.lexicon import Lexicon

if TYPE_CHECKING:
    from rscap.scoring.meteor.matching import Phrases


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


Span = tuple[int, int, int]
"""(start, length, node) of a phrase."""


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """One normalised string; a text equals only itself, so that pairs of texts are cheap keys."""

    words: tuple[int, ...]
    functions: int
    """Bit 2k is set where word k is a function word; the odd bits are left to another text, see `Match.mask`."""
    weight: float
    """The weight of all words: content words count DELTA, function words 1 - DELTA each."""
    places: dict[int, int]
    """The positions of each distinct word as a mask; plain numbers, which the garbage collector need not visit."""
    spans: tuple[Span, ...]
    """The phrases that have paraphrases, by start, then length."""
    phrase_places: dict[int, int]
    """The positions of each node of the trie of phrases, as a mask."""


@lru_cache(maxsize=1 << 15)
def bits(mask: int) -> tuple[int, ...]:
    """The places of the set bits, lowest first."""
    return tuple(place for place in range(mask.bit_length()) if mask >> place & 1)


def spread(words: int) -> int:
    """The first `words` even bits, set."""
    return (1 << 2 * words) // 3


class Texts:
    """Turns strings into texts; equal strings give one text, and so do strings that `-norm` makes equal."""

    def __init__(self, normalise: Callable[[str], list[str]], lexicon: Lexicon, phrases: Phrases) -> None:
        self._normalise = normalise
        self._lexicon = lexicon
        self._phrases = phrases
        self._texts: dict[str, Text] = {}
        self._by_words: dict[tuple[int, ...], Text] = {}

    def read(self, strings: Sequence[str]) -> list[Text]:
        """The text of each string. All tables are searched once for all the strings that are new."""
        fresh = {string: self._normalise(string) for string in dict.fromkeys(strings) if string not in self._texts}
        if fresh:
            self._learn(fresh)
        return [self._texts[string] for string in strings]

    def _learn(self, fresh: dict[str, list[str]]) -> None:
        lexicon = self._lexicon
        lexicon.learn(dict.fromkeys(word for words in fresh.values() for word in words))
        numbered = {string: tuple(map(lexicon.number, words)) for string, words in fresh.items()}
        unknown = [words for words in dict.fromkeys(numbered.values()) if words not in self._by_words]
        found = self._phrases.find([[lexicon.phrase_word[word] for word in words] for words in unknown])
        for words, (phrase_places, spans) in zip(unknown, found, strict=True):
            self._by_words[words] = self._text(words, phrase_places, spans)
        for string, words in numbered.items():
            self._texts[string] = self._by_words[words]

    def _text(self, words: tuple[int, ...], phrase_places: dict[int, int], spans: list[Span]) -> Text:
        is_function = self._lexicon.is_function
        places: dict[int, int] = {}
        functions = 0
        for place, word in enumerate(words):
            places[word] = places.get(word, 0) | 1 << place
            if is_function[word]:
                functions |= 1 << 2 * place
        function_words = functions.bit_count()
        return Text(
            words=words,
            functions=functions,
            weight=DELTA * (len(words) - function_words) + (1 - DELTA) * function_words,
            places=places,
            spans=tuple(spans),
            phrase_places=phrase_places,
        )
