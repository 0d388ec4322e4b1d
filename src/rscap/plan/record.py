"""A plan as a table for JSON: every figure, in bytes and seconds, and where it comes from."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rscap.plan.parameters import COMPONENTS
from rscap.plan.request import Plan, describe_quantisation
from rscap.plan.search import Candidate


def record(plan: Plan) -> dict[str, Any]:
    """Everything that a plan says."""
    return {
        "fits": plan.proposed is not None,
        "card": asdict(plan.card),
        "base": plan.shapes.name,
        "parameters": plan.shapes.parameters,
        "rows": asdict(plan.rows),
        "written": _candidate(plan.written),
        "proposed": None if plan.proposed is None else _candidate(plan.proposed),
        "closest": _candidate(plan.closest),
        "changes": {key: list(value) if isinstance(value, tuple) else value for key, value in plan.changes.items()},
        "limits": [asdict(limit) for limit in plan.limits],
        "notes": list(plan.notes),
    }


def _candidate(one: Candidate) -> dict[str, Any]:
    train, memory = one.recipe.train, one.memory
    return {
        "precision": describe_quantisation(one.recipe),
        "micro_batch": train.micro_batch,
        "accumulation": train.accumulation,
        "gradient_checkpointing": train.gradient_checkpointing,
        "generate_batch_size": one.recipe.generate.batch_size,
        "needed_bytes": one.needed,
        "shortfall_bytes": max(0, one.shortfall),
        "fits": one.fits,
        "peak": memory.moment.when,
        "components": {name: memory.row(name) for name in COMPONENTS},
        "logits_bytes": memory.logits,
        "generation_bytes": one.generating,
        "reserve_bytes": one.reserve,
        "context_bytes": one.situation.card.overhead,
        "learning_parameters": sum(resident.learning for resident in memory.residents.values()),
        "time": asdict(one.duration),
    }
