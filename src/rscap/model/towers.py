"""The three towers of a model, by the names of their parameters."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import torch
from torch import nn

from rscap.errors import AdapterError
from rscap.model.families import FAMILIES
from rscap.recipe import TOWERS, Tower

_MODULES = [pair for family in FAMILIES.values() for pair in family.modules.items()]


@dataclass(frozen=True, slots=True)
class Count:
    """Parameters of one tower."""

    total: int
    trainable: int
    held: dict[str, int] = field(default_factory=dict)
    """How many of `total` are held as `nf4`, `int8` or a dtype, read back from the weights."""


def tower_of(name: str) -> Tower:
    """The tower that a parameter belongs to, by its name, with or without PEFT's wrapping.

    Raises:
        AdapterError: the name belongs to no tower.
    """
    for tower, modules in _MODULES:
        if any(f"{module}." in f".{name}" for module in modules):
            return tower
    if "lm_head." in name:  # in some families it is the matrix of the embeddings
        return "language_model"
    raise AdapterError(f"parameter {name!r} belongs to none of the towers {', '.join(TOWERS)}")


def count_parameters(net: nn.Module) -> dict[Tower, Count]:
    """Total and trainable parameters per tower; a 4-bit weight counts as the parameters it stands for."""
    total, trainable = dict.fromkeys(TOWERS, 0), dict.fromkeys(TOWERS, 0)
    held: dict[Tower, Counter[str]] = {tower: Counter() for tower in TOWERS}
    for name, parameter in net.named_parameters():
        if ".original_module." in name:  # PEFT keeps an untrained copy beside each trained tower
            continue
        tower = tower_of(name)
        size = _elements(parameter)
        total[tower] += size
        trainable[tower] += size if parameter.requires_grad else 0
        held[tower][_way(parameter)] += size
    return {tower: Count(total[tower], trainable[tower], dict(held[tower])) for tower in TOWERS}


def _way(parameter: nn.Parameter) -> str:
    """The bitsandbytes type of a weight, or its dtype if it is not quantised."""
    state = getattr(parameter, "quant_state", None)
    return str(state.quant_type) if state is not None else str(parameter.dtype).removeprefix("torch.")


def _elements(parameter: nn.Parameter) -> int:
    """Elements of a weight, even if bitsandbytes packs two to a byte."""
    state = getattr(parameter, "quant_state", None)
    if state is not None:
        return int(torch.Size(state.shape).numel())
    return parameter.numel()
