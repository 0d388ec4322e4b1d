"""What a checkpoint takes from the model and the optimiser, and how it goes back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rscap.errors import StoreError
from rscap.train.sharding import like


def learning(net: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that learn, by name."""
    return {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}


@torch.no_grad()
def load_weights(net: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Put saved weights back.

    Raises:
        StoreError: names or shapes are not those of the model; lists them.
    """
    parameters = learning(net)
    _check_names(set(weights), set(parameters))
    for name, parameter in parameters.items():
        if parameter.shape != weights[name].shape:
            raise StoreError(f"{name} is {tuple(weights[name].shape)} in the checkpoint, {tuple(parameter.shape)} here")
        parameter.copy_(like(weights[name], parameter))


def optimiser_tensors(net: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's state as `<parameter>/<state>`; a parameter that had no update yet has none."""
    return {
        f"{name}/{key}": value
        for name, parameter in learning(net).items()
        for key, value in optimiser.state.get(parameter, {}).items()
    }


def load_optimiser(net: nn.Module, optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put AdamW's state back.

    Raises:
        StoreError: it speaks of parameters that do not learn here.
    """
    parameters = learning(net)
    owners = {name.rpartition("/")[0] for name in tensors}
    _check_names(owners, owners & set(parameters))
    for name in sorted(owners):
        state: dict[str, Any] = {}
        for key in ("step", "exp_avg", "exp_avg_sq"):
            value = tensors[f"{name}/{key}"]
            state[key] = value.to(parameters[name].device) if key == "step" else like(value, parameters[name])
        optimiser.state[parameters[name]] = state


def _check_names(there: set[str], expected: set[str]) -> None:
    if there != expected:
        missing, extra = sorted(expected - there), sorted(there - expected)
        raise StoreError(
            f"the checkpoint does not fit the model: missing {missing[:5]}, unknown {extra[:5]}",
            hint="was the recipe or the base model changed since?",
        )
