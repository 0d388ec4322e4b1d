"""Quantisation after loading, for adapters that start from unquantised weights and quantise the remainder."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from rscap.errors import ModelError
from rscap.model.families import family_of
from rscap.recipe import ModelSection


@torch.no_grad()
def quantise(net: Any, section: ModelSection) -> None:
    """Hold the linear layers of `section.quantise` in `section.quantisation`, as `load_base` would have loaded them.

    NF4 with double quantisation and products in the recipe's dtype (QLoRA, arXiv:2305.14314), or 8-bit rows
    (LLM.int8(), arXiv:2208.07339). Layers are replaced in place, one after the other.

    Raises:
        ModelError: the section names no quantisation, or a layer is quantised already.
    """
    make = {"nf4": _nf4, "int8": _int8}.get(section.quantisation)
    if make is None:
        raise ModelError(f"unknown model.quantisation {section.quantisation!r}: use 'nf4' or 'int8'")
    compute = torch.bfloat16 if section.dtype == "float32" else getattr(torch, section.dtype)
    family = family_of(net)
    for tower in section.quantise:
        root = family.part(net, tower)
        for name, module in [*root.named_modules()]:
            if not isinstance(module, nn.Linear):
                continue
            if type(module) is not nn.Linear:
                raise ModelError(f"{tower}.{name} is already a {type(module).__name__}")
            parent, _, own = name.rpartition(".")
            setattr(root.get_submodule(parent), own, make(module, compute))
    setattr(net, {"nf4": "is_loaded_in_4bit", "int8": "is_loaded_in_8bit"}[section.quantisation], True)
    keep_layout(net)


def keep_layout(net: nn.Module) -> None:
    """Keep 4-bit weights in the one layout that can be trained and dequantised.

    On CPUs with AVX-512 BF16, bitsandbytes repacks them at the first forward pass in evaluation mode, with rounded
    scales. From then on no gradient passes, and DoRA and HiRA would read the packed bytes as weights.
    """
    for module in net.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            setattr(module, "support_avx512bf16_for_cpu", False)  # noqa: B010


def _nf4(layer: nn.Linear, compute_dtype: torch.dtype) -> nn.Linear:
    from bitsandbytes.nn import Linear4bit, Params4bit

    with torch.device("meta"):
        made = Linear4bit(
            layer.in_features,
            layer.out_features,
            bias=layer.bias is not None,
            compute_dtype=compute_dtype,
            compress_statistics=True,
            quant_type="nf4",
        )
    made.weight = Params4bit(
        layer.weight.data, requires_grad=False, compress_statistics=True, quant_type="nf4", module=made
    ).to(layer.weight.device)
    return _finished(made, layer)


def _int8(layer: nn.Linear, _: torch.dtype) -> nn.Linear:
    from bitsandbytes.nn import Int8Params, Linear8bitLt

    with torch.device("meta"):
        made = Linear8bitLt(
            layer.in_features, layer.out_features, bias=layer.bias is not None, has_fp16_weights=False, threshold=6.0
        )
    made.weight = Int8Params(layer.weight.data.cpu(), requires_grad=False, has_fp16_weights=False).to(
        layer.weight.device
    )
    return _finished(made, layer)


def _finished(made: nn.Linear, layer: nn.Linear) -> nn.Linear:
    made.bias = layer.bias
    made.requires_grad_(False)
    return made.train(layer.training)
