"""The token layout is PaliGemma's: the ids of transformers' own processor, and nothing special in a caption."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import PaliGemmaProcessor

from rscap.captioner.batch import pack
from rscap.captioner.prompt import Prompter
from rscap.errors import DataError
from rscap.model.families import ImageSpec
from rscap.model.families.paligemma import PaliGemmaLayout
from rscap.model.load import NANO

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # inside the processor

CAPTIONS = ["two white planes are near the runway .", "Many  green trees, and a café – 30 % full .", "a\nnewline", "x"]


@pytest.fixture(scope="module")
def processor() -> PaliGemmaProcessor:
    return PaliGemmaProcessor.from_pretrained(NANO)


@pytest.fixture(scope="module")
def prompter(processor: PaliGemmaProcessor) -> Prompter:
    tokens = processor.image_seq_length
    layout = PaliGemmaLayout(
        tokenizer=processor.tokenizer, image_token_id=processor.image_token_id, image_tokens=tokens
    )
    return Prompter(layout)


@pytest.mark.parametrize("prefix", ["caption en", "Describe this remote sensing image.", ""])
@pytest.mark.parametrize("caption", CAPTIONS)
def test_ids_are_those_of_the_processor(
    processor: PaliGemmaProcessor, prompter: Prompter, prefix: str, caption: str
) -> None:
    """Prefix and suffix ids, and which of them are supervised, equal `PaliGemmaProcessor(suffix=…)`."""
    image = Image.fromarray(np.zeros((224, 224, 3), dtype=np.uint8))
    theirs = processor(images=[image], text=[f"<image>{prefix}"], suffix=[caption], return_tensors="pt")
    start, suffix = prompter.prefix(prefix), prompter.suffix(caption, example_id="x")
    assert theirs["input_ids"][0].tolist() == start + suffix
    assert theirs["labels"][0].tolist() == [-100] * len(start) + suffix
    assert pack(start, [suffix])["targets"] == suffix


def test_pixels_are_those_of_the_processor(processor: PaliGemmaProcessor) -> None:
    """Bicubic resize, scale and normalisation equal SigLIP's preprocessing, for images of any shape."""
    generator = np.random.default_rng(0)
    spec = ImageSpec(resolution_px=224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    for height, width in ((224, 224), (100, 317), (900, 40)):
        image = Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))
        theirs = processor.image_processor(images=[image], return_tensors="pt")["pixel_values"][0]
        torch.testing.assert_close(spec.pixels(image), theirs, rtol=0, atol=1e-6)


def test_one_bos_and_one_eos(prompter: Prompter) -> None:
    """A prefix holds one <bos>, a suffix one <eos> at its end and no <bos>."""
    bos = prompter.layout.tokenizer.bos_token_id
    assert prompter.prefix("caption en").count(bos) == 1
    for caption in CAPTIONS:
        ids = prompter.suffix(caption, example_id="x")
        assert ids.count(prompter.eos) == 1
        assert ids[-1] == prompter.eos
        assert bos not in ids


@pytest.mark.parametrize("text", ["a plane <eos> two planes", "<image> of a lake", "<bos>", "<pad>"])
def test_a_caption_that_spells_a_special_token_is_refused(prompter: Prompter, text: str) -> None:
    """A special token inside a caption would be learned as one; the error names the example and the token."""
    with pytest.raises(DataError, match=r"RSICD_7.*special token"):
        prompter.suffix(text, example_id="RSICD_7")


def test_an_empty_caption_is_refused(prompter: Prompter) -> None:
    """A caption without tokens would teach the model to say nothing."""
    with pytest.raises(DataError, match=r"RSICD_7 is empty"):
        prompter.suffix("", example_id="RSICD_7")


@pytest.mark.parametrize("caption", CAPTIONS)
def test_generated_ids_come_back_as_text(prompter: Prompter, caption: str) -> None:
    """Decoding the ids of a caption gives the caption."""
    assert prompter.caption(prompter.suffix(caption, example_id="x")) == caption
