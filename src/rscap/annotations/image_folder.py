"""The Hub's image folder: images beside a `metadata.jsonl` or `metadata.csv`, in one folder or in one a split.

    train/metadata.jsonl   {"file_name": "a.jpg", "captions": ["…", "…"]}
    train/a.jpg

The split is the folder's name, unless a row names its own. An id is the path within the split's folder (`a.jpg`),
unless two splits use the same name for two images: then it is the path from the root (`train/a.jpg`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from rscap.annotations import json_files, tables
from rscap.annotations.rows import AnnotationRow, Found, split_in, told_apart

FILES = ("metadata.jsonl", "metadata.csv")


def files(root: Path) -> list[Path]:
    """The metadata files of a data set, in order of path."""
    return sorted(path for name in FILES for place in ("", "*/", "*/*/") for path in root.glob(f"{place}{name}"))


def read(root: Path) -> Iterator[Found]:
    """The rows of the data set at `root`.

    Raises:
        DataError: a file that cannot be read, or lacks a column for the image or captions.
    """
    yield from told_apart(row for path in files(root) for row in _read_one(root, path))


def _read_one(root: Path, path: Path) -> Iterator[Found]:
    inner = path.parent.relative_to(root).as_posix()
    place = "" if inner == "." else f"{inner}/"
    told: dict[str, Any] = {
        "split": split_in(path.parent.name) if place else None,
        "folder": place.rstrip("/"),
        "beside": True,
    }
    found = tables.read(path, **told) if path.suffix == ".csv" else json_files.json_lines(path, **told)
    for item in found:
        if isinstance(item, AnnotationRow):
            yield replace(item, where=f"{place}{item.where}")
        else:
            yield replace(item, row=f"{place}{item.row}")
