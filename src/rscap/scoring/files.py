"""Reading a file of captions as text, JSON or rows, with errors that name file and line."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from rscap.errors import ScoreError


def read_text(path: Path) -> str:
    """The whole file, decoded from UTF-8 (a byte order mark is dropped).

    Raises:
        ScoreError: the file is missing, empty, a folder, or not UTF-8; names the line.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ScoreError(f"{path} does not exist") from None
    except OSError as error:
        raise ScoreError(f"{path} cannot be read: {error.strerror}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if b"\0" in content[:4096]:
            raise ScoreError(f"{path} is a binary file, not a file of captions") from error
        line = content[: error.start].count(b"\n") + 1
        raise ScoreError(
            f"{path}, line {line}: not UTF-8 (byte 0x{content[error.start]:02x})",
            hint="convert it, for instance with `iconv -f latin1 -t utf-8`",
        ) from error
    if not text.strip():
        raise ScoreError(f"{path} is empty")
    return text


def read_rows_or_json(path: Path) -> Any:
    """The JSON value of a file, or the list of `Row`s where it is JSON Lines (by its name, or by its content)."""
    text = read_text(path)
    if path.suffix in {".jsonl", ".ndjson"}:
        return list(_json_lines(path, text))
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: _object(path, pairs))
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            return list(_json_lines(path, text))
        raise ScoreError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from error


class Row(dict[str, Any]):
    """One object of a JSON Lines file, or one line of a table, that knows where it stood."""

    def __init__(self, content: dict[str, Any], where: str) -> None:
        super().__init__(content)
        self.where = where


def _json_lines(path: Path, text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):  # not splitlines: U+2028 may stand inside a caption
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            content = json.loads(line)
        except json.JSONDecodeError as error:
            raise ScoreError(f"{where}: not JSON ({error.msg})") from error
        if not isinstance(content, dict):
            raise ScoreError(f"{where}: expected a JSON object, found {type(content).__name__}")
        yield Row(content, where)


def _object(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        twice = sorted(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ScoreError(f"{path}: {len(twice)} ids occur more than once: {', '.join(map(repr, twice[:10]))}")
    return content


def read_table(path: Path) -> tuple[list[str], list[Row]]:
    """Column names and rows of a comma-separated file.

    Raises:
        ScoreError: a row has more fields than there are columns, or the file is not a table.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    columns: list[str] = []
    rows = []
    where = f"{path}, line 1"
    try:
        for fields in reader:
            if len(fields) > len(columns) and columns:
                raise ScoreError(f"{where}: {len(fields)} fields, but the header has {len(columns)} columns")
            if fields and columns:
                rows.append(Row(dict(zip_longest(columns, fields, fillvalue="")), where))
            columns = columns or fields
            where = f"{path}, line {reader.line_num + 1}"  # where the next row begins; this one may have had several
    except csv.Error as error:
        raise ScoreError(f"{where}: {error}") from error
    return columns, rows
