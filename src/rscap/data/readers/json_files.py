"""Reading a text file whose encoding cannot be taken for granted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rscap.data.rows import ImageFolder
from rscap.errors import DataError
from rscap.records import Rejected

MAX_BYTES = 2**31
"""Annotation files above 2 GiB are refused rather than read into memory."""


def read_utf8(path: Path) -> str:
    """The text of a UTF-8 file, a byte-order mark dropped, line ends kept.

    Raises:
        DataError: missing, not a regular file, too large or not UTF-8; names byte and line of the first bad byte.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist")
    if not path.is_file():
        raise DataError(f"{path} is not a regular file")
    if path.stat().st_size > MAX_BYTES:
        raise DataError(f"{path} has {path.stat().st_size} bytes, more than the {MAX_BYTES} that are read")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        start = error.start
        line = data.count(b"\n", 0, start) + 1
        raise DataError(
            f"{path} is not UTF-8: byte 0x{data[start]:02x} at offset {start}, line {line}",
            hint="save it as UTF-8, e.g. `iconv -f latin1 -t utf-8`",
        ) from None


# JSON annotations as files: parsed once, judged as a whole, never trusted to hold what they should.

_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def load_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds one object.

    Raises:
        DataError: not UTF-8, not JSON, nested too deeply, or not an object.
    """
    try:
        value = json.loads(read_utf8(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except (RecursionError, ValueError) as error:  # ValueError: a number of thousands of digits
        raise DataError(f"{path} is not JSON that can be read: {error}") from None
    if not isinstance(value, dict):
        raise DataError(f"{path} holds a JSON {type(value).__name__}, expected an object")
    return value


def load_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]] | Rejected]:
    """The objects of a JSON Lines file with the place of each; a line that is none is rejected, not skipped.

    Raises:
        DataError: the file is missing or not UTF-8.
    """
    for number, line in enumerate(read_utf8(path).split("\n"), start=1):  # U+2028 is no line end here
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
            yield Rejected(where, f"a JSON {type(value).__name__}, expected an object")


def items(value: object) -> list[Any]:
    """A list as it is; anything else is no list of anything."""
    return value if isinstance(value, list) else []


def split_of_name(path: Path) -> str | None:
    """The split that a file name tells: `risc_test_captions.jsonl` is `test`; None where it tells none or several."""
    found = {_SPLITS[word] for word in re.split(r"[^a-z]+", path.stem.lower()) if word in _SPLITS}
    return found.pop() if len(found) == 1 else None


def folder_of(path: Path) -> ImageFolder:
    """Images lie in `resized/`, `images/` or `imgs/`, or beside the file."""
    root = path.parent
    images = next((root / name for name in ("resized", "images", "imgs") if (root / name).is_dir()), root)
    return ImageFolder(root, images, ("resized/", "images/", "imgs/"))
