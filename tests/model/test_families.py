"""What a family says is what transformers does: geometries, pixels, prompts, towers. No other family is accepted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from rscap.captioner.batch import Encoder, collate
from rscap.captioner.prompt import Prompter
from rscap.errors import DataError, ModelError
from rscap.model.adapters import target_expression
from rscap.model.families import FAMILIES, geometry_config
from rscap.model.families.smolvlm import SQUARES, SquaresSpec
from rscap.model.load import Base, load_base
from rscap.model.packed import PackedModel
from rscap.model.towers import count_parameters
from rscap.planning.shapes import shapes_of, shapes_of_base
from rscap.recipe import LANGUAGE_TARGETS, ModelSection
from rscap.sample import sample_examples

SMOL = FAMILIES["smolvlm"]
NAMES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
WORDS = "Describe this image."
CAPTION = "two white planes are near the runway ."


@pytest.fixture(scope="module")
def base(smolnano: Path) -> Base:
    return load_base(ModelSection(base=str(smolnano), dtype="float32"))


@pytest.fixture(scope="module")
def split(smolnano: Path) -> Base:
    return load_base(ModelSection(base=str(smolnano), dtype="float32", image_splitting=True))


def without_weights(geometry: str) -> Any:
    config = geometry_config(geometry)
    with torch.device("meta"):
        return FAMILIES[config.model_type].model_class(config)


@pytest.mark.parametrize(
    ("name", "parameters", "tokens"),
    [
        ("HuggingFaceTB/SmolVLM2-256M-Video-Instruct", 256_484_928, 64),
        ("HuggingFaceTB/SmolVLM2-500M-Video-Instruct", 507_482_304, 64),
        ("HuggingFaceTB/SmolVLM2-2.2B-Instruct", 2_246_784_880, 81),
    ],
)
def test_checkpoints_have_the_published_size(name: str, parameters: int, tokens: int) -> None:
    """Parameters of the class and of the plan, image tokens of one square and of a split image, a pinned commit."""
    checkpoint = SMOL.checkpoints[name]
    net = without_weights(checkpoint.geometry)
    assert sum(count.total for count in count_parameters(net).values()) == parameters
    whole, cut = shapes_of_base(name), shapes_of_base(name, split=True)
    assert whole.parameters == parameters
    assert (whole.image_tokens, cut.image_tokens) == (tokens, 17 * tokens)
    assert net.lm_head.weight is not net.model.text_model.embed_tokens.weight
    assert net.config.text_config.vocab_size == 49_280
    assert len(checkpoint.revision or "") == 40


@pytest.mark.parametrize("geometry", ["paligemma-3b", "smolvlm2-500m"])
def test_a_bare_list_of_names_matches_two_towers(geometry: str) -> None:
    """The trap: names without paths match the vision tower's attention too; a family's expression matches one tower."""
    import re

    net = without_weights(geometry)
    config = net.config
    bare = [name for name, _ in net.named_modules() if name.rsplit(".", 1)[-1] in NAMES]
    layers = config.text_config.num_hidden_layers
    assert len(bare) == 7 * layers + 3 * config.vision_config.num_hidden_layers
    expression = target_expression(net, "language_model", LANGUAGE_TARGETS)
    assert sum(re.fullmatch(expression, name) is not None for name in bare) == 7 * layers


@pytest.mark.parametrize("size", [(300, 300), (256, 181), (90, 400), (128, 128), (1000, 999)])
def test_pixels_are_those_of_the_image_processor(size: tuple[int, int]) -> None:
    """One square, of images of any shape: what the library prepares without splitting at the model's own size."""
    image = picture(*size)
    spec = SquaresSpec(resolution_px=128, mean=(0.5,) * 3, std=(0.5,) * 3)
    theirs = SmolVLMImageProcessorPil(
        do_image_splitting=False, size={"longest_edge": 128}, max_image_size={"longest_edge": 128}
    )
    torch.testing.assert_close(spec.pixels(image), theirs(images=[image], return_tensors="pt")["pixel_values"][0])


@pytest.mark.parametrize("side", [60, 128, 700])
def test_squares_are_those_of_the_image_processor(side: int) -> None:
    """Sixteen squares row by row and the whole image, of a square image; any other is stretched to one first."""
    spec = SquaresSpec(resolution_px=64, mean=(0.5,) * 3, std=(0.5,) * 3, split=True)
    theirs = SmolVLMImageProcessorPil(
        do_image_splitting=True, size={"longest_edge": 64 * SQUARES}, max_image_size={"longest_edge": 64}
    )
    image = picture(side, side)
    expected = theirs(images=[image], return_tensors="pt")["pixel_values"][0]
    assert expected.shape == (17, 3, 64, 64)
    torch.testing.assert_close(spec.pixels(image), expected)
    assert spec.pixels(picture(90, 200)).shape == expected.shape


def picture(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("cut", [False, True])
def test_ids_are_those_of_the_chat_template(base: Base, split: Base, cut: bool) -> None:
    """Prefix and suffix together are the ids of the whole conversation, as template and processor write it."""
    from transformers.models.smolvlm.processing_smolvlm import DEFAULT_CHAT_TEMPLATE, get_image_prompt_string

    subject = split if cut else base
    prompter, tokenizer = Prompter(subject.layout), subject.tokenizer
    chat = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": WORDS}]},
        {"role": "assistant", "content": [{"type": "text", "text": CAPTION}]},
    ]
    text = tokenizer.apply_chat_template(chat, chat_template=DEFAULT_CHAT_TEMPLATE, tokenize=False)
    rows = SQUARES if cut else 0
    placeholders = get_image_prompt_string(rows, rows, 16, "<fake_token_around_image>", "<image>", "<global-img>")
    whole = tokenizer(text.replace("<image>", placeholders), add_special_tokens=False)["input_ids"]
    ours = prompter.prefix(WORDS) + prompter.suffix(CAPTION, example_id="x")
    assert ours == whole[: len(ours)]
    assert tokenizer.decode(whole[len(ours) :]) == "\n"
    assert tokenizer.convert_ids_to_tokens(ours[-1]) == "<end_of_utterance>"
    assert prompter.caption(prompter.suffix(CAPTION, example_id="x")) == CAPTION
    assert ours.count(subject.image_token_id) == subject.image_tokens == (17 if cut else 1) * 16


@pytest.mark.parametrize("text", ["a plane <end_of_utterance>", "<image> of a lake", "<|im_end|>", "<row_1_col_2>"])
def test_special_tokens_are_refused(base: Base, text: str) -> None:
    """Neither a caption nor a prompt may spell one; both errors name it."""
    prompter = Prompter(base.layout)
    with pytest.raises(DataError, match=r"RSICD_7.*special token"):
        prompter.suffix(text, example_id="RSICD_7")
    with pytest.raises(DataError, match="special token"):
        prompter.prefix(text)
    with pytest.raises(DataError, match="is empty"):
        prompter.suffix("", example_id="x")


def test_a_template_that_does_not_end_an_answer_is_refused(smolnano: Path, tmp_path: Path) -> None:
    """Without the end-of-turn token a model could not learn to stop; without a template its prompts are unknown."""
    folder = tmp_path / "base"
    shutil.copytree(smolnano, folder)
    file = folder / "chat_template.json"
    template = json.loads(file.read_text(encoding="utf-8"))["chat_template"]
    file.write_text(json.dumps({"chat_template": template.replace("<end_of_utterance>", "")}), encoding="utf-8")
    with pytest.raises(ModelError, match="closes an answer with"):
        load_base(ModelSection(base=str(folder), dtype="float32"))
    file.unlink()
    with pytest.raises(ModelError, match="no chat template"):
        load_base(ModelSection(base=str(folder), dtype="float32"))


def test_the_plan_knows_the_length_of_a_prefix(base: Base, split: Base) -> None:
    """Counted by the tokenizer, without its layout: the length that the encoder makes, of either family, split too."""
    nano = load_base(ModelSection(base="nano", dtype="float32"))
    for subject in (base, split, nano):
        shapes = shapes_of(subject.model.config, name="x", split=subject is split)
        length = shapes.prefix_length(lambda text, one=subject: len(one.layout.encode(text)), WORDS)
        assert length == len(Encoder.of(subject).prompter.prefix(WORDS))
        assert shapes.parameters == sum(parameter.numel() for parameter in subject.model.parameters())


@pytest.mark.parametrize(("dtype", "close"), [("bfloat16", 0.02), ("float16", 0.005)])
def test_products_in_16_bits_give_nearly_the_loss_of_float32(
    base: Base, smolnano: Path, dtype: Any, close: float
) -> None:
    """The packed loss of two images, with stream and norms in the precision that training holds them in."""

    def loss(one: Base) -> float:
        encoder = Encoder.of(one)
        rows = [encoder(example, prefix=WORDS, captions=example.captions) for example in sample_examples()[:2]]
        packed = PackedModel(one.model, compute_dtype=one.compute_dtype)
        with torch.no_grad():
            return float(packed(collate(rows, pad=encoder.prompter.pad)))

    assert loss(load_base(ModelSection(base=str(smolnano), dtype=dtype))) == pytest.approx(loss(base), rel=close)


def test_what_is_saved_asks_for_one_square(base: Base, tmp_path: Path) -> None:
    """The image processor that an export keeps no longer splits; template and the other files are as they were."""
    source = Path(base.name)
    base.processor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text(encoding="utf-8"))
    assert saved["do_image_splitting"] is False
    assert saved["size"] == saved["max_image_size"] == {"longest_edge": 128}
    for name in ("chat_template.json", "processor_config.json"):
        assert (tmp_path / name).read_bytes() == (source / name).read_bytes()
    again = SMOL.load_processor(tmp_path, {})
    image = SMOL.image_spec(again, base.model.config, split=False)
    assert image == base.image
    assert SMOL.layout(again, base.model.config, image).prefix(WORDS) == base.layout.prefix(WORDS)


def test_a_model_of_no_family_is_refused(tmp_path: Path) -> None:
    """Its type is named, with the families that there are; a family that takes images whole refuses to split them."""
    (tmp_path / "config.json").write_text('{"model_type": "llava"}', encoding="utf-8")
    with pytest.raises(ModelError, match="of type 'llava'") as caught:
        load_base(ModelSection(base=str(tmp_path)))
    assert "SmolVLM2 (smolvlm)" in str(caught.value.hint)
    with pytest.raises(ModelError, match="takes an image whole"):
        load_base(ModelSection(base="nano", image_splitting=True))
