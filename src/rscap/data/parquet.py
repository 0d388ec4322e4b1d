"""Tables with images: a Hub data set or parquet files, memory-mapped through `datasets`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rscap.annotations import UNSPLIT, Found, parquet, split_name
from rscap.annotations.image_column import IMAGE
from rscap.data.images import ArrowImage
from rscap.errors import DataError
from rscap.hub import reach_hub, why_not_reached

HUB_ID = re.compile(r"(?P<id>[A-Za-z0-9][\w.-]*/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")

Tables = Mapping[str, Any]
"""A `datasets.Dataset` for each split; `all` where the data are not split."""


def open_hub(spec: str) -> Tables:
    """The tables of a Hub data set by split, e.g. `owner/name` or `owner/name@revision`.

    Raises:
        DataError: not found, gated, or no network; says what to do.
    """
    match = HUB_ID.fullmatch(spec)
    if not match:
        raise DataError(f"{spec!r} is neither a file nor a Hub id (owner/name, or owner/name@revision)")
    load = _load_dataset()
    try:
        with reach_hub():
            tables = dict(load(match["id"], revision=match["revision"]))
    except Exception as error:  # the client raises its own, requests', OSError … by the way it fails
        raise _hub_error(spec, error) from error
    return {UNSPLIT: next(iter(tables.values()))} if len(tables) == 1 else tables


def open_files(path: Path) -> Tables:
    """The tables of a parquet file, or of a folder of them, by the splits that their names tell.

    Raises:
        DataError: no parquet file there, or one that cannot be read.
    """
    files = parquet.files(path)
    if not files:
        raise DataError(f"{path} holds no parquet file")
    load = _load_dataset()
    parquet.refuse_bombs(path, files)
    named = parquet.splits(path, files)
    for members in named.values():
        parquet.check_same_columns(path, members)
    only = "train"  # `datasets` reserves the name `all`
    wanted = {only if name == UNSPLIT else name: [*map(str, own)] for name, own in named.items()}
    try:
        tables = load("parquet", data_files=wanted)
    except Exception as error:  # pyarrow's, datasets' and OSError, by what is broken
        reason = str(error.__cause__ or error).splitlines()[0]
        raise DataError(f"{path} cannot be read as parquet: {reason}") from error
    return {UNSPLIT: tables[only]} if UNSPLIT in named else dict(tables)


def read(name: str, tables: Tables) -> Iterator[Found]:
    """The rows of opened tables, with image handles.

    Args:
        name: what a table that is not split is called in messages.
        tables: by split.

    Raises:
        DataError: a table without an image or caption column.
    """
    opened = [_text(name if split == UNSPLIT else split_name(split), split, table) for split, table in tables.items()]
    names = parquet.image_names([text for text, _, _ in opened])
    for (text, images, sizes), own in zip(opened, names, strict=True):
        yield from parquet.rows(text, _handles(images, own, sizes))


def _text(label: str, split: str, table: Any) -> tuple[parquet.TableText, Any, list[int]]:
    """A table without its images, the images' column, and their sizes in bytes."""
    columns = parquet.Columns.of(
        label, table.data.schema, lambda column: (cell.as_py() for cell in table.data.column(column))
    )
    images = _lazy_images(label, table.rename_column(columns.image, IMAGE) if columns.image != IMAGE else table)
    paths, sizes = _paths_and_sizes(images)
    texts = table.select_columns(columns.texts)
    names = list(texts[columns.names]) if columns.names else []
    return parquet.TableText(label, None if split == UNSPLIT else split, columns, paths, names, texts), images, sizes


def _handles(images: Any, names: Sequence[str], sizes: Sequence[int]) -> Iterator[ArrowImage]:
    for row, (name, size) in enumerate(zip(names, sizes, strict=True)):
        yield ArrowImage(images, row, name, size)


def _load_dataset() -> Any:
    try:
        from datasets import disable_progress_bars, load_dataset
    except ImportError:
        raise DataError("reading parquet needs the package `datasets`", hint="pip install 'rscap[train]'") from None
    if not sys.stderr.isatty():
        disable_progress_bars()
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
    hint = "check the network and the spelling, or open a local copy: a parquet file or folder, or captions.csv"
    if reason := why_not_reached():
        return DataError(f"the Hub data set {spec} is not on this machine, and {reason}", hint=hint)
    return DataError(f"the Hub data set {spec} cannot be reached: {lines}", hint=hint)


def _lazy_images(label: str, table: Any) -> Any:
    """The image column alone, as encoded bytes."""
    from datasets import Image, Value

    images = table.select_columns(["image"])
    feature = images.features["image"]
    if isinstance(feature, Image):
        return images.cast_column("image", Image(decode=False))
    plain = feature in (Value("binary"), Value("large_binary"))
    if plain or (isinstance(feature, dict) and "bytes" in feature):
        return images
    raise DataError(f"{label}: the image column holds {feature}, not image bytes")


def _paths_and_sizes(images: Any) -> tuple[list[str | None], list[int]]:
    """Each cell's path (None where there is none) and its size in bytes, which Arrow knows without reading it."""
    import pyarrow
    import pyarrow.compute

    paths: list[str | None] = []
    sizes: list[int] = []
    for chunk in images.data.column("image").chunks:
        own: list[str | None] = [None] * len(chunk)
        content = chunk
        if pyarrow.types.is_struct(chunk.type):
            fields = {chunk.type.field(i).name for i in range(chunk.type.num_fields)}
            content = pyarrow.compute.struct_field(chunk, "bytes")
            own = pyarrow.compute.struct_field(chunk, "path").to_pylist() if "path" in fields else own
        paths += own
        sizes += [size or 0 for size in pyarrow.compute.binary_length(content).to_pylist()]
    return paths, sizes
