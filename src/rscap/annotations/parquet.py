"""Parquet tables: files and their splits, names of images, and captions read without the images.

A table has the image's bytes in a column `image` (the Hub's schema: bytes and path), or in the only other column whose
cells are images, and captions under any of the names of `rscap.annotations.fields`. The split comes from the file's
name (`train-00000-of-00002.parquet`) or its folder (`train/0000.parquet`), as on the Hub.

An image is called by its path in the table where every row carries one of its own, else by the column with its file
name, else `row-00017` (`val-row-00017` where there are several tables).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from rscap.annotations.fields import Fields, rows_of
from rscap.annotations.files import JsonObject
from rscap.annotations.image_column import IMAGE, image_column
from rscap.annotations.rows import UNSPLIT, Found, split_in
from rscap.annotations.text import no_text
from rscap.errors import DataError
from rscap.records import Note

MAX_ROWS = 10_000_000
MAX_BYTES = 2**40
"""Files whose footers declare more rows, or more bytes unpacked (1 TiB), are refused before a row is read."""


def files(path: Path) -> list[Path]:
    """The parquet files of a folder in order of path, hidden ones left out; or the file itself."""
    if path.is_file():
        return [path]
    return sorted(file for file in path.glob("**/*.parquet") if not is_hidden(file.relative_to(path)))


def is_hidden(path: Path) -> bool:
    """Does a name in this relative path begin with a dot?"""
    return any(part.startswith(".") for part in path.parts)


def splits(root: Path, found: Sequence[Path]) -> dict[str, list[Path]]:
    """Files by the split that their names tell.

    All are in one table `all` where a name tells none, or where all tell `train`: so the Hub calls a data set that it
    does not split.
    """
    named: dict[str, list[Path]] = {}
    for file in found:
        named.setdefault(_split_of(file.relative_to(root) if file != root else Path(file.name)) or UNSPLIT, []).append(
            file
        )
    return {UNSPLIT: list(found)} if UNSPLIT in named or set(named) == {"train"} else named


def check_same_columns(path: Path, members: Sequence[Path]) -> None:
    """Refuse files of one table that have different columns.

    Raises:
        DataError: names two files and what one of them lacks.
    """
    first, *others = members
    own = set(reader(path, first).schema_arrow.names)
    for file in others:
        names = set(reader(path, file).schema_arrow.names)
        if names != own:
            less, more = (file, first) if own - names else (first, file)
            column = sorted(own - names or names - own)[0]
            raise DataError(
                f"{less} has no column {column!r}, which {more.name} has: they are not one table",
                hint="open one file, or give all files the same columns",
            )


def _split_of(path: Path) -> str | None:
    """The split of the file name, or of the innermost folder that tells one."""
    return next((split for part in reversed((*path.parts[:-1], path.stem)) if (split := split_in(part))), None)


def refuse_bombs(path: Path, found: Sequence[Path]) -> None:
    """Stop before a row is read where the footers declare too much.

    Raises:
        DataError: more rows or bytes than are read; not parquet.
    """
    footers = [reader(path, file).metadata for file in found]
    rows = sum(footer.num_rows for footer in footers)
    size = sum(footer.row_group(i).total_byte_size for footer in footers for i in range(footer.num_row_groups))
    if rows > MAX_ROWS or size > MAX_BYTES:
        raise DataError(
            f"{path} declares {rows:,} rows of {size:,} bytes; at most {MAX_ROWS:,} and {MAX_BYTES:,} are read"
        )
    for file in found:
        _refuse_bomb(path, file)


_BOMB_RATIO, _BOMB_BYTES = 1_000, 2**28


def _refuse_bomb(path: Path, file: Path) -> None:
    """Refuse a file that becomes more than a thousand times as large, where that is above 256 MiB.

    One entry of a dictionary may stand for a value of any row, so that the footer does not tell what a column becomes;
    it bounds it, since a page of a dictionary is no larger than its compressed bytes and all that decompression adds.
    Columns beyond the bound are read piece by piece, and not to their end if it is one.

    Raises:
        DataError: names the column.
    """
    limit = max(_BOMB_BYTES, _BOMB_RATIO * file.stat().st_size)
    opened = reader(path, file)
    bounds: dict[str, int] = {}
    for group in range(opened.metadata.num_row_groups):
        for number in range(opened.metadata.num_columns):
            chunk = opened.metadata.row_group(group).column(number)
            if chunk.has_dictionary_page and chunk.dictionary_page_offset is not None:
                page = max(0, chunk.data_page_offset - chunk.dictionary_page_offset)
                grown = max(0, chunk.total_uncompressed_size - chunk.total_compressed_size)
                name = chunk.path_in_schema
                bounds[name] = bounds.get(name, 0) + chunk.num_values * (page + grown)
    for name in (one for one, bound in bounds.items() if bound > limit):
        size = 0
        for batch in opened.iter_batches(columns=[name], batch_size=64):
            column = batch.column(0)
            size += (column.dictionary_decode() if hasattr(column, "dictionary_decode") else column).nbytes
            if size > limit:
                raise DataError(
                    f"{file}: its {file.stat().st_size:,} bytes become more than {limit:,} in column {name!r}",
                    hint="such a file fills memory and disk; write it again without repeating large values",
                )


def reader(path: Path, file: Path) -> Any:
    """The opened file, of which nothing but the footer was read."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise DataError("reading parquet needs the package `pyarrow`", hint="pip install 'rscap[train]'") from None
    try:
        return pyarrow.parquet.ParquetFile(file)
    except (OSError, pyarrow.ArrowException) as error:
        reason = str(error).splitlines()[0]
        with file.open("rb") as stream:
            head = stream.read(100)
        if not head.startswith(b"PAR1") and (told := no_text(head)):
            raise DataError(f"{file} is {told[0]}", hint=told[1]) from None
        raise DataError(f"{path} cannot be read as parquet: {reason}") from error


@dataclass(frozen=True, slots=True)
class Columns:
    """What is read of a table besides the images themselves."""

    fields: Fields
    image: str
    """The column with the images' bytes."""
    names: str | None
    """The column with the images' file names."""

    @classmethod
    def of(cls, label: str, schema: Any, cells: Callable[[str], Iterable[object]]) -> Columns:
        """The columns of a table; `schema` is pyarrow's, `cells` gives the cells of a column one after the other.

        Raises:
            DataError: no column of images, or none with captions.
        """
        image = image_column(label, schema, cells)
        try:
            others = Fields.of([column for column in schema.names if column != image], needs_image=False)
        except DataError as error:
            raise DataError(f"{label}: {error.message}", hint=error.hint) from None
        return cls(replace(others, image=IMAGE, folder=None, id_given=False), image, others.image)

    @property
    def texts(self) -> list[str]:
        """All columns that are read as text."""
        fields = self.fields
        wanted = (*fields.captions, *(name for _, name in fields.others), self.names)
        return [name for name in dict.fromkeys(wanted) if name]


@dataclass(frozen=True, slots=True)
class TableText:
    """A table without its images."""

    label: str
    """What a row's place begins with: `train`, or `data.parquet`."""
    split: str | None
    columns: Columns
    paths: Sequence[object]
    """Of each image, as the image column has it."""
    names: Sequence[object]
    """Of each image, as a column of its own has it; empty where there is none."""
    records: Iterable[JsonObject]


def image_names(tables: Sequence[TableText]) -> list[list[str]]:
    """What the images of each table are called; see the top of this module."""
    found = [_names(table, several=len(tables) > 1) for table in tables]
    every = [name for names in found for name in names]
    if len(set(every)) == len(every):
        return found
    return [[f"{table.label}/{name}" for name in names] for table, names in zip(tables, found, strict=True)]


def _names(table: TableText, *, several: bool) -> list[str]:
    total = len(table.paths)
    for written in (table.paths, table.names):
        names = [_safe(path) for path in written if isinstance(path, str) and path.strip()]
        if len(names) == total == len(set(names)):
            return names
    return [f"{table.label}-row-{row:05d}" if several else f"row-{row:05d}" for row in range(total)]


def _safe(path: str) -> str:
    """A relative path as it is; of an absolute one, or one that climbs, the file name alone."""
    pure = PurePosixPath(path)
    return pure.name if pure.is_absolute() or ".." in pure.parts else str(pure)


def rows(table: TableText, images: Iterable[object]) -> Iterator[Found]:
    """The rows of one table; `images` are the names of its images, or handles that have them."""
    if table.columns.image != IMAGE:
        yield Note(table.label, f"images are read from the column {table.columns.image!r}")
    located = (
        (f"{table.label} row {number}", {**record, IMAGE: image})
        for number, (record, image) in enumerate(zip(table.records, images, strict=True))
    )
    yield from rows_of(table.label, located, fields=table.columns.fields, split=table.split, beside=True)


def read(path: Path) -> Iterator[Found]:
    """The rows of a file or folder, read without the images.

    Raises:
        DataError: not parquet, too large, no column of images or none with captions.
    """
    found = files(path)
    refuse_bombs(path, found)
    named = splits(path, found)
    for members in named.values():
        check_same_columns(path, members)
    tables = [_table(path, split, members) for split, members in named.items()]
    for table, names in zip(tables, image_names(tables), strict=True):
        yield from rows(table, names)


def label(path: Path, split: str) -> str:
    """What the rows of a split's table are called in messages."""
    return path.name if split == UNSPLIT else split


def _table(path: Path, split: str, members: Sequence[Path]) -> TableText:
    opened = [reader(path, file) for file in members]
    name = label(path, split)
    columns = Columns.of(name, opened[0].schema_arrow, lambda column: _cells(opened, column))
    leaves = {opened[0].schema.column(number).path for number in range(len(opened[0].schema))}
    wanted = [*columns.texts, *({f"{columns.image}.path"} & leaves)]
    records = [record for file in opened for batch in file.iter_batches(columns=wanted) for record in batch.to_pylist()]
    images = [record.pop(columns.image, None) for record in records]
    return TableText(
        label=name,
        split=None if split == UNSPLIT else split,
        columns=columns,
        paths=[image.get("path") if isinstance(image, dict) else None for image in images],
        names=[record[columns.names] for record in records] if columns.names else [],
        records=records,
    )


def _cells(opened: Sequence[Any], column: str) -> Iterator[object]:
    """The cells of a column in order, each read when it is asked for."""
    for file in opened:
        for batch in file.iter_batches(batch_size=1, columns=[column]):
            yield from batch.column(0).to_pylist()
