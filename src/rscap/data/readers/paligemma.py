"""PaliGemma's JSON Lines (big_vision): `{"prefix": "", "image": "resized/NWPU_31430.jpg", "suffix": "A gray plane …"}`.

One line a caption; the lines of one image need not stand together. The split is told by the file's name
(`risc_test_captions.jsonl`) unless a line has a key `split`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rscap.data.readers.json_files import load_lines, split_of_name
from rscap.data.rows import Row
from rscap.records import Note, Rejected


@dataclass(slots=True)
class _Image:
    where: str
    first: dict[str, Any]
    captions: list[object] = field(default_factory=list)


def read(path: Path) -> Iterator[Row | Rejected | Note]:
    """The rows of one file, images in order of first appearance.

    The prefix is a matter of the prompt, not of the data: it is not kept, and a note says so where there is one.
    """
    images: dict[str, _Image] = {}
    prefixes: dict[str, None] = {}
    for line in load_lines(path):
        if isinstance(line, Rejected):
            yield line
            continue
        where, value = line
        name = value.get("image")
        if not isinstance(name, str):
            yield Rejected(where, "no image is named")
            continue
        images.setdefault(name, _Image(where, value)).captions.append(value.get("suffix"))
        prefixes.setdefault(str(value.get("prefix") or ""))
    split = split_of_name(path)
    for name, image in images.items():
        yield Row(
            where=image.where,
            image=name,
            captions=image.captions,
            split=image.first.get("split", split),
            source=image.first.get("source"),
            scene_class=image.first.get("scene_class"),
        )
    told = [prefix for prefix in prefixes if prefix]
    if told:
        yield Note(path.name, f"prefixes are not kept, the recipe's prompt is used: {told[:5]!r:.200}")
