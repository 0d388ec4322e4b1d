"""Steps on batches of many lengths, captions in between: what new shapes cost, in time and in memory reserved.

cuDNN's attention kernels, which torch takes first on Hopper, are built anew for every shape. The allocator cuts
segments of fixed size into pieces that later shapes do not fit.
"""

from __future__ import annotations

import random
import statistics
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from on_gpu.machine import Machine
from on_gpu.models import Models, Wanted
from on_gpu.timing import seconds
from on_gpu.training import Stepper, batch_of
from on_gpu.variations import with_cudnn
from peaks import micro_batch
from rscap.captioner.decoding import decode
from rscap.model.memory import release
from rscap.model.packed import PackedModel

STEPS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Varied:
    """The same stretch of training in several ways, one after another in one process."""

    kind: ClassVar[str] = "lengths"

    geometry: str
    images: int = 8

    @property
    def name(self) -> str:
        return f"lengths, {self.geometry}, micro batch {self.images}"

    def measure(self, models: Models, machine: Machine) -> dict[str, Any]:
        wanted, device = Wanted(geometry=self.geometry), machine.device
        models.drop()
        found = {
            "new lengths": self._stretch(models.get(wanted), wanted, device),
            "the same lengths again": self._stretch(models.get(wanted), wanted, device),
        }
        if device.type == "cuda":
            with with_cudnn(models.get(wanted)):
                found["cuDNN's attention"] = self._stretch(models.get(wanted), wanted, device)
            models.drop()
            torch._C._accelerator_setAllocatorSettings("expandable_segments:True")
            try:
                found["segments that grow"] = self._stretch(models.get(wanted), wanted, device)
            finally:
                models.drop()
                torch._C._accelerator_setAllocatorSettings("expandable_segments:False")
        return {"geometry": self.geometry, "ways": found}

    def _stretch(self, packed: PackedModel, wanted: Wanted, device: torch.device) -> dict[str, Any]:
        on_gpu, draw = device.type == "cuda", random.Random(0)
        release(device)
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        stepper = Stepper.of(packed, wanted.recipe(micro_batch=self.images))
        times = []
        for number in range(STEPS):
            suffixes = [draw.randint(8, 24) for _ in range(5)]
            stepper.batch = batch_of(packed, self.images, suffixes=suffixes)
            times.append(seconds(stepper.step, device))
            if number == STEPS // 2:
                packed.eval()
                prompts = micro_batch(packed.bare, 32, suffixes=()).to(device)
                decode(packed, prompts, settings=wanted.recipe().generate, eos=1)
                packed.train()
        return {
            "step_s": statistics.median(times),
            "steps": times,
            "allocated_bytes": torch.cuda.max_memory_allocated() if on_gpu else None,
            "reserved_bytes": torch.cuda.max_memory_reserved() if on_gpu else None,
        }

    def line(self, result: dict[str, Any]) -> str:
        words = []
        for name, one in result["ways"].items():
            memory = ""
            if one["allocated_bytes"]:
                given, kept = one["allocated_bytes"] / 2**30, one["reserved_bytes"] / 2**30
                memory = f", {given:.1f} GiB allocated, {kept:.1f} reserved"
            words.append(f"{name}: {1e3 * one['step_s']:.0f} ms, {sum(one['steps']):.1f} s in all{memory}")
        return "; ".join(words)
