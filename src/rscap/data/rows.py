"""From what a reader found to what can be used: every reader's rows pass through here, so all judge alike."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from rscap.data.images import ArrowImage, FileImage, MissingImage
from rscap.data.source import UNSPLIT
from rscap.errors import DataError, ImageError
from rscap.records import Example, Note, Rejected

ImageCheck = Literal["decode", "header", "exists", "none"]
"""How closely images are looked at when a source is opened. `none`: captions alone; images need not be there."""

IMAGE_CHECKS: tuple[str, ...] = ("decode", "header", "exists", "none")

MAX_CAPTION_CHARACTERS = 10_000

_SPLIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_SPLIT_ALIASES = {"valid": "val", "validation": "val", "dev": "val", "training": "train", "testing": "test"}
_ORIGIN = re.compile(r"([A-Za-z]+)_\d+\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One image's annotation as a reader found it; nothing is believed yet."""

    where: str
    """`captions.csv line 17`"""
    image: object
    """A path relative to the source's image folder as written in the file, or an `ArrowImage`."""
    captions: Sequence[object]
    folder: str = ""
    """A folder within the image folder in which this row's image lies; no part of its id."""
    split: object = None
    source: object = None
    scene_class: object = None


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """Where a source's images lie, and the folder that no path may leave."""

    root: Path
    """The data folder: links and `..` that lead out of it are refused."""
    images: Path
    prefixes: tuple[str, ...] = ("resized/", "images/")
    """Leading folders that some annotation formats write into the path; they are no part of an id."""


@dataclass(slots=True)
class Judged:
    """What became of a source's rows: each is an example or a rejection, and never both."""

    examples: list[Example] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    """The position of each example among all rows, the rejected ones included: what a seeded split counts by."""
    rejected: list[Rejected] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    total: int = 0


class UnusableRowError(Exception):
    """Why a row cannot be used. Never leaves this room: it becomes a `Rejected`."""


def assemble(
    rows: Iterable[Row | Rejected | Note], *, origin: str, folder: ImageFolder | None, check: ImageCheck
) -> Judged:
    """Judge every row; each comes out exactly once, as an `Example` or as a `Rejected` with its reason.

    Args:
        rows: what a reader found, in order; rows it rejected itself pass through.
        origin: the source name of rows that name none and whose file name does not tell (`NWPU_12.jpg` does).
        folder: where the images lie; None where rows carry handles of their own.
        check: how closely images are looked at.
    """
    judged = Judged()
    seen: dict[str, str] = {}
    locate = _Locator(folder) if folder else None
    for row in rows:
        if isinstance(row, Note):
            judged.notes.append(row)
            continue
        judged.total += 1
        if isinstance(row, Rejected):
            judged.rejected.append(row)
            continue
        try:
            example = _example(row, origin, locate, check)
            if example.id in seen:
                raise UnusableRowError(f"the image {example.id} stands at {seen[example.id]} already")
        except UnusableRowError as reason:
            judged.rejected.append(Rejected(row.where, str(reason)))
            continue
        except ImageError as error:
            judged.rejected.append(Rejected(row.where, error.message))
            continue
        seen[example.id] = row.where
        judged.examples.append(example)
        judged.positions.append(judged.total - 1)
    return judged


def refuse_if_too_many(name: str, judged: Judged, max_rejected_share: float, *, images_wanted: bool) -> None:
    """Stop where a source is worse than it may be.

    Raises:
        DataError: nothing is usable, or more than `max_rejected_share` of the rows (0 … 1) were rejected.
    """
    total, rejected = judged.total, judged.rejected
    first = "".join(f"\n    {bad.row}: {bad.reason}" for bad in rejected[:5])
    if not judged.examples:
        hint = (
            "captions without images: `rscap data inspect`, or open_source(…, check='none')" if images_wanted else None
        )
        raise DataError(f"{name}: none of its {total} rows can be used{first}", hint=hint)
    if len(rejected) > max_rejected_share * total:
        raise DataError(
            f"{name}: {len(rejected)} of {total} rows cannot be used, more than the allowed share of "
            f"{max_rejected_share:g}{first}",
            hint="mend the rows; or allow more in the recipe, --set data.max_rejected_share=SHARE",
        )


def _example(row: Row, origin: str, locate: _Locator | None, check: ImageCheck) -> Example:
    captions = _captions(row.captions)
    split = _split(row.split)
    image: FileImage | ArrowImage | MissingImage
    if isinstance(row.image, ArrowImage):
        example_id, image = row.image.name, row.image
        _require_encodable(example_id, "the image's name")
        _check_image(image, check)
    elif locate is None:
        raise UnusableRowError("the image cell holds no bytes")
    else:
        example_id, path = locate.path(row.image, row.folder)
        image = _file_image(path, check)
    source = _text(row.source, "source") or _origin_of(example_id) or origin
    scene_class = _text(row.scene_class, "scene_class")
    return Example(
        id=example_id, captions=captions, image=image, split=split, source=source, scene_class=scene_class or None
    )


def _captions(cells: Sequence[object]) -> tuple[str, ...]:
    if not cells:
        raise UnusableRowError("no caption")
    captions = []
    for number, cell in enumerate(cells, start=1):
        if cell is None:
            raise UnusableRowError(f"caption {number} of {len(cells)} is missing")
        if not isinstance(cell, str):
            raise UnusableRowError(f"caption {number} is {type(cell).__name__}, not text")
        if not cell.strip():
            raise UnusableRowError(f"caption {number} of {len(cells)} is empty")
        if len(cell) > MAX_CAPTION_CHARACTERS:
            raise UnusableRowError(f"caption {number} has {len(cell)} characters, more than {MAX_CAPTION_CHARACTERS}")
        _require_encodable(cell, f"caption {number}")
        captions.append(cell)
    return tuple(captions)


def _split(cell: object) -> str:
    if cell is None:
        return UNSPLIT
    if not isinstance(cell, str) or not _SPLIT_NAME.fullmatch(cell.strip()):
        raise UnusableRowError(f"{cell!r:.80} is no split name")
    name = cell.strip()
    return _SPLIT_ALIASES.get(name.lower(), name)


def _text(cell: object, what: str) -> str:
    if cell is None:
        return ""
    if not isinstance(cell, str) or len(cell) > 200:
        raise UnusableRowError(f"{what} {cell!r:.80} is not a short text")
    _require_encodable(cell, what)
    return cell.strip()


def _require_encodable(text: str, what: str) -> None:
    if "\0" in text:
        raise UnusableRowError(f"{what} holds a NUL character")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UnusableRowError(f"{what} holds half a surrogate pair at character {error.start}") from None


def _origin_of(example_id: str) -> str | None:
    """`NWPU_12.jpg` comes from NWPU: RISC names its images so."""
    match = _ORIGIN.match(PurePosixPath(example_id).name)
    return match.group(1) if match else None


def _file_image(path: Path, check: ImageCheck) -> FileImage | MissingImage:
    if check == "none":
        return FileImage(path) if path.is_file() else MissingImage(path.name)
    try:
        status = path.stat()
    except OSError as error:
        raise UnusableRowError(f"the image {path} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise UnusableRowError(f"the image {path} is not a regular file")
    if status.st_size == 0:
        raise UnusableRowError(f"the image {path} is empty, 0 bytes")
    image = FileImage(path)
    _check_image(image, check)
    return image


def _check_image(image: FileImage | ArrowImage, check: ImageCheck) -> None:
    if check == "header":
        image.header()
    elif check == "decode":
        image.load()


class _Locator:
    """Turns a path as written into (id, path on disk), refusing all that leads out of the data folder."""

    def __init__(self, folder: ImageFolder) -> None:
        self._root = folder.root.resolve()
        self._images = folder.images
        self._prefixes = folder.prefixes
        self._safe_folders: dict[str, bool] = {}

    def path(self, written: object, folder: str) -> tuple[str, Path]:
        if not isinstance(written, str) or not written.strip():
            raise UnusableRowError("no image is named")
        _require_encodable(written, "the image's path")
        if len(written) > 1_000:
            raise UnusableRowError(f"the image's path has {len(written)} characters")
        text = written.strip().removeprefix("./")
        parts = PurePosixPath(text).parts
        if text.startswith(("/", "~")) or "\\" in text or ".." in parts or re.match(r"[A-Za-z]:|\w+://", text):
            raise UnusableRowError(f"the image's path {written!r:.200} leaves the data folder")
        prefix = next((prefix for prefix in self._prefixes if text.startswith(prefix)), "")
        example_id = str(PurePosixPath(text.removeprefix(prefix)))
        path = self._images / folder / example_id
        if not self._stays_inside(path):
            raise UnusableRowError(f"the image's path {written!r:.200} leaves the data folder through a link")
        return example_id, path

    def _stays_inside(self, path: Path) -> bool:
        """Is the file, all links followed, within the data folder? Each folder is followed once, not once a file."""
        parent = str(path.parent)
        if parent not in self._safe_folders:
            self._safe_folders[parent] = self._within(parent)
        return self._safe_folders[parent] and (not os.path.islink(path) or self._within(path))

    def _within(self, path: str | Path) -> bool:
        return Path(os.path.realpath(path)).is_relative_to(self._root)
