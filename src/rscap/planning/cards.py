"""Graphics cards by name or size, and this machine as one: memory available to a process, and speed of products."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import psutil
import torch

from rscap.errors import RecipeError
from rscap.model.card import Capability, check_served, computes_bfloat16
from rscap.recipe import Dtype

GIB = 2**30

USABLE = 0.92
"""Share of a card's nominal gibibytes available to a process: a 16 GB T4 shows 14.7, a 24 GB L4 22.5, a 6 GB laptop
card that drives a screen 5.5."""

CONTEXT_BYTES = GIB // 2
"""CUDA's context, kernels and cuBLAS workspaces, which no allocator counts: 0.3 to 0.6 GiB, by card and driver. An H200
took .77 GiB, which cards of that size have."""

RESERVE = 0.15
"""Share of a step's temporary memory set aside for fragmentation of CUDA's caching allocator (about a third of it, an
assumption) and for the error of the prediction (docs/plan.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A card, or this machine."""

    name: str
    bytes: int
    """Available to a process."""
    tflops: float
    """Peak of dense 16-bit products, in 10^12 operations per second."""
    bytes_per_s: float | None = None
    """Bandwidth of a GPU's memory; None where it was not asked for, and then no time is predicted."""
    bfloat16: bool = True
    capability: Capability | None = None
    """CUDA's compute capability, which decides whether a build of torch has kernels; None where it is not known."""
    device: str = "cuda"
    measured: bool = False
    """True if `tflops` was measured here, on products alone; false if it comes from a data sheet."""

    @property
    def overhead(self) -> int:
        """Bytes that belong to no tensor: 0 on a CPU."""
        return CONTEXT_BYTES if self.device == "cuda" else 0

    @property
    def best_dtype(self) -> Dtype:
        """What `model.dtype = "auto"` comes to: see `rscap.model.card`."""
        if self.device != "cuda":
            return "float32"
        return "bfloat16" if self.bfloat16 else "float16"


def _card(name: str, gib: float, tflops: float, gigabytes_per_s: float, capability: Capability) -> Card:
    return Card(
        name=name,
        bytes=int(USABLE * gib * GIB),
        tflops=tflops,
        bytes_per_s=gigabytes_per_s * 1e9,
        bfloat16=capability >= (8, 0),  # Ampere began it
        capability=capability,
    )


CARDS = {
    card.name.lower(): card
    for card in (
        _card("RTX-3060-laptop", 6, 42.0, 336, (8, 6)),
        _card("RTX-3070", 8, 81.0, 448, (8, 6)),
        _card("RTX-3060", 12, 51.0, 360, (8, 6)),
        _card("P100", 16, 18.7, 732, (6, 0)),
        _card("T4", 16, 65.0, 320, (7, 5)),
        _card("V100", 16, 112.0, 900, (7, 0)),
        _card("L4", 24, 121.0, 300, (8, 9)),
        _card("RTX-3090", 24, 71.0, 936, (8, 6)),
        _card("RTX-4090", 24, 165.0, 1008, (8, 9)),
        _card("A100-40GB", 40, 312.0, 1555, (8, 0)),
        _card("L40S", 48, 362.0, 864, (8, 9)),
        _card("A100", 80, 312.0, 2039, (8, 0)),
        _card("H100", 80, 989.0, 3350, (9, 0)),
        _card("H200", 141, 989.0, 4800, (9, 0)),
    )
}
"""Peaks and bandwidths are NVIDIA's; products with float32 sums and without sparsity."""

TYPICAL = {
    6: "rtx-3060-laptop",
    8: "rtx-3070",
    12: "rtx-3060",
    16: "t4",
    24: "l4",
    40: "a100-40gb",
    48: "l40s",
    80: "a100",
}
"""The card that represents a size: the slowest common one."""


def find_card(text: str) -> Card:
    """A card by name (`T4`) or by size (`6GB`, `24`); a size takes the speed of its typical card.

    Raises:
        RecipeError: `text` is neither; lists the names.
    """
    wanted = text.strip().lower().replace(" ", "-")
    if wanted in CARDS:
        return CARDS[wanted]
    size = re.fullmatch(r"(\d+(?:\.\d+)?)-?(?:gi?b?)?", wanted)
    if size is None or float(size[1]) == 0:
        raise RecipeError(
            f"--gpu {text!r} is neither a size nor a known card",
            hint=f"use a size such as 6GB or 16GB, or one of {', '.join(card.name for card in CARDS.values())}",
        )
    gib = float(size[1])
    typical = CARDS[TYPICAL[min(TYPICAL, key=lambda known: (abs(known - gib), known))]]
    # Cards of one size differ in bfloat16; a size alone does not rule it out.
    name = f"{gib:g} GB (as fast as: {typical.name})"
    return replace(typical, name=name, bytes=int(USABLE * gib * GIB), bfloat16=True, capability=None)


def this_machine(dtype: str) -> Card:
    """The first GPU, or the CPU, with its free memory and the speed of products in `dtype`, timed for a moment.

    Raises:
        ModelError: the installed torch has no kernels for the GPU.
    """
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    check_served(device)
    card = available_memory(device)  # before timing products, which leaves matrices in the allocator's cache
    known = card.best_dtype if dtype == "auto" else dtype
    speed = _product_tflops(device, getattr(torch, known), side=4096 if device.type == "cuda" else 512)
    return replace(card, tflops=speed, bytes_per_s=_copied_bytes_per_s(device), measured=True)


def available_memory(device: torch.device) -> Card:
    """A device as a card with the memory that is free now; its speed is unknown."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return Card(
            name=f"{torch.cuda.get_device_name(device)}, this machine",
            bytes=free + CONTEXT_BYTES,  # the context exists by now; the plan adds it to what is needed
            tflops=math.nan,
            bfloat16=computes_bfloat16(device),
            capability=torch.cuda.get_device_capability(device),
        )
    return Card(name="CPU, this machine", bytes=psutil.virtual_memory().available, tflops=math.nan, device="cpu")


def _product_tflops(device: torch.device, dtype: torch.dtype, *, side: int) -> float:
    """Speed of products of square matrices, in 10^12 operations per second."""
    a, b = (torch.ones(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 * _times_per_s(lambda: a @ b, device) / 1e12


def _copied_bytes_per_s(device: torch.device) -> float | None:
    """Bandwidth of a GPU's memory, read and written by a copy of 256 MiB."""
    if device.type != "cuda":
        return None
    given = torch.ones(2**26, device=device)
    copy = torch.empty_like(given)
    return 2 * given.nbytes * _times_per_s(lambda: copy.copy_(given), device)


def _times_per_s(work: Callable[[], object], device: torch.device, *, seconds: float = 0.3) -> float:
    """How often a second the device does something, after once that is not counted."""
    work()
    _wait(device)
    begun, count = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        work()
        _wait(device)
        count += 1
    return count / (time.perf_counter() - begun)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
