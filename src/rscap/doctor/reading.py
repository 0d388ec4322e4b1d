"""Read files that may be missing or damaged: a damaged file becomes a finding, a missing one a reason."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from rscap.doctor.evidence import LogEntry, TrainingLog
from rscap.doctor.findings import Finding, found
from rscap.errors import RscapError, StoreError
from rscap.opening import read_plain
from rscap.store import numbered_lines, read_json, text_of

T = TypeVar("T")


@dataclass(slots=True)
class EvidenceReader:
    """Reads files of one folder and collects those that could not be read."""

    folder: Path
    findings: list[Finding] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    """Part of the evidence, and why it is missing."""

    def read(self, path: Path, read: Callable[[Path], T]) -> T | None:
        """The result of `read` on a file; None if it is missing, or damaged, which becomes a finding."""
        if not path.exists():
            return None
        try:
            return read(path)
        except Exception as error:  # any error is a finding
            text = error.message if isinstance(error, RscapError) else f"{type(error).__name__}: {error}"
            self.findings.append(found("unreadable", text, where=self.name(path)))
            return None

    def name(self, path: Path) -> str:
        """A path as findings name it: relative to the folder if it is inside."""
        return path.relative_to(self.folder).as_posix() if path.is_relative_to(self.folder) else str(path)


def mapping(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        StoreError: the file holds something else.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise StoreError(f"{path} holds a JSON {type(value).__name__}, not an object")
    return value


def json_lines(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """The objects of a JSON Lines file with their line numbers; a last line that is still being written is left out.

    Raises:
        StoreError: another line is broken.
    """
    rows = []
    for number, line in numbered_lines(path, growing=True):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise StoreError(f"{path}, line {number}: not JSON ({error})") from error
        if not isinstance(row, dict):
            raise StoreError(f"{path}, line {number}: expected a JSON object, found {type(row).__name__}")
        rows.append((number, row))
    return rows


def key_lines(path: Path) -> dict[str, int]:
    """The line of every `section.key` of a TOML file with one key a line."""
    places: dict[str, int] = {}
    section = ""
    for number, line in enumerate(read_plain(path).decode("utf-8", "replace").splitlines(), start=1):
        if header := re.match(r"\s*\[([\w.]+)\]", line):
            section = f"{header[1]}."
        elif key := re.match(r"\s*(\w+)\s*=", line):
            places.setdefault(section + key[1], number)
    return places


def number(value: Any) -> float | None:
    """A float, NaN and infinity included, from a number or its text; None for anything else."""
    try:
        return None if value is None or isinstance(value, bool) or value == "" else float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def whole(value: Any) -> int | None:
    """An int, where the value is one."""
    found_number = number(value)
    return None if found_number is None or not math.isfinite(found_number) else int(found_number)


# Losses from the logs of other programs.

_LOSS = ("loss", "train_loss")
_RATE = ("learning_rate", "lr")
_STEP = ("step", "global_step")
_NORM = ("grad_norm",)


def read_log(path: Path, where: str) -> TrainingLog:
    """The updates of a log file, by its ending; rows without a loss are passed over.

    Raises:
        StoreError: the file is broken.
    """
    if path.suffix == ".csv":
        reader = csv.DictReader(io.StringIO(text_of(path), newline=""))
        return _entries(where, ((reader.line_num, row) for row in reader))
    if path.suffix == ".json":
        history = mapping(path).get("log_history", [])
        return _entries(where, ((None, row) for row in history))
    return _entries(where, ((line, row) for line, row in json_lines(path) if row.get("event", "step") == "step"))


def _entries(where: str, rows: Iterable[tuple[int | None, Mapping[str, Any]]]) -> TrainingLog:
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
