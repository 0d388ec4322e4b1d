"""`find`: what annotations a file or a folder holds, and how they are read."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Literal

from rscap.annotations import image_folder, json_files, parquet, shards, tables
from rscap.annotations import text as descriptions
from rscap.annotations.files import NO_HEADER, json_lines, load_json
from rscap.annotations.rows import AnnotationRow, Found, split_in, told_apart
from rscap.annotations.text import missing
from rscap.errors import DataError
from rscap.records import Note, Rejected

CAPTIONS_CSV = "captions.csv"
COCO_FOLDER = "annotations"
WANTED = "captions.csv, metadata.jsonl, *.parquet, *.tar with captions, or annotations in *.json, *.jsonl or *.csv"

_ARCHIVE = "archives are not unpacked: unpack it and open the folder"
_WAYS_OUT = {
    **dict.fromkeys((".zip", ".gz", ".tgz", ".rar", ".7z"), _ARCHIVE),
    ".arrow": "write it as parquet: `datasets.load_from_disk(FOLDER)`, then to_parquet of each split",
    **dict.fromkeys((".tfrecord", ".tfrecords", ".lmdb", ".mdb", ".msgpack"), "write it as parquet, or as JSON Lines"),
    **dict.fromkeys((".yaml", ".yml", ".xml"), "save it as JSON Lines"),
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "export the sheet as CSV in UTF-8"),
    **dict.fromkeys(
        (".pkl", ".pickle", ".pt", ".pth", ".npy", ".npz", ".mat", ".h5", ".hdf5"), "save it as JSON Lines"
    ),
}
"""What to do with files of other kinds, by suffix."""

FormatName = Literal["table", "image folder", "JSON Lines", "JSON", "parquet", "shards", "descriptions"]
Rows = Iterator[Found]


@dataclass(frozen=True, slots=True)
class Annotations:
    """Annotations that were recognised and not read yet."""

    kind: FormatName
    name: str
    """What the data set is called: its folder, or its file."""
    path: Path
    """The file or folder that was opened."""
    read: Callable[[], Rows]

    @property
    def root(self) -> Path:
        """The folder of annotations and images; that above `annotations/`, in which COCO has its files."""
        folder = self.path if self.path.is_dir() else self.path.parent
        return folder.parent if folder.name == COCO_FOLDER else folder


def find(path: Path) -> Annotations:
    """The annotations in a file, or the one data set that a folder holds.

    Raises:
        DataError: nothing that can be read, or several data sets; names what is there.
    """
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        return _file(path)
    raise DataError(f"{path} is not a regular file") if path.exists() else missing(path)


def _file(path: Path) -> Annotations:
    suffix = path.suffix.lower()
    if path.name in image_folder.FILES:
        return _image_folder(path.parent)
    if suffix == ".json":
        return Annotations("JSON", path.stem, path, lambda: json_files.read(path, load_json(path)))
    if suffix in (".jsonl", ".ndjson"):
        return Annotations("JSON Lines", path.stem, path, lambda: json_files.json_lines(path))
    if suffix == ".parquet":
        return Annotations("parquet", path.stem, path, lambda: parquet.read(path))
    if suffix == shards.SUFFIX:
        return Annotations("shards", path.stem, path, lambda: shards.read(path))
    if descriptions.is_descriptions(path):
        root = path.parent.parent if path.parent.name == descriptions.FOLDER else path.parent
        return _descriptions(root, path)
    if suffix in tables.SUFFIXES:
        name = path.resolve().parent.name if path.name == CAPTIONS_CSV else path.stem
        return Annotations("table", name, path, lambda: tables.read(path))
    raise DataError(f"{path} is not a data set that can be read", hint=_WAYS_OUT.get(suffix, f"wanted: {WANTED}"))


def _image_folder(root: Path) -> Annotations:
    return Annotations("image folder", root.resolve().name, root, lambda: image_folder.read(root))


def _descriptions(root: Path, file: Path) -> Annotations:
    return Annotations("descriptions", root.resolve().name, root, lambda: descriptions.read(file))


def _folder(path: Path) -> Annotations:
    """The captions.csv of a folder, or else whatever kind is there alone."""
    if (path / CAPTIONS_CSV).exists():
        return _file(path / CAPTIONS_CSV)
    name = path.resolve().name
    kinds: dict[str, Annotations] = {}
    if image_folder.files(path):
        kinds[image_folder.FILES[0]] = _image_folder(path)
    passed_over: list[Note] = []
    for kind, patterns, recognise in _KINDS:
        read = [_recognised(file, recognise, passed_over) for file in _files(path, patterns)]
        chosen = [one for one in read if one is not None]
        if chosen:
            kinds[kind] = Annotations(kind, name, path, _one_after_the_other(chosen, passed_over))
    if parquet.files(path):
        kinds["parquet"] = Annotations("parquet", name, path, lambda: parquet.read(path))
    archives = {file: shards.why_not(file) for file in shards.files(path)}
    if not all(archives.values()):
        kinds["shards"] = Annotations("shards", name, path, lambda: shards.read(path))
    else:
        passed_over += [Note(file.name, f"passed over: {reason}") for file, reason in archives.items()]
    if not kinds and (texts := descriptions.files(path)):
        return _descriptions(path, texts[0])
    if not kinds and (path / COCO_FOLDER).is_dir():
        return replace(find(path / COCO_FOLDER), name=name)
    if not kinds and (found := _by_split(path)):
        return found
    if not kinds:
        raise _nothing_in(path, passed_over)
    if len(kinds) > 1:
        raise DataError(f"{path} holds several data sets: {', '.join(kinds)}", hint="name the file to open")
    return next(iter(kinds.values()))


def _nothing_in(path: Path, passed_over: Sequence[Note]) -> DataError:
    """The error for a folder without a data set: what was passed over, and the way out for what is there."""
    seen = "".join(f"\n    {note.row}: {note.text}" for note in passed_over[:5])
    names = sorted(file.name for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    known = next((name for name in names if PurePosixPath(name).suffix.lower() in _WAYS_OUT), None)
    hint = f"wanted: {WANTED}"
    if known:
        hint = f"{known}: {_WAYS_OUT[PurePosixPath(known).suffix.lower()]}"
    elif folder := next((one for one in (path, *sorted(path.iterdir())) if _has_texts_beside_images(one)), None):
        hint = f"texts beside images are read from an archive: tar -cf train.tar -C {shlex.quote(str(folder))} ."
    return DataError(f"{path} holds no data set that can be read{seen}", hint=hint)


def _has_texts_beside_images(folder: Path) -> bool:
    """Whether a folder holds `a.jpg` with `a.txt`, as trainers of image generators take it."""
    if not folder.is_dir():
        return False
    kinds: dict[str, set[str]] = {}
    for name in islice(os.listdir(folder), _FILES_TRIED):
        stem, _, ending = name.partition(".")
        kinds.setdefault(stem, set()).add(ending.lower())
    return any(endings & shards.IMAGES and endings & {*shards.TEXTS, "json"} for endings in kinds.values())


def _by_split(path: Path) -> Annotations | None:
    """Folders that are called after splits, each with a data set of its own, as one data set."""
    folders = {one: split for one in sorted(path.iterdir()) if one.is_dir() and (split := split_in(one.name))}
    if not folders:
        return None
    parts = [(folder.name, split, find(folder)) for folder, split in folders.items()]

    def rows() -> Rows:
        for inner, split, found in parts:
            for item in found.read():
                yield _inside(item, inner, split)

    return Annotations(parts[0][2].kind, path.resolve().name, path, lambda: told_apart(rows()))


def _inside(item: Found, inner: str, split: str) -> Found:
    """What a folder of a split yielded, as part of the whole."""
    if isinstance(item, AnnotationRow):
        folder = f"{inner}/{item.folder}".rstrip("/")
        own = split if item.split is None else item.split
        return replace(item, where=f"{inner}/{item.where}", folder=folder, split=own)
    return replace(item, row=f"{inner}/{item.row}")


def _files(path: Path, patterns: Sequence[str]) -> list[Path]:
    """Files by suffix, in order of name; hidden ones and an image folder's metadata left out."""
    return sorted(
        file
        for file in path.iterdir()
        if file.suffix.lower() in patterns
        and not parquet.is_hidden(Path(file.name))
        and file.name not in image_folder.FILES
    )


def _one_after_the_other(readers: Sequence[Callable[[], Rows]], passed_over: Sequence[Note]) -> Callable[[], Rows]:
    """Files of one folder, one a split, as one data set."""

    def rows() -> Rows:
        for read in readers:
            yield from read()
        yield from passed_over

    return rows


def _recognised(
    file: Path, recognise: Callable[[Path], Callable[[], Rows] | str], passed_over: list[Note]
) -> Callable[[], Rows] | None:
    """How a file of a folder is read; None, with a note, for one that holds no annotations."""
    found = recognise(file)
    if isinstance(found, str):
        if file.suffix.lower() != ".txt" or NO_HEADER in found:  # read-me files are no surprise
            passed_over.append(Note(file.name, f"passed over: {found}"))
        return None
    return found


def _json(file: Path) -> Callable[[], Rows] | str:
    value = load_json(file)
    layout = json_files.layout(value)
    if layout is None or (layout == "ids" and not json_files.names_images(value)):
        keys = f"its keys: {', '.join(list(value)[:10]):.200}" if isinstance(value, dict) else "no image with captions"
        return f"no annotations in it ({keys})"
    return lambda: json_files.read(file, value)


def _jsonl(file: Path) -> Callable[[], Rows] | str:
    first = list(islice(json_lines(file), _LINES_TRIED))
    if not any(isinstance(item, Rejected) or json_files.is_record(item[1]) for item in first):
        return "no annotations in its first lines"
    return lambda: json_files.json_lines(file)


def _table(file: Path) -> Callable[[], Rows] | str:
    reason = tables.why_not(file)
    return reason if reason else lambda: tables.read(file)


_LINES_TRIED = 20
_FILES_TRIED = 10_000
_KINDS: tuple[tuple[FormatName, Sequence[str], Callable[[Path], Callable[[], Rows] | str]], ...] = (
    ("JSON Lines", (".jsonl", ".ndjson"), _jsonl),
    ("JSON", (".json",), _json),
    ("table", tables.SUFFIXES, _table),
)
