"""Audit: what is wrong, odd or leaking in a data set, with the evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rscap.data.audit.captions import one_caption, same_captions, shared_captions
from rscap.data.audit.duplicates import find_duplicates
from rscap.data.audit.findings import KINDS, Audit, Finding, about
from rscap.data.audit.noise import caption_noise, likely_typos
from rscap.data.audit.pictures import picture_findings
from rscap.data.handles import MissingImage
from rscap.data.source import Source

__all__ = ["KINDS", "Audit", "Finding", "about", "audit"]

_LEAKS = frozenset({"exact-duplicate", "near-duplicate", "same-captions"})


def audit(
    source: Source,
    *,
    with_images: bool = True,
    more: Iterable[Finding] = (),
    progress: Callable[[], None] | None = None,
) -> Audit:
    """Look at every image and caption of a source.

    Args:
        source: opened with `check="none"` or `"exists"`, so that broken images reach the audit as findings.
        with_images: decode the images and look for duplicates; off for annotations alone.
        more: findings made elsewhere, such as `rscap.quality.disagreements`.
        progress: called after each image.
    """
    examples = source.examples
    findings = [
        Finding(kind="rejected-row", severity="error", ids=(bad.row,), count=1, splits=(), detail=bad.reason)
        for bad in source.rejected
    ]
    at_hand = [example for example in examples if not isinstance(example.image, MissingImage)]
    if with_images and at_hand:
        findings += picture_findings(at_hand, find_duplicates(at_hand, progress=progress))
    for look in (same_captions, shared_captions, one_caption, caption_noise, likely_typos):
        findings += look(examples)
    findings += more
    place = {kind: number for number, kind in enumerate(KINDS)}
    return Audit(
        name=source.name,
        digest=source.digest,
        split_scheme=source.split_scheme,
        examples=len(examples),
        findings=tuple(sorted(findings, key=lambda one: place[one.kind])),
        leaks=_leaks(source, findings),
    )


def _leaks(source: Source, findings: Iterable[Finding]) -> dict[str, int]:
    """How many examples of val and test have a twin in train, and of test in val."""
    split = {example.id: example.split for example in source.examples}
    groups = [one.ids for one in findings if one.kind in _LEAKS and one.count == len(one.ids)]
    groups += _large_groups(source, findings)
    counts = {}
    for inner, outer in (("test", "train"), ("val", "train"), ("test", "val")):
        if {inner, outer} <= set(split.values()):
            leaking = {
                name for ids in groups if any(split[i] == outer for i in ids) for name in ids if split[name] == inner
            }
            counts[f"{inner} in {outer}"] = len(leaking)
    return counts


def _large_groups(source: Source, findings: Iterable[Finding]) -> list[tuple[str, ...]]:
    """The groups of equal caption lists that a finding does not list in full."""
    long = {one.captions for one in findings if one.kind == "same-captions" and one.count > len(one.ids)}
    members: dict[tuple[str, ...], list[str]] = {captions: [] for captions in long}
    for example in source.examples:
        key = tuple(sorted(example.captions))
        if key in members:
            members[key].append(example.id)
    return [tuple(ids) for ids in members.values()]
