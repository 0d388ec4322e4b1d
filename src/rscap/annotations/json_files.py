"""JSON annotations: which of the layouts people use a file has, and its rows.

| layout | form |
|---|---|
| Karpathy | `{"dataset": …, "images": [{"filename", "filepath", "split", "sentences": [{"raw": …}]}]}` |
| COCO | `{"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}`, see `rscap.annotations.coco` |
| by class | `{"airplane": [{"filename", "raw", "raw_1", …, "split"}], …}`, as NWPU-Captions is published |
| by split | `{"train": [{"image", "caption"}], "test": […]}` |
| list | `[{"image", "caption"}, …]`, as BLIP and LAVIS write it |
| ids | `{"a.jpg": ["…", "…"], …}`, or `[{"caption": "…"}, …]` for each id, as coco-caption takes references |

Karpathy's layout is that of Karpathy and Fei-Fei's splits (CVPR 2015), in which UCM- and Sydney-Captions are published.
Its caption is `raw`; `tokens` is derived from it (and in UCM-Captions misspells it at times), so it is not read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from rscap.annotations import coco
from rscap.annotations.conversations import is_conversation, without_prompts
from rscap.annotations.fields import Fields, rows_of, texts_of
from rscap.annotations.files import Located
from rscap.annotations.files import json_lines as json_objects
from rscap.annotations.rows import AnnotationRow, Found, merged, split_in
from rscap.errors import DataError
from rscap.records import Rejected

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".jp2", ".j2k", ".ppm"})
_HINT = (
    "Karpathy: images with sentences; COCO: images and annotations; NWPU-Captions: lists by class; "
    "a list of {image, caption}; or {image: [captions]}"
)


def layout(value: object) -> str | None:
    """The name of the layout that a JSON value has; None for a value that holds no annotations."""
    if isinstance(value, list):
        return "list" if any(is_record(one) for one in value) else None
    if not isinstance(value, dict) or not value:
        return None
    if coco.recognises(value):
        return "COCO"
    if isinstance(value.get("images"), list) and any(isinstance(one, dict) for one in value["images"]):
        return "Karpathy"
    if is_record(value):
        return "one"
    if all(isinstance(group, list) for group in value.values()):
        firsts = [group[0] for group in value.values() if group]
        if firsts and all(is_record(one, named=True) for one in firsts):
            return "groups"
        if all(isinstance(one, str) or (isinstance(one, dict) and "caption" in one) for one in firsts):
            return "ids"
    return None


def names_images(value: Mapping[str, Any]) -> bool:
    """Do the keys of `{id: captions}` look like image files, so that a folder is not opened for its `classes.json`?"""
    return all(PurePosixPath(key).suffix.lower() in IMAGE_SUFFIXES for key in value)


def read(path: Path, value: Any) -> Iterator[Found]:
    """The rows of a JSON value.

    Raises:
        DataError: it has none of the layouts; names its keys.
    """
    kind = layout(value)
    split = split_in(path.stem)
    if kind == "COCO":
        return coco.read(path, value)
    if kind == "list":
        return merged(_records(path.name, _numbered(path.name, "entry", value), split=split))
    if kind == "one":
        return _records(path.name, [(f"{path.name} line 1", value)], split=split)
    if kind == "Karpathy":
        images = _numbered(path.name, "image", value["images"])
        return merged(_records(path.name, images, split=split, source=value.get("dataset")))
    if kind == "groups":
        return merged(_groups(path, value, split))
    if kind == "ids":
        return _ids(path, value, split)
    if isinstance(value, dict):
        keys = ", ".join(list(value)[:10])
        raise DataError(f"{path} has none of the JSON layouts that are read; its keys: {keys:.200}", hint=_HINT)
    what = f"a list of {len(value)} entries" if isinstance(value, list) else f"{value!r:.80}"
    raise DataError(f"{path} holds {what}, but no annotations", hint=_HINT)


def is_record(value: object, *, named: bool = False) -> bool:
    """Is this a JSON object with an image and captions, or a conversation?

    Args:
        value: any JSON value.
        named: the image must be named by a path, not by an id.
    """
    if not isinstance(value, dict):
        return False
    if is_conversation(value):
        return True
    try:
        return not (Fields.of(value).id_given and named)
    except DataError:
        return False


def _numbered(name: str, what: str, values: Iterable[object], start: int = 0) -> Iterator[Located | Rejected]:
    for number, value in enumerate(values, start=start):
        where = f"{name} {what} {number}"
        if isinstance(value, dict):
            yield where, value
        else:
            yield Rejected(where, f"expected a JSON object, found {value!r:.80}")


def _records(name: str, records: Iterable[Located | Rejected], **told: Any) -> Iterator[Found]:
    """Rows of JSON objects, prompts taken off."""
    return rows_of(name, without_prompts(name, records), **told)


def _groups(path: Path, value: Mapping[str, Sequence[object]], split: str | None) -> Iterator[Found]:
    """Lists by scene class, or by split where the key is the name of one."""
    for key, group in value.items():
        records = _numbered(path.name, key, group)
        own = split_in(key)
        if own:
            yield from _records(path.name, records, split=own)
        else:
            yield from _records(path.name, records, split=split, scene_class=key, folder=key)


def _ids(path: Path, value: Mapping[str, object], split: str | None) -> Iterator[Found]:
    for key, captions in value.items():
        yield AnnotationRow(
            where=f"{path.name} {key!r:.80}",
            image=key,
            captions=texts_of(captions),
            split=split,
            id_given=True,
        )


def json_lines(path: Path, *, split: str | None = None, **told: Any) -> Iterator[Found]:
    """The rows of a JSON Lines file; where a line holds one caption, lines are brought together by image.

    PaliGemma's lines (big_vision) are `{"prefix": "", "image": "resized/NWPU_31430.jpg", "suffix": "A gray plane …"}`,
    those of a run's references `{"id", "captions", "source", "scene_class"}`.

    Raises:
        DataError: see `rscap.annotations.text.read_text`.
    """
    return merged(_records(path.name, json_objects(path), split=split or split_in(path.stem), **told))
