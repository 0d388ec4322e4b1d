"""Captions of many images as one table, which resumes where it was stopped: `rscap caption FOLDER --out captions.csv`.

captions.csv | .jsonl | .parquet   id, caption, prefix, tokens, stopped, in the order of the images
captions.failed.jsonl              id and reason of every image that could not be captioned, if there are any
.captions.csv.so-far               a line an image so far: the same command reads it and resumes
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rscap.errors import DataError, ImageError, StoreError
from rscap.escape import for_cell
from rscap.records import ImageHandle, Picture, Prediction, Rejected
from rscap.store import (
    PredictionRow,
    append_line,
    asked_otherwise,
    atomic_path,
    check_output,
    numbered_lines,
    prediction_row,
    write_jsonl,
    write_text,
)

ENDINGS = (".csv", ".jsonl", ".parquet")
_COLUMNS = ("id", "caption", "prefix", "tokens", "stopped")


class _Done(PredictionRow):
    """A line of the file of finished captions: a prediction, and the digest of its image."""

    image: str | None


@dataclass(slots=True)
class CaptionTable:
    """The table of one command."""

    out: Path
    asked: Mapping[str, Any]
    """What determines a caption: the model, its prompt and its settings. Captions that were made with others are made
    again."""
    done: dict[str, Prediction] = field(default_factory=dict)
    failed: list[Rejected] = field(default_factory=list)
    set_aside: str = ""
    """Why `begin` discarded the captions of an earlier command: names what differs. Empty where it discarded none."""
    _images: dict[str, ImageHandle] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_ending(self.out)
        check_output(self.out)

    @property
    def so_far(self) -> Path:
        return self.out.with_name(f".{self.out.name}.so-far")

    def begin(self, pictures: Sequence[Picture]) -> list[Picture]:
        """The pictures that are still to be captioned; pictures whose bytes have changed are among them."""
        self._images = {picture.id: picture.image for picture in pictures}
        known = self._known()
        self.done = {one.id: one.prediction() for one in known if one.image == _digest(self._images.get(one.id))}
        kept = [one for one in known if one.id in self.done]
        lines = [_line({"asked": self.asked}), *(_line(one.content()) for one in kept)]
        write_text(self.so_far, "".join(f"{line}\n" for line in lines))
        return [picture for picture in pictures if picture.id not in self.done]

    def add(self, item: Prediction | Rejected) -> None:
        """One more picture."""
        if isinstance(item, Rejected):
            self.failed.append(item)
            return
        self.done[item.example_id] = item
        row = {**prediction_row(item), "image": _digest(self._images[item.example_id])}
        append_line(self.so_far, _line(row))

    def end(self) -> list[Path]:
        """Write the table and the list of failures; returns the files written."""
        found = [self.done[name] for name in self._images if name in self.done]
        _WRITERS[self.out.suffix.lower()](self.out, found)
        written = [self.out]
        failures = self.out.with_name(f"{self.out.stem}.failed.jsonl")
        if self.failed:
            write_jsonl(failures, ({"id": one.row, "reason": one.reason} for one in self.failed))
            written.append(failures)
        else:
            failures.unlink(missing_ok=True)
        self.so_far.unlink(missing_ok=True)
        return written

    def _known(self) -> list[_Done]:
        if not self.so_far.is_file():
            return []
        with suppress(StoreError, ValueError, RecursionError):
            lines = list(numbered_lines(self.so_far, growing=True))
            self.set_aside = asked_otherwise(lines[0][1], self.asked) if lines else ""
            if lines and not self.set_aside:
                return [_Done.parse(line, where=f"{self.so_far}, line {number}") for number, line in lines[1:]]
        return []


def check_ending(path: Path) -> None:
    """Raises: DataError: the name of a table does not tell which kind it is to be."""
    if path.suffix.lower() not in ENDINGS:
        raise DataError(f"{path} is not the name of a table", hint=f"name it {', '.join(f'x{one}' for one in ENDINGS)}")


def _digest(image: ImageHandle | None) -> str | None:
    try:
        return hashlib.sha256(image.data() or image.identity.encode()).hexdigest()[:32] if image else None
    except (ImageError, OSError):
        return None


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False, sort_keys=True)


def _rows(found: Sequence[Prediction]) -> list[dict[str, Any]]:
    return [{name: row[name] for name in _COLUMNS} for row in map(prediction_row, found)]


def _write_csv(path: Path, found: Sequence[Prediction]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows(map(for_cell, row.values()) for row in _rows(found))


def _write_jsonl(path: Path, found: Sequence[Prediction]) -> None:
    write_jsonl(path, map(prediction_row, found))


def _write_parquet(path: Path, found: Sequence[Prediction]) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError("a parquet table needs the package `pyarrow`", hint="pip install 'rscap[train]'") from None
    text, number = pyarrow.string(), pyarrow.int64()
    kinds = dict(zip(_COLUMNS, (text, text, text, number, text), strict=True))
    table = pyarrow.Table.from_pylist(_rows(found), schema=pyarrow.schema(list(kinds.items())))
    with atomic_path(path) as temporary:
        pyarrow.parquet.write_table(table, temporary)


_WRITERS = {".csv": _write_csv, ".jsonl": _write_jsonl, ".parquet": _write_parquet}
