"""Every kind of finding: how it is told, why it matters and what to do. docs/doctor.md is this table as a page."""

from __future__ import annotations

from rscap.doctor.catalogue.kinds import DATA, EVALUATION, PROMPT, RUN, Kind, Severity
from rscap.doctor.catalogue.training import ATTENTION, LABELS, LOSS, WEIGHTS

__all__ = ["CATALOGUE", "KINDS", "Kind", "Severity"]

CATALOGUE: dict[str, dict[str, Kind]] = {
    "Labels": LABELS,
    "Attention": ATTENTION,
    "Loss and learning rate": LOSS,
    "Weights and adapters": WEIGHTS,
    "Prompt": PROMPT,
    "Data": DATA,
    "Evaluation": EVALUATION,
    "Run": RUN,
}
"""All kinds, by what they are about."""

KINDS: dict[str, Kind] = {code: kind for group in CATALOGUE.values() for code, kind in group.items()}
