"""From one format to another without loss: what was written is opened again and compared before it gets its name."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path

from rscap.data.images import MissingImage
from rscap.data.opening import open_source
from rscap.data.source import Source
from rscap.data.writers import (
    image_bytes,
    write_coco,
    write_csv,
    write_image_folder,
    write_karpathy,
    write_paligemma,
    write_parquet,
)
from rscap.errors import DataError
from rscap.records import Example
from rscap.stopping import stopping
from rscap.store import new_folder

FORMATS: dict[str, Callable[[Sequence[Example], Path], None]] = {
    "csv": write_csv,
    "parquet": write_parquet,
    "karpathy": write_karpathy,
    "coco": write_coco,
    "jsonl": write_paligemma,
    "imagefolder": write_image_folder,
}


def convert(source: Source, target: Path, *, to: str) -> None:
    """Write `source` as format `to` into the new folder `target`.

    Ids, captions, splits, sources, scene classes and the bytes of every image are compared after writing; the order of
    the examples may change where the format has one file a split. Images that the source lacks stay absent.

    Raises:
        DataError: an unknown format, a target that exists, or something that the format cannot hold; nothing is left
            behind.
    """
    if to not in FORMATS:
        raise DataError(f"unknown format {to!r}", hint=f"known: {', '.join(FORMATS)}")
    if os.path.lexists(target):
        raise DataError(f"{target} exists; nothing is overwritten", hint="name a folder that does not exist")
    with stopping(), new_folder(target) as folder:
        FORMATS[to](source.examples, folder)
        require_same(source, _reopened(source, folder))


def _reopened(source: Source, folder: Path) -> Source:
    whole = not any(isinstance(example.image, MissingImage) for example in source.examples)
    return open_source(folder, check="exists" if whole else "none", max_rejected_share=0.0)


def require_same(source: Source, copy: Source) -> None:
    """Stop unless two sources have the same examples, whatever their order.

    Raises:
        DataError: names the first example that differs, and how.
    """
    pairs = zip_longest(_sorted(source.examples), _sorted(copy.examples))
    for one, other in pairs:
        if one is None or other is None or one.id != other.id:
            name = min(example.id for example in (one, other) if example is not None)
            raise DataError(f"the copy differs from {source.name}: {name} is in one of them only")
        for field in ("captions", "split", "source", "scene_class"):
            if getattr(one, field) != getattr(other, field):
                values = f"{getattr(one, field)!r:.200} became {getattr(other, field)!r:.200}"
                raise DataError(f"the copy differs from {source.name}: {field} of {one.id}: {values}")
        if not _same_image(one, other):
            raise DataError(f"the copy differs from {source.name}: the image of {one.id}")


def _sorted(examples: Sequence[Example]) -> list[Example]:
    return sorted(examples, key=lambda example: example.id)


def _same_image(one: Example, other: Example) -> bool:
    if isinstance(one.image, MissingImage):
        return isinstance(other.image, MissingImage)
    return image_bytes(one.image) == image_bytes(other.image)
