"""The words and the token layout: the only file that knows them.

    prefix   <image> x I   <bos>   words of the prompt   newline        sees itself, both ways
    suffix   words of the caption   <eos>                               sees the prefix and its own past

This is PaliGemma's layout (arXiv:2407.07726, section 3.2); the same ids come from transformers' `PaliGemmaProcessor`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from rscap.errors import DataError, ModelError


@dataclass(frozen=True, slots=True)
class Prompter:
    """Turns words into token ids and back, for one tokenizer.

    `tokenizer` is a transformers tokenizer with PaliGemma's special tokens; `image_token_id` stands `image_tokens`
    times at the head of every prefix.
    """

    tokenizer: Any
    image_token_id: int
    image_tokens: int

    def __post_init__(self) -> None:
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            if getattr(self.tokenizer, name) is None:
                raise ModelError(
                    f"the tokenizer has no {name.removesuffix('_id')}", hint="is this PaliGemma's tokenizer?"
                )

    @property
    def eos(self) -> int:
        return self.tokenizer.eos_token_id

    @property
    def pad(self) -> int:
        return self.tokenizer.pad_token_id

    def prefix(self, words: str) -> list[int]:
        """Ids of image placeholders, `<bos>`, the words and the newline that ends a prefix.

        Raises:
            DataError: the words are no string, or spell a special token.
        """
        if not isinstance(words, str):
            raise DataError(
                f"a prefix is a string, found {words!r:.60} ({type(words).__name__})", hint='such as "caption en"'
            )
        ids = self._encode(f"{words}\n", what=f"prompt {words!r}")
        return [self.image_token_id] * self.image_tokens + [self.tokenizer.bos_token_id, *ids]

    def suffix(self, caption: str, *, example_id: str) -> list[int]:
        """Ids of a caption, closed by one `<eos>`.

        Raises:
            DataError: the caption is empty or spells a special token; names the example.
        """
        ids = self._encode(caption, what=f"caption of {example_id}")
        if not ids:
            raise DataError(f"caption of {example_id} is empty")
        return [*ids, self.eos]

    def caption(self, ids: list[int]) -> str:
        """The text of generated ids, special tokens left out."""
        return self._text(ids).strip()

    def pieces(self, ids: list[int]) -> list[str]:
        """What each generated id adds to the text; joined and stripped they are `caption(ids)`."""
        texts = ["", *(self._text(ids[:end]) for end in range(1, len(ids) + 1))]
        return [after[len(before) :] for before, after in pairwise(texts)]

    def _text(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def _encode(self, text: str, *, what: str) -> list[int]:
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        # A caption that spells "<eos>" would teach the model to stop in the middle.
        special = {self.tokenizer.bos_token_id, self.eos, self.pad, self.image_token_id}.intersection(ids)
        if special:
            tokens = self.tokenizer.convert_ids_to_tokens(sorted(special))
            raise DataError(
                f"{what} spells the special token(s) {', '.join(tokens)}: {text!r}", hint="remove them from the text"
            )
        return ids
