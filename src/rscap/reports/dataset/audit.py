"""The page of `rscap data audit`: the findings by kind, with their images side by side."""

from __future__ import annotations

from collections.abc import Sequence

from rscap.data.audit import KINDS, Audit, AuditFinding
from rscap.data.source import Source
from rscap.records import Example
from rscap.reports.cells import Line, table
from rscap.reports.dataset.inspection import example_picture
from rscap.reports.html import Html, PageSection, bullets, element, frame, join

SHOWN = 24
"""Findings of a kind that the page shows at once; a list below them names the others."""
_PICTURES = frozenset(
    {"unreadable-image", "odd-image", "exact-duplicate", "near-duplicate", "same-captions", "disagreement"}
)
_IN_A_ROW = 4


def audit_page(source: Source, found: Audit) -> str:
    """The whole page as HTML text."""
    by_id = {example.id: example for example in source.examples}
    sections = [PageSection("summary", "Summary", _summary(found))]
    for kind, count in found.counts.items():
        members = [finding for finding in found.findings if finding.kind == kind]
        link = f"{kind.replace('-', ' ')} ({count:,})"
        sections.append(PageSection(kind, KINDS[kind], _kind(kind, members, by_id, count), link))
    errors = sum(one.severity == "error" for one in found.findings)
    return frame(
        sections,
        title=f"{found.name} · Data audit",
        kicker="Data audit",
        heading=found.name,
        facts=[f"{found.examples:,} images", f"splits: {found.split_scheme}", f"digest {found.digest[:12]}"],
        lede=[
            f"{len(found.findings):,} findings; {errors:,} are errors: leaks between splits, unreadable images."
            + ("" if found.images else " Images were not examined.")
        ],
    )


def _summary(found: Audit) -> Html:
    lines = []
    for kind, count in found.counts.items():
        members = [one for one in found.findings if one.kind == kind]
        errors = sum(one.severity == "error" for one in members)
        images = sum(one.count for one in members)
        lines.append(Line(head=KINDS[kind], entries=[f"{count:,}", f"{errors:,}" if errors else "–", f"{images:,}"]))
    if not lines:
        return element("p", "Nothing was found.")
    leaks = [f"{count:,} images of {name.replace(' in ', ' have a twin in ')}" for name, count in found.leaks.items()]
    told = "A twin is a duplicate image, or another image with the very same list of captions."
    return join(
        *([bullets(leaks), element("p", told, class_="note")] if leaks else []),
        table(["findings", "errors", "images"], lines, label="findings by kind", first="what"),
    )


def _kind(kind: str, findings: Sequence[AuditFinding], by_id: dict[str, Example], count: int) -> Html:
    shown = findings[:SHOWN]
    rest = findings[SHOWN:]
    note = f"{count:,} findings; the first {len(shown)} with their images." if rest and kind in _PICTURES else None
    if kind in _PICTURES:
        body = element("div", *[_evidence(finding, by_id) for finding in shown], class_="evidence")
    else:
        body = bullets([_line(finding) for finding in shown])
    others = element(
        "details", element("summary", f"the other {len(rest):,}"), bullets([_line(finding) for finding in rest])
    )
    return join(element("p", note, class_="note") if note else None, body, others if rest else None)


def _line(finding: AuditFinding) -> Html:
    more = f" and {finding.count - 3:,} more" if finding.count > 3 else ""
    where = f"{', '.join(finding.ids[:3])}{more}" + (f" ({', '.join(finding.splits)})" if finding.splits else "")
    said = [element("q", caption, class_="said") for caption in finding.captions[:1]]
    return join(element("b", finding.detail), Html(" "), *said, Html(" "), element("span", where, class_="quiet"))


def _evidence(finding: AuditFinding, by_id: dict[str, Example]) -> Html:
    members = [by_id[name] for name in finding.ids[:_IN_A_ROW] if name in by_id]
    pictures = [
        element(
            "figure",
            example_picture(one),
            element("figcaption", f"{one.id} ", element("span", one.split, class_="quiet")),
        )
        for one in members
    ]
    more = f" {finding.count - len(members):,} more images." if finding.count > len(members) else ""
    captions = bullets(list(dict.fromkeys(finding.captions))) if finding.captions else None
    mark = element("span", finding.severity, class_="flag") if finding.severity == "error" else None
    return element(
        "article",
        element("p", element("b", finding.detail + "."), more, mark),
        element("div", *pictures, class_="pictures"),
        captions,
        class_="finding",
    )
