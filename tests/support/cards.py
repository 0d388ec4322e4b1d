"""Graphics cards that are not there: what torch would say of them."""

from __future__ import annotations

from contextlib import nullcontext
from typing import NamedTuple

import pytest
import torch


class Simulated(NamedTuple):
    """A card, and the architectures that the installed torch was built for."""

    name: str
    capability: tuple[int, int]
    built_for: tuple[str, ...] = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120")

    def plug_in(self, monkeypatch: pytest.MonkeyPatch) -> torch.device:
        """Let torch.cuda answer as if the card were there; nothing can be computed on it."""
        answers = {
            "is_available": True,
            "get_device_capability": self.capability,
            "get_arch_list": [*self.built_for],
            "get_device_name": self.name,
            "is_bf16_supported": self.capability >= (8, 0),
        }
        for name, answer in answers.items():
            monkeypatch.setattr(torch.cuda, name, lambda *_, _answer=answer, **__: _answer)
        monkeypatch.setattr(torch.cuda, "device", lambda *_: nullcontext())
        return torch.device("cuda", 0)


T4 = Simulated("Tesla T4", (7, 5))
P100 = Simulated("Tesla P100-PCIE-16GB", (6, 0))
A100 = Simulated("NVIDIA A100-SXM4-40GB", (8, 0))
