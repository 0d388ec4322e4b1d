"""The text files in which UCM-, Sydney-Captions and RSICD are published beside their JSON.

    filenames/descriptions_UCM.txt     1 There is a piece of farmland .
    filenames/filenames_train.txt      1.tif

A line of the descriptions is an image's name without its suffix, and one caption; the lists name the images of each
split.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from rscap.annotations.rows import AnnotationRow, Found, merged, split_in
from rscap.annotations.text import read_text
from rscap.errors import DataError
from rscap.records import Rejected

FOLDER = "filenames"
_DESCRIPTIONS = "descriptions*.txt"
_LISTS = "filenames_*.txt"


def files(root: Path) -> list[Path]:
    """The files of descriptions in a folder, or in its folder `filenames/`."""
    return sorted(root.glob(_DESCRIPTIONS)) or sorted((root / FOLDER).glob(_DESCRIPTIONS))


def is_descriptions(path: Path) -> bool:
    """Is this such a file, by its name?"""
    return path.match(_DESCRIPTIONS)


def read(path: Path) -> Iterator[Found]:
    """The rows of one file of descriptions.

    Raises:
        DataError: no list of images beside it; or one that lists an image of another list.
    """
    listed: dict[str, tuple[str, str | None]] = {}
    lists = sorted(path.parent.glob(_LISTS))
    if not lists:
        raise DataError(f"{path.parent} has no filenames_train.txt, which names the images of {path.name}")
    for file in lists:
        for line in read_text(file).splitlines():
            name, split = line.strip(), split_in(file.stem)
            known = listed.setdefault(PurePosixPath(name).stem, (name, split))
            if known != (name, split):
                raise DataError(f"{file} lists {name}, which is {known[0]} in split {known[1]} already")
    return merged(_rows(path, listed))


def _rows(path: Path, listed: dict[str, tuple[str, str | None]]) -> Iterator[Found]:
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        stem, _, caption = line.strip().partition(" ")
        where = f"{path.name} line {number}"
        if not stem:
            continue
        if stem not in listed:
            yield Rejected(where, f"no {_LISTS} lists an image {stem!r:.80}")
            continue
        name, split = listed[stem]
        yield AnnotationRow(where=where, image=name, captions=[caption], split=split, partial=True)
