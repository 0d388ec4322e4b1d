"""Memory that runs out, on purpose: which error says so, and what mends it.

The card is filled with plain allocations; everything is given back at the end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from on_gpu.machine import Machine
from on_gpu.models import Models, Wanted
from on_gpu.timing import synchronise
from on_gpu.training import Stepper
from peaks import micro_batch
from rscap.captioner.decoding import decode
from rscap.model.memory import is_out_of_memory, release
from rscap.model.packed import PackedModel

GIB, MIB = 2**30, 2**20
SLACKS = (0.0, 0.01, 0.03, 0.10)
"""Memory over that of a clean step, as a share of what moves in it, that a step is tried with after captions."""
META = ("kind", "case", "whole_s")
"""What the record of every case has."""
ODD = (7, 13, 32, 5, 21)
"""Images decoded between two steps: an evaluation leaves pieces of every size in the allocator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhaustion:
    """Drills on one model, one after another; each gives back what it took."""

    kind: ClassVar[str] = "exhaustion"

    geometry: str
    micro_batch: int = 16
    left: int = GIB

    @property
    def name(self) -> str:
        return f"exhaustion, {self.geometry}, micro batch {self.micro_batch}"

    def measure(self, models: Models, machine: Machine) -> dict[str, Any]:
        device = machine.device
        if device.type != "cuda":
            return {"skipped": "there is no filling up a host"}
        wanted = Wanted(geometry=self.geometry)
        packed = models.get(wanted)
        stepper = Stepper.of(packed, wanted.recipe(micro_batch=self.micro_batch))
        for _ in range(2):
            stepper.step()
        found: dict[str, Any] = {"after captions": _after_captions(stepper, wanted)}
        found["context_bytes"] = _context(device)
        with filled(device, leave=self.left) as free:
            found["left"] = free
            found["a step"] = told(stepper.step, device)
            stepper.optimiser.zero_grad(set_to_none=True)
            release(device)
            found["the step again, the cache emptied"] = told(stepper.step, device)
            stepper.optimiser.zero_grad(set_to_none=True)
            release(device)
            found["captions"] = told(lambda: _captions(packed, wanted, 128), device)
            release(device)
        found["the step again, the memory back"] = told(stepper.step, device)
        found |= _nothing_left(device)
        found["a step at the end"] = told(stepper.step, device)
        return found

    def line(self, result: dict[str, Any]) -> str:
        return "".join(f"\n    {name:40}{value}" for name, value in result.items() if name not in META)


def told(work: Callable[[], Any], device: torch.device) -> dict[str, Any]:
    """`done`, or the error: its class, its bases, its words, and whether rscap takes it for want of memory."""
    try:
        work()
        synchronise(device)
    except Exception as error:
        return {
            "error": type(error).__name__,
            "bases": [one.__name__ for one in type(error).__mro__[1:-2]],
            "message": str(error).splitlines()[0][:300] if str(error) else "",
            "recognised": is_out_of_memory(error),
        }
    return {"done": True}


@contextmanager
def filled(device: torch.device, *, leave: int) -> Iterator[int]:
    """All memory but `leave` bytes taken; gives the bytes that are still free."""
    release(device)
    taken: list[Tensor] = []
    size = torch.cuda.mem_get_info(device)[0] - leave
    while size >= 2 * MIB:
        try:
            taken.append(torch.empty(size // (2 * MIB) * 2 * MIB, dtype=torch.uint8, device=device))
        except torch.OutOfMemoryError:
            size //= 2
            continue
        size = min(size, torch.cuda.mem_get_info(device)[0] - leave)
    try:
        yield torch.cuda.mem_get_info(device)[0]
    finally:
        taken.clear()
        release(device)


def _captions(packed: PackedModel, wanted: Wanted, images: int) -> None:
    packed.eval()
    try:
        batch = micro_batch(packed.bare, images, suffixes=()).to(packed.device)
        decode(packed, batch, settings=wanted.recipe(decoded=images).generate, eos=1)
    finally:
        packed.train()


def _context(device: torch.device) -> int:
    """Bytes that are taken and that no allocator counts."""
    free, total = torch.cuda.mem_get_info(device)
    return total - free - torch.cuda.memory_reserved(device)


def _after_captions(stepper: Stepper, wanted: Wanted) -> list[dict[str, Any]]:
    """With hardly more memory than a step takes: a step after an evaluation, and once more after `release`."""
    device = stepper.packed.device
    release(device)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    stepper.step()
    clean = torch.cuda.max_memory_reserved()
    total = torch.cuda.get_device_properties(device).total_memory
    found = []
    for slack in SLACKS:
        release(device)
        torch.cuda.set_per_process_memory_fraction(min(1.0, (clean + slack * (clean - before)) / total), device)
        one: dict[str, Any] = {"slack": slack, "clean": told(stepper.step, device)}
        stepper.optimiser.zero_grad(set_to_none=True)
        for images in ODD:
            _captions(stepper.packed, wanted, images)
        one["reserved_bytes"] = torch.cuda.memory_reserved()
        one["after captions"] = told(stepper.step, device)
        stepper.optimiser.zero_grad(set_to_none=True)
        release(device)
        one["released"] = told(stepper.step, device)
        stepper.optimiser.zero_grad(set_to_none=True)
        found.append(one)
    torch.cuda.set_per_process_memory_fraction(1.0, device)
    release(device)
    return found


def _nothing_left(device: torch.device) -> dict[str, Any]:
    """Libraries that want memory of their own when none is left: a new thread has no handles yet."""
    a = torch.randn(256, 256, device=device, dtype=torch.bfloat16)
    image, weight = torch.randn(1, 8, 32, 32, device=device), torch.randn(8, 8, 3, 3, device=device)
    found: dict[str, Any] = {}
    with filled(device, leave=0) as free:
        found["nothing left"] = free
        for name, work in (
            ("a product in a new thread", lambda: torch.mm(a, a, out=torch.empty_like(a))),
            ("a convolution in a new thread", lambda: torch.nn.functional.conv2d(image, weight)),
            ("a kernel that was never used", lambda: torch.special.bessel_j1(image)),
            ("an allocation", lambda: torch.empty(GIB, dtype=torch.uint8, device=device)),
        ):
            answers: list[dict[str, Any]] = []
            thread = threading.Thread(target=lambda: answers.append(told(work, device)))  # noqa: B023
            thread.start()
            thread.join()
            found[name] = answers[0]
    return found
