"""A finding (what is wrong, its evidence, why it matters, what to do), and the diagnosis that holds all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from rscap.doctor.catalogue import KINDS, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One problem of a run or a recipe."""

    code: str
    """A name of docs/doctor.md."""
    severity: Severity
    title: str
    evidence: str
    """What was seen, with numbers."""
    where: str
    """File and line, or the measurement."""
    why: str
    cure: str


def found(code: str, evidence: str, *, where: str, severity: Severity | None = None) -> Finding:
    """A finding of a kind in the catalogue; `severity` if this case is milder than usual."""
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
    """All findings, and what was examined."""

    subject: str
    kind: Literal["run", "recipe", "foreign run"]
    findings: tuple[Finding, ...]
    """Errors first, in the order of the catalogue."""
    looked_at: tuple[str, ...]
    not_looked_at: Mapping[str, str] = field(default_factory=dict)
    """What could not be examined, and why: no finding about it is no good sign."""

    @property
    def sound(self) -> bool:
        """Whether there is no finding of severity `error`."""
        return all(finding.severity != "error" for finding in self.findings)


def ordered(findings: list[Finding]) -> tuple[Finding, ...]:
    """Errors before warnings, each in the order of the catalogue."""
    places = {code: place for place, code in enumerate(KINDS)}
    return tuple(sorted(findings, key=lambda finding: (finding.severity != "error", places[finding.code])))
