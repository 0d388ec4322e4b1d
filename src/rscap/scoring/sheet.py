"""The statistics that a score sheet keeps, so that it can be resampled without the captions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rscap.errors import ScoreError
from rscap.records import ScoreSheet
from rscap.scoring.measures import summed_measures
from rscap.scoring.statistics import Statistics


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
    measures = {measure.key: measure for measure in summed_measures()}
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
