"""Scores on images that the model has seen: how a sheet is marked, and the sentence about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rscap.records import ScoreSheet

SEEN = "seen"
"""The key of a sheet: `{"of": 24, "trained": 12, "selected": 0, "alike": 1}`, or `{"of": 24, "unknown": "why"}`."""


def with_seen(sheet: ScoreSheet, found: Mapping[str, int | str]) -> ScoreSheet:
    """The sheet marked with what the model has seen of its images; unchanged where `found` is empty.

    The signature gets `seen:12/24` for images trained on, `selected:12/24` for images that selected the weights, and
    `seen:unknown` where it cannot be told. Images that only look like others do not change it.
    """
    if not found:
        return sheet
    of = found.get("of", sheet.n)
    marks = ["seen:unknown"] if "unknown" in found else []
    words = {"trained": "seen", "selected": "selected"}
    marks += [f"{word}:{found[key]}/{of}" for key, word in words.items() if found.get(key)]
    return replace(sheet, signature="|".join([sheet.signature, *marks]), extra={**sheet.extra, SEEN: dict(found)})


def seen_sentences(found: Any) -> list[str]:
    """What a reader of a score should know, in sentences that follow the model's name and have no full stop.

    Args:
        found: `sheet.extra.get(SEEN)`; anything but a mapping, None too, gives no sentence.
    """
    if not isinstance(found, Mapping):
        return []
    if "unknown" in found:
        return [f"was trained on images that are not known ({found['unknown']}); some may be among those scored"]
    of = found.get("of", "?")
    told = (
        ("trained", "was trained on {} of the {} images scored: the score says how well it remembers them"),
        ("selected", "had its weights selected by {} of the {} images scored"),
        ("alike", "was trained on images that look like {} of the {} images scored: copies, or the same place"),
    )
    return [words.format(found[key], of) for key, words in told if found.get(key)]
