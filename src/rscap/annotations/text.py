"""UTF-8 text from files of any kind: what a file is instead is named, with the way out."""

from __future__ import annotations

import difflib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from rscap.annotations.rows import AnnotationRow, Found, merged, split_in
from rscap.errors import DataError
from rscap.opening import read_plain
from rscap.records import Rejected

MAX_BYTES = 2**29
"""Annotation files above 512 MiB are refused rather than read into memory."""

_HEAD_BYTES = 4096
_NO_TEXT: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "fetch the file: `git lfs pull`"),
    (b"\x00\x05\x16\x07", "a companion file that macOS wrote (AppleDouble)", "open the file whose name lacks the ._"),
    (b"<!doctype html", "an HTML page, as a failed download leaves it", "download it again"),
    (b"<html", "an HTML page, as a failed download leaves it", "download it again"),
    (b"<table", "an HTML table, as some programs export sheets", "export the sheet as CSV in UTF-8"),
    (b"<?xml", "XML", "download it again, or save it as CSV or JSON"),
    (b"{\\rtf", "RTF, a text document", "save it as plain text in UTF-8"),
    (b"ARROW1", "an Arrow file", "write it as parquet: to_parquet of `datasets`"),
    (b"PK\x03\x04", "a zip archive or an Excel workbook", "unpack it; or export the sheet as CSV in UTF-8"),
    (b"\x1f\x8b", "a gzip archive", "unpack it"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook of the old format", "export the sheet as CSV in UTF-8"),
    (b"PAR1", "a parquet table", "name it .parquet"),
    (b"%PDF", "PDF", "find the annotations as CSV or JSON"),
)
"""How files begin that are no text, or not the text that was wanted; compared in lower case."""
_BOMS = (
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_EXPECTED = frozenset("éèêëàâäáãåçñîïíôöóõøùûüúßæœÉÈÀÂÄÅÇÑÔÖØÙÜ’‘“”„«»–—…°²³µ½×±•€£\u00a0")
"""Characters beyond ASCII that captions hold; what a wrong encoding makes of them is hardly ever among them."""


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, a byte-order mark dropped, line ends kept.

    Raises:
        DataError: missing, not a regular file, empty, too large or not UTF-8; the hint names the likely encoding.
    """
    data = _bytes(path)
    if told := no_text(data):
        raise DataError(f"{path} is {told[0]}", hint=told[1])
    if encoding := _wide(data):
        raise DataError(
            f"{path} is {encoding}, not UTF-8", hint=f"convert it: iconv -f {encoding} -t UTF-8 {path.name}"
        )
    if data[:_HEAD_BYTES].count(0) > len(data[:_HEAD_BYTES]) / 4:
        raise DataError(f"{path} is a binary file, not text")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, data, error.start) from None
    if not text.strip():
        raise DataError(f"{path} is empty")
    return text


def _bytes(path: Path) -> bytes:
    if not path.exists():
        raise missing(path)
    if not path.is_file():
        raise DataError(f"{path} is not a regular file")
    if path.stat().st_size > MAX_BYTES:
        raise DataError(f"{path} has {path.stat().st_size} bytes; at most {MAX_BYTES} are read")
    try:
        return read_plain(path, most=MAX_BYTES)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def no_text(data: bytes) -> tuple[str, str] | None:
    """What bytes are that are no annotations, and what to do about it; None where their beginning does not tell."""
    head = data[:_HEAD_BYTES].lstrip().lower()
    return next(((what, way_out) for start, what, way_out in _NO_TEXT if head.startswith(start.lower())), None)


def _wide(data: bytes) -> str | None:
    """The name of a UTF-16 or UTF-32 encoding; without a byte-order mark, where every other byte is zero."""
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return encoding
    head = data[:_HEAD_BYTES]
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) > len(head) / 4 and not min(even, odd):
        return "UTF-16BE" if even else "UTF-16LE"
    return None


def _not_utf8(path: Path, data: bytes, start: int) -> DataError:
    if b"\0" in data[:_HEAD_BYTES]:
        return DataError(f"{path} is a binary file, not text")
    line = data.count(b"\n", 0, start) + 1
    return DataError(
        f"{path} line {line}: not UTF-8 (byte 0x{data[start]:02x} at offset {start})",
        hint=f"it looks like {_likely(data)}: iconv -f {_likely(data)} -t UTF-8 {path.name}",
    )


def _likely(data: bytes) -> str:
    """The encoding under which the bytes beyond ASCII are characters that captions hold.

    Chinese characters are pairs of high bytes; letters with accents and typographic marks are single ones.
    """
    runs = re.findall(rb"[\x80-\xff]+", data)
    if all(len(run) % 2 == 0 and min(run) >= 0xA1 for run in runs):
        return "GB18030"
    high = b"".join(runs)

    def expected(encoding: str) -> int:
        return sum(count for letter, count in Counter(high.decode(encoding, "replace")).items() if letter in _EXPECTED)

    return "windows-1252" if expected("windows-1252") >= expected("mac_roman") else "macintosh"


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


# The text files in which UCM-, Sydney-Captions and RSICD are published beside their JSON.
#
#     filenames/descriptions_UCM.txt     1 There is a piece of farmland .
#     filenames/filenames_train.txt      1.tif
#
# A line of the descriptions is an image's name without its suffix, and one caption; the lists name the images of each
# split.

FOLDER = "filenames"
_DESCRIPTIONS = "descriptions*.txt"
_LISTS = "filenames_*.txt"


def files(root: Path) -> list[Path]:
    """The files of descriptions in a folder, or in its folder `filenames/`."""
    return sorted(root.glob(_DESCRIPTIONS)) or sorted((root / FOLDER).glob(_DESCRIPTIONS))


def is_descriptions(path: Path) -> bool:
    """Is this such a file, by its name?"""
    return path.match(_DESCRIPTIONS)


def read(path: Path) -> Iterator[Found]:
    """The rows of one file of descriptions.

    Raises:
        DataError: the folder has no list of images; or two lists name one image.
    """
    listed: dict[str, tuple[str, str | None]] = {}
    lists = sorted(path.parent.glob(_LISTS))
    if not lists:
        raise DataError(f"{path.parent} has no filenames_train.txt, which names the images of {path.name}")
    for file in lists:
        for line in read_text(file).splitlines():
            name, split = line.strip(), split_in(file.stem)
            known = listed.setdefault(PurePosixPath(name).stem, (name, split))
            if known != (name, split):
                raise DataError(f"{file} lists {name}, which is {known[0]} in split {known[1]} already")
    return merged(_rows(path, listed))


def _rows(path: Path, listed: dict[str, tuple[str, str | None]]) -> Iterator[Found]:
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        stem, _, caption = line.strip().partition(" ")
        where = f"{path.name} line {number}"
        if not stem:
            continue
        if stem not in listed:
            yield Rejected(where, f"no {_LISTS} lists an image {stem!r:.80}")
            continue
        name, split = listed[stem]
        yield AnnotationRow(where=where, image=name, captions=[caption], split=split, partial=True)
