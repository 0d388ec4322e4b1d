"""What is known of one kind of finding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of finding. `error`: the run, or its result, cannot be used as it is. `warning`: less than it seems."""

    severity: Severity
    title: str
    when: str
    """How it is told."""
    why: str
    cure: str
