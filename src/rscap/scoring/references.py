"""References from any data set that `rscap.annotations` reads, under the ids that it has there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from rscap.annotations import (
    UNSPLIT,
    Annotation,
    AnnotationRow,
    UnusableRowError,
    find,
    judged,
    split_name,
)
from rscap.errors import DataError, ScoreError
from rscap.records import Note, Rejected
from rscap.scoring.candidates import Candidates, load_candidates, refuse_twice
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
    """Candidates and references that name images alike: COCO results by number get the ids of COCO annotations.

    Raises:
        ScoreError: see `load_candidates` and `load_references`; or all ids differ by folder, suffix or case.
    """
    given, own = load_candidates(candidates), load_references(references, split)
    if any(name in own for name in given):
        return given, own
    if own.numbers and all(name in own.numbers for name in given):
        return Candidates({own.numbers[name]: caption for name, caption in given.items()}, given.prefix), own
    for fold, what in _NEARLY.items():
        wanted = {what(name): name for name in own}
        if near := next(((name, wanted[what(name)]) for name in given if what(name) in wanted), None):
            raise ScoreError(
                f"no candidate has the id of a reference; they differ by {fold}: {near[0]!r} and {near[1]!r}",
                hint="write the ids of the candidates as those of the references",
            )
    return given, own


_NEARLY = {
    "their folder": lambda name: PurePosixPath(name).name,
    "their suffix": lambda name: PurePosixPath(name).stem,
    "their case": str.casefold,
    "their folder, suffix or case": lambda name: PurePosixPath(name).stem.casefold(),
}
"""Differences between ids that are told, not bridged."""


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
            hint=f"leave --split out; or score against the run's {REFERENCES}/{wanted}.jsonl",
        )
    known = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items()))
    raise ScoreError(f"{path} has no split {split!r}; it has {known}")
