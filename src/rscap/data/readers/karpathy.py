"""The layout of Karpathy and Fei-Fei's splits (CVPR 2015), in which UCM-, Sydney- and NWPU-Captions are published.

    {"dataset": "UCM", "images": [{"filename": "1.tif", "split": "train", "sentences": [{"raw": "…", "tokens": […]}]}]}

The caption is `raw`; `tokens` is derived from it (and in UCM-Captions misspells it at times), so it is not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rscap.data.readers.json_files import items
from rscap.data.rows import Row
from rscap.records import Rejected


def recognises(value: dict[str, Any]) -> bool:
    """Is this object in this layout?"""
    images = items(value.get("images"))
    return any(isinstance(image, dict) and "sentences" in image for image in images)


def read(path: Path, value: dict[str, Any]) -> Iterator[Row | Rejected]:
    """The rows of an object that `recognises` took."""
    origin = value.get("dataset")
    for number, image in enumerate(items(value["images"])):
        where = f"{path.name} image {number}"
        if not isinstance(image, dict):
            yield Rejected(where, f"a JSON {type(image).__name__}, expected an object")
            continue
        name, folder = image.get("filename"), image.get("filepath")
        written = f"{folder}/{name}" if isinstance(folder, str) and folder and isinstance(name, str) else name
        sentences = [one.get("raw") if isinstance(one, dict) else None for one in items(image.get("sentences"))]
        yield Row(
            where=where,
            image=written,
            captions=sentences,
            split=image.get("split"),
            source=image.get("source", origin),
            scene_class=image.get("scene_class"),
        )
