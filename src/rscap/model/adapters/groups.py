"""Optimiser groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from rscap.errors import AdapterError

_B = (".lora_B.", ".hira_B.")
_VECTORS = (".lora_E.",)  # AdaLoRA keeps its singular values as a column


def parameter_groups(
    net: nn.Module, *, learning_rate: float, weight_decay: float, lora_plus_ratio: float
) -> list[dict[str, Any]]:
    """Optimiser groups: weight decay on matrices only; LoRA+ gives the B matrices `lora_plus_ratio` times the rate.

    Raises:
        AdapterError: LoRA+ is asked for and there is no B matrix.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            is_matrix = parameter.ndim > 1 and not any(part in name for part in _VECTORS)
            groups.setdefault((any(part in name for part in _B), is_matrix), []).append(parameter)
    if lora_plus_ratio != 1.0 and not any(is_b for is_b, _ in groups):
        raise AdapterError(f"LoRA+ with ratio {lora_plus_ratio:g} was asked for, but no B matrix learns")
    return [
        {
            "params": parameters,
            "lr": learning_rate * (lora_plus_ratio if is_b else 1.0),
            "weight_decay": weight_decay if is_matrix else 0.0,
        }
        for (is_b, is_matrix), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]


def trainable_parameters(net: nn.Module) -> Iterator[nn.Parameter]:
    """The parameters that learn."""
    return (parameter for parameter in net.parameters() if parameter.requires_grad)
