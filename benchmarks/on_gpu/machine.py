"""The device that is measured, and the card that `rscap.planning` takes it for."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import torch

from on_gpu.timing import seconds, synchronise
from rscap.planning.cards import CARDS, Card, available_memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A device with its ceilings."""

    device: torch.device
    name: str
    card: Card
    """By its data sheet if the plan knows it, else with the peak measured here."""
    peak_tflops: float
    """Of a product of two bfloat16 matrices, measured."""
    bytes_per_s: float
    """Read and written by a copy on the device."""
    launch_s: float
    """Of the host, for one operation on one number."""

    @classmethod
    def of(cls, device: torch.device) -> Machine:
        on_gpu = device.type == "cuda"
        peak = _matrix_peak(device, side=8192 if on_gpu else 256)
        name = torch.cuda.get_device_name(device) if on_gpu else "cpu"
        return cls(
            device=device,
            name=name,
            card=_known(name) or replace(available_memory(device), tflops=peak, measured=True),
            peak_tflops=peak,
            bytes_per_s=_copy_speed(device, size=2**32 if on_gpu else 2**24),
            launch_s=_launch(device),
        )

    def describe(self) -> dict[str, Any]:
        """For the record."""
        found: dict[str, Any] = {
            "name": self.name,
            "peak_tflops": self.peak_tflops,
            "copied_bytes_per_s": self.bytes_per_s,
            "launch_s": self.launch_s,
        }
        if self.device.type == "cuda":
            properties = torch.cuda.get_device_properties(self.device)
            found |= {
                "bytes": properties.total_memory,
                "capability": f"{properties.major}.{properties.minor}",
                "cuda": torch.version.cuda,
                "kernels_for": torch.cuda.get_arch_list(),
                "bfloat16": torch.cuda.is_bf16_supported(including_emulation=False),
            }
        return found


def _known(name: str) -> Card | None:
    """The plan's card with the longest name that is part of this one."""
    dashed = name.lower().replace(" ", "-")
    return max((card for key, card in CARDS.items() if key in dashed), key=lambda card: len(card.name), default=None)


def _matrix_peak(device: torch.device, *, side: int) -> float:
    """TFLOP/s of a product of two bfloat16 matrices of `side` x `side`: the best of some runs."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))

    def multiply() -> None:
        for _ in range(5):
            a @ b

    return 5 * 2 * side**3 / min(seconds(multiply, device) for _ in range(5)) / 1e12


def _copy_speed(device: torch.device, *, size: int) -> float:
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / min(seconds(lambda: target.copy_(source), device) for _ in range(5))


def _launch(device: torch.device, *, times: int = 2000) -> float:
    number = torch.zeros(1, device=device)
    number.add_(1)
    synchronise(device)
    began = time.perf_counter()
    for _ in range(times):
        number.add_(1)
    synchronise(device)
    return (time.perf_counter() - began) / times
