"""PaliGemma (arXiv:2407.07726) and PaliGemma 2 (arXiv:2412.03555): SigLIP, one matrix, Gemma or Gemma 2.

    prefix   <image> x I   <bos>   words of the prompt   newline        sees itself, both ways
    suffix   words of the caption   <eos>                               sees the prefix and its own past

The same ids come from transformers' `PaliGemmaProcessor`. Geometries are written with every number explicit, since
transformers' defaults are not PaliGemma-3B's; their source is the checkpoints' config.json on the Hub.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor
from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration, PaliGemmaProcessor

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

_SO400M = {
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "patch_size": 14,
    "image_size": 224,
    "vision_use_head": False,
}

_GEMMA_2B = {
    "model_type": "gemma",
    "hidden_size": 2048,
    "intermediate_size": 16384,
    "num_hidden_layers": 18,
    "num_attention_heads": 8,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "vocab_size": 257216,
}

_GEMMA2_2B = {
    "model_type": "gemma2",
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
    "vocab_size": 257216,
}

_GEMMA2_9B = {
    **_GEMMA2_2B,
    "hidden_size": 3584,
    "intermediate_size": 14336,
    "num_hidden_layers": 42,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
}

_GEMMA2_27B = {
    **_GEMMA2_2B,
    "hidden_size": 4608,
    "intermediate_size": 36864,
    "num_hidden_layers": 46,
    "num_attention_heads": 32,
    "num_key_value_heads": 16,
    "head_dim": 128,
    "query_pre_attn_scalar": 144,  # width a head, 4608 / 32; not the width of its keys
}

_PUBLISHED = {
    "paligemma-3b": _GEMMA_2B,
    "paligemma2-3b": _GEMMA2_2B,
    "paligemma2-10b": _GEMMA2_9B,
    "paligemma2-28b": _GEMMA2_27B,
}
"""Language models of the published checkpoints; their vision tower is the same."""


def _vision(hidden: int, layers: int, *, patch: int) -> dict[str, Any]:
    return {
        "model_type": "siglip_vision_model",
        "hidden_size": hidden,
        "intermediate_size": 4 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 64,
        "patch_size": patch,
        "image_size": 224,
        "vision_use_head": False,
    }


def _gemma(hidden: int, layers: int, *, vocabulary: int) -> dict[str, Any]:
    return {
        "model_type": "gemma",
        "hidden_size": hidden,
        "intermediate_size": 4 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 64,
        "num_key_value_heads": 1,
        "head_dim": 64,
        "vocab_size": vocabulary,
    }


def _gemma2(hidden: int, layers: int, *, vocabulary: int, window: int) -> dict[str, Any]:
    return {
        **_gemma(hidden, layers, vocabulary=vocabulary),
        "model_type": "gemma2",
        "num_key_value_heads": 2,
        "query_pre_attn_scalar": 64,
        "sliding_window": window,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    }


def paligemma_config(name: str, *, vocabulary: int | None = None, image_token_id: int | None = None) -> PaliGemmaConfig:
    """The configuration of a named geometry.

    `paligemma-3b`, `paligemma2-3b`, `-10b` and `-28b` are the published checkpoints at 224 px, and `paligemma-3b-448`
    and so on those at 448 and 896; `bench-7M` and `bench-49M` the benchmark's;
    `nano` the built-in model and `nano2` its Gemma 2 twin with a window of 40 (both want the tokenizer's `vocabulary`
    and `image_token_id`).

    Raises:
        ModelError: no such geometry; lists those there are.
    """
    towers: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        **{name: (_SO400M, text) for name, text in _PUBLISHED.items()},
        **{
            f"{name}-{px}": ({**_SO400M, "image_size": px}, text)
            for name, text in _PUBLISHED.items()
            for px in (448, 896)
        },
        "bench-7M": (_vision(256, 4, patch=14), _gemma(256, 4, vocabulary=vocabulary or 4096)),
        "bench-49M": (_vision(384, 8, patch=14), _gemma(512, 8, vocabulary=vocabulary or 4096)),
        "nano": (_vision(192, 4, patch=28), _gemma(256, 4, vocabulary=vocabulary or 4096)),
        "nano2": (_vision(64, 2, patch=28), _gemma2(128, 2, vocabulary=vocabulary or 4096, window=40)),
    }
    if name not in towers:
        raise ModelError(f"no geometry named {name!r}; there are {', '.join(towers)}")
    vision, text = towers[name]
    image_token = (
        image_token_id
        if image_token_id is not None
        else {257216: 257152}.get(text["vocab_size"], text["vocab_size"] - 1)
    )
    return PaliGemmaConfig(
        vision_config=dict(vision),
        text_config={**text, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2},
        image_token_index=image_token,
        projection_dim=text["hidden_size"],
        hidden_size=text["hidden_size"],
        bos_token_id=2,
        eos_token_id=1,
        pad_token_id=0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PaliGemmaLayout(Layout):
    """Image tokens first, then `<bos>`, the words and a newline."""

    first_position: int = 1

    def __post_init__(self) -> None:
        require_tokens(self.tokenizer, "bos", "eos", "pad", title="PaliGemma")

    @property
    def special(self) -> frozenset[int]:
        return frozenset({self.tokenizer.bos_token_id, self.eos, self.pad, self.image_token_id})

    def prefix(self, words: str) -> list[int]:
        ids = self.encode(f"{words}\n")
        return [self.image_token_id] * self.image_tokens + [self.tokenizer.bos_token_id, *ids]

    def suffix(self, caption: str) -> list[int]:
        return [*self.encode(caption), self.eos]


_TERMS = """\
The base model {base} is Google's and stands under the
[Gemma Terms of Use](https://ai.google.dev/gemma/terms). What is derived from it, this model included, may be passed on
under the conditions of their section 3.1: among others, the use restrictions of section 3.2 and the
[Prohibited Use Policy](https://ai.google.dev/gemma/prohibited_use_policy) go with it, recipients get a copy of the
terms, and the file NOTICE stays with the weights. **These weights were changed by fine-tuning; they are not Google's
release.**"""

_ASK = """
image = Image.open("image.jpg").convert("RGB")
inputs = processor(text={words}, images=image, return_tensors="pt").to(torch.{dtype})
with torch.inference_mode():
    ids = model.generate(**inputs, {arguments})
print(processor.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
"""


_PINNED = {
    "google/paligemma-3b-pt-224": "35e4f46485b4d07967e7e9935bc3786aad50687c",
    "google/paligemma2-3b-pt-224": "96eeb174da13ca1a2b247e4d0867436296c36420",
}


def _published() -> dict[str, Checkpoint]:
    """Google's checkpoints: pretrained (`pt`) at three image sizes and tuned on a mixture of tasks (`mix`) at two."""
    sizes = {"paligemma": ("3b",), "paligemma2": ("3b", "10b", "28b")}
    found = {}
    for generation, kind, px in product(sizes, ("pt", "mix"), (224, 448, 896)):
        for size in sizes[generation] if (kind, px) != ("mix", 896) else ():
            name = f"google/{generation}-{size}-{kind}-{px}"
            geometry = f"{generation}-{size}" + ("" if px == 224 else f"-{px}")
            branches = ("bfloat16", "float16") if generation == "paligemma" else ()
            found[name] = Checkpoint(geometry, _PINNED.get(name), branches)
    return found


class PaliGemma(Family):
    """PaliGemma 1 and 2."""

    name = "paligemma"
    title = "PaliGemma"
    checkpoints = MappingProxyType(_published())
    special_ids = MappingProxyType(
        {"vocabulary": 257_216, "image": 257_152, "square": 256, "bos": 2, "eos": 1, "pad": 0}
    )
    geometries = (
        *_PUBLISHED,
        *(f"{name}-{px}" for name in _PUBLISHED for px in (448, 896)),
        *("bench-7M", "bench-49M", "nano", "nano2"),
    )
    modules = MappingProxyType(
        {
            "vision_tower": ("model.vision_tower",),
            "projector": ("model.multi_modal_projector",),
            "language_model": ("model.language_model",),  # the head is tied to its embeddings
        }
    )
    adapted = MappingProxyType(
        {
            "vision_tower": r"model\.vision_tower\.(?:vision_model\.)?encoder\.layers\.\d+\.(?:self_attn|mlp)\.",
            "language_model": r"model\.language_model\.layers\.\d+\.(?:self_attn|mlp)\.",
        }
    )
    causal_prefix = False
    first_position = 1
    default_prompt = "caption en"
    published = "google/paligemma"
    licence = Licence(
        hub_id="gemma",
        text=_TERMS,
        # The text that section 3.1 of the Gemma Terms of Use wants in a file NOTICE beside every copy.
        notice="Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms\n",
    )
    usage = Usage(
        imports="PaliGemmaForConditionalGeneration, PaliGemmaProcessor",
        model="PaliGemmaForConditionalGeneration",
        processor="processor = PaliGemmaProcessor.from_pretrained({source})",
        ask=_ASK,
        before_words="<image>",
    )

    def config(self, geometry: str, *, vocabulary: int | None = None, image_token_id: int | None = None) -> Any:
        return paligemma_config(geometry, vocabulary=vocabulary, image_token_id=image_token_id)

    @property
    def model_class(self) -> Any:
        return PaliGemmaForConditionalGeneration

    def load_processor(self, source: str | Path, options: Mapping[str, Any]) -> Any:
        return PaliGemmaProcessor.from_pretrained(source, **options)

    def image_spec(self, processor: Any, config: Any, *, split: bool) -> ImageSpec:
        image = processor.image_processor
        return ImageSpec(
            resolution_px=int(image.size["height"]),
            mean=tuple(float(value) for value in image.image_mean),  # type: ignore[arg-type]
            std=tuple(float(value) for value in image.image_std),  # type: ignore[arg-type]
        )

    def layout(self, processor: Any, config: Any, image: ImageSpec) -> Layout:
        return PaliGemmaLayout(
            tokenizer=processor.tokenizer,
            image_token_id=config.image_token_id,
            image_tokens=self.image_tokens(config, image),
        )

    def image_tokens(self, config: Any, image: ImageSpec | None = None) -> int:
        tokens: int = config.text_config.num_image_tokens
        return tokens

    def see(self, net: Any, pixels: Tensor) -> Tensor:
        return net.model.vision_tower(pixels).last_hidden_state

    def project(self, net: Any, seen: Tensor) -> Tensor:
        return net.model.multi_modal_projector(seen)

    def embed(self, net: Any, tokens: Tensor, features: Tensor) -> Tensor:
        # The image tokens open every row, so that features stand in their place without a scatter.
        words = net.model.language_model.embed_tokens(tokens[:, self.image_tokens(net.config) :])
        return torch.cat([features.to(words.dtype), words], dim=1)

    def traits(self, config: Any) -> Traits:
        vision, text = config.vision_config, config.text_config
        gemma2 = text.model_type == "gemma2"
        return Traits(
            norms=4 if gemma2 else 2,
            capped=gemma2,
            window=text.sliding_window if gemma2 else None,
            tied=True,
            projector=(vision.hidden_size, text.hidden_size),
            projector_bias=True,
            merged=1,
            positions=(vision.image_size // vision.patch_size) ** 2,
        )

    def prefix_length(self, count: Callable[[str], int], words: str, *, image_tokens: int, crops: int) -> int:
        return image_tokens + 1 + count(f"{words}\n")

    def inputs(
        self, processor: Any, layout: Layout, image: Image, prefix: str, suffix: str | None = None
    ) -> dict[str, Tensor]:
        # Lists first, tensors after: asked for tensors at once, the processor makes a detour that NumPy deprecates.
        given = processor(text=f"<image>{prefix}", images=image, suffix=suffix).convert_to_tensors("pt")
        return dict(given)
