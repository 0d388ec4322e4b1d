"""The sections on diagnostics, data, provenance and recipes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rscap.escape import without_folders
from rscap.reports.cells import Entry, Line, table
from rscap.reports.html import Html, element, join
from rscap.reports.load import LoadedRun, Scored
from rscap.reports.table import ScoreTable
from rscap.scoring.content import RATES
from rscap.store import PROVENANCE, REJECTED, Quality


def data(runs: Sequence[LoadedRun]) -> Html:
    """Data rows that could not be used, with the reasons; and what is missing from the run folders."""
    return element("div", *[_data(run) for run in runs], class_="blocks")


def _data(run: LoadedRun) -> Html:
    known = run.provenance.data.content() if run.provenance else {}
    facts = [(key.replace("_", " "), _say(value)) for key, value in known.items()]
    facts += [("rejected rows", f"{len(run.rejected):,}"), *(_quality(run.quality) if run.quality else [])]
    lines = [line for name, value in facts for line in (element("dt", name), element("dd", value))]
    reasons = Counter(row.reason for row in run.rejected)
    listed = [element("li", f"{without_folders(reason)} ({count:,})") for reason, count in reasons.most_common(12)]
    if len(reasons) > 12:
        listed.append(element("li", f"and {len(reasons) - 12:,} other reasons: see {REJECTED}"))
    notes = [element("p", without_folders(note), class_="note") for note in run.notes]
    return element(
        "div",
        element("h3", run.label),
        element("dl", *lines),
        element("ul", *listed) if listed else None,
        *notes,
        class_="block",
    )


def _quality(found: Quality) -> list[tuple[str, str]]:
    """What the quality rules did to the training captions."""
    reasons = ", ".join(f"{reason} {count}" for reason, count in found.by_reason.items())
    mean = f" (mean weight {found.mean_weight})" if found.mean_weight else ""
    return [
        ("captions removed", f"{found.captions_removed}{f' ({reasons})' if reasons else ''}"),
        ("captions weighed down", f"{found.captions_weighted}{mean}"),
        ("images dropped", str(found.images_dropped)),
    ]


def provenance(runs: Sequence[LoadedRun]) -> Html:
    """Commit, versions, device and command of each run."""
    return element("div", *[_provenance(run) for run in runs], class_="blocks")


def _provenance(run: LoadedRun) -> Html:
    if not run.provenance:
        return element("div", element("h3", run.label), element("p", f"no {PROVENANCE}", class_="note"), class_="block")
    known = run.provenance.content()
    facts = [
        (key, _fact(key, value, known))
        for key, value in known.items()
        if key not in ("packages", "data", "dirty", "command") and value is not None
    ]
    lines = [line for name, value in facts for line in (element("dt", name), element("dd", value))]
    listed = ", ".join(f"{name} {version}" for name, version in run.provenance.packages.items())
    command = run.provenance.command
    return element(
        "div",
        element("h3", run.label),
        element("dl", *lines),
        element("p", element("code", without_folders(command)), class_="command") if command else None,
        element("details", element("summary", "packages"), element("p", listed, class_="quiet")) if listed else None,
        class_="block",
    )


def _fact(key: str, value: Any, all_facts: Mapping[str, Any]) -> Html:
    text = _say(value)
    if key == "commit" and all_facts.get("dirty"):
        return join(text, element("span", "with uncommitted changes", class_="flag"))
    return join(text)


def _say(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_say(inner)}" for key, inner in value.items() if inner is not None)
    return without_folders(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def recipes(runs: Sequence[LoadedRun]) -> Html | None:
    """The recipe of each run as it was written to the run folder."""
    found = [
        element(
            "details", element("summary", run.label), element("pre", element("code", without_folders(run.recipe_text)))
        )
        for run in runs
        if run.recipe_text
    ]
    return join(*found) if found else None


# The diagnostics section: what a corpus score hides, from the diagnostics of the sheets.

_GROUPS = (("by_source", "CIDEr by source"), ("by_scene_class", "CIDEr by scene class"))


def diagnostics_section(tables: Sequence[ScoreTable]) -> Html | None:
    """One set of diagnostic tables for each score table; None if no sheet has any."""
    parts = [part for table in tables if (part := _diagnostics(table)) is not None]
    return join(*parts) if parts else None


def _diagnostics(scores: ScoreTable) -> Html | None:
    facts = {row.label: _facts(scored) for row, scored in zip(scores.rows, scores.scored, strict=True)}
    names = list(dict.fromkeys(name for found in facts.values() for name in found))
    if not names:
        return None
    lines = [Line(head=label, entries=[found.get(name, "—") for name in names]) for label, found in facts.items()]
    return element(
        "div",
        table(names, lines, label="diagnostics"),
        element("p", _EXPLAINED, class_="signature"),
        *[_groups(scores, key, title) for key, title in _GROUPS],
        class_="table",
    )


_EXPLAINED = (
    "Degenerate outputs are flagged and scored like all others. “Images shuffled” is CIDEr after every caption was "
    "given to another image: the part of the score that does not depend on the image."
)


# The content section: claims that the references contradict.


def content_section(tables: Sequence[ScoreTable]) -> Html | None:
    """Rates of wrong things, counts, colours, directions, a table for each score table; None if no sheet has them."""
    parts = [part for table in tables if (part := _content(table)) is not None]
    return join(*parts) if parts else None


def _content(scores: ScoreTable) -> Html | None:
    found = {
        row.label: _mapping(scored.sheet.extra.get("content")) if scored.sheet else {}
        for row, scored in zip(scores.rows, scores.scored, strict=True)
    }
    if not any(found.values()):
        return None
    lines = [
        Line(head=label, entries=[_rate(_mapping(_mapping(one.get("rates")).get(name))) for name in RATES])
        for label, one in found.items()
    ]
    versions = sorted({str(one.get("version")) for one in found.values() if one})
    explained = f"{_CONTENT_EXPLAINED} Word lists: version {', '.join(versions)}."
    return element(
        "div",
        table([_heading(name) for name in RATES], lines, label="content errors"),
        element("p", explained, class_="signature"),
        *[_frequent(label, _mapping(one.get("wrong"))) for label, one in found.items() if one.get("wrong")],
        class_="table",
    )


_CONTENT_EXPLAINED = (
    "Claims that no reference of the image bears out, as a share of those that could be checked, with 95 % bootstrap "
    "intervals over images; lower is better."
)
_FREQUENT = 12


def _heading(rate: str) -> str:
    return f"wrong {rate.removesuffix('-errors')}s"


def _rate(found: Mapping[str, Any]) -> Entry:
    value = _number(found.get("rate"), "{:.1%}")
    if value is None:
        return Entry(text="—")
    bounds = found.get("interval")
    interval = f"[{bounds[0]:.1%}, {bounds[1]:.1%}], " if isinstance(bounds, Sequence) and len(bounds) == 2 else ""
    of = f"{_number(found.get('wrong'), '{:,.0f}')} of {_number(found.get('claims'), '{:,.0f}')}"
    return Entry(text=value, small=f"{interval}{of}")


def _frequent(label: str, wrong: Mapping[str, Any]) -> Html:
    """The wrong claims that a row makes most often."""
    counts = Counter(text for kinds in wrong.values() for texts in _mapping(kinds).values() for text in texts)
    listed = ", ".join(f"{text} ({count:,})" for text, count in counts.most_common(_FREQUENT))
    return element("p", f"{label}, most often wrong: {listed}", class_="quiet")


def _facts(scored: Scored) -> dict[str, str]:
    """Diagnostics of one row as text, by column name; those that the sheet lacks are omitted."""
    sheet = scored.sheet
    found = _mapping(sheet.extra.get("diagnostics")) if sheet else {}
    facts = {
        "distinct captions": _number(found.get("distinct_captions"), "{:,.0f}"),
        "words a caption": _number(found.get("candidate_words"), "{:.1f}"),
        "vocabulary": _number(found.get("vocabulary"), "{:,.0f}"),
        "length ratio": _number(found.get("length_ratio"), "{:.2f}"),
        "training captions verbatim": _number(_mapping(found.get("verbatim_training")).get("share"), "{:.0%}"),
        "cut at the length limit": f"{_cut(scored):,}" if scored.predictions else None,
        "degenerate": _degenerate(_mapping(found.get("degenerate"))),
        "images shuffled": _number(_mapping(found.get("shuffled")).get("CIDEr"), "{:.3f}"),
    }
    return {name: text for name, text in facts.items() if text is not None}


def _degenerate(kinds: Mapping[str, Any]) -> str | None:
    counts = {kind: _number(_mapping(one).get("count"), "{:,.0f}") for kind, one in kinds.items()}
    named = [f"{count} {kind}" for kind, count in counts.items() if count not in (None, "0")]
    return (", ".join(named) or "none") if kinds else None


def _cut(scored: Scored) -> int:
    return sum(prediction.stopped == "length" for prediction in scored.predictions.values())


def _groups(scores: ScoreTable, key: str, title: str) -> Html | None:
    """CIDEr by group of images, one line for each; None for fewer than two groups."""
    columns = [
        (row.label, _mapping(_mapping(scored.sheet.extra.get("diagnostics")).get(key)) if scored.sheet else {})
        for row, scored in zip(scores.rows, scores.scored, strict=True)
    ]
    names = sorted({str(name) for _, groups in columns for name in groups})
    if len(names) < 2:
        return None
    found = [groups for _, groups in columns]
    lines = [
        Line(
            head=name,
            entries=[
                _size(found, name),
                *[_number(_mapping(groups.get(name)).get("CIDEr"), "{:.3f}") or "—" for groups in found],
            ],
        )
        for name in names
    ]
    content = table(["n", *[label for label, _ in columns]], lines, label=title, sortable=True)
    return element("details", element("summary", title), content, open="" if len(names) <= 6 else None)


def _size(columns: Sequence[Mapping[str, Any]], name: str) -> str:
    sizes = (_number(_mapping(groups.get(name)).get("n"), "{:,.0f}") for groups in columns)
    return next((size for size in sizes if size), "—")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: Any, form: str) -> str | None:
    return form.format(value) if isinstance(value, int | float) else None
