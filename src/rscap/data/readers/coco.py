"""COCO caption annotations: `images` and `annotations` in two lists, tied by the image's id.

    {"images": [{"id": 7, "file_name": "a.jpg"}], "annotations": [{"id": 1, "image_id": 7, "caption": "…"}]}

COCO has one file a split; the split is told by the file's name, or by a key `split` of each image.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rscap.data.readers.json_files import split_of_name
from rscap.data.rows import Row
from rscap.records import Rejected


def recognises(value: dict[str, Any]) -> bool:
    """Is this object in this layout?"""
    return isinstance(value.get("images"), list) and isinstance(value.get("annotations"), list)


def read(path: Path, value: dict[str, Any]) -> Iterator[Row | Rejected]:
    """The rows of an object that `recognises` took; captions in the order of their annotations."""
    captions: dict[str, list[object]] = {}
    known: set[str] = set()
    for number, image in enumerate(value["images"]):
        where = f"{path.name} image {number}"
        if not isinstance(image, dict) or not isinstance(image.get("id"), int | str):
            yield Rejected(where, "an image without an id")
        elif (key := _key(image["id"])) in known:
            yield Rejected(where, f"the id {image['id']!r:.80} stands twice")
        else:
            known.add(key)
            captions[key] = []
    for number, annotation in enumerate(value["annotations"]):
        where = f"{path.name} annotation {number}"
        if not isinstance(annotation, dict) or not isinstance(annotation.get("image_id"), int | str):
            yield Rejected(where, "an annotation without an image_id")
        elif _key(annotation["image_id"]) not in known:
            yield Rejected(where, f"there is no image {annotation['image_id']!r:.80}")
        else:
            captions[_key(annotation["image_id"])].append(annotation.get("caption"))
    yield from _images(path, value["images"], captions)


def _images(path: Path, images: list[Any], captions: dict[str, list[object]]) -> Iterator[Row]:
    split = split_of_name(path)
    for number, image in enumerate(images):
        key = _key(image.get("id")) if isinstance(image, dict) else ""
        if key not in captions:
            continue  # rejected above
        yield Row(
            where=f"{path.name} image {number}",
            image=image.get("file_name"),
            captions=captions.pop(key),
            split=image.get("split", split),
            source=image.get("source"),
            scene_class=image.get("scene_class"),
        )


def _key(value: object) -> str:
    """Ids 7 and "7" are two ids."""
    return f"{type(value).__name__}:{value}"
