"""The writers of `rscap data convert`: opening what they wrote gives the same examples.

The bytes of images are copied, never encoded again. Karpathy JSON, COCO, JSON Lines and the Hub's image folder take any
number of captions an image; captions.csv and parquet have a column for each caption.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import count, islice
from pathlib import Path, PurePosixPath
from typing import Any

from rscap.annotations import UNSPLIT
from rscap.data.images import MissingImage
from rscap.errors import DataError
from rscap.records import Example, ImageHandle
from rscap.store import write_json, write_jsonl


def image_bytes(image: ImageHandle) -> bytes:
    """The encoded bytes of an image as the source holds them; an image that has none, as PNG."""
    data = image.data()
    if data is not None:
        return data
    stream = io.BytesIO()
    image.load().save(stream, format="PNG")
    return stream.getvalue()


def write_images(examples: Iterable[Example], folder: Path) -> None:
    """Write each image under its id; images that the source lacks are left out."""
    for example in examples:
        if isinstance(example.image, MissingImage):
            continue
        path = folder / example.id
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image_bytes(example.image))


def require_file_names(examples: Iterable[Example]) -> None:
    """Stop where an id cannot name a file: `row-00017` of a table without file names has no suffix.

    Raises:
        DataError: an id without a suffix; names it.
    """
    for example in examples:
        if not PurePosixPath(example.id).suffix:
            raise DataError(
                f"{example.id!r} is not a file name, so the images cannot be written as files under their ids",
                hint="convert to parquet, which needs no file names",
            )


def write_karpathy(examples: Sequence[Example], folder: Path) -> None:
    """`dataset.json` beside `images/`; source and scene class are extra keys of each image."""
    require_file_names(examples)
    number = count()
    images = [_karpathy(example, index, number) for index, example in enumerate(examples)]
    write_json(folder / "dataset.json", {"images": images, "dataset": "dataset"})
    _write_images(examples, folder)


def write_coco(examples: Sequence[Example], folder: Path) -> None:
    """`captions_<split>.json` for each split beside `images/`."""
    require_file_names(examples)
    number = count()
    for split, members in _by_split(examples).items():
        images = [{"id": index, "file_name": one.id, **_extra(one)} for index, one in enumerate(members)]
        annotations = [
            {"id": next(number), "image_id": index, "caption": caption}
            for index, one in enumerate(members)
            for caption in one.captions
        ]
        write_json(folder / f"captions_{split}.json", {"images": images, "annotations": annotations})
    _write_images(examples, folder)


def write_paligemma(examples: Sequence[Example], folder: Path) -> None:
    """`captions_<split>.jsonl` for each split beside `images/`, one line a caption, an empty prefix."""
    require_file_names(examples)
    for split, members in _by_split(examples).items():
        rows = (
            {"prefix": "", "image": f"images/{one.id}", "suffix": caption, **_extra(one)}
            for one in members
            for caption in one.captions
        )
        write_jsonl(folder / f"captions_{split}.jsonl", rows)
    _write_images(examples, folder)


def write_image_folder(examples: Sequence[Example], folder: Path) -> None:
    """`<split>/metadata.jsonl` beside the split's images; data without splits in the folder itself."""
    require_file_names(examples)
    for split, members in _by_split(examples).items():
        home = folder if split == UNSPLIT else folder / split
        rows = ({"file_name": one.id, "captions": list(one.captions), **_extra(one)} for one in members)
        write_jsonl(home / "metadata.jsonl", rows)
        write_images(members, home)


def _karpathy(example: Example, index: int, number: Iterator[int]) -> dict[str, Any]:
    sentences = [
        {"raw": caption, "tokens": caption.rstrip(" .").split(), "imgid": index, "sentid": next(number)}
        for caption in example.captions
    ]
    return {
        "filename": example.id,
        "imgid": index,
        "sentids": [sentence["sentid"] for sentence in sentences],
        "sentences": sentences,
        **_extra(example),
    }


def _extra(example: Example) -> dict[str, Any]:
    """Keys that the format does not have: other readers ignore them, ours reads them."""
    values = {"split": example.split, "source": example.source, "scene_class": example.scene_class}
    return {key: value for key, value in values.items() if value and not (key == "split" and value == UNSPLIT)}


def _by_split(examples: Sequence[Example]) -> dict[str, list[Example]]:
    members: dict[str, list[Example]] = {}
    for example in examples:
        members.setdefault(example.split, []).append(example)
    return members


def _write_images(examples: Sequence[Example], folder: Path) -> None:
    (folder / "images").mkdir(exist_ok=True)
    write_images(examples, folder / "images")


_ROWS_AT_ONCE = 500
"""Rows of a parquet row group: about 10 MB of RISC's images in memory at a time."""


def write_csv(examples: Sequence[Example], folder: Path) -> None:
    """`captions.csv` beside `images/`."""
    count = _caption_count(examples)
    require_file_names(examples)
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
            f"{len(missing)} images are missing, and parquet contains the images: {', '.join(missing[:5])}",
            hint="convert to another format, which takes captions without images",
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
    """The columns beside image and captions that have a value."""
    split = any(example.split != UNSPLIT for example in examples)
    scene_class = any(example.scene_class for example in examples)
    return ["source", *(["split"] if split else []), *(["scene_class"] if scene_class else [])]


def _caption_count(examples: Sequence[Example]) -> int:
    """The number of captions that every image has.

    Raises:
        DataError: not all have the same number; a table has a column for each.
    """
    count = len(examples[0].captions)
    odd = [example for example in examples if len(example.captions) != count]
    if odd:
        raise DataError(
            f"a table needs the same number of captions for every image: {examples[0].id} has {count}, "
            f"{odd[0].id} has {len(odd[0].captions)}",
            hint="convert to karpathy, coco, jsonl or imagefolder",
        )
    return count
