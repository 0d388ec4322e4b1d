"""Candidates and references from the files that people have; what a file is, is seen from its content."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from rscap.errors import ScoreError
from rscap.scoring.files import Row, read_rows_or_json, read_table
from rscap.scoring.pairing import listed

_CAPTION = re.compile(r"caption(?:_(\d+))?")


@dataclass(frozen=True)
class Candidates(Mapping[str, str]):
    """`{id: caption}`, with the prompt where the file names one."""

    captions: Mapping[str, str]
    prefix: str | None = None
    """The prompt that every candidate was generated with, where the file says so."""

    def __getitem__(self, example: str) -> str:
        return self.captions[example]

    def __iter__(self) -> Iterator[str]:
        return iter(self.captions)

    def __len__(self) -> int:
        return len(self.captions)


@dataclass(frozen=True)
class References(Mapping[str, Sequence[str]]):
    """`{id: captions}`, with source and scene class of each image where the file names them."""

    captions: Mapping[str, tuple[str, ...]]
    sources: Mapping[str, str] = field(default_factory=dict)
    scene_classes: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, example: str) -> tuple[str, ...]:
        return self.captions[example]

    def __iter__(self) -> Iterator[str]:
        return iter(self.captions)

    def __len__(self) -> int:
        return len(self.captions)


@dataclass(frozen=True, slots=True)
class _Image:
    id: str
    captions: tuple[str, ...]
    where: str
    split: str | None = None
    source: str | None = None
    scene_class: str | None = None


def load_candidates(path: Path | str) -> Candidates:
    """Read JSON Lines (`{"id", "caption", …}`), `{id: caption}` JSON, or a COCO results list.

    Raises:
        ScoreError: the file is missing, empty, not UTF-8 or none of these, or an id occurs twice.
    """
    path = Path(path)
    content = read_rows_or_json(path)
    if isinstance(content, dict) and {"id", "caption"} <= content.keys():
        content = [Row(content, f"{path}, line 1")]  # JSON Lines of one line
    if isinstance(content, dict):
        return Candidates({key: _caption(_only(value), f"{path}, {key!r}") for key, value in content.items()})
    if not isinstance(content, list):
        raise ScoreError(f"{path} holds a JSON {type(content).__name__}, not candidates", hint=_CANDIDATES)
    rows = list(_rows(path, content))
    ids = [_id(row, ("id", "image_id", "image"), _CANDIDATES) for row in rows]
    _refuse_twice(path, ids)
    captions = {i: _caption(row.get("caption"), row.where) for i, row in zip(ids, rows, strict=True)}
    prefixes = {row.get("prefix") for row in rows}
    prefix = prefixes.pop() if len(prefixes) == 1 else None
    return Candidates(captions, prefix if isinstance(prefix, str) and prefix else None)


_CANDIDATES = 'candidates are JSON Lines {"id", "caption"}, a JSON object {id: caption} or a COCO results list'
_REFERENCES = (
    'references are a JSON object {id: [captions]}, JSON Lines {"id", "captions"} or {"image", "suffix"}, '
    "captions.csv, COCO annotations or Karpathy JSON"
)


def load_references(path: Path | str, split: str | None = None) -> References:
    """Read `{id: [captions]}`, our JSON Lines, `captions.csv`, COCO annotations, Karpathy JSON or PaliGemma JSON Lines.

    The id is the image's file name, where the file has no id of its own. With `split`, only the images of that split.

    Raises:
        ScoreError: the file is missing, empty, not UTF-8 or none of these; a caption is missing or empty; an id occurs
            twice; there is no such split.
    """
    path = Path(path)
    images = list(_csv_images(path) if path.suffix.lower() == ".csv" else _json_images(path, read_rows_or_json(path)))
    if split is not None:
        images = _of_split(path, images, split)
    if not images:
        raise ScoreError(f"{path} holds no references", hint=_REFERENCES)
    _refuse_twice(path, [image.id for image in images])
    return References(
        {image.id: image.captions for image in images},
        {image.id: image.source for image in images if image.source},
        {image.id: image.scene_class for image in images if image.scene_class},
    )


def _of_split(path: Path, images: Sequence[_Image], split: str) -> list[_Image]:
    counts = Counter(image.split for image in images if image.split is not None)
    if not counts:
        raise ScoreError(f"{path} does not say which split an image belongs to", hint="leave --split out")
    if split not in counts:
        known = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items()))
        raise ScoreError(f"{path} has no split {split!r}; it has {known}")
    return [image for image in images if image.split == split]


def _csv_images(path: Path) -> Iterator[_Image]:
    columns, rows = read_table(path)
    captions = [(int(match[1] or 0), name) for name in columns if (match := _CAPTION.fullmatch(name))]
    if not captions:
        raise ScoreError(f"{path} has no caption column; it has {', '.join(columns)}", hint="caption_1, caption_2 …")
    for row in rows:
        yield _Image(
            id=_id(row, ("id", "image", "filename"), "the column `image` names the file"),
            captions=_captions(_filled([row[name] for _, name in sorted(captions)]), row.where),
            where=row.where,
            split=row.get("split") or None,
            source=row.get("source") or None,
            scene_class=row.get("scene_class") or None,
        )


def _filled(cells: list[str]) -> list[str]:
    """Without the empty cells at the end of a row, where an image has fewer captions than the table has columns."""
    last = max((place for place, cell in enumerate(cells) if cell.strip()), default=0)
    return cells[: last + 1]


def _json_images(path: Path, content: Any) -> Iterable[_Image]:
    if isinstance(content, dict) and "annotations" in content:
        return _coco(path, content["annotations"])
    if isinstance(content, dict) and isinstance(content.get("images"), list):
        return _karpathy(path, content)
    if isinstance(content, dict) and {"id", "captions"} <= content.keys():
        content = [Row(content, f"{path}, line 1")]
    if isinstance(content, dict):
        places = {key: f"{path}, {key!r}" for key in content}
        return [_Image(id=key, captions=_captions(content[key], where), where=where) for key, where in places.items()]
    if not isinstance(content, list):
        raise ScoreError(f"{path} holds a JSON {type(content).__name__}, not references", hint=_REFERENCES)
    rows = list(_rows(path, content))
    return _grouped(path, rows, "image", "suffix") if rows and "suffix" in rows[0] else map(_own_row, rows)


def _own_row(row: Row) -> _Image:
    return _Image(
        id=_id(row, ("id", "image_id", "image"), _REFERENCES),
        captions=_captions(row.get("captions"), row.where),
        where=row.where,
        split=row.get("split"),
        source=row.get("source"),
        scene_class=row.get("scene_class"),
    )


def _karpathy(path: Path, content: dict[str, Any]) -> Iterator[_Image]:
    source = content.get("dataset")
    for row in _rows(path, content["images"]):
        sentences = row.get("sentences")
        if not isinstance(sentences, list) or not all(isinstance(own, dict) for own in sentences):
            raise ScoreError(f"{row.where}: no list `sentences`", hint=_REFERENCES)
        yield _Image(
            id=_id(row, ("filename",), "Karpathy JSON names the file of every image"),
            captions=_captions([own.get("raw") for own in sentences], row.where),
            where=row.where,
            split=row.get("split"),
            source=source if isinstance(source, str) else None,
        )


def _coco(path: Path, annotations: Any) -> Iterator[_Image]:
    if not isinstance(annotations, list):
        raise ScoreError(f"{path}: `annotations` is not a list", hint=_REFERENCES)
    return _grouped(path, _rows(path, annotations), "image_id", "caption")


def _grouped(path: Path, rows: Iterable[Row], image: str, caption: str) -> Iterator[_Image]:
    """Images whose captions stand in rows of their own; the folder of an image does not belong to its id."""
    groups: dict[str, list[str]] = {}
    names: dict[str, str] = {}
    for row in rows:
        full = _id(row, (image,), _REFERENCES, bare=False)
        name = PurePosixPath(full).name or full
        if names.setdefault(name, full) != full:
            raise ScoreError(f"{row.where}: {full!r} and {names[name]!r} would have the same id {name!r}")
        groups.setdefault(name, []).append(_caption(row.get(caption), row.where, empty=False))
    for name, captions in groups.items():
        yield _Image(id=name, captions=tuple(captions), where=f"{path}, {name!r}")


def _rows(path: Path, content: Sequence[Any]) -> Iterator[Row]:
    for number, row in enumerate(content, start=1):
        if not isinstance(row, dict):
            raise ScoreError(f"{path}, entry {number}: expected a JSON object, found {type(row).__name__}")
        yield row if isinstance(row, Row) else Row(row, f"{path}, entry {number}")


def _id(row: Row, keys: Sequence[str], hint: str, *, bare: bool = True) -> str:
    for key in keys:
        value = row.get(key)
        if isinstance(value, (str, int)) and not isinstance(value, bool) and str(value).strip():
            text = str(value)
            return PurePosixPath(text).name or text if bare and key == "image" else text
    raise ScoreError(f"{row.where}: no {' or '.join(f'`{key}`' for key in keys)}", hint=hint)


def _only(value: Any) -> Any:
    """pycocoevalcap's own form is a list of one caption."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _caption(value: Any, where: str, *, empty: bool = True) -> str:
    if not isinstance(value, str):
        raise ScoreError(f"{where}: expected one caption, found {value!r:.80}")
    if not empty and not value.strip():
        raise ScoreError(f"{where}: an empty reference caption", hint="remove it, or the image, from the file")
    return value


def _captions(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise ScoreError(f"{where}: expected a list of captions, found {value!r:.80}", hint=_REFERENCES)
    return tuple(_caption(text, where, empty=False) for text in value)


def _refuse_twice(path: Path, ids: Sequence[str]) -> None:
    twice = sorted(example for example, count in Counter(ids).items() if count > 1)
    if twice:
        raise ScoreError(f"{path}: {len(twice)} ids occur more than once: {listed(twice)}")
