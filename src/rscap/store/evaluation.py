"""What an evaluation leaves in a run folder: captions, references, scores, and the images that a report shows.

Captions are kept as they come: an evaluation that is cut off resumes where it was, and ends as if nothing had happened.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from rscap.errors import ImageError, StoreError
from rscap.opening import read_plain
from rscap.records import Example, ImageHandle, Prediction, Rejected, Stopped
from rscap.store.door import plain_path
from rscap.store.files import read_json, write_json, write_text
from rscap.store.growing import append_line
from rscap.store.outputs import atomic_path
from rscap.store.record import Record, read_rows, write_rows
from rscap.tables import differences

BASELINE_LABELS: Mapping[str, str] = {"constant": "constant caption", "nearest": "nearest training image"}
"""The baselines that are scored beside a run, by the name of their folder, and what a table calls them."""


CARRIED = "evaluation"
"""The folder of an export that holds predictions, references and scores of its run, each under its usual name."""


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
        """The line of a prediction; it has `near_ties` only where there are any."""
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


class SheetFile(Record):
    """scores/<split>.json: the fields of a ScoreSheet; what else there is belongs to its `extra`."""

    signature: str
    n: int
    corpus: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    items: dict[str, dict[str, float]]
    unscored: int


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
        with atomic_path(plain_path(folder, f"{number:03}.jpg")) as temporary:
            example.image.load().save(temporary, format="JPEG", quality=90)
    rows = [_PanelRow(id=example.id, file=f"{number:03}.jpg") for number, example in enumerate(examples)]
    write_json(plain_path(folder, _PANEL_FILE), [row.content() for row in rows])


def read_panel(folder: Path) -> tuple[PanelImage, ...]:
    """The images of a panel, in order; whether each is there is for the reader to see.

    Raises:
        StoreError: the list is missing or damaged, or names a file outside the folder.
    """
    path = plain_path(folder, _PANEL_FILE)
    rows = read_json(path)
    if not isinstance(rows, list):
        raise StoreError(f"{path} is damaged: expected a list of images, found {type(rows).__name__}")
    images = []
    for number, one in enumerate(rows):
        row = _PanelRow.parse(json.dumps(one), where=f"{path}, image {number}")
        if Path(row.file).name != row.file:
            raise StoreError(f"{path}: {row.file!r} leads out of the panel folder")
        images.append(PanelImage(row.id, plain_path(folder, row.file)))
    return tuple(images)


Captioned = Prediction | Rejected


@dataclass(frozen=True, slots=True)
class Journal:
    """A file with a line for every image that is done, batch by batch, below a line that says what asks.

    What was captioned by another model, in other words or from other images is not used: `asked` tells. Nor is an
    image that could not be decoded: it may be readable by now.
    """

    path: Path
    asked: Mapping[str, Any]
    """Whatever decides what a caption is: model, data, words, decoding."""
    _images: dict[str, ImageHandle] = field(default_factory=dict, repr=False)
    """The images of all examples, by id, whose bytes tell whether one has been replaced since."""

    def begin(self, examples: Sequence[Example], *, batch_size: int) -> list[Prediction]:
        """What is done already of `examples`, from the first on; the file then holds just that.

        Whole batches alone are kept, so that the batches to come are those of an evaluation that was not interrupted.
        """
        self._images.update({example.id: example.image for example in examples})
        lines = self._lines()
        if [line.example_id for line in lines] != [example.id for example in examples[: len(lines)]]:
            lines = []
        changed = (
            number for number, line in enumerate(lines) if line.image not in (None, self._content(line.example_id))
        )
        lines = lines[: next(changed, len(lines))]
        lines = lines[: len(lines) // batch_size * batch_size]
        rows = [self._heading(), *(line.content() for line in lines)]
        write_text(self.path, "".join(f"{_line(row)}\n" for row in rows))
        return [line.prediction() for line in lines]

    def set_aside(self) -> str:
        """Why earlier captions are made again, such as `rscap was 0.1.0 and is 0.2.0`; "" if there are none.

        Asked before `begin`, which replaces them.
        """
        heading = self._lines_read()[:1]
        return asked_otherwise(heading[0], self.asked) if heading else ""

    def add(self, item: Captioned) -> None:
        """One more image."""
        image = {"image": self._content(item.example_id)} if isinstance(item, Prediction) else {}
        append_line(self.path, _line({**asdict(item), **image}))

    def _content(self, name: str) -> str | None:
        """What names the bytes of an image; None where they cannot be read."""
        image = self._images[name]
        try:
            return hashlib.sha256(image.data() or image.identity.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        except ImageError:
            return None

    def end(self) -> None:
        """All captions are in their final file."""
        self.path.unlink(missing_ok=True)

    def _heading(self) -> dict[str, Any]:
        return {"asked": json.loads(_line(self.asked))}

    def _lines_read(self) -> list[str]:
        if not self.path.is_file():
            return []
        return read_plain(self.path).decode("utf-8", "replace").split("\n")[:-1]  # the last may be cut off

    def _lines(self) -> list[_Line]:
        lines = self._lines_read()
        done: list[_Line] = []
        with suppress(StoreError, ValueError, RecursionError):  # what follows such a line is done again
            if not lines or json.loads(lines[0]) != self._heading():
                return []
            for line in lines[1:]:
                done.append(_Line.parse(line, where=str(self.path)))
        return done


def asked_otherwise(heading: str, asked: Mapping[str, Any]) -> str:
    """How the first line of captions so far, `{"asked": …}`, differs from what is asked now; "" if in nothing.

    Names at most three settings, the version of rscap first.
    """
    try:
        before = json.loads(heading)["asked"]
        changes = differences(before, json.loads(_line(asked)))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "its first line is damaged"
    first = sorted(changes, key=lambda name: name != "rscap")[:3]
    more = f" and {len(changes) - 3} more settings differ" if len(changes) > 3 else ""
    return ", ".join(f"{name} was {changes[name][0]!s:.40} and is {changes[name][1]!s:.40}" for name in first) + more


class _Line(Record):
    """A caption that is done. Unlike in other records, an unknown key makes it one that must be done again."""

    model_config = ConfigDict(extra="forbid")

    example_id: str
    caption: str
    prefix: str
    tokens: int
    stopped: Stopped
    near_ties: int
    image: str | None = None
    """The first 32 digits of SHA-256 of its bytes; rscap 0.1 did not note it."""

    def prediction(self) -> Prediction:
        return Prediction(**self.model_dump(exclude={"image"}))


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False, sort_keys=True)
