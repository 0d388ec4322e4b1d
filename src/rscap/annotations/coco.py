"""COCO caption annotations: `images` and `annotations` in two lists, tied by the image's id.

    {"images": [{"id": 7, "file_name": "a.jpg"}], "annotations": [{"id": 1, "image_id": 7, "caption": "…"}]}

COCO has one file a split; the file's name tells the split, or a key `split` of each image. The id of an image is its
`file_name`, as in every format; COCO results, which name images by number, are matched by that number. Where a file has
annotations alone, the number is the id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rscap.annotations.fields import Fields
from rscap.annotations.rows import AnnotationRow, Found, split_in
from rscap.errors import DataError
from rscap.records import Rejected


def recognises(value: Mapping[str, Any]) -> bool:
    """Is this object in COCO's layout?"""
    return isinstance(value.get("annotations"), list) and isinstance(value.get("images", []), list)


def read(path: Path, value: Mapping[str, Any]) -> Iterator[Found]:
    """The rows of an object that `recognises` took; captions in the order of their annotations."""
    captions: dict[str, list[object]] = {}
    rows = []
    split = split_in(path.stem)
    for number, image in enumerate(value.get("images", [])):
        where = f"{path.name} image {number}"
        if not isinstance(image, dict) or not isinstance(image.get("id"), int | str):
            yield Rejected(where, "an image without an id")
        elif (key := _key(image["id"])) in captions:
            yield Rejected(where, f"the id {image['id']!r:.80} occurs twice")
        else:
            captions[key] = []
            rows.append(_row(where, image, captions[key], split))
    if "images" not in value:
        rows = list(_without_images(path, value["annotations"], captions, split))
    yield from _unmatched(path, value["annotations"], captions)
    yield from rows


def _row(where: str, image: Mapping[str, Any], captions: list[object], split: str | None) -> AnnotationRow:
    return AnnotationRow(
        where=where,
        image=image.get("file_name"),
        captions=captions,
        split=image.get("split") or split,
        source=image.get("source"),
        scene_class=image.get("scene_class"),
        number=str(image["id"]),
    )


def _without_images(
    path: Path, annotations: Sequence[Any], captions: dict[str, list[object]], split: str | None
) -> Iterator[AnnotationRow]:
    for number, annotation in enumerate(annotations):
        name = annotation.get("image_id") if isinstance(annotation, dict) else None
        if isinstance(name, int | str) and _key(name) not in captions:
            captions[_key(name)] = []
            yield AnnotationRow(
                where=f"{path.name} annotation {number}",
                image=str(name),
                captions=captions[_key(name)],
                split=split,
                id_given=True,
            )


def _unmatched(path: Path, annotations: Sequence[Any], captions: Mapping[str, list[object]]) -> Iterator[Rejected]:
    """Add every annotation's caption to its image's list; those without an image are rejected."""
    for number, annotation in enumerate(annotations):
        where = f"{path.name} annotation {number}"
        if not isinstance(annotation, dict) or not isinstance(annotation.get("image_id"), int | str):
            yield Rejected(where, "an annotation without an image_id")
        elif own := next((key for key in _keys(annotation["image_id"]) if key in captions), None):
            captions[own].append(_caption(annotation))
        else:
            yield Rejected(where, f"there is no image {annotation['image_id']!r:.80}")


def _caption(annotation: Mapping[str, Any]) -> object:
    try:
        fields = Fields.of(annotation, needs_image=False)
    except DataError:
        return None  # its image is rejected with "caption 2 of 5 is missing"
    return annotation[fields.captions[0]]


def _keys(value: object) -> tuple[str, ...]:
    """The id of an image that an annotation names, as it is written; then as text or as a number."""
    return _key(value), f"str:{value}", f"int:{value}"


def _key(value: object) -> str:
    """Ids 7 and "7" are two ids."""
    return f"{type(value).__name__}:{value}"
