"""What is scored: candidates from the files that captioners and trainers write, and references under the ids that they
have in any data set that `rscap.annotations` reads.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rscap.annotations import (
    UNSPLIT,
    Annotation,
    AnnotationRow,
    UnusableRowError,
    example_id,
    find,
    judged,
    nearest_reading,
    split_name,
)
from rscap.annotations.files import JsonObject, Located, check_header, json_lines, load_json, read_table
from rscap.annotations.text import read_text
from rscap.errors import DataError, ScoreError
from rscap.records import Note, Rejected
from rscap.scoring.resampling import listed
from rscap.store import REFERENCES

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w-]+(@[\w./-]+)?")
SAMPLE = "sample"
"""The name under which every command opens the built-in data set."""


@dataclass(frozen=True)
class References(Mapping[str, Sequence[str]]):
    """`{id: captions}`, with source and scene class of each image where they are known."""

    captions: Mapping[str, tuple[str, ...]]
    sources: Mapping[str, str] = field(default_factory=dict)
    scene_classes: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, str] = field(default_factory=dict)
    """`{COCO's image id: id}`, by which COCO results name images."""
    notes: tuple[Note, ...] = ()
    """What a reader of the scores should know about the file."""

    def __getitem__(self, example: str) -> tuple[str, ...]:
        return self.captions[example]

    def __iter__(self) -> Iterator[str]:
        return iter(self.captions)

    def __len__(self) -> int:
        return len(self.captions)


def load_pair(
    candidates: Path | str, references: Path | str, split: str | None = None
) -> tuple[Candidates, References]:
    """Candidates and references that name images alike.

    COCO results by number get the ids of COCO annotations. Candidates by path, as `rscap caption FOLDER --out` writes
    them, get the ids of the references if these lie in the same folder and name the same files.

    Raises:
        ScoreError: see `load_candidates` and `load_references`; or ids that nearly meet.
    """
    given, own = load_candidates(candidates), load_references(references, split)
    lost = [name for name in given if name not in own]
    if own.numbers and len(lost) == len(given) and all(name in own.numbers for name in given):
        return Candidates({own.numbers[name]: caption for name, caption in given.items()}, given.prefix), own
    if len(lost) == len(given) and (paths := _by_path(given, Path(references), own)):
        note = Note("candidates", f"named by path: {next(iter(paths))} is the image {next(iter(paths.values()))!r}")
        renamed = Candidates({paths[name]: caption for name, caption in given.items()}, given.prefix)
        return renamed, replace(own, notes=(*own.notes, note))
    if lost and (reading := nearest_reading(lost, [name for name in own if name not in given])):
        how_many = "no candidate has" if len(lost) == len(given) else f"{len(lost):,} of {len(given):,} candidates lack"
        way_out = "write the ids of the candidates as those of the references"
        raise ScoreError(
            f"{how_many} the id of a reference; they differ {reading}",
            hint=way_out if not reading.unclear else f"find out which belong together, then {way_out}",
        )
    return given, own


def _by_path(given: Collection[str], references: Path, own: Mapping[str, object]) -> dict[str, str] | None:
    """`{path: id}` where each path leads, from the working folder, to the file of one reference; else None.

    The file of a reference is its id below the folder of the references.
    """
    folder = references if references.is_dir() else references.parent
    files = {os.path.abspath(folder / name): name for name in own}
    found = {name: files[path] for name in given if (path := os.path.abspath(name)) in files}
    return found if len(found) == len(set(found.values())) == len(given) else None


def load_references(source: Path | str, split: str | None = None) -> References:
    """The references of a data set, in any format that `rscap.annotations` reads.

    Args:
        source: a file or folder, or `sample`.
        split: only the images of this split; by default all.

    Raises:
        ScoreError: there is nothing to read or no such split; a row cannot be used; an id occurs twice.
    """
    if str(source) == SAMPLE and not Path(source).exists():
        return _of_sample(split)
    path = Path(source)
    try:
        found = find(path)
        items = list(found.read())
    except DataError as error:
        on_hub = not path.exists() and _HUB_ID.fullmatch(str(source))
        hint = f"of a data set on the Hub: `rscap data convert {source} FOLDER --to jsonl`, then name FOLDER"
        raise ScoreError(error.message, hint=hint if on_hub else error.hint) from error
    rejected = next((item for item in items if isinstance(item, Rejected)), None)
    if rejected:
        raise _unusable(path, rejected.row, rejected.reason)
    rows = [item for item in items if isinstance(item, AnnotationRow)]
    rows = rows if split is None else _of_split(path, rows, split)
    if not rows:
        raise ScoreError(f"{path} holds no references")
    images = [_judged(path, row, found.name) for row in rows]
    refuse_twice(path, [image.id for image in images])
    return References(
        {image.id: image.captions for image in images},
        {image.id: image.source for image in images if image.source},
        {image.id: image.scene_class for image in images if image.scene_class},
        {row.number: image.id for row, image in zip(rows, images, strict=True) if row.number is not None},
        tuple(item for item in items if isinstance(item, Note)),
    )


def _of_sample(split: str | None) -> References:
    from rscap.sample import sample_examples

    wanted = None if split is None else split_name(split)
    examples = [example for example in sample_examples() if wanted in (None, example.split)]
    if not examples:
        raise ScoreError(f"{SAMPLE} has no split {split!r}; it has train, val, test")
    return References(
        {example.id: example.captions for example in examples},
        {example.id: example.source for example in examples},
        {example.id: example.scene_class for example in examples if example.scene_class},
    )


def _judged(path: Path, row: AnnotationRow, origin: str) -> Annotation:
    try:
        return judged(row, origin=origin)
    except UnusableRowError as reason:
        raise _unusable(path, row.where, str(reason)) from None


def _unusable(path: Path, where: str, reason: str) -> ScoreError:
    place = f"{path} " if path.is_dir() else f"{path.parent}/" if path.parent != Path() else ""
    return ScoreError(
        f"{place}{where}: {reason}",
        hint=f"correct or remove the row; a run's own {REFERENCES}/<split>.jsonl has usable rows alone",
    )


def _of_split(path: Path, rows: Sequence[AnnotationRow], split: str) -> list[AnnotationRow]:
    try:
        wanted = split_name(split)
        splits = [split_name(row.split) for row in rows]
    except UnusableRowError as reason:
        raise ScoreError(f"{path}: {reason}") from None
    chosen = [row for row, own in zip(rows, splits, strict=True) if own == wanted]
    if chosen:
        return chosen
    counts = Counter(splits)
    if set(counts) <= {UNSPLIT}:
        raise ScoreError(
            f"{path} does not say which split an image belongs to",
            hint=f"leave --split out, or name the references of a run that has evaluated them: "
            f"runs/NAME/{REFERENCES}/{wanted}.jsonl",
        )
    known = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items()))
    raise ScoreError(f"{path} has no split {split!r}; it has {known}")


_IDS = ("id", "image_id", "image", "file_name", "filename", "image_name", "image_path")
"""Names of a candidate's image, the first that is there; the first two hold an id, the others a path."""
_CAPTIONS = (
    *("caption", "prediction", "predicted_caption", "generated_caption", "predict", "pred", "hypothesis"),
    *("answer", "response", "output", "generated", "suffix", "text"),
)
"""Names of a candidate's caption. A record with two of them is refused: one may be the reference."""
_HINT = (
    'candidates are JSON Lines {"id", "caption"}, a JSON object {id: caption}, COCO results, or a CSV table with the '
    "columns id and caption"
)


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


def load_candidates(path: Path | str) -> Candidates:
    """Read JSON Lines or a JSON list of objects (COCO results, too), a JSON object `{id: caption}`, or a table.

    Raises:
        ScoreError: the file is missing, empty, not UTF-8 or none of these; a record has no id, no caption or two; an id
            occurs twice.
    """
    path = Path(path)
    try:
        records = _records(path)
    except DataError as error:
        raise ScoreError(error.message, hint=error.hint or _HINT) from error
    captions: list[tuple[str, str]] = []
    prefixes = set()
    for item in records:
        if isinstance(item, Rejected):
            raise ScoreError(f"{_beside(path)}{item.row}: {item.reason}", hint=_HINT)
        where, record = f"{_beside(path)}{item[0]}", {key.strip().lower(): value for key, value in item[1].items()}
        captions.append((_id(record, where), _caption(record, where)))
        prefixes.add(str(record.get("prefix") or ""))
    refuse_twice(path, [name for name, _ in captions])
    return Candidates(dict(captions), prefixes.pop() or None if len(prefixes) == 1 else None)


def _records(path: Path) -> list[Located | Rejected]:
    suffix = path.suffix.lower()
    if suffix == ".csv":
        table = read_table(path)
        check_header(path, table.columns)
        return list(table.records)
    if suffix in {".jsonl", ".ndjson"}:
        return list(json_lines(path))
    if suffix in {".txt", ".tsv"} and read_text(path).lstrip()[0] not in "[{":
        return _of_text(path)
    value = load_json(path)
    if isinstance(value, dict) and {"id", "caption"} <= value.keys():
        value = [value]  # JSON Lines of one line
    if isinstance(value, dict) and len(value) == 1 and _is_list_of_records(only := next(iter(value.values()))):
        value = only  # {"results": […]}
    if isinstance(value, dict):
        return [(f"{path.name} {key!r}", {"id": key, "caption": caption}) for key, caption in value.items()]
    if not isinstance(value, list):
        raise ScoreError(f"{path} holds {value!r:.80}, not candidates", hint=_HINT)
    return [
        (f"{path.name} entry {number}", one)
        if isinstance(one, dict)
        else Rejected(f"{path.name} entry {number}", f"expected a JSON object, found {one!r:.80}")
        for number, one in enumerate(value)
    ]


def _is_list_of_records(value: object) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(isinstance(one, dict) and len(one) > 1 for one in value)


def _of_text(path: Path) -> list[Located | Rejected]:
    """A table, or lines of an id, a tab or bar, and a caption."""
    table = read_table(path)
    if any(name.lower() in _IDS for name in table.columns):
        return list(table.records)
    lines = [(number, line) for number, line in enumerate(read_text(path).splitlines(), start=1) if line.strip()]
    for separator in "\t|":
        if all(line.count(separator) == 1 for _, line in lines):
            pairs = [(number, *map(str.strip, line.split(separator))) for number, line in lines]
            return [(f"{path.name} line {number}", {"id": name, "caption": text}) for number, name, text in pairs]
    raise ScoreError(
        f"{path} is text whose lines do not say which image they belong to: {lines[0][1]!r:.80}",
        hint="begin each line with the image's id and a tab; or give JSON Lines with `id` and `caption`",
    )


def _beside(path: Path) -> str:
    """What goes before a place that begins with the file's name."""
    return str(path)[: -len(path.name)]


def _id(record: JsonObject, where: str) -> str:
    """The id of a record's image, by the rule of references: see `rscap.annotations.rows`."""
    key = next((key for key in _IDS if key in record), None)
    if key is None:
        raise ScoreError(f"{where}: no `id` or `image`; there is: {', '.join(record)[:200]}", hint=_HINT)
    try:
        return example_id(
            AnnotationRow(where=where, image=record[key], captions=(), id_given=key in ("id", "image_id"))
        )
    except UnusableRowError as reason:
        raise ScoreError(f"{where}: {reason}", hint=_HINT) from None


def _caption(record: JsonObject, where: str) -> str:
    keys = [key for key in _CAPTIONS if key in record]
    if not keys:
        raise ScoreError(f"{where}: no `caption`; there is: {', '.join(record)[:200]}", hint=_HINT)
    if len(keys) > 1:
        raise ScoreError(
            f"{where}: {' and '.join(f'`{key}`' for key in keys)}: either may be the candidate",
            hint="keep one of them, named `caption`",
        )
    value = record[keys[0]]
    if isinstance(value, list) and len(value) == 1:
        value = value[0]  # pycocoevalcap's own forms: ["…"] and [{"caption": "…"}]
    if isinstance(value, dict):
        value = value.get("caption")
    if not isinstance(value, str):
        raise ScoreError(f"{where}: expected one caption, found {value!r:.80}", hint=_HINT)
    return value


def refuse_twice(where: Path | str, ids: Iterable[str]) -> None:
    """Stop where an id occurs more than once; `where` is what the error names.

    Raises:
        ScoreError: lists the first ten.
    """
    twice = sorted(name for name, count in Counter(ids).items() if count > 1)
    if twice:
        raise ScoreError(f"{where}: {len(twice)} ids occur more than once: {listed(twice)}")
