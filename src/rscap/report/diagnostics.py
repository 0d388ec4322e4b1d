"""The diagnostics section: what a corpus score hides, from the sheets' own diagnostics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rscap.report.html import Html, element, join
from rscap.report.load import Scored
from rscap.report.table import ScoreTable

_GROUPS = (("by_source", "CIDEr by source"), ("by_scene_class", "CIDEr by scene class"))


def diagnostics_section(tables: Sequence[ScoreTable]) -> Html | None:
    """One set of diagnostic tables for each score table; None where no sheet has any."""
    parts = [part for table in tables if (part := _diagnostics(table)) is not None]
    return join(*parts) if parts else None


def _diagnostics(table: ScoreTable) -> Html | None:
    facts = {row.label: _facts(scored) for row, scored in zip(table.rows, table.scored, strict=True)}
    names = list(dict.fromkeys(name for found in facts.values() for name in found))
    if not names:
        return None
    body = [
        element(
            "tr",
            element("th", label, scope="row"),
            *[element("td", found.get(name, "—"), data_name=name) for name in names],
        )
        for label, found in facts.items()
    ]
    head = element("tr", element("th", "", scope="col"), *[element("th", name, scope="col") for name in names])
    return element(
        "div",
        element("table", element("thead", head), element("tbody", *body), class_="scores"),
        element("p", _EXPLAINED, class_="signature"),
        *[_groups(table, key, title) for key, title in _GROUPS],
        class_="table",
    )


_EXPLAINED = (
    "Degenerate outputs are flagged and scored like all others. “Images shuffled” is CIDEr after every caption was "
    "given to another image: what it keeps, it owes to no image."
)


def _facts(scored: Scored) -> dict[str, str]:
    """Diagnostics of one row as text, by the name of their column; what the sheet does not know is left out."""
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


def _groups(table: ScoreTable, key: str, title: str) -> Html | None:
    """CIDEr of groups of images, a line a group; None where there are fewer than two groups."""
    columns = [
        (row.label, _mapping(_mapping(scored.sheet.extra.get("diagnostics")).get(key)) if scored.sheet else {})
        for row, scored in zip(table.rows, table.scored, strict=True)
    ]
    names = sorted({str(name) for _, groups in columns for name in groups})
    if len(names) < 2:
        return None
    body = [
        element(
            "tr",
            element("th", name, scope="row"),
            element("td", _size([groups for _, groups in columns], name), data_name="n"),
            *[
                element("td", _number(_mapping(groups.get(name)).get("CIDEr"), "{:.3f}") or "—", data_name=label)
                for label, groups in columns
            ],
        )
        for name in names
    ]
    heads = ["", "n", *[label for label, _ in columns]]
    head = element("tr", *[element("th", text, scope="col") for text in heads])
    content = element("table", element("thead", head), element("tbody", *body), class_="scores groups")
    return element("details", element("summary", title), content, open="" if len(names) <= 6 else None)


def _size(columns: Sequence[Mapping[str, Any]], name: str) -> str:
    sizes = (_number(_mapping(groups.get(name)).get("n"), "{:,.0f}") for groups in columns)
    return next((size for size in sizes if size), "—")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: Any, form: str) -> str | None:
    return form.format(value) if isinstance(value, int | float) else None
