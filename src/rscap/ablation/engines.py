"""Which engine carries a study out here, and how wide."""

from __future__ import annotations

import os
from typing import Literal

from rscap.ablation.jobs import Engine
from rscap.ablation.local import LocalEngine

EngineName = Literal["local", "ray"]
MOST_ON_CPU = 4
"""Jobs at once without a GPU, where nobody says how many: memory is shared."""


def build_engine(name: EngineName, *, at_once: int | None, threads: int | None) -> tuple[Engine, int]:
    """The engine, and how many threads each of its jobs computes with.

    Without a word, one job a GPU; without a GPU one a core, at most four, which share the cores.

    Raises:
        RscapError: Ray was asked for and is not installed.
    """
    if name == "ray":
        from rscap.ablation.on_ray import ray_engine

        return ray_engine(at_once=at_once, threads=threads)
    gpus, cores = visible_gpus(), available_cores()
    width = at_once or len(gpus) or min(cores, MOST_ON_CPU)
    return LocalEngine(at_once=width, gpus=gpus), threads or max(1, cores // width)


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """GPUs as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named == "":
        return []
    import torch

    count = torch.cuda.device_count()
    return named.split(",")[:count] if named else [str(number) for number in range(count)]
