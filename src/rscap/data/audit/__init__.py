"""The audit of a data set: errors, oddities and leaks, each with its evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rscap.data.audit.captions import (
    caption_noise,
    groups_of_equal_captions,
    likely_typos,
    one_caption,
    repeated_captions,
    same_captions,
)
from rscap.data.audit.duplicates import (
    find_duplicates,
    groups_of_duplicates,
    missing_images,
    picture_findings,
)
from rscap.data.audit.findings import KINDS, SEVERITIES, Audit, AuditFinding, about
from rscap.data.images import MissingImage
from rscap.data.source import Source
from rscap.records import Example

__all__ = ["KINDS", "Audit", "AuditFinding", "about", "audit"]


def audit(
    source: Source,
    *,
    with_images: bool = True,
    more: Iterable[AuditFinding] = (),
    progress: Callable[[], None] | None = None,
) -> Audit:
    """Check every image and caption of a source.

    Args:
        source: opened with `check="none"` or `"exists"`, so that broken images reach the audit as findings.
        with_images: decode the images and search for duplicates. Where there is no image at all, only the captions are
            checked, unless the folder holds images of other names.
        more: findings made elsewhere, such as `rscap.quality.disagreements`.
        progress: called after each image.
    """
    examples = source.examples
    findings = [
        AuditFinding(kind="rejected-row", severity="error", ids=(bad.row,), count=1, splits=(), detail=bad.reason)
        for bad in source.rejected
    ]
    twins = groups_of_equal_captions(examples)
    with_image = [example for example in examples if with_images and not isinstance(example.image, MissingImage)]
    if with_image or (with_images and source.apart):
        findings += missing_images(examples)
    if with_image:
        duplicates = find_duplicates(with_image, progress=progress)
        findings += picture_findings(with_image, duplicates)
        twins += groups_of_duplicates(with_image, duplicates)
    for look in (same_captions, repeated_captions, one_caption, caption_noise, likely_typos):
        findings += look(examples)
    findings += more
    place = {name: number for names in (KINDS, SEVERITIES) for number, name in enumerate(names)}
    return Audit(
        name=source.name,
        digest=source.digest,
        split_scheme=source.split_scheme,
        examples=len(examples),
        images=len(with_image),
        findings=tuple(sorted(findings, key=lambda one: (place[one.kind], place[one.severity]))),
        leaks=_leaks(source, twins),
    )


def _leaks(source: Source, twins: Iterable[list[Example]]) -> dict[str, int]:
    """Numbers of val and test examples with a twin in train, and of test examples with a twin in val.

    Args:
        twins: groups of duplicate images and of equal caption lists; an example may be in one of each.
    """
    leaking: dict[tuple[str, str], set[str]] = {
        pair: set()
        for pair in (("test", "train"), ("val", "train"), ("test", "val"))
        if set(pair) <= set(source.splits)
    }
    for members in twins:
        splits = {example.split for example in members}
        for (inner, outer), names in leaking.items():
            if outer in splits:
                names.update(example.id for example in members if example.split == inner)
    return {f"{inner} in {outer}": len(names) for (inner, outer), names in leaking.items()}
