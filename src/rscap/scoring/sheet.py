"""Score sheets as files: one JSON object that any program reads, one line per image."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rscap.errors import ScoreError, StoreError
from rscap.records import ScoreSheet
from rscap.scoring.measures import summed_measures
from rscap.scoring.statistics import Statistics
from rscap.store import read_json, write_text

_FIELDS = ("signature", "n", "corpus", "intervals", "items", "unscored")


def write_sheet(path: Path | str, sheet: ScoreSheet) -> None:
    """Write a sheet as JSON; see `sheet_text`.

    Raises:
        ScoreError: a key of `extra` bears the name of a field, or a score is not finite.
    """
    write_text(Path(path), sheet_text(sheet))


def sheet_text(sheet: ScoreSheet) -> str:
    """`{"signature", "n", "corpus", "intervals", "items", "unscored", …}`; the keys of `extra` stand beside them.

    Raises:
        ScoreError: a key of `extra` bears the name of a field, or a score is not finite.
    """
    taken = [key for key in sheet.extra if key in _FIELDS]
    if taken:
        raise ScoreError(f"extra holds {taken}, which are fields of the sheet")
    lines = [
        f'"signature": {_dump(sheet.signature)}',
        f'"n": {sheet.n}',
        f'"corpus": {_dump(dict(sheet.corpus))}',
        f'"intervals": {_dump({metric: list(bounds) for metric, bounds in sheet.intervals.items()})}',
        f'"unscored": {sheet.unscored}',
        *(f"{_dump(key)}: {_rows(value)}" for key, value in sheet.extra.items()),
        f'"items": {_rows({example: dict(scores) for example, scores in sheet.items.items()})}',
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _dump(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise ScoreError(f"a score sheet holds a value that is not a finite number: {str(value)[:200]}") from error


def _rows(value: Any) -> str:
    """A mapping with one line per key, so that sheets can be read and compared line by line."""
    if not isinstance(value, Mapping) or not value:
        return _dump(value)
    return "{\n" + ",\n".join(f"{_dump(key)}: {_dump(row)}" for key, row in value.items()) + "\n}"


def read_sheet(path: Path | str) -> ScoreSheet:
    """Read a score sheet; keys that are no fields of it go to `extra`.

    Raises:
        ScoreError: the file is missing, is not JSON, or lacks a field; names it.
    """
    path = Path(path)
    try:
        content = read_json(path)
    except StoreError as error:
        raise ScoreError(error.message, hint="`rscap score --out FILE` writes a score sheet") from error
    if not isinstance(content, dict):
        raise ScoreError(f"{path} is not a score sheet: it holds a JSON {type(content).__name__}")
    missing = [name for name in _FIELDS if name not in content]
    if missing:
        raise ScoreError(f"{path} is not a score sheet: {', '.join(missing)} missing")
    try:
        intervals = {metric: (float(low), float(high)) for metric, (low, high) in content["intervals"].items()}
        corpus = {metric: float(value) for metric, value in content["corpus"].items()}
        items = {example: {m: float(x) for m, x in scores.items()} for example, scores in content["items"].items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ScoreError(f"{path} is not a score sheet: {error}") from error
    return ScoreSheet(
        signature=str(content["signature"]),
        n=content["n"],
        corpus=corpus,
        intervals=intervals,
        items=items,
        unscored=content["unscored"],
        extra={key: value for key, value in content.items() if key not in _FIELDS},
    )


def kept_statistics(statistics: Statistics) -> dict[str, list[list[float]]]:
    """What a sheet keeps beside the item scores, row for row as `items`: BLEU's counts, METEOR's …"""
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
