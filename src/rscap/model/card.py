"""What a graphics card can do: the precision it computes in, and whether the installed torch has kernels for it.

`model.dtype = "auto"` is decided here, once: bfloat16 where the card computes it, float16 on cards that only emulate it
(T4, V100, P100), float32 everywhere else. Nothing here downloads or allocates anything.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import torch

from rscap.errors import ModelError
from rscap.recipe import Dtype, ModelSection

Capability = tuple[int, int]
"""CUDA's compute capability, such as (7, 5) of a T4."""

STANDARD: Capability = (7, 5)
"""The oldest cards that torch's builds for CUDA 13, those of the package index, have kernels for."""

BLACKWELL: Capability = (10, 0)
"""The oldest cards that torch's builds for CUDA 12.6 have no kernels for."""


class Kernels(NamedTuple):
    """An entry of `torch.cuda.get_arch_list()`."""

    made_for: Capability
    forward: bool
    """PTX, which the driver compiles for any newer card; otherwise machine code for one major version."""
    exact: bool
    """Machine code that uses what only this one card has (`sm_90a`)."""

    @classmethod
    def of(cls, name: str) -> Kernels | None:
        """`sm_86`, `sm_90a` or `compute_120`; None for a name that is not CUDA's."""
        found = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", name)
        if found is None:
            return None
        kind, major, minor, only = found.groups()
        return cls((int(major), int(minor)), kind == "compute", only == "a")

    def serve(self, card: Capability) -> bool:
        """Machine code runs on cards of its major version whose minor is not below its own; PTX on all newer ones."""
        if self.exact:
            return card == self.made_for
        return self.made_for <= card and (self.forward or self.made_for[0] == card[0])


def served(card: Capability, built_for: Sequence[str]) -> bool:
    """Whether a build of torch for these architectures runs on a card; an empty list says nothing against it."""
    known = [kernels for name in built_for if (kernels := Kernels.of(name)) is not None]
    return not known or any(kernels.serve(card) for kernels in known)


def build_for(card: Capability) -> str:
    """How to install a torch that serves a card."""
    if card < STANDARD:
        return (
            "torch's builds for CUDA 12.6 serve it, up to torch 2.14: "
            "pip install 'torch<2.15' --index-url https://download.pytorch.org/whl/cu126"
        )
    if card >= BLACKWELL:
        return "torch's builds for CUDA 13 serve it: pip install --upgrade torch"
    return "torch's standard builds serve it: pip install --force-reinstall torch"


def check_served(device: str | torch.device) -> None:
    """Refuse a card for which the installed torch has no kernels, before anything is downloaded for it.

    Raises:
        ModelError: names the card, what torch was built for, and the build that serves the card.
    """
    place = torch.device(device)
    if place.type != "cuda" or torch.version.hip:
        return
    card, built_for = torch.cuda.get_device_capability(place), torch.cuda.get_arch_list()
    if not served(card, built_for):
        raise ModelError(
            f"the installed torch {torch.__version__} has no kernels for the {torch.cuda.get_device_name(place)} "
            f"(compute capability {card[0]}.{card[1]}): it was built for {', '.join(built_for)}",
            hint=build_for(card),
        )


def computes_bfloat16(device: str | torch.device) -> bool:
    """Whether the device multiplies bfloat16 itself; older cards emulate it, at a fraction of their float16 speed."""
    place = torch.device(device)
    if place.type != "cuda":
        return place.type == "cpu"
    with torch.cuda.device(place):
        return torch.cuda.is_bf16_supported(including_emulation=False)


def best_dtype(device: str | torch.device) -> Dtype:
    """The precision that `auto` comes to: bfloat16 or float16 on a CUDA card, float32 elsewhere."""
    if torch.device(device).type != "cuda":
        return "float32"
    return "bfloat16" if computes_bfloat16(device) else "float16"


def dtype_of(section: ModelSection, device: str | torch.device) -> Dtype:
    """The precision that a section names, or what the device computes best."""
    return best_dtype(device) if section.dtype == "auto" else section.dtype


def decided(section: ModelSection, device: str | torch.device) -> ModelSection:
    """The section with `auto` replaced by what the device computes best; any other precision stays as it was named."""
    return section.model_copy(update={"dtype": dtype_of(section, device)})


def emulated(section: ModelSection, device: str | torch.device) -> str | None:
    """A warning where a recipe names bfloat16 and the card only emulates it; None elsewhere."""
    if section.dtype != "bfloat16" or computes_bfloat16(device):
        return None
    return (
        f"{_name(device)} has no bfloat16 and emulates it slowly: --set model.dtype=float16, or auto, is for such cards"
    )


def _name(device: str | torch.device) -> str:
    place = torch.device(device)
    return f"the {torch.cuda.get_device_name(place)}" if place.type == "cuda" else place.type
