"""From what a reader found to what can be used: every row passes through here, so all formats are judged alike."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from rscap.annotations import AnnotationRow, Found, UnusableRowError, folded, judged
from rscap.annotations.rows import IMAGE_FOLDERS
from rscap.data.images import ArrowImage, FileImage, MissingImage
from rscap.errors import DataError, ImageError
from rscap.records import Example, Note, Rejected

ImageCheck = Literal["decode", "header", "exists", "none"]
"""How closely images are looked at when a source is opened. `none`: captions alone; images need not be there."""

IMAGE_CHECKS: tuple[str, ...] = ("decode", "header", "exists", "none")


@dataclass(slots=True)
class Judged:
    """A source's rows after judgement: each is an example or a rejection, never both."""

    examples: list[Example] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    """The position of each example among all rows, the rejected ones included: what a seeded split counts by."""
    rejected: list[Rejected] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    total: int = 0


def assemble(found: Iterable[Found], *, origin: str, root: Path | None, check: ImageCheck) -> Judged:
    """Judge every row; each comes out exactly once, as an `Example` or as a `Rejected` with its reason.

    Args:
        found: what a reader found, in order; rows it rejected itself pass through.
        origin: the source name of rows that name none and whose file name does not tell (`NWPU_12.jpg` does).
        root: the data folder, which no path may leave; None where rows carry handles of their own.
        check: how closely images are looked at.
    """
    result = Judged()
    seen: dict[str, str] = {}
    locate = _Locator(root) if root else None
    for row in found:
        if isinstance(row, Note):
            result.notes.append(row)
            continue
        result.total += 1
        if isinstance(row, Rejected):
            result.rejected.append(row)
            continue
        try:
            example = _example(row, origin, locate, check)
            if example.id in seen:
                raise UnusableRowError(f"the image {example.id} is at {seen[example.id]} already")
        except UnusableRowError as reason:
            result.rejected.append(Rejected(row.where, str(reason)))
            continue
        except ImageError as error:
            result.rejected.append(Rejected(row.where, error.in_one_line))
            continue
        seen[example.id] = row.where
        result.examples.append(example)
        result.positions.append(result.total - 1)
    if locate:
        result.notes.extend(locate.notes())
    return result


def refuse_if_too_many(name: str, found: Judged, max_rejected_share: float, *, images_wanted: bool) -> None:
    """Stop where a source is worse than it may be.

    Raises:
        DataError: nothing is usable, or more than `max_rejected_share` of the rows (0 … 1) were rejected.
    """
    total, rejected = found.total, found.rejected
    first = "".join(f"\n    {bad.row}: {bad.reason}" for bad in rejected[:5])
    first = first or "".join(f"\n    {note.row}: {note.text}" for note in found.notes[:5])
    if not found.examples:
        hint = (
            "captions without images: `rscap data inspect`, or open_source(…, check='none')" if images_wanted else None
        )
        raise DataError(f"{name}: none of its {total} rows can be used{first}", hint=hint)
    if len(rejected) > max_rejected_share * total:
        raise DataError(
            f"{name}: {len(rejected)} of {total} rows cannot be used, more than the allowed share of "
            f"{max_rejected_share:g}{first}",
            hint="fix the rows, or allow more: --set data.max_rejected_share=SHARE",
        )


def _example(row: AnnotationRow, origin: str, locate: _Locator | None, check: ImageCheck) -> Example:
    image: FileImage | ArrowImage | MissingImage
    if isinstance(row.image, ArrowImage):
        annotation, image = judged(replace(row, image=row.image.name), origin=origin), row.image
        if not image.size_bytes:
            raise UnusableRowError("the image cell holds no bytes")
        _check_image(image, check)
    else:
        annotation = judged(row, origin=origin)
        if locate is None:
            raise UnusableRowError("the image cell holds no bytes")
        path = locate.path(row, annotation.id)
        if check != "none" and not os.path.lexists(path):
            raise UnusableRowError(locate.missing(path))
        image = _file_image(path, check)
    return Example(
        id=annotation.id,
        captions=annotation.captions,
        image=image,
        split=annotation.split,
        source=annotation.source or origin,
        scene_class=annotation.scene_class,
    )


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


def _not_relative(text: str) -> str:
    """Why a path does not begin at the image folder; empty if it does."""
    if re.match(r"\w+://", text):
        return "is a URL: download the images"
    if "\\" in text or re.match(r"[A-Za-z]:", text):
        return "is a Windows path: write it with / and relative to the image folder"
    if text.startswith(("/", "~")):
        return "is absolute: write it relative to the image folder"
    return "climbs out of the data folder" if ".." in PurePosixPath(text).parts else ""


class _Locator:
    """Where the image of a row is, refusing all that leads out of the data folder.

    Images lie in `resized/`, `images/` or `imgs/` beside the annotations, or directly beside them. Where the first one
    is in none of these, but in one other folder, such as `RSICD_images/`, that folder is taken, and a note says so.
    """

    def __init__(self, root: Path) -> None:
        self._given = root
        self._root = root.resolve()
        self._images = next((root / name for name in IMAGE_FOLDERS if (root / name).is_dir()), None)
        self._found: str | None = None
        self._safe_folders: dict[str, bool] = {}
        self._names: dict[Path, dict[str, str]] = {}
        """The files of a folder in which an image is missing, by their names without case, accents' form and suffix."""

    def path(self, row: AnnotationRow, name: str) -> Path:
        """The path of the row's image, whose id is `name`; it may not exist.

        Raises:
            UnusableRowError: it is absolute, a URL, climbs, has backslashes, or leads out of the data folder through a
                link.
        """
        written = str(row.image)
        text = written.strip().removeprefix("./")
        if reason := _not_relative(text):
            raise UnusableRowError(f"the image's path {written!r:.200} {reason}")
        path = self._place(row, name)
        if not self._stays_inside(path):
            raise UnusableRowError(f"the image's path {written!r:.200} leaves the data folder through a link")
        return path

    def missing(self, path: Path) -> str:
        """That there is no such image, where it was looked for, and a name that nearly matches."""
        folder = path.parent
        if not os.path.isdir(folder):  # Path.is_dir raises for a name that is too long
            looked = ", ".join(f"{name}/" for name in IMAGE_FOLDERS)
            return f"there is no image {path}; images are looked for in {looked} and beside the annotations"
        if folder not in self._names:
            self._names[folder] = {folded(name): name for name in sorted(os.listdir(folder), reverse=True)}
        near = self._names[folder].get(folded(path.name)) or self._names[folder].get(folded(path.stem))
        return f"there is no image {path}" + (f"; there is {near!r}" if near else "")

    def notes(self) -> Iterator[Note]:
        """Where images were found, if not in one of the usual places."""
        if self._found:
            yield Note("all rows", f"images are read from {self._found}/")

    def _place(self, row: AnnotationRow, name: str) -> Path:
        if row.beside:
            return self._given / row.folder / name
        if self._images is None:
            self._images = self._search(row, name)
        for path in (self._images / row.folder / name, self._images / name):
            if os.path.lexists(path):
                return path
        written = self._given / str(row.image).strip()
        return written if os.path.lexists(written) else self._images / name

    def _search(self, row: AnnotationRow, name: str) -> Path:
        """The folder that holds this image: the annotations' own, or the only other one that does."""
        inner = (f"{row.folder}/{name}", name) if row.folder else (name,)
        if any(os.path.lexists(self._given / one) for one in inner):
            return self._given
        folders = sorted(folder for folder in self._given.iterdir() if folder.is_dir() and folder.name[0] != ".")
        holding = [folder for folder in folders if any(os.path.lexists(folder / one) for one in inner)]
        if len(holding) != 1:
            return self._given
        self._found = holding[0].name
        return holding[0]

    def _stays_inside(self, path: Path) -> bool:
        """Is the file, all links followed, within the data folder? Each folder is followed once, not once a file."""
        parent = str(path.parent)
        if parent not in self._safe_folders:
            self._safe_folders[parent] = self._within(parent)
        return self._safe_folders[parent] and (not os.path.islink(path) or self._within(path))

    def _within(self, path: str | Path) -> bool:
        return Path(os.path.realpath(path)).is_relative_to(self._root)
