"""AdamW over what learns, the learning rate over time, and the scaling of float16's losses."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from rscap.model.adapters import parameter_groups
from rscap.recipe import Recipe, TrainSection
from rscap.train.checkpoints import Progress


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


def budget_used(progress: Progress, train: TrainSection) -> float:
    """Share of the budget in tokens or minutes that is used up; 0 where there is none."""
    return max(
        progress.tokens / train.max_tokens if train.max_tokens else 0.0,
        progress.seconds / 60 / train.max_minutes if train.max_minutes else 0.0,
    )


def build_optimiser(net: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW (arXiv:1711.05101) with LoRA+ groups; every group remembers its peak rate."""
    train = recipe.train
    groups = parameter_groups(
        net,
        learning_rate=train.learning_rate,
        weight_decay=train.weight_decay,
        lora_plus_ratio=recipe.adapter.lora_plus_ratio if recipe.adapter else 1.0,
    )
    return torch.optim.AdamW([{**group, "peak": group["lr"]} for group in groups], betas=train.betas, fused=True)


def set_rate(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Every group learns at `factor` times its peak rate."""
    for group in optimiser.param_groups:
        group["lr"] = factor * group["peak"]


def build_scaler(device: torch.device, compute_dtype: torch.dtype) -> torch.amp.GradScaler:
    """Dynamic loss scaling (arXiv:1710.03740) for float16; for other precisions it does nothing."""
    return torch.amp.GradScaler(device.type, enabled=compute_dtype == torch.float16)
