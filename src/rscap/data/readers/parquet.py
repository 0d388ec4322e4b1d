"""The Hub's schema (`image, caption_1 … caption_k`): a Hub id, or parquet files at hand; memory-mapped."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from rscap.data.images import ArrowImage
from rscap.data.rows import Row
from rscap.errors import DataError

HUB_ID = re.compile(r"(?P<id>[A-Za-z0-9][\w.-]*/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
MAX_ROWS = 10_000_000
MAX_BYTES = 2**40
"""Files whose footers declare more rows, or more bytes unpacked (1 TiB), are refused before a row is read."""
_CAPTION = re.compile(r"caption_([1-9]\d*)")


def open_hub(spec: str) -> dict[str, Any]:
    """The tables of a Hub data set by split, e.g. `owner/name` or `owner/name@revision`.

    Raises:
        DataError: not found, gated, or no network; says what to do.
    """
    match = HUB_ID.fullmatch(spec)
    if not match:
        raise DataError(f"{spec!r} is neither a file nor a Hub id (owner/name, or owner/name@revision)")
    load = _load_dataset()
    try:
        return dict(load(match["id"], revision=match["revision"]))
    except Exception as error:  # the client raises its own, requests', OSError … by the way it fails
        raise _hub_error(spec, error) from error


def open_files(path: Path) -> dict[str, Any]:
    """The table of a parquet file, or of a folder of them (in order of name).

    Raises:
        DataError: no parquet file there, or one that cannot be read.
    """
    files = sorted(path.glob("**/*.parquet")) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path} holds no parquet file")
    load = _load_dataset()
    try:
        _refuse_bombs(path, files)
        return dict(load("parquet", data_files={"train": [str(file) for file in files]}))
    except DataError:
        raise
    except Exception as error:  # pyarrow's, datasets' and OSError, by what is broken
        reason = str(error.__cause__ or error).splitlines()[0]
        raise DataError(f"{path} cannot be read as parquet: {reason}") from error


def _refuse_bombs(path: Path, files: Sequence[Path]) -> None:
    import pyarrow.parquet

    footers = [pyarrow.parquet.read_metadata(file) for file in files]
    rows = sum(footer.num_rows for footer in footers)
    size = sum(footer.row_group(i).total_byte_size for footer in footers for i in range(footer.num_row_groups))
    if rows > MAX_ROWS or size > MAX_BYTES:
        raise DataError(
            f"{path} declares {rows:,} rows of {size:,} bytes; at most {MAX_ROWS:,} and {MAX_BYTES:,} are read"
        )


def read(tables: dict[str, Any], *, named_splits: bool) -> Iterator[Row]:
    """The rows of opened tables.

    An image is called by its file name where every row carries one of its own, else `row-00017` (and
    `val-row-00017` where there are several tables).

    Raises:
        DataError: a table without an image or caption column.
    """
    prefix = len(tables) > 1
    for split, table in tables.items():
        columns = _caption_columns(split, table)
        images = _lazy_images(split, table)
        names, sizes = _names_and_sizes(images)
        unique = all(names) and len(set(names)) == len(names)
        texts = table.select_columns([name for name in table.column_names if name != "image"])
        for row, cells in enumerate(texts):
            plain = f"{split}-row-{row:05d}" if prefix else f"row-{row:05d}"
            name = names[row] if unique and names[row] else plain
            yield Row(
                where=f"{split} row {row}",
                image=ArrowImage(images, row, str(name), sizes[row]) if sizes[row] else None,
                captions=[cells[column] for column in columns],
                split=cells.get("split", split if named_splits else None),
                source=cells.get("source"),
                scene_class=cells.get("scene_class"),
            )


def _load_dataset() -> Any:
    try:
        from datasets import load_dataset
    except ImportError:
        raise DataError("reading parquet needs the package `datasets`", hint="pip install 'rscap[train]'") from None
    return load_dataset


def _hub_error(spec: str, error: Exception) -> DataError:
    text = f"{type(error).__name__}: {error}"
    lines = text.splitlines()[0][:300]
    if "gated" in text.lower() or "401" in text or "403" in text:
        hint = "accept its terms on its Hub page, then `hf auth login` or set HF_TOKEN"
        return DataError(f"the Hub data set {spec} is gated or private: {lines}", hint=hint)
    if type(error).__name__ in {"DatasetNotFoundError", "RepositoryNotFoundError", "RevisionNotFoundError"}:
        hint = "check the spelling; a private one needs `hf auth login`; a path needs the file to exist"
        return DataError(f"there is no Hub data set {spec}: {lines}", hint=hint)
    hint = "check the network, or open a copy at hand: a parquet file or folder, or captions.csv"
    return DataError(f"the Hub data set {spec} cannot be reached: {lines}", hint=hint)


def _caption_columns(split: str, table: Any) -> list[str]:
    names = table.column_names
    if "image" not in names:
        raise DataError(f"table {split!r} has no column 'image'; it has: {', '.join(names)[:300]}")
    numbers = sorted(int(match.group(1)) for name in names if (match := _CAPTION.fullmatch(name)))
    if not numbers or numbers != list(range(1, len(numbers) + 1)):
        raise DataError(f"table {split!r} needs columns caption_1, caption_2, …; it has: {', '.join(names)[:300]}")
    return [f"caption_{number}" for number in numbers]


def _lazy_images(split: str, table: Any) -> Any:
    """The image column alone, as encoded bytes."""
    from datasets import Image, Value

    images = table.select_columns(["image"])
    feature = images.features["image"]
    if isinstance(feature, Image):
        return images.cast_column("image", Image(decode=False))
    plain = feature in (Value("binary"), Value("large_binary"))
    if plain or (isinstance(feature, dict) and "bytes" in feature):
        return images
    raise DataError(f"table {split!r}: the image column holds {feature}, not image bytes")


def _safe_name(path: str) -> str:
    """A relative path as it is; of an absolute one, or one that climbs, the file name alone."""
    pure = PurePosixPath(path)
    return pure.name if pure.is_absolute() or ".." in pure.parts else str(pure)


def _names_and_sizes(images: Any) -> tuple[list[str | None], list[int]]:
    """Each cell's file name (None where there is none) and its size in bytes, which Arrow knows without reading it."""
    import pyarrow
    import pyarrow.compute

    names: list[str | None] = []
    sizes: list[int] = []
    for chunk in images.data.column("image").chunks:
        if pyarrow.types.is_struct(chunk.type):
            fields = {chunk.type.field(i).name for i in range(chunk.type.num_fields)}
            content = pyarrow.compute.struct_field(chunk, "bytes")
            paths = pyarrow.compute.struct_field(chunk, "path").to_pylist() if "path" in fields else [None] * len(chunk)
        else:
            content, paths = chunk, [None] * len(chunk)
        names += [_safe_name(path) if path else None for path in paths]
        sizes += [size or 0 for size in pyarrow.compute.binary_length(content).to_pylist()]
    return names, sizes
