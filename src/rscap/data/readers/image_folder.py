"""The Hub's image folder: images beside a `metadata.jsonl`, in one folder or in one a split.

    train/metadata.jsonl   {"file_name": "a.jpg", "captions": ["…", "…"]}
    train/a.jpg

Captions stand under `captions` (a list), `caption_1 …`, `caption` or `text`. The split is the folder's name, unless a
line has a key `split`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from rscap.data.readers.json_files import load_lines, split_of_name
from rscap.data.rows import ImageFolder, Row
from rscap.records import Rejected

FILE = "metadata.jsonl"
_CAPTION = re.compile(r"caption_([1-9]\d*)")


def files(root: Path) -> list[Path]:
    """The metadata files of a data set, in order of path."""
    return sorted([*root.glob(FILE), *root.glob(f"*/{FILE}"), *root.glob(f"*/*/{FILE}")])


def folder_of(root: Path) -> ImageFolder:
    """Images lie beside their metadata."""
    return ImageFolder(root, root, ())


def read(root: Path) -> Iterator[Row | Rejected]:
    """The rows of the data set at `root`.

    An id is the path within the split's folder (`a.jpg`), unless two splits use the same name for two images: then it
    is the path from the root (`train/a.jpg`).
    """
    found = [row for path in files(root) for row in _read_one(root, path)]
    names = [row.image for row in found if isinstance(row, Row)]
    if len(set(names)) == len(names):
        yield from found
        return
    for row in found:
        if isinstance(row, Row) and row.folder and isinstance(row.image, str) and row.image:
            yield replace(row, image=f"{row.folder}/{row.image}", folder="")
        else:
            yield row


def _read_one(root: Path, path: Path) -> Iterator[Row | Rejected]:
    inner = path.parent.relative_to(root).as_posix()
    split = split_of_name(Path(path.parent.name)) if inner != "." else None
    for line in load_lines(path):
        if isinstance(line, Rejected):
            yield Rejected(f"{inner}/{line.row}".removeprefix("./"), line.reason)
            continue
        where, value = line
        yield Row(
            where=f"{inner}/{where}".removeprefix("./"),
            image=_hashable(value.get("file_name")),
            folder="" if inner == "." else inner,
            captions=_captions(value),
            split=value.get("split", split),
            source=value.get("source"),
            scene_class=value.get("scene_class"),
        )


def _hashable(name: object) -> object:
    return name if isinstance(name, str) else None


def _captions(value: dict[str, Any]) -> list[object]:
    if isinstance(value.get("captions"), list):
        return list(value["captions"])
    numbers = sorted(int(match.group(1)) for key in value if (match := _CAPTION.fullmatch(key)))
    if numbers:
        return [value.get(f"caption_{number}") for number in range(1, min(numbers[-1], 100) + 1)]
    return [value[key] for key in ("caption", "text") if key in value][:1]
