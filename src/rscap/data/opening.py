"""`open_source`: one door for every kind of data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rscap.data.readers import captions_csv, parquet
from rscap.data.rows import IMAGE_CHECKS, ImageCheck, assemble, refuse_if_too_many
from rscap.data.source import Note, Rejected, Source, digest
from rscap.errors import DataError
from rscap.records import Example


@dataclass(frozen=True, slots=True)
class _Found:
    """What a reader and the judge of rows made of a data set, before a split scheme."""

    name: str
    examples: list[Example]
    rejected: Sequence[Rejected] = ()
    notes: Sequence[Note] = ()


def open_source(
    spec: str | Path,
    *,
    split_scheme: str = "official",
    max_rejected_share: float = 0.01,
    check: ImageCheck = "header",
) -> Source:
    """Open a data set: `sample`, a folder with `captions.csv`, a parquet file or folder, or a Hub id.

    Args:
        spec: what to open; `owner/name@revision` pins a Hub data set.
        split_scheme: how examples are split.
        max_rejected_share: the share of rows (0 … 1) that may be unusable.
        check: how closely images are looked at now: `decode` (each is decoded, about 1 ms an image), `header`,
            `exists`, or `none` (captions alone; images need not be there).

    Raises:
        DataError: nothing to open, or too much of it cannot be used; names it and the way out.
    """
    if check not in IMAGE_CHECKS:
        raise DataError(f"unknown image check {check!r}", hint=f"known: {', '.join(IMAGE_CHECKS)}")
    if not 0 <= max_rejected_share <= 1:
        raise DataError(f"max_rejected_share is a share from 0 to 1, not {max_rejected_share}")
    if split_scheme != "official":
        raise DataError(f"unknown split scheme {split_scheme!r}", hint="known: official")
    found = _find(spec, check)
    refuse_if_too_many(found.name, found.examples, found.rejected, max_rejected_share)
    return Source(
        name=found.name,
        examples=found.examples,
        rejected=tuple(found.rejected),
        notes=tuple(found.notes),
        digest=digest(found.examples),
        split_scheme=split_scheme,
    )


def _find(spec: str | Path, check: ImageCheck) -> _Found:
    if str(spec) == "sample":
        from rscap.data.sample import sample_examples

        return _Found("sample", sample_examples(seed=0))
    path = Path(spec)
    if path.is_dir():
        return _folder(path, check)
    if path.suffix.lower() == ".csv":
        return _csv(path, check)
    if path.suffix.lower() == ".parquet":
        return _tables(path.stem, parquet.open_files(_existing(path)), check)
    if path.exists():
        raise DataError(f"{path} is no data set that rscap knows", hint="a captions.csv, a .parquet, or their folder")
    if isinstance(spec, str) and parquet.HUB_ID.fullmatch(spec):
        return _tables(spec, parquet.open_hub(spec), check)
    raise DataError(
        f"{str(spec)!r} is neither a file, a folder nor a Hub id (owner/name)", hint="`sample` opens the built-in one"
    )


def _existing(path: Path) -> Path:
    if not path.exists():
        raise DataError(f"{path} does not exist")
    return path


def _folder(path: Path, check: ImageCheck) -> _Found:
    if (path / captions_csv.FILE).exists():
        return _csv(path / captions_csv.FILE, check)
    if next(path.glob("**/*.parquet"), None) is not None:
        return _tables(path.name, parquet.open_files(path), check)
    raise DataError(f"{path} holds no data set that rscap knows", hint="it wants captions.csv or .parquet files")


def _csv(path: Path, check: ImageCheck) -> _Found:
    name = path.resolve().parent.name
    rows = captions_csv.read(_existing(path))
    return _Found(name, *assemble(rows, origin=name, folder=captions_csv.folder_of(path), check=check))


def _tables(name: str, tables: dict, check: ImageCheck) -> _Found:
    rows = parquet.read(tables, named_splits=len(tables) > 1)
    return _Found(name, *assemble(rows, origin=name.split("/")[-1].split("@")[0], folder=None, check=check))
