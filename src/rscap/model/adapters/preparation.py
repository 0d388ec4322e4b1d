"""From a bare base model to the model that is trained: freeze, start, quantise, adapt, unfreeze.

The adapter is then read back from every layer: a method that was not applied is an error, never a fallback.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rscap.errors import AdapterError
from rscap.methods import METHODS, learned_by_layer, starting_rank
from rscap.model.adapters.calibration import Calibration
from rscap.model.adapters.config import TargetLayers, peft_config, quiet_peft, scale
from rscap.model.adapters.start import Factors, given_factors, start_factors, take_out
from rscap.model.families import family_of
from rscap.model.quantise import quantise
from rscap.model.towers import count_parameters
from rscap.recipe import AdapterSection, ModelSection, Tower, TowersSection


def precision_to_load(model: ModelSection, adapter: AdapterSection | None) -> ModelSection:
    """How to load the base: unquantised if the method starts from its weights; `prepare` then quantises it."""
    if adapter is not None and METHODS[adapter.method].residual:
        return model.model_copy(update={"quantisation": "none"})
    return model


def prepare(
    net: Any,
    towers: TowersSection,
    adapter: AdapterSection | None,
    *,
    seed: int,
    model: ModelSection | None = None,
    calibration: Calibration | None = None,
    initial: Mapping[str, Tensor] | None = None,
) -> nn.Module:
    """Freeze, adapt and train towers as the recipe says; returns the model to train.

    Trained towers are put in float32, since an update of 1e-4 is lost in bfloat16's eight bits. The result is a pure
    function of the arguments: a resumed run calls this again and then loads what was trained.

    Args:
        model: the recipe's [model], for methods whose base is loaded by `precision_to_load` and quantised here.
        calibration: what `eva` and `corda` look at, unless `initial` is given.
        initial: what `initial_factors` returned after an earlier call; spares calibration and decomposition.

    Raises:
        AdapterError: a target matches the wrong modules, a method cannot start from this base, or a tower or a layer,
            read back, is not as asked.
    """
    net.requires_grad_(False)
    trained = towers.in_state("trained")
    if adapter is not None:
        targets = TargetLayers.of(net, towers.in_state("adapted"), adapter)
        factors = _factors(net, targets, adapter, calibration, initial)
        if METHODS[adapter.method].residual:
            take_out(targets, factors, scale(adapter))
            if model is not None and model.quantisation != "none":
                quantise(net, model)
        net = _adapt(net, targets, trained, adapter, factors, seed=seed)
    else:
        for tower in trained:
            for path in family_of(net).modules[tower]:
                net.get_submodule(path).float().requires_grad_(True)
        if "language_model" in trained:
            net.tie_weights()
    _check(net, towers)
    return net


def _factors(
    net: Any,
    targets: TargetLayers,
    adapter: AdapterSection,
    calibration: Calibration | None,
    initial: Mapping[str, Tensor] | None,
) -> dict[str, Factors]:
    if next(iter(targets.layers.values())).weight.is_meta:
        return {}  # a model without weights, whose parameters are to be counted
    if initial is not None:
        return given_factors(initial, targets, adapter)
    return start_factors(net, targets, adapter, calibration=calibration)


def _adapt(
    net: Any,
    targets: TargetLayers,
    trained: list[Tower],
    adapter: AdapterSection,
    factors: dict[str, Factors],
    *,
    seed: int,
) -> nn.Module:
    from peft import get_peft_model

    if factors:
        targets = targets.without([name for name in targets.layers if name not in factors])
    config = peft_config(
        adapter,
        targets=targets.expression,
        whole=[path.rsplit(".", 1)[-1] for tower in trained for path in family_of(net).modules[tower]] or None,
        seed=seed,
        ranks={name: len(start.a) for name, start in factors.items() if len(start.a) != adapter.rank},
    )
    with torch.random.fork_rng(devices=[]), quiet_peft():
        torch.manual_seed(seed)  # PEFT draws the A matrices from the global generator
        wrapped = get_peft_model(net, config)
    for name, parameter in wrapped.named_parameters():
        if ".modules_to_save." in name:
            parameter.data = parameter.data.float()
        if ".ranknum." in name:  # PEFT marks AdaLoRA's divisor as trainable where the base is not float32
            parameter.requires_grad_(False)
    hold_bases(wrapped)
    _start_layers(wrapped, factors)
    check_layers(wrapped, targets, adapter, factors)
    wrapped.rscap_factors = factors
    return wrapped


@torch.no_grad()
def _start_layers(wrapped: Any, factors: Mapping[str, Factors]) -> None:
    """Replace PEFT's random matrices by the factors; DoRA measures its magnitudes again."""
    for name, start in factors.items():
        layer = wrapped.get_base_model().get_submodule(name)
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        a.copy_(start.a)
        if start.b is not None:
            b.copy_(start.b)
        if "default" in layer.lora_magnitude_vector:
            magnitudes: Any = layer.lora_magnitude_vector["default"]
            magnitudes.update_layer(
                base_layer=layer.get_base_layer(), lora_A=a, lora_B=b, scaling=layer.scaling["default"]
            )
            magnitudes.float()


def hold_bases(wrapped: Any) -> None:
    """Hold RandLoRA's random bases in float32; PEFT draws them in bfloat16, which only autocast can multiply with."""
    for name, buffer in wrapped.named_buffers(remove_duplicate=False):
        if name.endswith((".randlora_A.default", ".randlora_B.default")) and buffer.dtype != torch.float32:
            holder = wrapped.get_submodule(name.removesuffix(".default"))
            holder["default"] = buffer.float()


def _check(net: nn.Module, towers: TowersSection) -> None:
    for tower, count in count_parameters(net).items():
        state = getattr(towers, tower)
        if (state == "frozen") != (count.trainable == 0):
            raise AdapterError(
                f"the {tower} is {state!r} in the recipe but {count.trainable:,} of its parameters are trainable"
            )


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
