"""Read a run folder for a report: what is there becomes records, what is missing or broken becomes a note."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from rscap.errors import RscapError, StoreError
from rscap.records import Prediction, ScoreSheet
from rscap.score import read_sheet
from rscap.store import RunFolder, read_json, read_jsonl

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The references of one example, as `references/<split>.jsonl` keeps them."""

    captions: tuple[str, ...]
    source: str
    scene_class: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelImage:
    """One example that the figure shows."""

    example_id: str
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One training step of `train.jsonl`; NaN where the log does not say."""

    step: int
    loss: float
    learning_rate: float
    captions_per_s: float
    images_per_s: float
    memory_bytes: float
    epoch: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One evaluation during training."""

    step: int
    split: str
    n: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Predictions with their score sheet: of a run, or of a baseline beside it."""

    name: str
    sheet: ScoreSheet | None
    predictions: Mapping[str, Prediction]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedRun:
    """All that a run folder says, for one split."""

    label: str
    folder: RunFolder
    status: Mapping[str, Any]
    scored: Scored
    baselines: tuple[Scored, ...]
    references: Mapping[str, Reference]
    panel: tuple[PanelImage, ...]
    steps: tuple[Step, ...]
    evaluations: tuple[Evaluation, ...]
    parameters: Mapping[str, Mapping[str, int]]
    rejected: tuple[Mapping[str, Any], ...]
    provenance: Mapping[str, Any]
    recipe: str | None
    notes: tuple[str, ...]

    @property
    def state(self) -> str:
        """`finished`, `failed` or `started`; anything else in status.json is shown as it stands."""
        return str(self.status.get("state", "unknown"))

    @property
    def finished(self) -> bool:
        return self.state == "finished"

    @property
    def references_digest(self) -> str:
        """Twelve hexadecimal digits over ids and reference captions; empty where there are none."""
        if not self.references:
            return ""
        rows = [[example_id, reference.captions] for example_id, reference in sorted(self.references.items())]
        return hashlib.sha256(json.dumps(rows, ensure_ascii=True).encode()).hexdigest()[:12]


def load_runs(paths: Sequence[Path], split: str) -> list[LoadedRun]:
    """Read several run folders; labels are the shortest path endings that tell them apart.

    Raises:
        StoreError: a path is no run folder, or is given twice.
    """
    folders = [_open(path) for path in paths]
    places = [folder.path.resolve() for folder in folders]
    if not folders:
        raise StoreError("no run folder to report on", hint="`rscap report RUN…` takes one or several run folders")
    for place in places:
        if places.count(place) > 1:
            raise StoreError(f"{place} is given twice")
    return [_load(folder, label, split) for folder, label in zip(folders, _labels(places), strict=True)]


def _open(path: Path) -> RunFolder:
    try:
        return RunFolder.open(path)
    except StoreError:
        inside = sorted(child.parent for child in path.glob("*/status.json")) if path.is_dir() else []
        if inside:
            names = " ".join(str(child) for child in inside)
            raise StoreError(f"{path} is not a run folder but holds some", hint=f"rscap report {names}") from None
        raise


def _labels(places: Sequence[Path]) -> list[str]:
    for length in range(1, max(len(place.parts) for place in places) + 1):
        labels = ["/".join(place.parts[-length:]) for place in places]
        if len(set(labels)) == len(labels):
            return labels
    return [str(place) for place in places]


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads the files of one run; what is missing or broken is noted and replaced by an empty value."""

    folder: RunFolder
    notes: list[str]

    def read(self, path: Path, read: Callable[[Path], T], empty: T, missing: str | None = None) -> T:
        if not path.exists():
            if missing:
                self.notes.append(missing)
            return empty
        try:
            return read(path)
        except (RscapError, KeyError, TypeError, ValueError, AttributeError, OSError) as error:
            self.notes.append(f"{path.relative_to(self.folder.path)} cannot be read: {_say(error)}")
            return empty

    def scored(self, place: RunFolder, name: str, split: str) -> Scored:
        whose = "" if place is self.folder else f" of the baseline {name}"
        return Scored(
            name=name,
            sheet=self.read(place.scores(split), _sheet, None, f"no scores for the {split} split{whose}"),
            predictions=self.read(place.predictions(split), _predictions, {}),
        )


def _load(folder: RunFolder, label: str, split: str) -> LoadedRun:
    notes: list[str] = []
    reader = _Reader(folder, notes)
    no_log: tuple[tuple[Step, ...], tuple[Evaluation, ...]] = ((), ())
    steps, evaluations = reader.read(folder.train_log, _train_log, no_log)
    return LoadedRun(
        label=label,
        folder=folder,
        status=reader.read(folder.status_file, _mapping, {"state": "unreadable"}),
        scored=reader.scored(folder, label, split),
        baselines=tuple(reader.scored(place, place.path.name, split) for place in folder.baselines()),
        references=reader.read(folder.references(split), _references, {}),
        panel=reader.read(folder.panel(split) / "panel.json", _panel, ()),
        steps=steps,
        evaluations=evaluations,
        parameters=reader.read(folder.parameters_file, _parameters, {}),
        rejected=reader.read(folder.rejected_file, lambda path: tuple(read_jsonl(path)), ()),
        provenance=reader.read(folder.provenance_file, _mapping, {}, "no provenance.json"),
        recipe=reader.read(folder.recipe_file, lambda path: path.read_text(encoding="utf-8"), None),
        notes=tuple(notes),
    )


def _mapping(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, found {type(value).__name__}")
    return value


def _say(error: Exception) -> str:
    if isinstance(error, RscapError):
        return error.message
    return f"key {error} is missing" if isinstance(error, KeyError) else str(error) or type(error).__name__


def _sheet(path: Path) -> ScoreSheet:
    """A score sheet whose scores are finite numbers; a metric whose corpus score is not one counts as unscored."""
    sheet = read_sheet(path)
    corpus = {name: float(value) for name, value in sheet.corpus.items()}
    return replace(
        sheet,
        signature=str(sheet.signature),
        n=int(sheet.n),
        unscored=int(sheet.unscored),
        corpus={name: value for name, value in corpus.items() if math.isfinite(value)},
        intervals={name: (float(low), float(high)) for name, (low, high) in sheet.intervals.items()},
        items={name: {metric: float(value) for metric, value in own.items()} for name, own in sheet.items.items()},
    )


def _predictions(path: Path) -> dict[str, Prediction]:
    return {
        row["id"]: Prediction(
            example_id=row["id"],
            caption=str(row["caption"]),
            prefix=str(row.get("prefix", "")),
            tokens=int(row.get("tokens", 0)),
            stopped=row.get("stopped", "eos"),
        )
        for row in read_jsonl(path)
    }


def _references(path: Path) -> dict[str, Reference]:
    return {
        row["id"]: Reference(
            captions=tuple(str(caption) for caption in row["captions"]),
            source=str(row.get("source", "")),
            scene_class=row.get("scene_class"),
        )
        for row in read_jsonl(path)
    }


def _panel(path: Path) -> tuple[PanelImage, ...]:
    images = []
    for row in read_json(path):
        file = path.parent / row["file"]
        if file.resolve().parent != path.parent.resolve():
            raise ValueError(f"{row['file']!r} leads out of the panel folder")
        images.append(PanelImage(example_id=str(row["id"]), path=file))
    return tuple(images)


def _train_log(path: Path) -> tuple[tuple[Step, ...], tuple[Evaluation, ...]]:
    text = path.read_text(encoding="utf-8")
    lines = text.split("\n")[:-1]  # what follows the last line break was cut off while it was written
    rows = [json.loads(line) for line in lines if line.strip()]
    steps = tuple(_step(row) for row in rows if row.get("event") == "step")
    evaluations = tuple(
        Evaluation(
            step=int(row["step"]),
            split=str(row.get("split", "val")),
            n=int(row.get("n", 0)),
            metrics={name: float(value) for name, value in row["metrics"].items() if value is not None},
        )
        for row in rows
        if row.get("event") == "evaluation"
    )
    return steps, evaluations


def _step(row: Mapping[str, Any]) -> Step:
    def number(key: str) -> float:
        value = row.get(key)
        return math.nan if value is None else float(value)

    return Step(
        step=int(row["step"]),
        loss=number("loss"),
        learning_rate=number("learning_rate"),
        captions_per_s=number("captions_per_s"),
        images_per_s=number("images_per_s"),
        memory_bytes=number("memory_bytes"),
        epoch=number("epoch"),
    )


def _parameters(path: Path) -> dict[str, dict[str, int]]:
    return {
        tower: {"total": int(counts["total"]), "trainable": int(counts["trainable"])}
        for tower, counts in read_json(path).items()
    }
