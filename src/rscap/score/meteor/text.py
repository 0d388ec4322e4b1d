"""A caption as METEOR sees it: numbered words, function words marked, known phrases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rscap.score.meteor.lexicon import Lexicon
from rscap.score.meteor.phrases import Phrases


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """One normalised string; two texts are equal only if they are the same object, so that pairs of them are cheap keys."""

    words: tuple[int, ...]
    function_mask: int
    """Bit i is set where word i is a function word."""
    places: dict[int, list[int]]
    """Where each distinct word stands."""
    spans: list[tuple[int, int, dict[int, int]]]
    """(start, length, paraphrases) of the phrases that have paraphrases, by start, then length."""
    phrase_places: dict[int, list[int]]
    """Where each node of the trie of phrases stands."""
    phrase_lengths: dict[int, int]


class Reader:
    """Turns strings into texts; equal strings give one text."""

    def __init__(self, normalise: Callable[[str], list[str]], lexicon: Lexicon, phrases: Phrases) -> None:
        self._normalise = normalise
        self._lexicon = lexicon
        self._phrases = phrases
        self._texts: dict[str, Text] = {}
        self._by_words: dict[tuple[int, ...], Text] = {}

    def read(self, string: str) -> Text:
        """The text of a string; strings that differ in what `-norm` drops share one text."""
        text = self._texts.get(string)
        if text is None:
            words = tuple(map(self._lexicon.number, self._normalise(string)))
            text = self._by_words.get(words)
            if text is None:
                text = self._by_words[words] = self._text(words)
            self._texts[string] = text
        return text

    def _text(self, words: tuple[int, ...]) -> Text:
        lexicon, phrases = self._lexicon, self._phrases
        spans: list[tuple[int, int, dict[int, int]]] = []
        phrase_places: dict[int, list[int]] = {}
        lengths: dict[int, int] = {}
        for start, length, node in phrases.spans([lexicon.phrase_word[word] for word in words]):
            phrase_places.setdefault(node, []).append(start)
            lengths[node] = length
            if paraphrases := phrases.paraphrases(node):
                spans.append((start, length, paraphrases))
        return Text(
            words=words,
            function_mask=sum(1 << place for place, word in enumerate(words) if lexicon.is_function[word]),
            places=places_of(words),
            spans=spans,
            phrase_places=phrase_places,
            phrase_lengths=lengths,
        )


def places_of(words: Sequence[int]) -> dict[int, list[int]]:
    """Where each distinct word stands, in order."""
    places: dict[int, list[int]] = {}
    for place, word in enumerate(words):
        places.setdefault(word, []).append(place)
    return places
