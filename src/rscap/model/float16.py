"""float16 for cards without bfloat16: numbers that outgrow its 65,504 are held in float32, or scaled.

The residual streams of both towers outgrow it within a few layers. Embeddings and image features therefore enter the
streams in float32; every layer adds its output to a float32 sum and normalises it in float32.

Inside Gemma's blocks two more places outgrow it. One is the product of gate and up, and the output of `down_proj` with
it: the gate is scaled by 1/16, and the output, which is linear in the gate, by 16 again in float32. The other is Gemma
2's norms after attention and MLP, which multiply by up to some tens: they read float32 and therefore return float32.
Matrix products stay in float16. `rscap.model.activations` measures how far the rest is from the limit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rscap.model.families import family_of

SCALE = 2.0**-4
"""Of the MLP's product: exact, leaves room for products of a million, and costs those below 1e-3 some digits that no
sum notices."""


def hold_in_float32(bare: Any) -> None:
    """Prepare a model, of any family, for products in float16; a second call changes nothing."""
    family = family_of(bare)
    tower, language = family.part(bare, "vision_tower"), family.part(bare, "language_model")
    vision = getattr(tower, "vision_model", tower)
    if any(hook is _to_float32 for hook in language.embed_tokens._forward_hooks.values()):
        return
    for norm in vision.modules():
        if isinstance(norm, nn.LayerNorm):
            norm.float()  # small, and a float32 stream is normalised by float32 weights
    for module in (language.embed_tokens, vision.embeddings):
        module.register_forward_hook(_to_float32)
    for layer in language.layers:
        layer.mlp.act_fn.register_forward_hook(_scaled)
        layer.mlp.register_forward_hook(_unscaled)
        _scale_outliers(layer.mlp.down_proj)
        if hasattr(layer, "post_feedforward_layernorm"):
            layer.post_attention_layernorm.register_forward_pre_hook(_from_float32)


def _to_float32(module: nn.Module, given: tuple[Any, ...], made: Tensor) -> Tensor:
    return made.to(torch.float32)


def _from_float32(module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (given[0].to(torch.float32), *given[1:])


def _scaled(module: nn.Module, given: tuple[Any, ...], made: Tensor) -> Tensor:
    return made * SCALE


def _unscaled(module: nn.Module, given: tuple[Any, ...], made: Tensor) -> Tensor:
    return made.to(torch.float32) / SCALE  # Gemma 2's norm behind it reads this float32


def _scale_outliers(down: Any) -> None:
    """What 8-bit layers take for an outlying feature (arXiv:2208.07339) is scaled as their input is."""
    layer = getattr(down, "base_layer", down)
    if type(layer).__name__ == "Linear8bitLt":
        layer.state.threshold *= SCALE
