"""A finding: what is wrong, how one can tell, why it matters, what to do; and the diagnosis that holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from rscap.doctor.catalogue import KINDS, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that makes a run bad, or will."""

    code: str
    """A name of docs/doctor.md."""
    severity: Severity
    title: str
    evidence: str
    """What was seen, with numbers."""
    where: str
    """File and line, or what was measured."""
    why: str
    cure: str


def found(code: str, evidence: str, *, where: str, severity: Severity | None = None) -> Finding:
    """A finding of a kind that the catalogue knows; `severity` where this case is milder than the kind."""
    kind = KINDS[code]
    return Finding(
        code=code,
        severity=severity or kind.severity,
        title=kind.title,
        evidence=evidence,
        where=where,
        why=kind.why,
        cure=kind.cure,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """All that was found, and what could be looked at."""

    subject: str
    kind: Literal["run", "recipe", "foreign run"]
    findings: tuple[Finding, ...]
    """Errors first, in the order of the catalogue."""
    looked_at: tuple[str, ...]
    not_looked_at: Mapping[str, str] = field(default_factory=dict)
    """What could not be looked at, and why: silence about it is no good news."""

    @property
    def sound(self) -> bool:
        """Nothing of severity `error` was found."""
        return all(finding.severity != "error" for finding in self.findings)


def ordered(findings: list[Finding]) -> tuple[Finding, ...]:
    """Errors before warnings; among equals, in the catalogue's order."""
    places = {code: place for place, code in enumerate(KINDS)}
    return tuple(sorted(findings, key=lambda finding: (finding.severity != "error", places[finding.code])))
