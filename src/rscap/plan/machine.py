"""This machine as a card: memory that is free now, and the speed of matrix products, measured in a moment."""

from __future__ import annotations

import time

import psutil
import torch

from rscap.plan.cards import Card


def this_machine(dtype: str) -> Card:
    """The first GPU, or the processor; products are timed in `dtype`."""
    precision = getattr(torch, dtype)
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name(0)
        free, _ = torch.cuda.mem_get_info(0)
        # The context exists by now and is not in what is free; the plan adds it to what is needed.
        return Card(
            name=f"{name}, this machine",
            bytes=free + 2**29,
            tflops=_product_tflops(torch.device("cuda"), precision, side=4096),
            bfloat16=torch.cuda.is_bf16_supported(including_emulation=False),
            measured=True,
        )
    return Card(
        name="processor, this machine",
        bytes=psutil.virtual_memory().available,
        tflops=_product_tflops(torch.device("cpu"), precision, side=512),
        device="cpu",
        measured=True,
    )


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
