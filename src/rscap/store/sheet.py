"""scores/<split>.json. Writing it needs no more than the standard library, so that `rscap score` starts at once."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from rscap.errors import StoreError
from rscap.records import ScoreSheet
from rscap.store.files import write_text

_FIELDS = frozenset(field.name for field in fields(ScoreSheet)) - {"extra"}


_NO_SHEETS = (".csv", ".tsv", ".jsonl", ".ndjson", ".txt", ".parquet", ".html", ".toml", ".npz", ".tar")


def read_sheet(path: Path | str) -> ScoreSheet:
    """Read a score sheet; keys that are no fields of it go to `extra`.

    Raises:
        StoreError: the file is missing, of another kind, not JSON, or lacks a field; names it.
    """
    path = Path(path)
    if not os.path.exists(path):  # False also for a name that is too long
        raise StoreError(f"{path} does not exist", hint="`rscap score` and `rscap evaluate` write score sheets")
    if path.suffix.lower() in _NO_SHEETS:  # somebody's own file, which must not be called damaged
        raise StoreError(
            f"{path} is not a score sheet",
            hint="a sheet is the JSON that `rscap score --out` and `rscap evaluate` write; name one, or a run folder",
        )
    from rscap.store.evaluation import SheetFile

    found = SheetFile.read(path)
    return ScoreSheet(
        signature=found.signature,
        n=found.n,
        corpus=found.corpus,
        intervals=found.intervals,
        items=found.items,
        unscored=found.unscored,
        extra=found.model_extra or {},
    )


def write_sheet(path: Path | str, sheet: ScoreSheet) -> None:
    """Write a sheet as JSON; see `sheet_text`.

    Raises:
        StoreError: a key of `extra` bears the name of a field, or a score is not finite.
    """
    write_text(Path(path), sheet_text(sheet))


def sheet_text(sheet: ScoreSheet) -> str:
    """`{"signature", "n", "corpus", "intervals", "items", "unscored", …}`; and the keys of `extra` on the same level.

    Sheets can be read and compared line by line: one line an image.

    Raises:
        StoreError: a key of `extra` bears the name of a field, or a score is not finite.
    """
    taken = [key for key in sheet.extra if key in _FIELDS]
    if taken:
        raise StoreError(f"extra holds {taken}, which are fields of the sheet")
    lines = [
        f'"signature": {_dump(sheet.signature)}',
        f'"n": {sheet.n}',
        f'"corpus": {_dump(dict(sheet.corpus))}',
        f'"intervals": {_dump({metric: list(bounds) for metric, bounds in sheet.intervals.items()})}',
        f'"unscored": {sheet.unscored}',
        *(f"{_dump(key)}: {_lines(value)}" for key, value in sheet.extra.items()),
        f'"items": {_lines({example: dict(scores) for example, scores in sheet.items.items()})}',
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _dump(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise StoreError(f"a score sheet holds a value that is not a finite number: {str(value)[:200]}") from error


def _lines(value: Any) -> str:
    """A mapping with one line a key."""
    if not isinstance(value, Mapping) or not value:
        return _dump(value)
    return "{\n" + ",\n".join(f"{_dump(key)}: {_dump(row)}" for key, row in value.items()) + "\n}"
