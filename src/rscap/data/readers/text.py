"""Reading a text file whose encoding cannot be taken for granted."""

from __future__ import annotations

from pathlib import Path

from rscap.errors import DataError

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
