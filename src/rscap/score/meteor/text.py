"""A caption as METEOR sees it: numbered words, function words marked, known phrases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import or_

from rscap.score.meteor.formula import DELTA
from rscap.score.meteor.lexicon import Lexicon
from rscap.score.meteor.phrases import Phrases


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """One normalised string; a text equals only itself, so that pairs of texts are cheap keys."""

    words: tuple[int, ...]
    function_mask: int
    """Bit i is set where word i is a function word."""
    weight: float
    """What all words weigh: content words DELTA, function words 1 - DELTA each."""
    places: dict[int, list[int]]
    """Where each distinct word stands."""
    spans: list[tuple[int, int, dict[int, int]]]
    """(start, length, paraphrases with their ranks) of the phrases that have paraphrases, by start, then length."""
    phrase_places: dict[int, tuple[int, list[int]]]
    """Length and places of each node of the trie of phrases."""


class Reader:
    """Turns strings into texts; equal strings give one text."""

    def __init__(self, normalise: Callable[[str], list[str]], lexicon: Lexicon, phrases: Phrases) -> None:
        self._normalise = normalise
        self._lexicon = lexicon
        self._phrases = phrases
        self._texts: dict[str, Text] = {}
        self._by_words: dict[tuple[int, ...], Text] = {}

    def read(self, string: str) -> Text:
        """The text of a string; strings that differ only in what `-norm` evens out share one text."""
        text = self._texts.get(string)
        if text is None:
            words = tuple(map(self._lexicon.number, self._normalise(string)))
            text = self._by_words.get(words)
            if text is None:
                text = self._by_words[words] = self._text(words)
            self._texts[string] = text
        return text

    def _text(self, words: tuple[int, ...]) -> Text:
        lexicon, paraphrases_of = self._lexicon, self._phrases.paraphrases
        places: dict[int, list[int]] = {}
        for place, word in enumerate(words):
            places.setdefault(word, []).append(place)
        spans: list[tuple[int, int, dict[int, int]]] = []
        phrase_places: dict[int, tuple[int, list[int]]] = {}
        for start, length, node in self._phrases.spans([lexicon.phrase_word[word] for word in words]):
            if node in phrase_places:
                phrase_places[node][1].append(start)
            else:
                phrase_places[node] = (length, [start])
            if paraphrases := paraphrases_of(node):
                spans.append((start, length, paraphrases))
        function_mask = reduce(or_, (1 << place for place, word in enumerate(words) if lexicon.is_function[word]), 0)
        function_words = function_mask.bit_count()
        return Text(
            words=words,
            function_mask=function_mask,
            weight=DELTA * (len(words) - function_words) + (1 - DELTA) * function_words,
            places=places,
            spans=spans,
            phrase_places=phrase_places,
        )
