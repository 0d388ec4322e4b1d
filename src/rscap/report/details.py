"""The sections at the end: data, provenance, recipes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rscap.report.html import Html, element, join
from rscap.report.load import LoadedRun


def data(runs: Sequence[LoadedRun]) -> Html:
    """Rows of the data that could not be used, with the reasons; and what was missing in the run folders."""
    return element("div", *[_data(run) for run in runs], class_="blocks")


def _data(run: LoadedRun) -> Html:
    part = run.provenance.get("data")
    facts = [(str(key).replace("_", " "), _say(value)) for key, value in part.items()] if isinstance(part, dict) else []
    facts += [("rejected rows", f"{len(run.rejected):,}"), *_quality(run.quality)]
    lines = [line for name, value in facts for line in (element("dt", name), element("dd", value))]
    reasons = Counter(str(row.get("reason", "no reason given")) for row in run.rejected)
    listed = [element("li", f"{reason} ({count:,})") for reason, count in reasons.most_common(12)]
    if len(reasons) > 12:
        listed.append(element("li", f"and {len(reasons) - 12:,} other reasons: see rejected.jsonl"))
    notes = [element("p", note, class_="note") for note in run.notes]
    return element(
        "div",
        element("h3", run.label),
        element("dl", *lines),
        element("ul", *listed) if listed else None,
        *notes,
        class_="block",
    )


def _quality(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the quality rules did to the captions that were learned."""
    if not found:
        return []
    reasons = found.get("by_reason")
    told = ", ".join(f"{reason} {count}" for reason, count in reasons.items()) if isinstance(reasons, dict) else ""
    mean = found.get("mean_weight")
    return [
        ("captions removed", f"{found.get('captions_removed', '—')}{f' ({told})' if told else ''}"),
        ("captions weighed down", f"{found.get('captions_weighted', '—')}{f' (mean weight {mean})' if mean else ''}"),
        ("images dropped", str(found.get("images_dropped", "—"))),
    ]


def provenance(runs: Sequence[LoadedRun]) -> Html:
    """Commit, versions, device and command of each run."""
    return element("div", *[_provenance(run) for run in runs], class_="blocks")


def _provenance(run: LoadedRun) -> Html:
    if not run.provenance:
        return element(
            "div", element("h3", run.label), element("p", "no provenance.json", class_="note"), class_="block"
        )
    facts = [
        (key, _fact(key, value, run.provenance))
        for key, value in run.provenance.items()
        if key not in ("packages", "data", "dirty", "command") and value is not None
    ]
    lines = [line for name, value in facts for line in (element("dt", name), element("dd", value))]
    packages = run.provenance.get("packages")
    listed = ", ".join(f"{name} {version}" for name, version in packages.items()) if isinstance(packages, dict) else ""
    command = run.provenance.get("command")
    return element(
        "div",
        element("h3", run.label),
        element("dl", *lines),
        element("p", element("code", str(command)), class_="command") if command else None,
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
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def recipes(runs: Sequence[LoadedRun]) -> Html | None:
    """The recipe of each run as it was written to the run folder."""
    found = [
        element("details", element("summary", run.label), element("pre", element("code", run.recipe)))
        for run in runs
        if run.recipe
    ]
    return join(*found) if found else None
