"""Karpathy JSON, COCO annotations, PaliGemma JSON Lines and the Hub's image folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from rscap.data.source import UNSPLIT
from rscap.data.writers.images import require_file_names, write_images
from rscap.records import Example
from rscap.store import write_json, write_jsonl


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
    """`<split>/metadata.jsonl` beside the split's images; unsplit data in the folder itself."""
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
    """Keys beyond the format's own; readers of the format pass over them, ours takes them."""
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
