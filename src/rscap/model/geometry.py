"""Geometries by name, with every number explicit: transformers' defaults are not PaliGemma-3B's.

Sources: the checkpoints' config.json on the Hub; PaliGemma (arXiv:2407.07726), PaliGemma 2 (arXiv:2412.03555).
"""

from __future__ import annotations

from typing import Any

from transformers import PaliGemmaConfig

from rscap.errors import ModelError

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
