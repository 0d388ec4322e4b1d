"""How far a run came, and what it left."""

from __future__ import annotations

from collections.abc import Iterator

from rscap.doctor.evidence import Evidence
from rscap.doctor.findings import Finding, found


def unfinished(evidence: Evidence) -> Iterator[Finding]:
    """A run that failed, was interrupted, or is not at its last step."""
    if not (state := evidence.state) or state.state == "finished":
        return
    reached = f" after {state.steps:,} steps" if state.steps is not None else ""
    planned = f" of {state.planned_steps:,}" if state.planned_steps is not None else ""
    message = f": {state.message}" if state.message else ""
    yield found("not-finished", f"the run is {state.state!r}{reached}{planned}{message}", where=state.where)


def lost_result(evidence: Evidence) -> Iterator[Finding]:
    """A finished run without weights."""
    if (state := evidence.state) and state.state == "finished" and state.result is False:
        yield found("result-missing", "the run is finished and holds neither adapter nor model", where=state.where)
