"""AdamW over the trainable parameters, the learning rate schedule, and loss scaling for float16."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rscap.errors import StoreError
from rscap.model.adapters import parameter_groups
from rscap.recipe import Recipe, TrainSection
from rscap.training.checkpoints import Saved, TrainingState
from rscap.training.team import sharded_like

_AVERAGE, _UPDATES = "average:", "average-updates"


def rate_factor(step: float, *, train: TrainSection, total_steps: int) -> float:
    """Share of the peak learning rate at update `step`, from 0: linear warm-up, then cosine, linear or constant."""
    warmup = round(train.warmup_share * total_steps)
    if step < warmup:
        return min(1.0, (step + 1) / warmup)
    progress = min(1.0, (step - warmup) / max(1, total_steps - warmup))
    shapes: dict[str, Callable[[float], float]] = {
        "constant": lambda _: 1.0,
        "linear": lambda done: 1.0 - done,
        "cosine": lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
    }
    return shapes[train.schedule](progress)


def budget_used(state: TrainingState, train: TrainSection) -> float:
    """Share of the budget in tokens or minutes that has been used; 0 without a budget."""
    return max(
        state.tokens / train.max_tokens if train.max_tokens else 0.0,
        state.seconds / 60 / train.max_minutes if train.max_minutes else 0.0,
    )


def build_optimiser(net: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW (arXiv:1711.05101) with LoRA+ groups; every group keeps its peak learning rate."""
    train = recipe.train
    groups = parameter_groups(
        net,
        learning_rate=train.learning_rate,
        weight_decay=train.weight_decay,
        lora_plus_ratio=recipe.adapter.lora_plus_ratio if recipe.adapter else 1.0,
    )
    return torch.optim.AdamW([{**group, "peak": group["lr"]} for group in groups], betas=train.betas, fused=True)


class Average:
    """An exponential moving average of the trainable parameters, in their own precision.

    After update n its decay is min(decay, (1 + n) / (10 + n)), as in TensorFlow's ExponentialMovingAverage, so that a
    short run is not an average of its random start.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.parameters, self.decay, self.updates = trainable(net), decay, 0
        self.held = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}

    @torch.no_grad()
    def after_step(self) -> None:
        """Move towards the parameters, which an update has just changed."""
        self.updates += 1
        share = 1.0 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, parameter in self.parameters.items():
            self.held[name].lerp_(parameter, share)

    @torch.no_grad()
    def put_in_place(self) -> dict[str, Tensor]:
        """Put the averages into the parameters; returns the previous values."""
        before = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
        for name, parameter in self.parameters.items():
            parameter.copy_(self.held[name])
        return before

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the block the parameters hold their averages; afterwards they are restored bit for bit."""
        before = self.put_in_place()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in self.parameters.items():
                    parameter.copy_(before[name])

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps beside the optimiser's moments."""
        return {_AVERAGE + name: value for name, value in self.held.items()} | {
            _UPDATES: torch.tensor(self.updates, dtype=torch.long)
        }

    @torch.no_grad()
    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Resume from `state`.

        Raises:
            StoreError: it is of other parameters.
        """
        _check_names(set(averaged(tensors)), set(self.parameters))
        self.updates = int(tensors[_UPDATES])
        for name, value in averaged(tensors).items():
            self.held[name].copy_(sharded_like(value, self.parameters[name]))


def averaged(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The averages among what a checkpoint keeps beside its weights, by the names of the parameters; empty without."""
    return {name.removeprefix(_AVERAGE): value for name, value in tensors.items() if name.startswith(_AVERAGE)}


def learned(saved: Saved) -> Mapping[str, Tensor]:
    """What a checkpoint would leave as the result of its run: the averages, or the weights where none are kept."""
    return averaged(saved.optimiser) or saved.weights


def set_rate(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Set the learning rate of every group to `factor` times its peak."""
    for group in optimiser.param_groups:
        group["lr"] = factor * group["peak"]


def build_scaler(device: torch.device, compute_dtype: torch.dtype) -> torch.amp.GradScaler:
    """Dynamic loss scaling (arXiv:1710.03740) for float16; with other precisions it does nothing."""
    return torch.amp.GradScaler(device.type, enabled=compute_dtype == torch.float16)


def trainable(net: nn.Module) -> dict[str, nn.Parameter]:
    """The trainable parameters, by name."""
    return {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}


@torch.no_grad()
def load_weights(net: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load saved weights into the trainable parameters.

    Raises:
        StoreError: names or shapes do not match the model; lists them.
    """
    parameters = trainable(net)
    _check_names(set(weights), set(parameters))
    for name, parameter in parameters.items():
        if parameter.shape != weights[name].shape:
            raise StoreError(f"{name} is {tuple(weights[name].shape)} in the checkpoint, {tuple(parameter.shape)} here")
        parameter.copy_(sharded_like(weights[name], parameter))


def optimiser_tensors(net: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's state as `<parameter>/<state>`; a parameter without updates has none."""
    return {
        f"{name}/{key}": value
        for name, parameter in trainable(net).items()
        for key, value in optimiser.state.get(parameter, {}).items()
    }


def load_optimiser(net: nn.Module, optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Load AdamW's state, from what a checkpoint keeps beside its weights.

    Raises:
        StoreError: it contains parameters that are not trainable here.
    """
    parameters = trainable(net)
    tensors = {name: value for name, value in tensors.items() if name != _UPDATES and not name.startswith(_AVERAGE)}
    owners = {name.rpartition("/")[0] for name in tensors}
    _check_names(owners, owners & set(parameters))
    for name in sorted(owners):
        state: dict[str, Any] = {}
        for key in ("step", "exp_avg", "exp_avg_sq"):
            value = tensors[f"{name}/{key}"]
            state[key] = value.to(parameters[name].device) if key == "step" else sharded_like(value, parameters[name])
        optimiser.state[parameters[name]] = state


def _check_names(there: set[str], expected: set[str]) -> None:
    if there != expected:
        missing, extra = sorted(expected - there), sorted(there - expected)
        raise StoreError(
            f"the checkpoint does not fit the model: missing {missing[:5]}, unknown {extra[:5]}",
            hint="did the recipe or the base model change?",
        )
