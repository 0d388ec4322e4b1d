"""Where the image of a row is: found in the usual folders or the only other one, and never outside the data folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from rscap.annotations import AnnotationRow, UnusableRowError, folded, nearest_reading
from rscap.annotations.rows import IMAGE_FOLDERS
from rscap.data.listing import SUFFIXES
from rscap.records import Note


class Locator:
    """Turns rows into paths, refusing all that leads out of the data folder.

    Images are in `resized/`, `images/` or `imgs/` of the data folder, or directly in it. An image that is in none of
    these, but in exactly one other folder, such as `RSICD_images/` or `train2017/`, is read from there, and a note says
    so.
    """

    def __init__(self, root: Path) -> None:
        self._given = root
        self._root = root.resolve()
        self._places = [next((root / name for name in IMAGE_FOLDERS if (root / name).is_dir()), root)]
        self._others: list[Path] | None = None
        self._safe_folders: dict[str, bool] = {}
        self._names: dict[Path, dict[str, list[str]]] = {}
        """The files of a folder in which an image is missing, by their names without case, accents' form and suffix."""
        self._found: list[Path] = []
        self._missing: list[str] = []

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
        path = self._given / row.folder / name if row.beside else self._place(row.folder, name, text)
        if not self._stays_inside(path):
            raise UnusableRowError(f"the image's path {written!r:.200} leaves the data folder through a link")
        if os.path.lexists(path):
            self._found.append(path)
        else:
            self._missing.append(name)
        return path

    def missing(self, path: Path) -> str:
        """That there is no such image, where it was looked for, and a name that nearly matches."""
        folder = path.parent
        if not os.path.isdir(folder):  # Path.is_dir raises for a name that is too long
            looked = ", ".join(f"{name}/" for name in IMAGE_FOLDERS)
            return f"there is no image {path}; images are looked for in {looked} and beside the annotations"
        if folder not in self._names:
            self._names[folder] = {}
            for name in sorted(os.listdir(folder)):
                self._names[folder].setdefault(folded(name), []).append(name)
        near = self._names[folder].get(folded(path.name)) or self._names[folder].get(folded(path.stem)) or []
        told = f"; there is {near[0]!r}" if len(near) == 1 else ""
        return f"there is no image {path}{told or (f'; {len(near)} names are like it' if near else '')}"

    def apart(self) -> str:
        """How the names of images that are not found differ from those of the files that there are.

        Empty where all are found, and where the folder holds no images of its own: captions alone are a data set too.
        """
        if not self._missing or not (there := sorted(_images_below(self._given))):
            return ""
        count = f"{len(self._missing):,} of {len(self._missing) + len(self._found):,} images are not found"
        used = {_below(self._given, path) for path in self._found}
        if reading := nearest_reading(self._missing, [name for name in there if name not in used]):
            return f"{count}: annotations and files differ {reading}"
        own = [name for name in there if self._places[0] != self._given or "/" not in name]  # others may be anybody's
        return (
            f"{count}, such as {self._missing[0]!r}; {self._given} holds other images, such as {own[0]!r}"
            if own
            else ""
        )

    def notes(self) -> Iterator[Note]:
        """Where images were found, if not in one of the usual places."""
        if found := [f"{place.name}/" for place in self._places[1:]]:
            yield Note("all rows", f"images are read from {', '.join(found)}")

    def _place(self, folder: str, name: str, written: str) -> Path:
        inner = _inner(folder, name)
        for place in self._places:
            for one in inner:
                if os.path.lexists(place / one):
                    return place / one
        if os.path.lexists(self._given / written):
            return self._given / written
        return self._search(inner) or self._places[0] / name

    def _search(self, inner: tuple[str, ...]) -> Path | None:
        """The image in the only folder that holds it, which is remembered."""
        if self._others is None:
            self._others = [self._given, *sorted(one for one in self._given.iterdir() if one.is_dir())]
        holding = [(place, one) for place in self._others for one in inner if os.path.lexists(place / one)]
        if len({place for place, _ in holding}) != 1:
            return None
        place, one = holding[0]
        if place != self._given:
            self._places.append(place)
        return place / one

    def _stays_inside(self, path: Path) -> bool:
        """Is the file, all links followed, within the data folder? Each folder is followed once, not once a file."""
        parent = str(path.parent)
        if parent not in self._safe_folders:
            self._safe_folders[parent] = self._within(parent)
        return self._safe_folders[parent] and (not os.path.islink(path) or self._within(path))

    def _within(self, path: str | Path) -> bool:
        return Path(os.path.realpath(path)).is_relative_to(self._root)


_MOST_ENTRIES = 200_000
"""Files and folders that are looked at for near names; a home folder may hold millions."""


def _images_below(root: Path) -> Iterator[str]:
    """Images at any depth, by their paths from `root`, or from the usual image folder that holds them."""
    count = 0
    for folder, inner, files in os.walk(root):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        count += len(inner) + len(files)
        if count > _MOST_ENTRIES:
            return
        for name in files:
            if not name.startswith(".") and PurePosixPath(name).suffix.lower() in SUFFIXES:
                yield _below(root, Path(folder, name))


def _below(root: Path, path: Path) -> str:
    """The path of an image from `root`, or from the usual image folder that holds it."""
    place = PurePosixPath(path.relative_to(root).as_posix())
    usual = len(place.parts) > 1 and place.parts[0] in IMAGE_FOLDERS
    return str(place.relative_to(place.parts[0]) if usual else place)


def _not_relative(text: str) -> str:
    """Why a path does not begin at the image folder; empty if it does."""
    if text.startswith("data:"):
        return "is a data URI: save the image as a file"
    if re.match(r"\w+://", text):
        return "is a URL: download the images"
    if "\\" in text or re.match(r"[A-Za-z]:", text):
        return "is a Windows path: write it with / and relative to the image folder"
    if text.startswith(("/", "~")):
        return "is absolute: write it relative to the image folder"
    return "climbs out of the data folder" if ".." in PurePosixPath(text).parts else ""


def _inner(folder: str, name: str) -> tuple[str, ...]:
    """Places of an image within an image folder: below the folder of its class or split, or not."""
    if folder:
        return (f"{folder}/{name}", name, *(f"{folder}/{one}/{name}" for one in IMAGE_FOLDERS))
    first, _, rest = name.partition("/")
    return (name, *(f"{first}/{one}/{rest}" for one in IMAGE_FOLDERS)) if rest else (name,)
