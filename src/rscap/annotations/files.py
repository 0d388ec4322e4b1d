"""Text, JSON, JSON Lines and tables from files whose encoding and form cannot be taken for granted."""

from __future__ import annotations

import csv
import difflib
import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rscap.errors import DataError
from rscap.records import Rejected

MAX_BYTES = 2**31
"""Annotation files above 2 GiB are refused rather than read into memory."""

Record = dict[str, Any]
Located = tuple[str, Record]
"""A record and its place, e.g. `captions.csv line 17`."""

_MAX_CELL = 1_000_000
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
"""A line with its end; found one by one, where io.StringIO would hold the text once more, in four bytes a letter."""
_SWALLOWED = re.compile(r"[\r\n][^\r\n]*\.(?:jpe?g|png|tiff?|webp|bmp|gif|jp2|j2k|ppm)\b", re.IGNORECASE)
"""A second line of a cell that names an image file: a row that a quote left open has swallowed."""


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, a byte-order mark dropped, line ends kept.

    Raises:
        DataError: missing, not a regular file, empty, too large or not UTF-8; the hint names the likely encoding.
    """
    if not path.exists():
        raise missing(path)
    if not path.is_file():
        raise DataError(f"{path} is not a regular file")
    if path.stat().st_size > MAX_BYTES:
        raise DataError(f"{path} has {path.stat().st_size} bytes; at most {MAX_BYTES} are read")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, data, error.start) from None
    if not text.strip():
        raise DataError(f"{path} is empty")
    return text


def missing(path: Path) -> DataError:
    """The error for a path that does not exist; its hint names what nearly matches, or the folder that is missing."""
    parent = path.parent
    if not os.path.isdir(parent):
        return DataError(f"{path} does not exist", hint=f"there is no folder {parent} either; looked from {Path.cwd()}")
    names = {folded(name): name for name in sorted(os.listdir(parent), reverse=True)}
    near = names.get(folded(path.name)) or next(
        (names[name] for name in difflib.get_close_matches(folded(path.name), names, n=1, cutoff=0.8)), None
    )
    return DataError(f"{path} does not exist", hint=f"there is {str(parent / near)!r}" if near else None)


def folded(name: str) -> str:
    """A name without suffix, case and the form of its accents: equal for names that look alike."""
    return unicodedata.normalize("NFC", PurePosixPath(name.replace("\\", "/")).stem).casefold()


def _not_utf8(path: Path, data: bytes, start: int) -> DataError:
    """What the bytes show: another encoding, or no text at all."""
    if data.startswith(b"\x00\x05\x16\x07"):
        return DataError(
            f"{path} is a companion file that macOS wrote (AppleDouble), not a data file",
            hint="open the file without ._",
        )
    utf16 = {b"\xff\xfe": "UTF-16LE", b"\xfe\xff": "UTF-16BE"}.get(data[:2])
    if utf16:
        return DataError(f"{path} is UTF-16, not UTF-8", hint=f"convert it: iconv -f UTF-16 -t UTF-8 {path.name}")
    if b"\0" in data[:4096]:
        return DataError(f"{path} is a binary file, not text")
    line = data.count(b"\n", 0, start) + 1
    return DataError(
        f"{path} line {line}: not UTF-8 (byte 0x{data[start]:02x} at offset {start})",
        hint=f"it looks like {_likely(data)}: iconv -f {_likely(data)} -t UTF-8 {path.name}",
    )


_EXPECTED = frozenset("éèêëàâäáãåçñîïíôöóõøùûüúßæœÉÈÀÂÄÅÇÑÔÖØÙÜ’‘“”„«»–—…°²³µ½×±•€£ ")
"""Characters beyond ASCII that captions hold; what a wrong encoding makes of them is hardly ever among them."""


def _likely(data: bytes) -> str:
    """The eight-bit encoding under which most of the high bytes are characters that captions hold."""
    high = bytes(byte for byte in data if byte >= 0x80)

    def expected(encoding: str) -> int:
        return sum(count for letter, count in Counter(high.decode(encoding, "replace")).items() if letter in _EXPECTED)

    return "windows-1252" if expected("windows-1252") >= expected("mac_roman") else "macintosh"


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


def _whole(item: Located | Rejected) -> Record:
    if isinstance(item, Rejected):
        raise DataError(f"{item.row}: {item.reason}")
    return item[1]


def load_object(path: Path) -> Record:
    """A JSON file that holds one object.

    Raises:
        DataError: see `load_json`; or it holds something else.
    """
    value = load_json(path)
    if not isinstance(value, dict):
        raise DataError(f"{path} holds a JSON {type(value).__name__}, expected an object")
    return value


def _object(path: Path, pairs: Sequence[tuple[str, Any]]) -> Record:
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
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield Rejected(where, f"not JSON: {error}"[:200])
            continue
        if isinstance(value, dict):
            yield where, value
        else:
            yield Rejected(where, f"expected a JSON object, found {_kind(value)}")


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
    folded = [name.lower() for name in header]
    twice = sorted({name for name in folded if name and folded.count(name) > 1})
    if twice:
        raise DataError(f"{path} has columns twice: {', '.join(twice)}")
    return Table(tuple(header), _records(path, header, reader))


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
