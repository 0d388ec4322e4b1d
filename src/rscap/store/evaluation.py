"""What an evaluation leaves in a run folder: captions, references, scores, and the images that a report shows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rscap.errors import StoreError
from rscap.records import Example, Prediction, ScoreSheet, Stopped
from rscap.store.files import Record, read_json, read_rows, write_json, write_rows, write_text

BASELINE_LABELS: Mapping[str, str] = {"constant": "constant caption", "nearest": "nearest training image"}
"""The baselines that are scored beside a run, by the name of their folder, and what a table calls them."""


class PredictionRow(Record):
    """A line of predictions/<split>.jsonl."""

    id: str
    caption: str
    prefix: str = ""
    tokens: int = 0
    stopped: Stopped = "eos"
    near_ties: int = 0

    @classmethod
    def of(cls, prediction: Prediction) -> PredictionRow:
        """The line of a prediction; `near_ties` stands there where it has any."""
        ties = {"near_ties": prediction.near_ties} if prediction.near_ties else {}
        return cls(
            id=prediction.example_id,
            caption=prediction.caption,
            prefix=prediction.prefix,
            tokens=prediction.tokens,
            stopped=prediction.stopped,
            **ties,
        )

    def prediction(self) -> Prediction:
        return Prediction(
            example_id=self.id,
            caption=self.caption,
            prefix=self.prefix,
            tokens=self.tokens,
            stopped=self.stopped,
            near_ties=self.near_ties,
        )


def prediction_row(prediction: Prediction) -> dict[str, Any]:
    """The JSON object of one prediction: id, caption, prefix, tokens, stopped, and near_ties where there are any."""
    return PredictionRow.of(prediction).content()


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write predictions/<split>.jsonl."""
    write_rows(path, map(PredictionRow.of, predictions))


def read_predictions(path: Path) -> dict[str, Prediction]:
    """The predictions by the id of their image.

    Raises:
        StoreError: the file is missing, or a line is damaged; names the line.
    """
    return {row.id: row.prediction() for row in read_rows(path, PredictionRow)}


class Reference(Record):
    """A line of references/<split>.jsonl: what people said of one image."""

    id: str
    captions: tuple[str, ...]
    source: str = ""
    scene_class: str | None = None

    @classmethod
    def of(cls, example: Example) -> Reference:
        return cls(id=example.id, captions=example.captions, source=example.source, scene_class=example.scene_class)


def write_references(path: Path, examples: Iterable[Example]) -> None:
    """Write references/<split>.jsonl."""
    write_rows(path, map(Reference.of, examples))


def read_references(path: Path) -> dict[str, Reference]:
    """The references by the id of their image.

    Raises:
        StoreError: the file is missing, or a line is damaged; names the line.
    """
    return {row.id: row for row in read_rows(path, Reference)}


class _Sheet(Record):
    """scores/<split>.json: the fields of a ScoreSheet; what else there is belongs to its `extra`."""

    signature: str
    n: int
    corpus: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    items: dict[str, dict[str, float]]
    unscored: int


def read_sheet(path: Path | str) -> ScoreSheet:
    """Read a score sheet; keys that are no fields of it go to `extra`.

    Raises:
        StoreError: the file is missing, is not JSON, or lacks a field; names it.
    """
    path = Path(path)
    if not path.exists():
        raise StoreError(f"{path} does not exist", hint="`rscap score` and `rscap evaluate` write score sheets")
    found = _Sheet.read(path)
    return ScoreSheet(
        signature=found.signature,
        n=found.n,
        corpus=found.corpus,
        intervals=found.intervals,
        items=found.items,
        unscored=found.unscored,
        extra=found.model_extra or {},
    )


def write_sheet(path: Path | str, sheet: ScoreSheet) -> None:
    """Write a sheet as JSON; see `sheet_text`.

    Raises:
        StoreError: a key of `extra` bears the name of a field, or a score is not finite.
    """
    write_text(Path(path), sheet_text(sheet))


def sheet_text(sheet: ScoreSheet) -> str:
    """`{"signature", "n", "corpus", "intervals", "items", "unscored", …}`; the keys of `extra` stand beside them.

    Sheets can be read and compared line by line: one line an image.

    Raises:
        StoreError: a key of `extra` bears the name of a field, or a score is not finite.
    """
    taken = [key for key in sheet.extra if key in _Sheet.model_fields]
    if taken:
        raise StoreError(f"extra holds {taken}, which are fields of the sheet")
    lines = [
        f'"signature": {_dump(sheet.signature)}',
        f'"n": {sheet.n}',
        f'"corpus": {_dump(dict(sheet.corpus))}',
        f'"intervals": {_dump({metric: list(bounds) for metric, bounds in sheet.intervals.items()})}',
        f'"unscored": {sheet.unscored}',
        *(f"{_dump(key)}: {_lines(value)}" for key, value in sheet.extra.items()),
        f'"items": {_lines({example: dict(scores) for example, scores in sheet.items.items()})}',
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _dump(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise StoreError(f"a score sheet holds a value that is not a finite number: {str(value)[:200]}") from error


def _lines(value: Any) -> str:
    """A mapping with one line a key."""
    if not isinstance(value, Mapping) or not value:
        return _dump(value)
    return "{\n" + ",\n".join(f"{_dump(key)}: {_dump(row)}" for key, row in value.items()) + "\n}"


_PANEL_FILE = "panel.json"


class _PanelRow(Record):
    id: str
    file: str


@dataclass(frozen=True, slots=True)
class PanelImage:
    """One of the images that a run folder keeps for its report."""

    example_id: str
    path: Path


def write_panel(folder: Path, examples: Sequence[Example]) -> None:
    """Keep the images of some examples as JPEG, with the list of them last.

    Raises:
        ImageError: an image cannot be decoded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, example in enumerate(examples):
        example.image.load().save(folder / f"{number:03}.jpg", quality=90)
    rows = [_PanelRow(id=example.id, file=f"{number:03}.jpg") for number, example in enumerate(examples)]
    write_json(folder / _PANEL_FILE, [row.content() for row in rows])


def read_panel(folder: Path) -> tuple[PanelImage, ...]:
    """The images of a panel, in order; whether each is there is for the reader to see.

    Raises:
        StoreError: the list is missing or damaged, or names a file outside the folder.
    """
    path = folder / _PANEL_FILE
    rows = read_json(path)
    if not isinstance(rows, list):
        raise StoreError(f"{path} is damaged: expected a list of images, found {type(rows).__name__}")
    images = []
    for number, one in enumerate(rows):
        row = _PanelRow.parse(json.dumps(one), where=f"{path}, image {number}")
        file = folder / row.file
        if file.resolve().parent != folder.resolve():
            raise StoreError(f"{path}: {row.file!r} leads out of the panel folder")
        images.append(PanelImage(row.id, file))
    return tuple(images)
