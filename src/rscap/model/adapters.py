"""Which weights learn: frozen, adapted and trained towers, counted and checked.

Targets are full paths. A bare list of module names (`q_proj`, …) also matches the vision tower's attention, which is
how a "frozen" tower comes to learn; here every tower has its own expression and its own expected count.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from rscap.errors import AdapterError
from rscap.model.towers import MODULES, count_parameters, tower_of
from rscap.recipe import AdapterSection, Tower, TowersSection

_PATHS: dict[Tower, str] = {
    "vision_tower": r"model\.vision_tower\.(?:vision_model\.)?encoder\.layers\.\d+\.(?:self_attn|mlp)\.",
    "language_model": r"model\.language_model\.layers\.\d+\.(?:self_attn|mlp)\.",
}


def prepare(net: Any, towers: TowersSection, adapter: AdapterSection | None, *, seed: int) -> nn.Module:
    """Freeze, adapt and train towers as the recipe says; returns the model to train.

    Trained towers are put in float32, since an update of 1e-4 is lost in bfloat16's eight bits.

    Raises:
        AdapterError: a target matches nothing or something else than it should, or a tower would not do as asked.
    """
    net.requires_grad_(False)
    trained = towers.in_state("trained")
    if adapter is not None:
        net = _adapt(net, towers.in_state("adapted"), trained, adapter, seed=seed)
    else:
        for tower in trained:
            net.get_submodule(MODULES[tower]).float().requires_grad_(True)
        if "language_model" in trained:
            net.tie_weights()
    _check(net, towers)
    return net


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Hide the warning that PEFT raises by asking transformers for an attribute by its old name."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield


def parameter_groups(
    net: nn.Module, *, learning_rate: float, weight_decay: float, lora_plus_ratio: float
) -> list[dict[str, Any]]:
    """Optimiser groups: weight decay on matrices only; LoRA+ gives the B matrices `lora_plus_ratio` times the rate."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((".lora_B." in name, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": learning_rate * (lora_plus_ratio if is_b else 1.0),
            "weight_decay": weight_decay if is_matrix else 0.0,
        }
        for (is_b, is_matrix), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]


def target_expression(net: nn.Module, tower: Tower, targets: Sequence[str]) -> str:
    """A regular expression that matches, by full path, `targets` in every layer of `tower` and nothing else.

    Raises:
        AdapterError: a target is missing in some layer; says which names there are.
    """
    if tower not in _PATHS:
        raise AdapterError(f"the {tower} takes no adapter")
    linears = {name for name, module in net.named_modules() if isinstance(module, nn.Linear)}
    inside = {name for name in linears if re.match(_PATHS[tower], name)}
    layers = {name.split(".layers.")[1].split(".")[0] for name in inside}
    known = sorted({name.rsplit(".", 1)[1] for name in inside})
    for target in targets:
        found = [name for name in inside if name.endswith(f".{target}")]
        if len(found) != len(layers):
            raise AdapterError(
                f"target {target!r} matches {len(found)} modules of the {tower}, expected {len(layers)} (one a layer)",
                hint=f"targets of the {tower} are {', '.join(known)}",
            )
    return _PATHS[tower] + f"(?:{'|'.join(re.escape(target) for target in targets)})"


def _adapt(net: Any, adapted: list[Tower], trained: list[Tower], adapter: AdapterSection, *, seed: int) -> nn.Module:
    from peft import LoraConfig, get_peft_model

    targets = {"language_model": adapter.language_targets, "vision_tower": adapter.vision_targets}
    expressions = [target_expression(net, tower, targets[tower]) for tower in adapted]
    config = LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        use_rslora=adapter.rank_stabilised,
        use_dora=adapter.weight_decomposed,
        target_modules="|".join(f"(?:{expression})" for expression in expressions),
        modules_to_save=[MODULES[tower].rsplit(".", 1)[1] for tower in trained] or None,
        bias="none",
    )
    with torch.random.fork_rng(devices=[]), quiet_peft():
        torch.manual_seed(seed)  # PEFT draws the A matrices from the global generator; nobody else shall notice
        wrapped = get_peft_model(net, config)
    for name, parameter in wrapped.named_parameters():
        if ".modules_to_save." in name:
            parameter.data = parameter.data.float()
    for tower in adapted:
        _check_targets(wrapped, tower, targets[tower], adapter)
    return wrapped


def _check_targets(net: nn.Module, tower: Tower, targets: Sequence[str], adapter: AdapterSection) -> None:
    """Read back that every targeted layer carries the method that was asked for."""
    from peft.tuners.lora import LoraLayer

    layers = {name: module for name, module in net.named_modules() if isinstance(module, LoraLayer)}
    here = {name: module for name, module in layers.items() if tower_of(name + ".") == tower}
    wanted = [name for name in here if name.rsplit(".", 1)[1] in targets]
    if not wanted or len(wanted) != len(here):
        raise AdapterError(f"{len(here)} layers of the {tower} carry an adapter, {len(wanted)} of them as asked")
    for name, layer in here.items():
        rank, dora = layer.r["default"], layer.use_dora.get("default", False)
        scale = adapter.alpha / (adapter.rank**0.5 if adapter.rank_stabilised else adapter.rank)
        if rank != adapter.rank or dora != adapter.weight_decomposed or abs(layer.scaling["default"] - scale) > 1e-9:
            raise AdapterError(
                f"{name} was not adapted as asked: rank {rank}, DoRA {dora}, scale {layer.scaling['default']}"
            )


def _check(net: nn.Module, towers: TowersSection) -> None:
    for tower, count in count_parameters(net).items():
        state = getattr(towers, tower)
        if (state == "frozen") != (count.trainable == 0):
            raise AdapterError(
                f"the {tower} is {state!r} in the recipe but {count.trainable:,} of its parameters would learn"
            )


def trainable_parameters(net: nn.Module) -> Iterator[nn.Parameter]:
    """The parameters that learn."""
    return (parameter for parameter in net.parameters() if parameter.requires_grad)
