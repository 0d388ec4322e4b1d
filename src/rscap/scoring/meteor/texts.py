"""Captions as METEOR sees them: numbered words, function words marked, known phrases found; equal ones read once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from rscap.scoring.meteor.formula import DELTA
from rscap.scoring.meteor.lexicon import Lexicon

if TYPE_CHECKING:
    from rscap.scoring.meteor.matching import Phrases

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
