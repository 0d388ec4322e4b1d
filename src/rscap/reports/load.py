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
from rscap.scoring import read_sheet
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
    """One training step of `train.jsonl` and `speed.jsonl`; NaN where the logs do not say."""

    step: int
    loss: float
    learning_rate: float
    captions_per_s: float
    images_per_s: float
    memory_bytes: float
    epoch: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One evaluation during training; the loss is NaN where the log does not say."""

    step: int
    split: str
    n: int
    metrics: Mapping[str, float]
    loss: float


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
    quality: Mapping[str, Any]
    """What the quality rules did to the training captions; empty for a run without rules."""
    provenance: Mapping[str, Any]
    recipe: str | None
    evaluation: Mapping[str, Any]
    """What evaluation.json says, in the folder of an evaluation that stands apart from its run."""
    trained_recipe: str | None
    """The recipe that the model was trained with: this run's own, or that of the run which the evaluation names."""
    notes: tuple[str, ...]

    @property
    def state(self) -> str:
        """`finished`, `failed`, `interrupted`, `started`; anything else in status.json is shown as it stands."""
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
            name = path.relative_to(self.folder.path) if path.is_relative_to(self.folder.path) else path
            self.notes.append(f"{name} cannot be read: {_say(error)}")
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
    nothing: dict[str, Any] = {}
    no_speed: dict[int, dict[str, Any]] = {}
    speed = reader.read(folder.speed_log, _speed_log, no_speed)
    no_log: tuple[tuple[Step, ...], tuple[Evaluation, ...]] = ((), ())
    steps, evaluations = reader.read(folder.train_log, lambda path: _train_log(path, speed), no_log)
    recipe = reader.read(folder.recipe_file, _text, None)
    evaluation = reader.read(folder.path / "evaluation.json", _mapping, nothing)
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
        quality=reader.read(folder.path / "quality.json", _mapping, nothing),
        provenance=reader.read(folder.provenance_file, _mapping, nothing, "no provenance.json"),
        recipe=recipe,
        evaluation=evaluation,
        trained_recipe=recipe if recipe is not None else _recipe_of_model(reader, str(evaluation.get("model", ""))),
        notes=tuple(notes),
    )


def _recipe_of_model(reader: _Reader, model: str) -> str | None:
    """The recipe of the run that an evaluation names; None where it names a base model, or the run is gone.

    A run is named by its path from where `rscap evaluate` was called: that is here, or a folder above the evaluation. A
    name without a folder is looked for here alone, since `nano` is a base model and may be a run's name elsewhere.
    """
    above = reader.folder.path.resolve().parents if "/" in model else ()
    for place in (parent / model for parent in (Path(), *above) if model):
        if (place / "status.json").is_file() and (place / "recipe.toml").is_file():
            return reader.read(place / "recipe.toml", _text, None)
    return None


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


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _whole_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a log; what follows the last line break was cut off while it was written."""
    return [json.loads(line) for line in _text(path).split("\n")[:-1] if line.strip()]


def _train_log(path: Path, speed: Mapping[int, Mapping[str, Any]]) -> tuple[tuple[Step, ...], tuple[Evaluation, ...]]:
    rows = _whole_rows(path)
    steps = tuple(_step({**row, **speed.get(int(row["step"]), {})}) for row in rows if row.get("event") == "step")
    evaluations = tuple(
        Evaluation(
            step=int(row["step"]),
            split=str(row.get("split", "val")),
            n=int(row.get("n", 0)),
            metrics={name: float(value) for name, value in row["metrics"].items() if value is not None},
            loss=_number(row, "loss"),
        )
        for row in rows
        if row.get("event") == "evaluation"
    )
    return steps, evaluations


def _speed_log(path: Path) -> dict[int, dict[str, Any]]:
    """What the clock and the memory said, by step; runs of earlier versions have it in train.jsonl itself."""
    return {int(row["step"]): row for row in _whole_rows(path)}


def _step(row: Mapping[str, Any]) -> Step:
    return Step(
        step=int(row["step"]),
        loss=_number(row, "loss"),
        learning_rate=_number(row, "learning_rate"),
        captions_per_s=_number(row, "captions_per_s"),
        images_per_s=_number(row, "images_per_s"),
        memory_bytes=_number(row, "memory_bytes"),
        epoch=_number(row, "epoch"),
    )


def _number(row: Mapping[str, Any], key: str) -> float:
    value = row.get(key)
    return math.nan if value is None else float(value)


def _parameters(path: Path) -> dict[str, dict[str, int]]:
    return {
        tower: {"total": int(counts["total"]), "trainable": int(counts["trainable"])}
        for tower, counts in read_json(path).items()
    }
