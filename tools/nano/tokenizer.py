"""The nano model's tokenizer: Gemma's scheme (BPE, byte fallback, spaces as ▁) on a vocabulary of our own.

0 <pad>   1 <eos>   2 <bos>   3 <unk>   4 <mask>   256 bytes   the merges   <image>   <loc…> x 1024   <seg…> x 128
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import GemmaTokenizer, PaliGemmaProcessor
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

VOCABULARY = 4096
"""Rows of the embedding, all special tokens included."""

SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
_LOCATIONS_AND_SEGMENTS = 1024 + 128
_BYTES = [f"<0x{value:02X}>" for value in range(256)]


def build_processor(texts: Iterable[str], words: Iterable[str], *, image_tokens: int) -> PaliGemmaProcessor:
    """Train the tokenizer on `texts` and `words` and put it into a processor with SigLIP's preprocessing."""
    vocabulary, merges = _train(texts, words, size=VOCABULARY - _LOCATIONS_AND_SEGMENTS - 1)
    tokenizer = GemmaTokenizer(vocab=vocabulary, merges=merges)
    image = SiglipImageProcessorPil()
    image.image_seq_length = image_tokens
    return PaliGemmaProcessor(image_processor=image, tokenizer=tokenizer)


def _train(texts: Iterable[str], words: Iterable[str], *, size: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    # Merges never cross a space: the pieces are words with the ▁ before them.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Split("▁", "merged_with_next")]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=SPECIAL + _BYTES,
        min_frequency=1,
        show_progress=False,
        initial_alphabet=["▁", "\n"],
    )
    tokenizer.train_from_iterator(_lines(texts, words), trainer)
    state = json.loads(tokenizer.to_str())["model"]
    return state["vocab"], [tuple(merge) for merge in state["merges"]]


def _lines(texts: Iterable[str], words: Iterable[str]) -> Iterator[str]:
    """Every word alone, inside a sentence and at its head; every text; spaces as Gemma's normaliser writes them."""
    for text in texts:
        yield text.replace(" ", "▁") + "\n"
    for word in words:
        for form in (word, word.capitalize(), f" {word}", f" {word}", f" {word}"):
            yield form.replace(" ", "▁")
