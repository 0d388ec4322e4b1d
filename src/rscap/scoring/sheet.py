"""What a score sheet keeps besides scores: statistics to resample it by, and marks of images the model has seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from rscap.errors import ScoreError
from rscap.records import ScoreSheet
from rscap.scoring.content import CONTENT
from rscap.scoring.measures import Statistics, summed_measures


def kept_statistics(statistics: Statistics) -> dict[str, list[list[float]]]:
    """The statistics that a sheet keeps, one row per image in the order of `items`: BLEU's counts, METEOR's …"""
    return {measure.key: _plain(rows) for measure, rows in statistics.sums.items()}


def _plain(part: np.ndarray) -> list[list[float]]:
    whole = part == np.floor(part)
    if whole.all():
        return part.astype(np.int64).tolist()
    return [[int(x) if x.is_integer() else x for x in row] for row in part.tolist()]


def statistics_of(sheet: ScoreSheet) -> Statistics:
    """The statistics that a sheet was computed from: enough to resample it.

    Raises:
        ScoreError: the sheet does not hold them.
    """
    ids = tuple(sheet.items)
    kept = sheet.extra.get("statistics")
    if not isinstance(kept, Mapping):
        raise ScoreError("the score sheet holds no statistics", hint="score the predictions again with `rscap score`")
    measures = {measure.key: measure for measure in (*summed_measures(), CONTENT)}
    unknown = [key for key in kept if key not in measures]
    if unknown:
        written = f"the score sheet was written by rscap {sheet.extra.get('rscap', '(unknown)')}"
        raise ScoreError(f"{written} with statistics of {unknown[0]!r}, a metric that this version does not have")
    try:
        sums = {
            measures[key]: np.array(rows, dtype=np.float64).reshape(len(ids), len(measures[key].columns))
            for key, rows in kept.items()
        }
        summed = {metric for measure in sums for metric in measure.names}
        declared = sheet.extra.get("foreign", {})
        whole = {metric for metric, own in declared.items() if not own["per_image"]}
        means = [metric for metric in sheet.corpus if metric not in summed and metric not in whole]
        columns = {metric: np.array([sheet.items[i][metric] for i in ids]) for metric in means}
    except (KeyError, TypeError, ValueError) as error:
        raise ScoreError(f"the statistics of the score sheet are damaged: {error}") from error
    return Statistics(ids=ids, means=columns, sums=sums)


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


DIGESTS = "digests"
"""The key of a sheet: `{"predictions": "SHA-256 …", "references": "…"}` of the files that were scored."""


def with_digests(sheet: ScoreSheet, digests: Mapping[str, str]) -> ScoreSheet:
    """The sheet with the digests of the files that it was computed from: `rscap verify` compares them."""
    return replace(sheet, extra={**sheet.extra, DIGESTS: dict(digests)})


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
