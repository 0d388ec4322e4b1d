"""From what a reader found to what can be used: every row passes through here, so all formats are judged alike."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from rscap.annotations import AnnotationRow, Found, UnusableRowError, judged
from rscap.data.contents import Content, content_of
from rscap.data.images import ArchiveImage, ArrowImage, FileImage, MissingImage
from rscap.data.places import Locator
from rscap.errors import DataError, ImageError
from rscap.records import Example, Note, Rejected

ImageCheck = Literal["decode", "header", "exists", "none"]
"""How closely images are looked at when a source is opened. `none`: captions alone; images need not be there."""

Looked = Mapping[str, Content | str]
"""What other processes found when they decoded images, by the id of the example: what it shows, or why it fails."""

IMAGE_CHECKS: tuple[str, ...] = ("decode", "header", "exists", "none")


@dataclass(slots=True)
class Judged:
    """A source's rows after judgement: each is an example or a rejection, never both."""

    examples: list[Example] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    """The position of each example among all rows, the rejected ones included: what a seeded split counts by."""
    rejected: list[Rejected] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    contents: dict[str, Content] = field(default_factory=dict)
    """What each image shows, by id, where images were decoded."""
    total: int = 0
    apart: str = ""
    """How the names of images that are not found differ from those of the files that there are; or empty."""


def assemble(found: Iterable[Found], *, origin: str, root: Path | None, check: ImageCheck | Looked) -> Judged:
    """Judge every row; each comes out exactly once, as an `Example` or as a `Rejected` with its reason.

    Args:
        found: what a reader found, in order; rows it rejected itself pass through.
        origin: the source name of rows that name none and whose file name does not tell (`NWPU_12.jpg` does).
        root: the data folder, which no path may leave; None where rows carry handles of their own.
        check: how closely images are looked at, or what was found when they were.
    """
    result = Judged()
    seen: dict[str, str] = {}
    locate = Locator(root) if root else None
    for row in found:
        if isinstance(row, Note):
            result.notes.append(row)
            continue
        result.total += 1
        if isinstance(row, Rejected):
            result.rejected.append(row)
            continue
        try:
            example, content = _example(row, origin, locate, check)
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
        if content is not None:
            result.contents[example.id] = content
            if content.faint:
                result.notes.append(Note(row.where, f"the image shows next to nothing: {content.faint}"))
        result.positions.append(result.total - 1)
    if locate:
        result.notes.extend(locate.notes())
        result.apart = locate.apart()
        if result.apart:
            result.notes.append(Note("all rows", result.apart))
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
        alone = "captions without images: `rscap data inspect`, or open_source(…, check='none')"
        hint = _as_files_are_called(found) or (alone if images_wanted else None)
        raise DataError(f"{name}: none of its {total} rows can be used{first}", hint=hint)
    if len(rejected) > max_rejected_share * total:
        raise DataError(
            f"{name}: {len(rejected)} of {total} rows cannot be used, more than the allowed share of "
            f"{max_rejected_share:g}{first}",
            hint=_as_files_are_called(found) or "fix the rows, or allow more: --set data.max_rejected_share=SHARE",
        )


def _as_files_are_called(found: Judged) -> str:
    """The way out where names of images and files do not meet; empty where they do."""
    return f"{found.apart}. Write the names in the annotations as the files are called" if found.apart else ""


def _example(
    row: AnnotationRow, origin: str, locate: Locator | None, check: ImageCheck | Looked
) -> tuple[Example, Content | None]:
    """The example of a row, and what its image shows where it was decoded."""
    image: FileImage | ArrowImage | ArchiveImage | MissingImage
    if isinstance(row.image, ArrowImage | ArchiveImage):
        annotation, image = judged(replace(row, image=row.image.name), origin=origin), row.image
        if not image.size_bytes:
            raise UnusableRowError("the image cell holds no bytes")
        content = _check_image(image, check, annotation.id)
    else:
        annotation = judged(row, origin=origin)
        if locate is None:
            raise UnusableRowError("the image cell holds no bytes")
        path = locate.path(row, annotation.id)
        if check != "none" and not os.path.lexists(path):
            raise UnusableRowError(locate.missing(path))
        image, content = _file_image(path, check, annotation.id)
    example = Example(
        id=annotation.id,
        captions=annotation.captions,
        image=image,
        split=annotation.split,
        source=annotation.source or origin,
        scene_class=annotation.scene_class,
    )
    return example, content


def _file_image(
    path: Path, check: ImageCheck | Looked, example_id: str
) -> tuple[FileImage | MissingImage, Content | None]:
    if check == "none":
        return FileImage(path) if path.is_file() else MissingImage(path.name), None
    try:
        status = path.stat()
    except OSError as error:
        raise UnusableRowError(f"the image {path} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise UnusableRowError(f"the image {path} is not a regular file")
    if status.st_size == 0:
        raise UnusableRowError(f"the image {path} is empty, 0 bytes")
    image = FileImage(path)
    return image, _check_image(image, check, example_id)


def _check_image(
    image: FileImage | ArrowImage | ArchiveImage, check: ImageCheck | Looked, example_id: str
) -> Content | None:
    if isinstance(check, Mapping):
        found = check[example_id]
        if isinstance(found, str):
            raise UnusableRowError(found)
        return found
    if check == "header":
        image.header()
    return content_of(image.load()) if check == "decode" else None
