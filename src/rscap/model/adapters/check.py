"""Read the adapter back from every layer: a method that was not applied is an error, never a fallback."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from rscap.errors import AdapterError
from rscap.methods import METHODS, learned_by_layer, starting_rank
from rscap.model.adapters.config import scale
from rscap.model.adapters.start import Factors
from rscap.model.adapters.targets import TargetLayers
from rscap.recipe import AdapterSection


def check_layers(wrapped: Any, targets: TargetLayers, adapter: AdapterSection, factors: Mapping[str, Factors]) -> None:
    """Every target, and nothing else, carries the method with its rank, scale, dropout and count of parameters.

    Raises:
        AdapterError: names the first layer that does not, and what it carries instead.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    found = {
        name: module for name, module in wrapped.get_base_model().named_modules() if isinstance(module, BaseTunerLayer)
    }
    if (absent := targets.layers.keys() - found.keys()) or (extra := found.keys() - targets.layers.keys()):
        named = sorted(absent) or sorted(extra)
        raise AdapterError(
            f"{len(found)} layers carry an adapter where {len(targets.layers)} were asked for; first: {named[0]}"
        )
    for name, layer in found.items():
        rank = len(factors[name].a) if name in factors else adapter.rank
        differences = [
            f"{what} {there!r}, expected {wanted!r}"
            for what, (there, wanted) in _facts(layer, adapter, rank).items()
            if not _same(there, wanted)
        ]
        if name in factors and not torch.equal(layer.lora_A["default"].weight.cpu(), factors[name].a.cpu()):
            differences.append("its A matrix is not the method's start")
        if differences:
            raise AdapterError(f"{name} does not carry {adapter.method} as the recipe asks: {'; '.join(differences)}")


def _facts(layer: Any, adapter: AdapterSection, rank: int) -> dict[str, tuple[object, object]]:
    """What a layer carries, paired with what it should carry."""
    kind = {"layer": (_method_of(layer), "lora" if METHODS[adapter.method].lora else adapter.method)}
    if kind["layer"][0] != kind["layer"][1]:
        return dict(kind)
    trainable = [parameter for parameter in layer.parameters() if parameter.requires_grad]
    wanted = learned_by_layer(
        adapter.method,
        inputs=layer.in_features,
        outputs=layer.out_features,
        rank=rank,
        weight_decomposed=adapter.weight_decomposed,
    )
    begins = starting_rank(adapter.method, rank)
    facts: dict[str, tuple[object, object]] = {
        "parameters": (sum(parameter.numel() for parameter in trainable), wanted),
        "precision": ({str(parameter.dtype) for parameter in trainable}, {"torch.float32"}),
        "rank": (getattr(layer, "miss_r" if adapter.method == "miss" else "r", {}).get("default"), begins),
        "dropout": (_dropout(layer), adapter.dropout),
    }
    if adapter.method == "adalora":
        facts["scale"] = (layer.scaling["default"], adapter.alpha)
        divisor = layer.ranknum["default"]
        facts["divisor"] = (float(begins) if divisor.is_meta else divisor.item(), float(begins))
    elif adapter.method == "randlora":
        facts["scale"] = (layer.scaling["default"], scale(adapter))
    elif METHODS[adapter.method].lora:
        facts["scale"] = (layer.scaling["default"], scale(adapter))
        facts["DoRA"] = ("default" in layer.lora_magnitude_vector, adapter.weight_decomposed)
    return facts


def _method_of(layer: nn.Module) -> str:
    """PEFT keeps every method's layers in a package of its own name."""
    return type(layer).__module__.split(".")[2]


def _dropout(layer: Any) -> float:
    """The share that the layer's own dropout drops; each method keeps it under its own name."""
    kinds = (child for name, child in layer.named_children() if name.endswith("_dropout") and "default" in child)
    return next((float(getattr(kind["default"], "p", 0.0)) for kind in kinds), math.nan)


def _same(there: object, wanted: object) -> bool:
    if isinstance(there, float) and isinstance(wanted, float):
        return math.isclose(there, wanted, rel_tol=1e-9)
    return there == wanted
