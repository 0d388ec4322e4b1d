"""JSON, JSON Lines and tables as records that know their place; what is no record is rejected with its reason."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rscap.annotations.text import read_text
from rscap.errors import DataError
from rscap.records import Rejected

JsonObject = dict[str, Any]
Located = tuple[str, JsonObject]
"""A record and its place, e.g. `captions.csv line 17`."""

_MAX_CELL = 1_000_000
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
"""A line with its end; found one by one, where io.StringIO would hold the text once more, in four bytes a letter."""
_MAX_COLUMNS = 10_000
NO_HEADER = "has no header"
"""What is said of a table whose first line is data."""
_IMAGE_FILE = re.compile(r"\S+\.(?:jpe?g|png|tiff?|webp|bmp|gif|jp2)(?:#\d+)?", re.IGNORECASE)
"""A name of a column that is the name of an image, as in a table without a header; `a.jpg#0` in Flickr8k.token.txt."""
_SWALLOWED = re.compile(r"[\r\n][^\r\n]*\.(?:jpe?g|png|tiff?|webp|bmp|gif|jp2|j2k|ppm)\b", re.IGNORECASE)
"""A second line of a cell that names an image file: a row that a quote left open has swallowed."""


def load_json(path: Path) -> Any:
    """The value of a JSON file; a list of its objects, where it is JSON Lines under another name.

    Raises:
        DataError: see `read_text`; not JSON, nested too deeply, or an object has a key twice.
    """
    text = read_text(path)
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: _object(path, pairs))
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            return [_whole(item) for item in json_lines(path, text)]
        raise DataError(f"{path} line {error.lineno}: not JSON: {error.msg} at column {error.colno}") from None
    except (RecursionError, ValueError) as error:  # ValueError: a number of thousands of digits
        raise DataError(f"{path} is not JSON that can be read: {error}") from None


def _whole(item: Located | Rejected) -> JsonObject:
    if isinstance(item, Rejected):
        raise DataError(f"{item.row}: {item.reason}")
    return item[1]


def load_object(path: Path) -> JsonObject:
    """A JSON file that holds one object.

    Raises:
        DataError: see `load_json`; or it holds something else.
    """
    value = load_json(path)
    if not isinstance(value, dict):
        raise DataError(f"{path} holds a JSON {type(value).__name__}, expected an object")
    return value


def _object(path: Path, pairs: Sequence[tuple[str, Any]]) -> JsonObject:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = sorted(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise DataError(f"{path}: {len(twice)} keys of one object occur more than once: {listed(twice)}")
    return found


def json_lines(path: Path, text: str | None = None) -> Iterator[Located | Rejected]:
    """The objects of a JSON Lines file with the place of each; a line that is none is rejected.

    Raises:
        DataError: see `read_text`.
    """
    lines = (read_text(path) if text is None else text).split("\n")  # not splitlines: U+2028 may be in a caption
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path.name} line {number}"
        try:
            value = json.loads(line, object_pairs_hook=without_twins)
        except _TwinsError as error:
            yield Rejected(where, str(error))
            continue
        except (ValueError, RecursionError) as error:
            yield Rejected(where, f"not JSON: {error}"[:200])
            continue
        if isinstance(value, dict):
            yield where, value
        else:
            yield Rejected(where, f"expected a JSON object, found {_kind(value)}")


class _TwinsError(ValueError):
    """A key of an object that occurs twice."""


def without_twins(pairs: Sequence[tuple[str, Any]]) -> JsonObject:
    """The object; of a key that occurs twice, the last value would win in silence."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
        raise _TwinsError(f"the key {twice[0]!r:.80} occurs twice")
    return found


def _kind(value: object) -> str:
    return {"list": "a list", "str": "text", "NoneType": "null"}.get(type(value).__name__, f"{value!r:.80}")


@dataclass(frozen=True, slots=True)
class Table:
    """A file of rows under a header: names as written, records by name."""

    columns: tuple[str, ...]
    records: Iterator[Located | Rejected]


def read_table(path: Path) -> Table:
    """A CSV file; its separator is the comma, semicolon, tab or bar that parts the header into the most columns.

    A row with fewer cells than the header ends in empty ones. A quoted cell may hold line breaks. Where a row of
    several lines has another number of cells than the header, or a later line of a cell names an image file, a quote
    was left open and has swallowed rows: each of those lines is rejected.

    Raises:
        DataError: see `read_text`; quotes that do not close; no header, or a column twice.
    """
    text = read_text(path)
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_CELL))
    first = _LINE.search(text)
    delimiter = max(",;\t|", key=(first.group() if first else "").count)
    reader = csv.reader(
        (line.group() for line in _LINE.finditer(text)),
        delimiter=delimiter,
        skipinitialspace=delimiter == "|",  # `image_name| comment_number| comment`, as Flickr30k is published
        strict=True,
    )
    with _csv_errors(path, reader):
        header = [name.strip() for name in next(reader, [])]
    if len(header) > _MAX_COLUMNS:
        raise DataError(f"{path} has {len(header):,} columns; at most {_MAX_COLUMNS:,} are read")
    twice = sorted(name for name, count in Counter(map(str.lower, header)).items() if name and count > 1)
    if twice:
        raise DataError(f"{path} has columns twice: {', '.join(twice)}")
    return Table(tuple(header), _records(path, header, reader))


def check_header(path: Path, columns: Sequence[str]) -> None:
    """Refuse a table whose first line is data.

    Raises:
        DataError: a column is called as an image file is.
    """
    if any(_IMAGE_FILE.fullmatch(name) for name in columns):
        raise DataError(
            f"{path} {NO_HEADER}: its first line is {', '.join(columns)[:200]!r}",
            hint="put a line of names before it, such as `image,caption` with the separator of the file",
        )


@contextmanager
def _csv_errors(path: Path, reader: Any) -> Iterator[None]:
    """Turn csv's errors into a DataError that names file and line."""
    try:
        yield
    except csv.Error as error:
        raise DataError(
            f"{path} line {reader.line_num}: not CSV: {error}",
            hint="a cell that holds a quote needs it doubled and must be quoted as a whole",
        ) from error


def _records(path: Path, header: Sequence[str], reader: Any) -> Iterator[Located | Rejected]:
    with _csv_errors(path, reader):
        before = reader.line_num
        for cells in reader:
            yield from _row(path.name, header, cells, before + 1, reader.line_num)
            before = reader.line_num


def _row(name: str, header: Sequence[str], cells: list[str], first: int, last: int) -> Iterator[Located | Rejected]:
    if not any(cell.strip() for cell in cells) and last == first:
        return  # a blank line
    where = f"{name} line {first}"
    if last > first and (len(cells) != len(header) or any(_SWALLOWED.search(cell) for cell in cells)):
        reason = f"one row spans lines {first} to {last}: is a quote left open?"
        yield from (Rejected(f"{name} line {line}", reason) for line in range(first, last + 1))
    elif len(cells) > len(header):
        yield Rejected(where, f"{len(cells)} cells, the header has {len(header)}")
    else:
        yield where, dict(zip(header, [*cells, *[""] * (len(header) - len(cells))], strict=True))


def listed(names: Sequence[str], *, most: int = 10) -> str:
    """The first names, and an ellipsis where there are more."""
    return ", ".join(map(repr, names[:most])) + (", …" if len(names) > most else "")
