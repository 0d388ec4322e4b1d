"""One record for everything an audit can find."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rscap.records import Example

AuditSeverity = Literal["error", "warning", "note"]
"""`error`: results on these data mislead (leaks, unreadable images). `warning`: worth fixing. `note`: worth knowing."""
SEVERITIES: tuple[AuditSeverity, ...] = ("error", "warning", "note")

SHOWN_IDS = 50
"""Ids that a finding lists; `count` is of all."""

KINDS: dict[str, str] = {
    "rejected-row": "Rows that could not be used",
    "missing-image": "Images that do not exist",
    "unreadable-image": "Images that cannot be decoded",
    "odd-image": "Images of one colour, nearly black, tiny, or far from square",
    "exact-duplicate": "Images that are equal pixel by pixel",
    "near-duplicate": "Images that show the same picture, recompressed, resized, shifted, flipped or turned",
    "same-captions": "Different images with the very same list of captions",
    "shared-caption": "Single captions that occur in more than one split",
    "repeated-caption": "Single captions that several images of one split have",
    "one-caption": "Images whose captions are all one sentence",
    "special-token": "Captions that spell a special token, such as <image> or <eos>",
    "non-ascii": "Captions with characters beyond ASCII",
    "invisible": "Captions with zero-width or other invisible characters",
    "spaces": "Captions with double or outer white space, or a line break",
    "no-full-stop": "Captions without the full stop that most end with",
    "too-short": "Captions of fewer than three words",
    "repeated-word": "Captions that say a word twice in a row",
    "likely-typo": "Rare words one letter away from a frequent one",
    "disagreement": "Captions that disagree with the other captions of their image",
}
"""Every kind of finding, in the order of the page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFinding:
    """One thing that an audit found."""

    kind: str
    severity: AuditSeverity
    ids: tuple[str, ...]
    """The first SHOWN_IDS examples it is about."""
    count: int
    """All examples it is about."""
    splits: tuple[str, ...]
    detail: str
    captions: tuple[str, ...] = ()
    """The captions it is about, where it is about captions."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Values of this kind alone: similarity, turn, shift …"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """All findings about one source."""

    name: str
    digest: str
    split_scheme: str
    examples: int
    images: int
    """Number of images decoded; 0 if there are none or only the captions were audited."""
    findings: tuple[AuditFinding, ...]
    leaks: dict[str, int]
    """`test in train`: how many test examples have a duplicate image or the same captions in train; likewise val."""

    @property
    def counts(self) -> dict[str, int]:
        """Findings by kind, in the order of KINDS; kinds with none are left out."""
        found = Counter(finding.kind for finding in self.findings)
        return {kind: found[kind] for kind in KINDS if found[kind]}

    @property
    def worst(self) -> AuditSeverity | None:
        """The highest severity there is."""
        return next((level for level in SEVERITIES if any(one.severity == level for one in self.findings)), None)


def about(examples: Sequence[Example], kind: str, severity: AuditSeverity, detail: str, **more: Any) -> AuditFinding:
    """A finding about some examples: ids, count and splits are theirs."""
    return AuditFinding(
        kind=kind,
        severity=severity,
        ids=tuple(example.id for example in examples[:SHOWN_IDS]),
        count=len(examples),
        splits=tuple(dict.fromkeys(example.split for example in examples)),
        detail=detail,
        **more,
    )


def leaking(examples: Sequence[Example]) -> bool:
    """Are these examples, which should be in one split, in two of train, val and test?"""
    return crosses(example.split for example in examples)


def crosses(splits: Iterable[str]) -> bool:
    """Are at least two of train, val and test among these?"""
    return len({"train", "val", "test"}.intersection(splits)) > 1
