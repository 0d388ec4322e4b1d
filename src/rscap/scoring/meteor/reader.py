"""From a string to a text."""

from __future__ import annotations

from collections.abc import Callable

from rscap.scoring.meteor.formula import DELTA
from rscap.scoring.meteor.lexicon import Lexicon
from rscap.scoring.meteor.normalise import Text
from rscap.scoring.meteor.phrases import Phrases


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
        lexicon = self._lexicon
        places: dict[int, int] = {}
        functions = 0
        for place, word in enumerate(words):
            places[word] = places.get(word, 0) | 1 << place
            if lexicon.is_function[word]:
                functions |= 1 << 2 * place
        phrase_places, spans = self._phrases.find([lexicon.phrase_word[word] for word in words])
        function_words = functions.bit_count()
        return Text(
            words=words,
            functions=functions,
            weight=DELTA * (len(words) - function_words) + (1 - DELTA) * function_words,
            places=places,
            spans=tuple(spans),
            phrase_places=phrase_places,
        )
