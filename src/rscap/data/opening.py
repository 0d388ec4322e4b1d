"""Open a data set of any kind: `open_source` by its name or path, `open_data` as a recipe describes it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rscap.data.readers import (
    captions_csv,
    coco,
    image_folder,
    json_files,
    karpathy,
    paligemma,
    parquet,
)
from rscap.data.rows import (
    IMAGE_CHECKS,
    ImageCheck,
    ImageFolder,
    Judged,
    Row,
    assemble,
    refuse_if_too_many,
)
from rscap.data.source import Source, digest
from rscap.data.splits import assign_splits
from rscap.data.text import NORMALISATIONS, normalised
from rscap.errors import DataError
from rscap.recipe import DataSection
from rscap.records import Example, Note, Rejected

_WANTED = "captions.csv, metadata.jsonl, *.parquet, or annotations in *.json or *.jsonl"
MEASURED_ON = ("val", "test")
_Rows = Iterable[Row | Rejected | Note]


@dataclass(frozen=True, slots=True)
class _Found:
    """A data set that was recognised: its rows, not judged yet."""

    name: str
    rows: _Rows
    folder: ImageFolder | None = None


def open_source(
    spec: str | Path,
    *,
    split_scheme: str = "official",
    max_rejected_share: float = 0.01,
    check: ImageCheck = "header",
    normalise: Sequence[str] = (),
) -> Source:
    """Open a data set, whatever its format.

    Args:
        spec: `sample`; a file or folder: captions.csv, parquet, Karpathy or COCO JSON, PaliGemma JSON Lines, an image
            folder with metadata.jsonl; or a Hub id, `owner/name` or `owner/name@revision`.
        split_scheme: how examples are split, see `rscap.data.splits`.
        max_rejected_share: the share of rows (0 … 1) that may be unusable.
        check: how closely images are looked at now: `decode` (each is decoded, below 1 ms for RISC's), `header`,
            `exists`, or `none` (captions alone; images need not be there).
        normalise: steps of text normalisation in order, see `rscap.data.text`; recorded in the source. Captions of
            val and test stay as published: what is measured on is not changed.

    Raises:
        DataError: nothing to open, or too much of it cannot be used; names it and the way out.
    """
    if check not in IMAGE_CHECKS:
        raise DataError(f"unknown image check {check!r}", hint=f"known: {', '.join(IMAGE_CHECKS)}")
    if not 0 <= max_rejected_share <= 1:
        raise DataError(f"max_rejected_share is a share from 0 to 1, not {max_rejected_share}")
    unknown = [step for step in normalise if step not in NORMALISATIONS]
    if unknown:
        raise DataError(f"unknown normalisation {unknown[0]!r}", hint=f"known: {', '.join(NORMALISATIONS)}")
    name, judged = _judged(spec, check)
    refuse_if_too_many(name, judged, max_rejected_share, images_wanted=check != "none")
    examples, notes = assign_splits(judged, split_scheme)
    examples = normalised(examples, normalise, without=MEASURED_ON)
    return Source(
        name=name,
        examples=examples,
        rejected=tuple(judged.rejected),
        notes=(*judged.notes, *notes),
        digest=digest(examples),
        split_scheme=split_scheme,
        normalised=tuple(normalise),
    )


def open_data(section: DataSection, *, check: ImageCheck = "header") -> Source:
    """Open the data set of a recipe's [data] section, as the run trains on it.

    Its `normalise` steps change training captions only; references of val and test stay as published. So in an
    evaluation they change no score of the model, but whatever is computed from training captions uses them as the model
    learned them: the count of captions learned by heart, and the baselines.

    Args:
        section: source, splits, max_rejected_share and normalise are used.
        check: how closely images are checked now, see `open_source`.

    Raises:
        DataError: nothing to open, or too much of it cannot be used; names it and the way out.
    """
    return open_source(
        section.source,
        split_scheme=section.splits,
        max_rejected_share=section.max_rejected_share,
        check=check,
        normalise=section.normalise,
    )


def _judged(spec: str | Path, check: ImageCheck) -> tuple[str, Judged]:
    if str(spec) == "sample":
        from rscap.sample import sample_examples

        examples = sample_examples(seed=0)
        return "sample", Judged(examples=examples, positions=list(range(len(examples))), total=len(examples))
    found = _find(spec)
    origin = found.name.split("/")[-1].split("@")[0]
    return found.name, assemble(found.rows, origin=origin, folder=found.folder, check=check)


def _find(spec: str | Path) -> _Found:
    path = Path(spec)
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        return _file(path)
    if path.exists():
        raise DataError(f"{path} is not a regular file")
    if isinstance(spec, str) and not _file_like(spec) and parquet.HUB_ID.fullmatch(spec):
        return _tables(spec, parquet.open_hub(spec))
    raise DataError(
        f"{str(spec)!r} is neither a file, a folder nor a Hub id (owner/name)", hint="`sample` opens the built-in one"
    )


def _file_like(spec: str) -> bool:
    """Does this look like the name of a file that is not there? `folder/data.csv` does, `owner/name.v2@1.0` not."""
    return re.fullmatch(r"\.[A-Za-z]+", Path(spec.partition("@")[0]).suffix) is not None


def _file(path: Path) -> _Found:
    read = {".csv": _csv, ".parquet": _parquet, ".json": _json, ".jsonl": _jsonl}.get(path.suffix.lower())
    if read is None:
        raise DataError(f"{path} is no data set that rscap knows", hint=f"it wants {_WANTED}")
    return read(path)


def _folder(path: Path) -> _Found:
    """The one data set that a folder holds: its captions.csv, or else whatever kind is there alone."""
    if (path / captions_csv.FILE).exists():
        return _csv(path / captions_csv.FILE)
    kinds: dict[str, Callable[[], _Found]] = {}
    if image_folder.files(path):
        kinds[image_folder.FILE] = lambda: _image_folder(path)
    lines = [file for file in sorted(path.glob("*.jsonl")) if file.name != image_folder.FILE]
    if lines:
        kinds["JSON Lines"] = lambda: _several(path, [_jsonl(file) for file in lines])
    annotations = sorted(path.glob("*.json"))
    if annotations:
        kinds["JSON"] = lambda: _several(path, [_json(file) for file in annotations])
    if next(path.glob("**/*.parquet"), None) is not None:
        kinds["parquet"] = lambda: _parquet(path)
    if not kinds:
        raise DataError(f"{path} holds no data set that rscap knows", hint=f"it wants {_WANTED}")
    if len(kinds) > 1:
        raise DataError(f"{path} holds several data sets: {', '.join(kinds)}", hint="name the file to open")
    return next(iter(kinds.values()))()


def _several(path: Path, found: Sequence[_Found]) -> _Found:
    """Files of one folder, one a split, as one data set."""

    def rows() -> Iterator[Row | Rejected | Note]:
        for one in found:
            yield from one.rows

    return _Found(path.resolve().name, rows(), found[0].folder)


def _csv(path: Path) -> _Found:
    return _Found(path.resolve().parent.name, captions_csv.read(path), captions_csv.folder_of(path))


def _image_folder(path: Path) -> _Found:
    return _Found(path.resolve().name, image_folder.read(path), image_folder.folder_of(path))


def _jsonl(path: Path) -> _Found:
    if path.name == image_folder.FILE:
        return _image_folder(path.parent)
    return _Found(path.stem, paligemma.read(path), json_files.folder_of(path))


def _json(path: Path) -> _Found:
    value = json_files.load_object(path)
    for layout in (karpathy, coco):
        if layout.recognises(value):
            return _Found(path.stem, layout.read(path, value), json_files.folder_of(path))
    keys = ", ".join(list(value)[:10])
    hint = "Karpathy: images with sentences; COCO: images and annotations"
    raise DataError(f"{path} is no annotation file that rscap knows; its keys: {keys:.200}", hint=hint)


def _parquet(path: Path) -> _Found:
    return _tables(path.stem if path.is_file() else path.resolve().name, parquet.open_files(path))


def _tables(name: str, tables: dict[str, Any]) -> _Found:
    return _Found(name, parquet.read(tables, named_splits=len(tables) > 1))


def source_of(
    examples: Iterable[Example], *, name: str, split_scheme: str = "official", normalise: Sequence[str] = ()
) -> Source:
    """A source of examples that the caller made: any iterable of `Example`s with ids of their own.

    Raises:
        DataError: there are none, something else is among them, an id occurs twice, or a caption is empty.
    """
    found = list(examples)
    if not found:
        raise DataError("there are no examples")
    seen: set[str] = set()
    for number, example in enumerate(found):
        if not isinstance(example, Example):
            raise DataError(f"example {number} is a {type(example).__name__}", hint="hand in rscap.records.Example")
        if example.id in seen:
            raise DataError(f"two examples have the id {example.id!r}", hint="every image needs an id of its own")
        if not example.captions or not all(caption.strip() for caption in example.captions):
            raise DataError(f"example {example.id!r} has no caption, or an empty one")
        seen.add(example.id)
    judged = Judged(examples=found, positions=list(range(len(found))), total=len(found))
    split, notes = assign_splits(judged, split_scheme)
    ready = normalised(split, normalise, without=MEASURED_ON)
    return Source(
        name=name,
        examples=ready,
        notes=tuple(notes),
        digest=digest(ready),
        split_scheme=split_scheme,
        normalised=tuple(normalise),
    )
