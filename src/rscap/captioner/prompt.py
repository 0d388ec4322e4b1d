"""Words to token ids and back, checked; where they stand among the tokens is the family's `Layout`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from rscap.errors import DataError
from rscap.model.families import Layout


@dataclass(frozen=True, slots=True)
class Prompter:
    """Turns words into token ids and back, for one tokenizer."""

    layout: Layout

    @property
    def eos(self) -> int:
        """The token that ends a caption."""
        return self.layout.eos

    @property
    def pad(self) -> int:
        return self.layout.pad

    def prefix(self, words: str) -> list[int]:
        """Ids of everything before the caption: the image's placeholders and the words.

        Raises:
            DataError: the words are no string, or spell a special token.
        """
        if not isinstance(words, str):
            raise DataError(
                f"a prefix is a string, found {words!r:.60} ({type(words).__name__})", hint='such as "caption en"'
            )
        self._check(self.layout.encode(words), what=f"prompt {words!r}", text=words)
        return self.layout.prefix(words)

    def suffix(self, caption: str, *, example_id: str) -> list[int]:
        """Ids of a caption, closed by one `eos`.

        Raises:
            DataError: the caption is empty or spells a special token; names the example.
        """
        ids = self.layout.suffix(caption)
        self._check(ids[:-1], what=f"caption of {example_id}", text=caption)
        if len(ids) == 1:
            raise DataError(f"caption of {example_id} is empty")
        return ids

    def caption(self, ids: list[int]) -> str:
        """The text of generated ids, special tokens left out."""
        return self._text(ids).strip()

    def pieces(self, ids: list[int]) -> list[str]:
        """What each generated id adds to the text; joined and stripped they are `caption(ids)`."""
        texts = ["", *(self._text(ids[:end]) for end in range(1, len(ids) + 1))]
        return [after[len(before) :] for before, after in pairwise(texts)]

    def _text(self, ids: list[int]) -> str:
        text: str = self.layout.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def _check(self, ids: list[int], *, what: str, text: str) -> None:
        # A caption that spells "<eos>" would teach the model to stop in the middle.
        if special := self.layout.special.intersection(ids):
            tokens = self.layout.tokenizer.convert_ids_to_tokens(sorted(special))
            raise DataError(
                f"{what} spells the special token(s) {', '.join(tokens)}: {text!r}", hint="remove them from the text"
            )
