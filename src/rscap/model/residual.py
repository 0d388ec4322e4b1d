"""float16 for cards without bfloat16: the residual streams stay in float32.

Gemma's residual stream outgrows float16's 65,504 within a few layers. What enters the streams, embeddings and image
features, is therefore given in float32; every layer then adds its float16 output to a float32 sum, and normalises it
in float32, while products stay in float16.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def keep_residual_in_float32(paligemma: Any) -> None:
    """Have both towers of a PaliGemma begin their residual streams in float32; does nothing a second time."""
    model = paligemma.model
    vision = getattr(model.vision_tower, "vision_model", model.vision_tower)
    for norm in vision.modules():
        if isinstance(norm, nn.LayerNorm):
            norm.float()  # small, and a float32 stream is normalised by float32 weights
    for module in (model.language_model.embed_tokens, vision.embeddings):
        if not any(hook is _to_float32 for hook in module._forward_hooks.values()):
            module.register_forward_hook(_to_float32)


def _to_float32(module: nn.Module, given: tuple[Any, ...], made: Tensor) -> Tensor:
    return made.to(torch.float32)
