"""Losses from the logs that people have: rscap's train.jsonl, the Trainer's trainer_state.json, JSON Lines, CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rscap.doctor.evidence import LogEntry, TrainingLog, Validated
from rscap.doctor.reading import json_lines, mapping, number, whole

NAMES = ("train.jsonl", "log.jsonl", "log.csv")
"""Logs of a folder that has no trainer_state.json, in the order in which they are looked for."""

_LOSS = ("loss", "train_loss")
_RATE = ("learning_rate", "lr")
_STEP = ("step", "global_step")
_NORM = ("grad_norm",)


def read_log(path: Path, where: str) -> TrainingLog:
    """The updates of a log file, by its ending, and rscap's own evaluations; rows without a loss are passed over.

    Raises:
        StoreError: the file is broken.
    """
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            return _log(where, ((reader.line_num, row) for row in reader))
    if path.suffix == ".json":
        history = mapping(path).get("log_history", [])
        return _log(where, ((None, row) for row in history))
    rows = list(json_lines(path))
    log = _log(where, ((line, row) for line, row in rows if row.get("event", "step") == "step"))
    return replace(log, validation=tuple(_validated(rows)))


def _validated(rows: Iterable[tuple[int | None, Mapping[str, Any]]]) -> Iterator[Validated]:
    for line, row in rows:
        step, loss = whole(row.get("step")), number(row.get("loss"))
        if row.get("event") == "evaluation" and step is not None and loss is not None:
            metrics = row.get("metrics")
            score = number(metrics.get("CIDEr")) if isinstance(metrics, dict) else None
            yield Validated(step=step, loss=loss, score=score, line=line)


def _log(where: str, rows: Iterable[tuple[int | None, Mapping[str, Any]]]) -> TrainingLog:
    entries: list[LogEntry] = []
    for line, row in rows:
        loss = _first(row, _LOSS)
        if loss is None or "train_runtime" in row:  # the Trainer's last entry is a summary
            continue
        step = whole(next((row[name] for name in _STEP if name in row), None))
        entries.append(
            LogEntry(
                step=step if step is not None else len(entries) + 1,
                loss=loss,
                grad_norm=_first(row, _NORM),
                learning_rate=_first(row, _RATE),
                line=line,
            )
        )
    return TrainingLog(where=where, entries=tuple(entries))


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> float | None:
    return next((value for name in names if (value := number(row.get(name))) is not None), None)
