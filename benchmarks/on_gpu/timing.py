"""Seconds between two moments at which the device has nothing to do, and what was started in between."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

KINDS = {
    "attention": ("fmha", "flash", "attention", "softmax"),
    "products": ("gemm", "gemv", "nvjet", "cutlass", "xmma", "splitk", "cublas"),
    "unpacking": ("quant", "4bit"),
}
"""Kernels by words in their names; the first kind that matches. What matches none is elementwise or a reduction."""


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    """Of one call."""
    synchronise(device)
    began = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - began


def repeated(work: Callable[[], Any], device: torch.device, *, warm: int, timed: int, enough_s: float) -> list[float]:
    """Seconds of `timed` calls after `warm` others; fewer, but three, if they take longer than `enough_s`."""
    for _ in range(warm):
        work()
    times: list[float] = []
    while len(times) < timed and (sum(times) < enough_s or len(times) < 3):
        times.append(seconds(work, device))
    return times


def kernels(work: Callable[[], Any], device: torch.device, *, longest: int = 12) -> dict[str, Any] | None:
    """What a GPU ran in one call: kernels, copies, seconds it was busy, by kind, and what took longest."""
    if device.type != "cuda":
        return None
    synchronise(device)
    with profile(activities=[ProfilerActivity.CUDA]) as recorded:
        work()
        synchronise(device)
    count: Counter[str] = Counter()
    busy: Counter[str] = Counter()
    for event in recorded.profiler.kineto_results.events():
        if event.device_type() == DeviceType.CUDA and not event.name().endswith("Sync"):
            count[event.name()] += 1
            busy[event.name()] += event.duration_ns()
    kinds: Counter[str] = Counter()
    for name, nanoseconds in busy.items():
        kinds[_kind(name)] += nanoseconds
    copies = sum(number for name, number in count.items() if name.startswith("Mem"))
    return {
        "kernels": sum(count.values()) - copies,
        "copies": copies,
        "busy_s": sum(busy.values()) / 1e9,
        "busy_s_by_kind": {kind: nanoseconds / 1e9 for kind, nanoseconds in kinds.most_common()},
        "longest": [
            {"name": name[:120], "count": count[name], "s": nanoseconds / 1e9}
            for name, nanoseconds in busy.most_common(longest)
        ],
    }


def _kind(name: str) -> str:
    lower = name.lower()
    return next((kind for kind, words in KINDS.items() if any(word in lower for word in words)), "elementwise")


class Dispatched(TorchDispatchMode):
    """Counts operations that compute or copy something; views are left out."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not getattr(func, "is_view", False)
        return func(*args, **(kwargs or {}))


def dispatched(work: Callable[[], Any]) -> int:
    """Operations in one call."""
    with Dispatched() as counter:
        work()
    return counter.count
