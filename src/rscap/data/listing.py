"""The image files that somebody means: files, folders, patterns, and lists of files."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path

from rscap.annotations.text import missing, read_text
from rscap.errors import DataError

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".mpo", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".jp2", ".j2k", ".ppm"}
)
"""How names of images end, in any case; a file that is named itself may end as it likes."""
LISTS = (".txt", ".lst")


def image_files(words: Sequence[str | Path], *, recursive: bool = False) -> list[Path]:
    """The files that `words` name, each once, in order.

    A folder means the images in it, by name, `recursive` also for those below it; a pattern (`tiles/*.tif`, `**`
    for any depth) for what it matches; a list (`.txt`, `.lst`) for the file on each of its lines, found from here or
    from the list's own folder. Hidden files are left out of folders. A file that is named need not exist: whoever
    opens it says so.

    Raises:
        DataError: a folder without images, a pattern that matches nothing, an empty list.
    """
    found = [path for word in words for path in _meant(str(word), recursive=recursive)]
    return list(dict.fromkeys(found))


def _meant(word: str, *, recursive: bool) -> Iterable[Path]:
    path = Path(word)
    if path.is_dir():
        return _in_folder(path, recursive=recursive)
    if path.suffix.lower() in LISTS and path.is_file():
        return _in_list(path)
    if glob.has_magic(word) and not path.exists():
        matched = sorted(Path(one) for one in glob.glob(word, recursive=True))
        if not matched:
            raise DataError(f"{word} matches nothing", hint=f"looked from {Path.cwd()}; quote a pattern for the shell")
        return (
            one for place in matched for one in (_in_folder(place, recursive=recursive) if place.is_dir() else [place])
        )
    if word and not path.exists() and not path.suffix:
        raise missing(path)  # images have an ending, so a folder was meant
    return [path]


def _in_folder(folder: Path, *, recursive: bool) -> list[Path]:
    below = folder.rglob("*") if recursive else folder.iterdir()
    images = sorted(
        one
        for one in below
        if one.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in one.relative_to(folder).parts)
        and one.is_file()
    )
    if not images:
        folders = sum(one.is_dir() for one in folder.iterdir())
        inside = f"; it has {folders} folders" if folders else ""
        raise DataError(
            f"{folder} holds no image{inside}",
            hint="--recursive looks into them"
            if folders and not recursive
            else f"known: {', '.join(sorted(SUFFIXES))}",
        )
    return images


def _in_list(path: Path) -> list[Path]:
    names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    return [here if (here := Path(name)).exists() else path.parent / name for name in names]
