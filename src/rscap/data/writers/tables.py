"""captions.csv and parquet: one row an image, one column a caption."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from rscap.data.handles import MissingImage
from rscap.data.source import UNSPLIT
from rscap.data.writers.images import image_bytes, require_file_names, write_images
from rscap.errors import DataError
from rscap.records import Example

_ROWS_AT_ONCE = 500
"""Rows of a parquet row group: about 10 MB of RISC's images in memory at a time."""


def write_csv(examples: Sequence[Example], folder: Path) -> None:
    """`captions.csv` beside `images/`."""
    count = _caption_count(examples)
    require_file_names(examples)
    broken = [example.id for example in examples if any("\n" in text or "\r" in text for text in example.captions)]
    if broken:
        raise DataError(f"{len(broken)} captions hold a line break, which captions.csv cannot: {', '.join(broken[:5])}")
    with (folder / "captions.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        extra = _extra_columns(examples)
        writer.writerow([*extra, "image", *_caption_columns(count)])
        for example in examples:
            writer.writerow([*(getattr(example, name) or "" for name in extra), example.id, *example.captions])
    (folder / "images").mkdir()
    write_images(examples, folder / "images")


def write_parquet(examples: Sequence[Example], folder: Path) -> None:
    """`data.parquet` in the Hub's schema: `image` (bytes and path), `caption_1 …`, and what else there is to know.

    A few hundred images are in memory at a time.
    """
    import pyarrow
    import pyarrow.parquet

    missing = [example.id for example in examples if isinstance(example.image, MissingImage)]
    if missing:
        raise DataError(
            f"{len(missing)} images are not at hand and parquet holds the images: {', '.join(missing[:5])}",
            hint="the other formats take captions without images",
        )
    columns = _caption_columns(_caption_count(examples))
    extra = _extra_columns(examples)
    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    texts = [*extra, *columns]
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    features |= {name: {"dtype": "string", "_type": "Value"} for name in texts}
    schema = pyarrow.schema([("image", image), *((name, pyarrow.string()) for name in texts)]).with_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    with pyarrow.parquet.ParquetWriter(folder / "data.parquet", schema) as writer:
        for chunk in _chunks(examples):
            writer.write_table(pyarrow.Table.from_pylist([_cells(one, columns, extra) for one in chunk], schema=schema))


def _cells(example: Example, columns: Sequence[str], extra: Sequence[str]) -> dict[str, Any]:
    path = None if example.id.startswith("row-") else example.id
    return {
        "image": {"bytes": image_bytes(example.image), "path": path},
        **dict(zip(columns, example.captions, strict=True)),
        **{name: getattr(example, name) for name in extra},
    }


def _chunks(examples: Sequence[Example]) -> Iterator[list[Example]]:
    rest = iter(examples)
    while chunk := list(islice(rest, _ROWS_AT_ONCE)):
        yield chunk


def _caption_columns(count: int) -> list[str]:
    return [f"caption_{number}" for number in range(1, count + 1)]


def _extra_columns(examples: Sequence[Example]) -> list[str]:
    """The columns beside image and captions that say something."""
    split = any(example.split != UNSPLIT for example in examples)
    scene_class = any(example.scene_class for example in examples)
    return ["source", *(["split"] if split else []), *(["scene_class"] if scene_class else [])]


def _caption_count(examples: Sequence[Example]) -> int:
    """How many captions every image has.

    Raises:
        DataError: not all have the same number; a table has a column for each.
    """
    count = len(examples[0].captions)
    odd = [example for example in examples if len(example.captions) != count]
    if odd:
        raise DataError(
            f"a table wants the same number of captions for every image: {examples[0].id} has {count}, "
            f"{odd[0].id} has {len(odd[0].captions)}",
            hint="convert to karpathy, coco, jsonl or imagefolder",
        )
    return count
