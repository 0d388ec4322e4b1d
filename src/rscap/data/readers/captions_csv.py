"""RISC's own layout: `captions.csv` (`source,split,image,caption_1 … caption_5`) beside `resized/` or `images/`."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rscap.data.readers.json_files import read_utf8
from rscap.data.rows import MAX_CAPTION_CHARACTERS, ImageFolder, Row
from rscap.errors import DataError
from rscap.records import Note, Rejected

FILE = "captions.csv"
_CAPTION = re.compile(r"caption_([1-9]\d*)")
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
"""A line with its end; found one by one, where io.StringIO would hold the text once more, in four bytes a letter."""


@dataclass(frozen=True, slots=True)
class _Columns:
    """Which cell of a row is what."""

    names: list[str]
    captions: list[int]

    def cell(self, cells: list[str], name: str) -> str | None:
        return cells[self.names.index(name)] if name in self.names else None


def folder_of(path: Path) -> ImageFolder:
    """Images lie in `resized/`, in `images/`, or beside the file."""
    root = path.parent
    images = next((root / name for name in ("resized", "images") if (root / name).is_dir()), root)
    return ImageFolder(root, images)


def read(path: Path) -> Iterator[Row | Rejected | Note]:
    """The rows of a captions.csv.

    Columns: `image` and `caption_1 … caption_k`; `split`, `source` and `scene_class` are optional. A row with fewer
    captions leaves its last cells empty, and a note counts such rows; an empty cell before a caption is a caption that
    was lost. A row that spans several lines is rejected once per line: behind it is nearly always a quote left open,
    and what it swallowed must be seen.

    Raises:
        DataError: not UTF-8, no header, a missing column, or quotes that do not close.
    """
    text = read_utf8(path)
    csv.field_size_limit(max(csv.field_size_limit(), MAX_CAPTION_CHARACTERS * 100))
    reader = csv.reader((line.group() for line in _LINE.finditer(text)), strict=True)
    try:
        header = next(reader, None)
        columns = _columns(path, header)
        before = reader.line_num
        short: list[str] = []
        for cells in reader:
            for row in _rows(path.name, columns, cells, before + 1, reader.line_num):
                if isinstance(row, Row) and len(row.captions) < len(columns.captions):
                    short.append(row.where)
                yield row
            before = reader.line_num
    except csv.Error as error:
        raise DataError(
            f"{path} line {reader.line_num}: not CSV: {error}",
            hint="a cell that holds a quote needs it doubled and must be quoted as a whole",
        ) from error
    if short:
        yield Note(path.name, f"{len(short)} rows have fewer than {len(columns.captions)} captions, first {short[0]}")


def _columns(path: Path, header: list[str] | None) -> _Columns:
    if not header:
        raise DataError(f"{path} is empty: it has no header")
    names = [name.strip().lower() for name in header]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path} has columns twice: {', '.join(twice)}")
    if "image" not in names:
        raise DataError(f"{path} has no column 'image'; it has: {', '.join(header)[:300]}")
    numbers = {int(match.group(1)): names.index(name) for name in names if (match := _CAPTION.fullmatch(name))}
    if not numbers:
        raise DataError(
            f"{path} has no caption column; it has: {', '.join(header)[:300]}", hint="name them caption_1, caption_2, …"
        )
    gaps = [f"caption_{number}" for number in range(1, max(numbers)) if number not in numbers][:10]
    if gaps:
        raise DataError(f"{path} lacks columns between its captions: {', '.join(gaps)}")
    return _Columns(names, [numbers[number] for number in sorted(numbers)])


def _rows(name: str, columns: _Columns, cells: list[str], first: int, last: int) -> Iterator[Row | Rejected]:
    if not any(cell.strip() for cell in cells) and last == first:
        return  # a blank line
    if last > first:
        reason = f"one row spans lines {first} to {last}: is a quote left open?"
        yield from (Rejected(f"{name} line {line}", reason) for line in range(first, last + 1))
        return
    where = f"{name} line {first}"
    if len(cells) != len(columns.names):
        yield Rejected(where, f"{len(cells)} cells, the header has {len(columns.names)}")
        return
    yield Row(
        where=where,
        image=columns.cell(cells, "image"),
        captions=_captions([cells[index] for index in columns.captions]),
        split=columns.cell(cells, "split"),
        source=columns.cell(cells, "source"),
        scene_class=columns.cell(cells, "scene_class"),
    )


def _captions(cells: list[str]) -> list[str]:
    """The cells up to the last that is filled, at least one."""
    filled = [number for number, cell in enumerate(cells, start=1) if cell.strip()]
    return cells[: max(filled, default=1)]
