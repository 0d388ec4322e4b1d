"""This machine as a card: memory that is free now, and the speed of matrix products, measured in a moment."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import psutil
import torch

from rscap.plan.cards import CONTEXT_BYTES, Card


def this_machine(dtype: str) -> Card:
    """The first GPU, or the processor; products are timed in `dtype`."""
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    card = memory_at_hand(device)  # before products are timed, which leave matrices in the allocator's cache
    speed = _product_tflops(device, getattr(torch, dtype), side=4096 if device.type == "cuda" else 512)
    return replace(card, tflops=speed, measured=True)


def memory_at_hand(device: torch.device) -> Card:
    """A device as a card, with the memory that is free now; its speed is not known."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return Card(
            name=f"{torch.cuda.get_device_name(device)}, this machine",
            bytes=free + CONTEXT_BYTES,  # the context exists by now; the plan adds it to what is needed
            tflops=math.nan,
            bfloat16=torch.cuda.is_bf16_supported(including_emulation=False),
        )
    return Card(name="processor, this machine", bytes=psutil.virtual_memory().available, tflops=math.nan, device="cpu")


def _product_tflops(device: torch.device, dtype: torch.dtype, *, side: int, seconds: float = 0.3) -> float:
    """10^12 operations a second of products of square matrices, after one that is not counted."""
    a, b = (torch.ones(side, side, device=device, dtype=dtype) for _ in range(2))
    a @ b
    _wait(device)
    begun, count = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        a @ b
        _wait(device)
        count += 1
    return 2 * side**3 * count / (time.perf_counter() - begun) / 1e12


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
