"""Open a data set of any kind: `open_source` by its name or path, `open_data` as a recipe describes it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rscap.annotations import Found, UnusableRowError, find, missing, shards, split_name
from rscap.data import parquet
from rscap.data.contents import Content, content_of
from rscap.data.images import ArchiveImage, opened
from rscap.data.rows import IMAGE_CHECKS, ImageCheck, Judged, Looked, assemble, refuse_if_too_many
from rscap.data.source import Source, digest
from rscap.data.splits import assign_splits
from rscap.data.text import NORMALISATIONS, normalised
from rscap.errors import DataError, ImageError
from rscap.recipe import DataSection
from rscap.records import Example

MEASURED_ON = ("val", "test")


@dataclass(frozen=True, slots=True)
class _Opened:
    """A data set that was recognised: its rows, not judged yet."""

    name: str
    rows: Iterable[Found]
    root: Path | None = None
    """The folder that no image's path may leave; None where the images are in the rows."""


def open_source(
    spec: str | Path,
    *,
    split_scheme: str = "official",
    max_rejected_share: float = 0.01,
    check: ImageCheck | Looked = "header",
    normalise: Sequence[str] = (),
) -> Source:
    """Open a data set, whatever its format.

    Args:
        spec: `sample`; a file or folder: captions.csv, parquet, Karpathy or COCO JSON, PaliGemma JSON Lines, an image
            folder with metadata.jsonl; or a Hub id, `owner/name` or `owner/name@revision`.
        split_scheme: how examples are split, see `rscap.data.splits`.
        max_rejected_share: the share of rows (0 … 1) that may be unusable.
        check: how closely images are looked at now: `decode` (each is decoded, below 1 ms for RISC's), `header`,
            `exists`, or `none` (captions alone; images need not be there). Or what was found before, by `look_at`.
        normalise: steps of text normalisation in order, see `rscap.data.text`; recorded in the source. Captions of
            val and test stay as published: what is measured on is not changed.

    Raises:
        DataError: nothing to open, or too much of it cannot be used; names it and the way out.
    """
    if isinstance(check, str) and check not in IMAGE_CHECKS:
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
        contents=judged.contents,
        apart=judged.apart,
    )


def open_data(section: DataSection, *, check: ImageCheck | Looked = "header") -> Source:
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


def look_at(examples: Iterable[Example]) -> dict[str, Content | str]:
    """Decode images: what each shows, or why it cannot be used, by the id of its example; for `check`."""
    found: dict[str, Content | str] = {}
    for example in examples:
        try:
            found[example.id] = content_of(example.image.load())
        except ImageError as error:
            found[example.id] = error.in_one_line
    return found


def _judged(spec: str | Path, check: ImageCheck | Looked) -> tuple[str, Judged]:
    if str(spec) == "sample":
        from rscap.sample import sample_examples

        examples = sample_examples(seed=0)
        return "sample", Judged(examples=examples, positions=list(range(len(examples))), total=len(examples))
    found = _open(spec)
    origin = found.name.split("/")[-1].split("@")[0]
    return found.name, assemble(found.rows, origin=origin, root=found.root, check=check)


def _open(spec: str | Path) -> _Opened:
    path = Path(spec)
    if not str(spec).strip():  # Path("") is the working folder
        raise DataError("no data set is named: the source is empty", hint="name a file, a folder or a Hub id")
    if path.exists():
        found = find(path)
        if found.kind == "parquet":
            return _Opened(found.name, parquet.read(path.name, parquet.open_files(found.path)))
        if found.kind == "shards":
            return _Opened(found.name, shards.read(found.path, _in_archive))
        return _Opened(found.name, found.read(), found.root)
    if isinstance(spec, str) and not _file_like(spec) and parquet.HUB_ID.fullmatch(spec):
        return _Opened(spec, parquet.read(spec, parquet.open_hub(spec)))
    hint = missing(path).hint if path.name else None
    raise DataError(
        f"there is no data set {str(spec)!r}: it is neither a file, a folder nor a Hub id (owner/name)",
        hint=f"{hint}; {_OTHERS}" if hint else _OTHERS,
    )


_OTHERS = "a recipe takes your data by --set data.source=FOLDER; `sample` is the built-in data set"


def _in_archive(member: shards.Member, name: str) -> ArchiveImage:
    return ArchiveImage(member.archive, member.offset, member.size, name)


def _file_like(spec: str) -> bool:
    """Does this look like the name of a file that is not there? `folder/data.csv` does, `owner/name.v2@1.0` not."""
    return re.fullmatch(r"\.[A-Za-z]+", Path(spec.partition("@")[0]).suffix) is not None


def source_of(
    examples: Iterable[Example], *, name: str, split_scheme: str = "official", normalise: Sequence[str] = ()
) -> Source:
    """A source of examples that the caller made: any iterable of `Example`s with ids of their own.

    Raises:
        DataError: there are none, an id occurs twice, or an example lacks an id, a caption or an image handle.
    """
    found = list(examples)
    if not found:
        raise DataError("there are no examples")
    seen: set[str] = set()
    for number, example in enumerate(found):
        _check_example(number, example)
        if example.id in seen:
            raise DataError(f"two examples have the id {example.id!r}", hint="every image needs an id of its own")
        seen.add(example.id)
        found[number] = replace(example, split=_split_of(example), image=opened(example.image))
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


def _split_of(example: Example) -> str:
    """The split of a caller's example, under the name that data sets get: `valid` and `Validation` are val."""
    try:
        return split_name(example.split) if example.split else ""
    except UnusableRowError as error:
        raise DataError(f"split of example {example.id!r}: {error}", hint="use train, val or test") from None


def _check_example(number: int, example: object) -> None:
    """Refuse what a caller may easily hand in by mistake.

    Raises:
        DataError: names the example and what is wrong with it.
    """
    if not isinstance(example, Example):
        raise DataError(f"example {number} is a {type(example).__name__}", hint="hand in rscap.records.Example")
    if not isinstance(example.id, str) or not example.id:
        raise DataError(f"example {number} has the id {example.id!r}", hint="an id is a string that is not empty")
    for name in ("split", "source"):
        if not isinstance(value := getattr(example, name), str):
            raise DataError(
                f"{name} of example {example.id!r} is {value!r} and no string", hint=f'{name}="" says nothing'
            )
    if isinstance(example.captions, str):
        raise DataError(f"captions of example {example.id!r} is a string", hint='hand in a tuple: captions=("…",)')
    if not example.captions or not all(isinstance(text, str) and text.strip() for text in example.captions):
        raise DataError(f"example {example.id!r} has no caption, or one that is empty or not a string")
    if not all(hasattr(type(example.image), method) for method in ("load", "header", "data")):
        raise DataError(
            f"the image of example {example.id!r} is a {type(example.image).__name__} and not an image handle",
            hint="rscap.data.opened makes a handle of a path, bytes, a Pillow image or an array",
        )
