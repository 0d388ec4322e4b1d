"""SmolVLM2 (arXiv:2504.05299): SigLIP, pixel shuffle and one matrix, a Llama-type SmolLM2.

    prefix   <|im_start|> User : <fake> <global-img> <image> x I <fake>   words   <end_of_utterance> \\n Assistant :
    suffix   words of the caption   <end_of_utterance>

Every token sees the tokens before it and itself, image tokens too. The words around the prompt are those of the model's
own chat template; the words around the image are those of transformers' `SmolVLMProcessor`, which itself cannot be
loaded without num2words and torchvision, so tokenizer and image processor are loaded apart.

**An image is one square by default.** The checkpoints' image processor enlarges every image, however small, and cuts it
into sixteen squares and the whole: 1,088 image tokens instead of 64 (1,377 instead of 81 for 2.2B). `split` asks for
that; an image that is not square is then stretched to one, so that every image has equally many tokens.

Geometries are those of the checkpoints' config.json on the Hub. Their sizes stand here and not in class defaults, which
are other models'.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from PIL.Image import Image, Resampling
from torch import Tensor
from transformers import AutoTokenizer, SmolVLMConfig, SmolVLMForConditionalGeneration
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil
from transformers.models.smolvlm.processing_smolvlm import get_image_prompt_string
from transformers.utils.hub import cached_file

from rscap.errors import ModelError
from rscap.model.families.family import (
    Checkpoint,
    Family,
    ImageSpec,
    Layout,
    Licence,
    Traits,
    Usage,
    require_tokens,
)

SQUARES = 4
"""Squares along each side of an image that is split: 2,048 px of 512, and 1,536 px of 384 for 2.2B."""

_IMAGE, _FAKE, _GLOBAL = "<image>", "<fake_token_around_image>", "<global-img>"
_MARK = "\ue000"
"""Stands for a caption while the chat template is read: a character of private use, which no template spells."""


def _vision(hidden: int, layers: int, *, heads: int, mlp: int, patch: int, image: int) -> dict[str, Any]:
    return {
        "model_type": "smolvlm_vision",
        "hidden_size": hidden,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "patch_size": patch,
        "image_size": image,
    }


def _llama(hidden: int, layers: int, *, heads: int, groups: int, mlp: int, vocabulary: int = 49280) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "head_dim": hidden // heads,
        "vocab_size": vocabulary,
        "rms_norm_eps": 1e-5,
        "rope_theta": 100000.0,
        "max_position_embeddings": 8192,
        "pad_token_id": 2,
    }


_SIGLIP_B = _vision(768, 12, heads=12, mlp=3072, patch=16, image=512)
_SO400M = _vision(1152, 27, heads=16, mlp=4304, patch=14, image=384)


def smolvlm_config(name: str, *, vocabulary: int | None = None, image_token_id: int | None = None) -> SmolVLMConfig:
    """The configuration of a named geometry.

    `smolvlm2-256m`, `smolvlm2-500m` and `smolvlm2-2.2b` are the checkpoints; `bench-smol` is the benchmark's, and
    `smolnano` is for tests (both want the tokenizer's `vocabulary` and `image_token_id`).

    Raises:
        ModelError: no such geometry; lists those there are.
    """
    small = vocabulary or 4096
    towers: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
        "smolvlm2-256m": (_SIGLIP_B, _llama(576, 30, heads=9, groups=3, mlp=1536), 4),
        "smolvlm2-500m": (_SIGLIP_B, _llama(960, 32, heads=15, groups=5, mlp=2560), 4),
        "smolvlm2-2.2b": (_SO400M, _llama(2048, 24, heads=32, groups=32, mlp=8192), 3),
        "bench-smol": (
            _vision(192, 4, heads=3, mlp=768, patch=16, image=256),
            _llama(384, 10, heads=6, groups=2, mlp=1024, vocabulary=small),
            2,
        ),
        "smolnano": (
            _vision(64, 2, heads=2, mlp=128, patch=16, image=128),
            _llama(96, 3, heads=6, groups=2, mlp=192, vocabulary=small),
            2,
        ),
    }
    if name not in towers:
        raise ModelError(f"no geometry named {name!r}; there are {', '.join(towers)}")
    vision, text, scale = towers[name]
    whole = text["vocab_size"] == 49280
    return SmolVLMConfig(
        vision_config=dict(vision),
        text_config=dict(text),
        scale_factor=scale,
        image_token_id=image_token_id if image_token_id is not None else 49190 if whole else text["vocab_size"] - 1,
        tie_word_embeddings=False,
        pad_token_id=2,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SquaresSpec(ImageSpec):
    """One square; or, where an image is `split`, SQUARES x SQUARES of them, row by row, and the whole image last."""

    split: bool = False

    @property
    def crops(self) -> int:
        return SQUARES**2 + 1 if self.split else 1

    @property
    def resampling(self) -> str:
        return "interpolation-lanczos4"  # the extension has no other of Lanczos's kernels; this one has three lobes

    def pixels(self, image: Image) -> Tensor:
        """An RGB image as float[C, 3, R, R] of C squares, resized by Lanczos's kernel."""
        side = self.resolution_px
        if not self.split:
            return self.normalised(self.resized(self._fitted(image), Resampling.LANCZOS)).unsqueeze(0)
        whole = SQUARES * side
        large = image if image.size == (whole, whole) else image.resize((whole, whole), Resampling.LANCZOS)
        corners = [(left, top) for top in range(0, whole, side) for left in range(0, whole, side)]
        squares = [large.crop((left, top, left + side, top + side)) for left, top in corners]
        return torch.stack([self.normalised(one) for one in (*squares, self.resized(large, Resampling.LANCZOS))])

    def _fitted(self, image: Image) -> Image:
        """The image with its longer edge at the resolution, the shorter one rounded up to an even number of pixels."""
        side, (width, height) = self.resolution_px, image.size
        if width >= height:
            size = side, max(1, _even(int(side / (width / height))))
        else:
            size = max(1, _even(int(side * (width / height)))), side
        return image if image.size == size else image.resize(size, Resampling.LANCZOS)


def _even(pixels: int) -> int:
    return pixels + pixels % 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SmolVLMLayout(Layout):
    """The chat template around image and words; a caption is the assistant's answer."""

    image_text: str
    """The image's placeholders with the tokens around them."""
    template: str
    """Jinja, rendered in the tokenizer's sandbox."""
    lead: str
    """What stands between the prefix and a caption: a space."""
    end: int
    """The token that ends an answer."""
    first_position: int = 0

    @property
    def eos(self) -> int:
        return self.end

    @property
    def special(self) -> frozenset[int]:
        return frozenset(index for index, token in self.tokenizer.added_tokens_decoder.items() if token.special)

    def prefix(self, words: str) -> list[int]:
        text = rendered(self.tokenizer, self.template, words)
        return self.encode(text.replace(_IMAGE, self.image_text, 1))

    def suffix(self, caption: str) -> list[int]:
        return [*(self.encode(f"{self.lead}{caption}") if caption else []), self.end]


def rendered(tokenizer: Any, template: str, words: str, answer: str | None = None) -> str:
    """The chat of one user, with an image and words, and an answer; ready for one where none is given."""
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": words}]}]
    if answer is not None:
        chat.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    text: str = tokenizer.apply_chat_template(
        chat, chat_template=template, tokenize=False, add_generation_prompt=answer is None
    )
    return text


class Parts:
    """Tokenizer and image processor in place of `SmolVLMProcessor`, with the files that the checkpoint has for both."""

    KEPT = ("processor_config.json", "chat_template.json", "chat_template.jinja", "video_preprocessor_config.json")
    """Files of a checkpoint that nothing here writes, and that others read."""

    def __init__(self, source: str | Path, options: Mapping[str, Any]) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(source, **options)
        self.image_processor: Any = SmolVLMImageProcessorPil.from_pretrained(source, **options)
        found = {name: _file(source, name, options) for name in self.KEPT}
        self.files = {name: file for name, file in found.items() if file is not None}
        self.template = self._template()

    def _template(self) -> str:
        if self.tokenizer.chat_template:
            return str(self.tokenizer.chat_template)
        if "chat_template.json" in self.files:
            return str(json.loads(self.files["chat_template.json"].read_text(encoding="utf-8"))["chat_template"])
        raise ModelError(
            "the checkpoint has no chat template, without which its prompts are unknown",
            hint="it is in chat_template.json or chat_template.jinja, or in tokenizer_config.json",
        )

    def follow(self, image: SquaresSpec) -> None:
        """Make the image processor prepare what `image` prepares, also after it was saved and loaded."""
        side = image.resolution_px
        self.image_processor.do_image_splitting = image.split
        self.image_processor.size = {"longest_edge": SQUARES * side if image.split else side}
        self.image_processor.max_image_size = {"longest_edge": side}

    def save_pretrained(self, folder: str | Path) -> None:
        """Write what transformers needs to prepare the same inputs, and the other files as the checkpoint has them."""
        for name, file in self.files.items():
            shutil.copyfile(file, Path(folder) / name)
        self.tokenizer.save_pretrained(folder)
        self.image_processor.save_pretrained(folder)
        self._follow_inside(Path(folder) / "processor_config.json")

    def _follow_inside(self, file: Path) -> None:
        """transformers 5 keeps a copy of the image processor inside processor_config.json, and reads that first."""
        if not file.is_file():
            return
        table = json.loads(file.read_text(encoding="utf-8"))
        if "image_processor" in table:
            table["image_processor"] |= {
                name: getattr(self.image_processor, name) for name in ("do_image_splitting", "size", "max_image_size")
            }
            file.write_text(json.dumps(table, indent=2, default=dict) + "\n", encoding="utf-8")


def _file(source: str | Path, name: str, options: Mapping[str, Any]) -> Path | None:
    found = cached_file(
        str(source),
        name,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        **options,
    )
    return Path(found) if found else None


_TERMS = """\
The base model {base} is published under the Apache License 2.0. **These weights were changed by fine-tuning; they are
not its makers' release.**"""

_ASK = """
image = Image.open("image.jpg").convert("RGB")
chat = [{{"role": "user", "content": [{{"type": "image"}}, {{"type": "text", "text": {words}}}]}}]
text = processor.apply_chat_template(chat, add_generation_prompt=True)
inputs = processor(text=text, images=[image], return_tensors="pt").to(torch.{dtype})
with torch.inference_mode():
    ids = model.generate(**inputs, {arguments})
print(processor.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip())
"""


_CHECKPOINTS = {
    "256M-Video-Instruct": ("smolvlm2-256m", "067788b187b95ebe7b2e040b3e4299e342e5b8fd"),
    "500M-Video-Instruct": ("smolvlm2-500m", "7b375e1b73b11138ff12fe22c8f2822d8fe03467"),
    "2.2B-Instruct": ("smolvlm2-2.2b", "482adb537c021c86670beed01cd58990d01e72e4"),
}


class SmolVLM(Family):
    """SmolVLM2 in three sizes."""

    name = "smolvlm"
    title = "SmolVLM2"
    checkpoints = MappingProxyType(
        {f"HuggingFaceTB/SmolVLM2-{name}": Checkpoint(*one) for name, one in _CHECKPOINTS.items()}
    )
    special_ids = MappingProxyType(
        {"vocabulary": 49_280, "image": 49_190, "square": 64, "bos": 1, "eos": 49_279, "pad": 2}
    )
    geometries = ("smolvlm2-256m", "smolvlm2-500m", "smolvlm2-2.2b", "bench-smol", "smolnano")
    modules = MappingProxyType(
        {
            "vision_tower": ("model.vision_model",),
            "projector": ("model.connector",),
            "language_model": ("model.text_model", "lm_head"),  # the head is a matrix of its own
        }
    )
    adapted = MappingProxyType(
        {
            "vision_tower": r"model\.vision_model\.encoder\.layers\.\d+\.(?:self_attn|mlp)\.",
            "language_model": r"model\.text_model\.layers\.\d+\.(?:self_attn|mlp)\.",
        }
    )
    causal_prefix = True
    first_position = 0
    default_prompt = "Describe this aerial image in one sentence."
    squares = SQUARES**2 + 1
    published = "HuggingFaceTB/SmolVLM2"
    licence = Licence(hub_id="apache-2.0", text=_TERMS)
    usage = Usage(
        imports="AutoProcessor, SmolVLMForConditionalGeneration",
        model="SmolVLMForConditionalGeneration",
        processor="processor = AutoProcessor.from_pretrained({source})  # needs num2words and torchvision",
        ask=_ASK,
    )

    def config(self, geometry: str, *, vocabulary: int | None = None, image_token_id: int | None = None) -> Any:
        return smolvlm_config(geometry, vocabulary=vocabulary, image_token_id=image_token_id)

    @property
    def model_class(self) -> Any:
        return SmolVLMForConditionalGeneration

    def load_processor(self, source: str | Path, options: Mapping[str, Any]) -> Any:
        return Parts(source, options)

    def image_spec(self, processor: Any, config: Any, *, split: bool) -> ImageSpec:
        image = processor.image_processor
        spec = SquaresSpec(
            resolution_px=int(config.vision_config.image_size),
            mean=tuple(float(value) for value in image.image_mean),  # type: ignore[arg-type]
            std=tuple(float(value) for value in image.image_std),  # type: ignore[arg-type]
            split=split,
        )
        processor.follow(spec)
        return spec

    def layout(self, processor: Any, config: Any, image: ImageSpec) -> Layout:
        tokenizer, template = processor.tokenizer, processor.template
        require_tokens(tokenizer, "pad", title=self.title)
        tokens = self.image_tokens(config, image)
        rows = SQUARES if image.crops > 1 else 0
        lead, end = _answer(tokenizer, template)
        return SmolVLMLayout(
            tokenizer=tokenizer,
            image_token_id=config.image_token_id,
            image_tokens=tokens,
            image_text=get_image_prompt_string(rows, rows, tokens // image.crops, _FAKE, _IMAGE, _GLOBAL),
            template=template,
            lead=lead,
            end=end,
        )

    def see(self, net: Any, pixels: Tensor) -> Tensor:
        images, crops = pixels.shape[:2]
        seen = net.model.vision_model(pixel_values=pixels.flatten(0, 1)).last_hidden_state
        return seen.reshape(images, crops * seen.shape[1], seen.shape[2])

    def project(self, net: Any, seen: Tensor) -> Tensor:
        patches = self.seen_tokens(net.config)
        squares = seen.reshape(-1, patches, seen.shape[2])
        return net.model.connector(squares).reshape(seen.shape[0], -1, net.config.text_config.hidden_size)

    def embed(self, net: Any, tokens: Tensor, features: Tensor) -> Tensor:
        words = net.model.text_model.embed_tokens(tokens)
        stands = tokens == net.config.image_token_id
        # The n-th image token of a row takes the n-th feature; elsewhere any is taken, and dropped.
        places = (stands.cumsum(dim=1) - 1).clamp(min=0).unsqueeze(2).expand(-1, -1, words.shape[2])
        return torch.where(stands.unsqueeze(2), features.to(words.dtype).gather(1, places), words)

    def traits(self, config: Any) -> Traits:
        vision, text = config.vision_config, config.text_config
        return Traits(
            norms=2,
            capped=False,
            window=None,
            tied=bool(config.tie_word_embeddings),
            projector=(vision.hidden_size * config.scale_factor**2, text.hidden_size),
            projector_bias=False,
            merged=config.scale_factor**2,
            positions=(vision.image_size // vision.patch_size) ** 2,
        )

    def prefix_length(self, count: Callable[[str], int], words: str, *, image_tokens: int, crops: int) -> int:
        # Two tokens open a square, one closes the image, and newlines end the rows of squares.
        lines = (SQUARES - 1) * count("\n") + count("\n\n") if crops > 1 else 0
        around = 2 * crops + 1 + lines
        return 2 + around + image_tokens + count("User:") + count(words) + count("\nAssistant:")

    def inputs(
        self, processor: Any, layout: Layout, image: Image, prefix: str, suffix: str | None = None
    ) -> dict[str, Tensor]:
        start, end = layout.prefix(prefix), [] if suffix is None else layout.suffix(suffix)
        ids = torch.tensor([start + end])
        given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        given |= dict(processor.image_processor(images=[image], return_tensors="pt"))
        if suffix is not None:
            given["labels"] = torch.tensor([[-100] * len(start) + end])
        return given


def _answer(tokenizer: Any, template: str) -> tuple[str, int]:
    """What stands before an answer, and the token that ends it, read from the chat template.

    Raises:
        ModelError: an answer does not follow the prompt, or no special token ends it.
    """
    asked, whole = rendered(tokenizer, template, "words"), rendered(tokenizer, template, "words", _MARK)
    lead, _, tail = whole.removeprefix(asked).partition(_MARK)
    if not whole.startswith(asked) or _IMAGE not in asked or _MARK not in whole:
        raise ModelError(
            "the chat template puts an answer elsewhere than behind its prompt, or has no place for an image",
            hint="use the template that the checkpoint was published with",
        )
    end = tokenizer(tail, add_special_tokens=False)["input_ids"][:1]
    if not end or not tokenizer.added_tokens_decoder.get(end[0], None) or not tail.strip():
        raise ModelError(
            f"the chat template closes an answer with {tail!r}, which is no special token of the tokenizer: a model "
            "could not learn to stop",
            hint="SmolVLM2's answers end in <end_of_utterance>; use the checkpoint's own tokenizer and template",
        )
    return lead, int(end[0])
