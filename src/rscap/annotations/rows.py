"""What a reader of annotations finds, and the judgement that data and scoring share: one id and one text an image.

The id of an image is its path as the annotations write it, without a leading `./` and without a leading folder
`resized/`, `images/` or `imgs/`: `NWPU_31430.jpg`, `river/river_001.jpg`. Of a path that is absolute or climbs out of
the folder, the id is the file name. Where a file gives ids instead of paths (`{"id": …}`), they are taken as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from rscap.records import Note, Rejected

UNSPLIT = "all"
"""The split of every image of a source that names none."""

IMAGE_FOLDERS = ("resized", "images", "imgs")
"""Folders beside an annotation file in which images are looked for; leading in a path, they are no part of an id."""

MAX_CAPTION_CHARACTERS = 10_000

_MAX_PATH_CHARACTERS = 1_000
_MAX_NAME_CHARACTERS = 200
_SPLIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    UNSPLIT: UNSPLIT,
}
_ORIGIN = re.compile(r"([A-Za-z]+)_\d+\.")
_LIST_AS_TEXT = re.compile(r"\s*\[\s*(['\"]).*\1\s*\]\s*", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotationRow:
    """One image's annotation as a reader found it; nothing is believed yet."""

    where: str
    """`captions.csv line 17`"""
    image: object
    """The image's path as written, or its id where `id_given`."""
    captions: Sequence[object]
    folder: str = ""
    """A folder within the image folder that may hold the image; no part of its id."""
    split: object = None
    source: object = None
    scene_class: object = None
    id_given: bool = False
    """The file names an id, not a path; it is taken as it is."""
    beside: bool = False
    """The path starts at the annotation file: no leading folder is taken off."""
    number: str | None = None
    """COCO's image id, by which COCO results name the image."""
    partial: bool = False
    """The format has one caption a row, so other rows may hold more captions of this image."""


Found = AnnotationRow | Rejected | Note
"""What readers yield."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """A row that was judged: its captions are text, its split and id are names."""

    id: str
    captions: tuple[str, ...]
    split: str
    source: str
    """Empty where nothing names it."""
    scene_class: str | None


class UnusableRowError(Exception):
    """Why a row cannot be used: data makes it a `Rejected`, scoring a ScoreError."""


def judged(row: AnnotationRow, *, origin: str) -> Annotation:
    """The row as an annotation.

    Args:
        row: what a reader found.
        origin: the source of rows that name none and whose file name does not tell it (`NWPU_12.jpg` does).

    Raises:
        UnusableRowError: the row has no image, no caption, an empty caption, or something that is no text.
    """
    captions = judged_captions(row.captions)
    name = example_id(row)
    told = short_text(row.source, "source")
    return Annotation(
        id=name,
        captions=captions,
        split=split_name(row.split),
        source=told or ("" if row.id_given else _origin_of(name) or origin),
        scene_class=short_text(row.scene_class, "scene_class") or None,
    )


def example_id(row: AnnotationRow) -> str:
    """The id of a row's image; see the top of this module.

    Raises:
        UnusableRowError: no path is written, or not as text.
    """
    written = row.image
    if isinstance(written, int) and not isinstance(written, bool) and row.id_given:
        return str(written)
    if written is None or (isinstance(written, str) and not written.strip()):
        raise UnusableRowError("no image is named")
    if not isinstance(written, str):
        raise UnusableRowError(f"the image is {written!r:.80}, not a path")
    require_encodable(written, "the image's path")
    if len(written) > _MAX_PATH_CHARACTERS:
        raise UnusableRowError(f"the image's path has {len(written)} characters")
    if row.id_given:
        return written
    text = written.strip()
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts:
        return path.name
    first, _, rest = str(path).partition("/")
    return rest if rest and first in IMAGE_FOLDERS and not row.beside else str(path)


def judged_captions(cells: Sequence[object]) -> tuple[str, ...]:
    """The captions, exactly as written.

    Raises:
        UnusableRowError: there is none, or one is missing, empty, too long, a list written as text, or no text at all.
    """
    if not cells:
        raise UnusableRowError("no caption")
    captions = []
    for number, cell in enumerate(cells, start=1):
        if is_missing(cell):
            raise UnusableRowError(f"caption {number} of {len(cells)} is missing")
        if not isinstance(cell, str):
            raise UnusableRowError(f"caption {number} is {cell!r:.80}, not text")
        if not cell.strip():
            raise UnusableRowError(f"caption {number} of {len(cells)} is empty")
        if len(cell) > MAX_CAPTION_CHARACTERS:
            raise UnusableRowError(f"caption {number} has {len(cell)} characters, more than {MAX_CAPTION_CHARACTERS}")
        if _LIST_AS_TEXT.fullmatch(cell):
            raise UnusableRowError(
                f"caption {number} is a list written as text: {cell:.60}…; write one caption a column or a row"
            )
        require_encodable(cell, f"caption {number}")
        captions.append(cell)
    return tuple(captions)


def is_missing(cell: object) -> bool:
    """Is this no value at all: None, or the NaN that tables write for it?"""
    return cell is None or cell != cell


def split_name(cell: object) -> str:
    """The name of a split: train, val and test in any case and under their usual names, others as written.

    Raises:
        UnusableRowError: not a name of letters, digits, `_`, `.` and `-`.
    """
    if is_missing(cell):
        return UNSPLIT
    if not isinstance(cell, str) or not _SPLIT_NAME.fullmatch(cell.strip()):
        raise UnusableRowError(f"invalid split name {cell!r:.80}")
    name = cell.strip()
    return _SPLITS.get(name.lower(), name)


def split_in(text: str) -> str | None:
    """The split that a file or folder name tells, `test` for `risc_test_captions`; None if it tells none or several."""
    found = {_SPLITS[word] for word in re.split(r"[^a-z]+", text.lower()) if word in _SPLITS and word != UNSPLIT}
    return found.pop() if len(found) == 1 else None


def short_text(cell: object, what: str) -> str:
    """A name of at most 200 characters, outer white space dropped; empty where there is none.

    Raises:
        UnusableRowError: not text, or too long.
    """
    if is_missing(cell):
        return ""
    if not isinstance(cell, str) or len(cell) > _MAX_NAME_CHARACTERS:
        raise UnusableRowError(f"{what} {cell!r:.80} is not a short text")
    require_encodable(cell, what)
    return cell.strip()


def require_encodable(text: str, what: str) -> None:
    """Refuse text that no file could hold.

    Raises:
        UnusableRowError: a NUL character or half a surrogate pair.
    """
    if "\0" in text:
        raise UnusableRowError(f"{what} holds a NUL character")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UnusableRowError(f"{what} holds half a surrogate pair at character {error.start}") from None


def _origin_of(name: str) -> str | None:
    """`NWPU_12.jpg` comes from NWPU: RISC names its images so."""
    match = _ORIGIN.match(PurePosixPath(name).name)
    return match.group(1) if match else None


def merged(found: Iterable[Found]) -> Iterator[Found]:
    """Rows with the `partial` ones of one image brought together, images in order of first appearance.

    A row whose split differs from that of the image's first row is rejected: its image would be in two splits.
    """
    order: list[Found | tuple[str, str]] = []
    groups: dict[tuple[str, str], list[AnnotationRow]] = {}
    for item in found:
        if not isinstance(item, AnnotationRow) or not item.partial or not isinstance(item.image, str):
            order.append(item)
            continue
        key = (item.folder, item.image)
        group = groups.setdefault(key, [])
        if not group:
            order.append(key)
        if group and group[0].split != item.split:
            order.append(Rejected(item.where, f"{item.image} is in split {group[0].split!r} at {group[0].where}"))
        else:
            group.append(item)
    for one in order:
        if isinstance(one, tuple):
            yield replace(groups[one][0], captions=[caption for row in groups[one] for caption in row.captions])
        else:
            yield one


def told_apart(found: Iterable[Found]) -> Iterator[Found]:
    """Rows of images in one folder a split, each with an id of its own.

    The id is the path within the split's folder (`a.jpg`), unless two splits use the same name for two images: then it
    is the path from the root (`train/a.jpg`).
    """
    rows = list(found)
    names = [str(row.image) for row in rows if isinstance(row, AnnotationRow)]
    if len(set(names)) == len(names):
        yield from rows
        return
    for row in rows:
        if isinstance(row, AnnotationRow) and row.folder and isinstance(row.image, str) and row.image:
            yield replace(row, image=f"{row.folder}/{row.image}", folder="")
        else:
            yield row
