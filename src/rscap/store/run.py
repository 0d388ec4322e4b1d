"""The folder of one run, or of an evaluation that stands apart from its run: its files, and what each of them says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from rscap import errors
from rscap.errors import StoreError
from rscap.records import Rejected
from rscap.store.files import (
    ADAPTER,
    BASELINES,
    CHECKPOINTS,
    EVALUATION,
    MODEL,
    PANEL,
    PARAMETERS,
    PREDICTIONS,
    PROVENANCE,
    QUALITY,
    RECIPE,
    REFERENCES,
    REJECTED,
    REMOVED,
    REPORT,
    SCORES,
    SEEN,
    SPEED_LOG,
    STATUS,
    TRACKERS,
    TRAIN_LOG,
    WEIGHTED,
    now,
    numbered_lines,
    write_json,
    write_jsonl,
)
from rscap.store.record import Record, read_rows, write_rows

Ending = Literal["finished", "interrupted", "failed"]
"""What a run says of its own end, in its status file; until then it says `started`."""

State = Literal["missing", "started", "interrupted", "trained", "finished", "failed", "refused"]
"""How far a run, an evaluation or a part of a study is.

missing      there is nothing yet
started      begun: it is at work, or was killed before it could say so
interrupted  asked to stop: what it had is saved, and the same command resumes it
trained      trained, and not evaluated yet
finished     done, with its scores
failed       ended by an error; done again, it may succeed
refused      ended by an error that says no to what was asked; doing it again does not help
"""

WORST_FIRST: tuple[State, ...] = ("refused", "failed", "interrupted", "started", "trained", "missing", "finished")

_REFUSALS_OF_0_1 = frozenset(
    {"RecipeError", "DataError", "ImageError", "ModelError", "AdapterError", "BrokenTargets", "ScoreError"}
)
"""Names of error classes that status files of rscap 0.1 hold; a class that is renamed keeps its old name here."""


class Chosen(Record):
    """The evaluation during training whose weights were kept."""

    step: int
    metric: str
    value: float


class AfterMemoryRanOut(Record):
    """What a run changed on its way because memory ran out."""

    micro_batch: int
    gradient_checkpointing: bool


class Status(Record):
    """status.json: how far a run came, and how it ended."""

    state: Literal["started", "finished", "interrupted", "failed"]
    started: str | None = None
    """UTC, ISO 8601."""
    ended: str | None = None
    error: str | None = None
    """`ErrorClass: message`, or the message alone of a run that was asked to stop."""
    steps: int | None = None
    loop_seconds: float | None = None
    """In the training loop, all sessions together."""
    went_on_with: AfterMemoryRanOut | None = None
    stopped_early: str | None = None
    headroom: dict[str, float] = Field(default_factory=dict)
    """How many times the largest float16 activation of a layer fits below overflow, in the first update."""
    selected: Chosen | None = None
    not_selected: str | None = None
    """Why the selected weights could not be kept."""
    weights: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of every file of learned weights, by its path in the run folder."""

    @property
    def refused(self) -> bool:
        """Whether it failed because what was asked cannot be done."""
        return self.state == "failed" and is_refusal(self.error or "")

    @property
    def seconds(self) -> float | None:
        """From start to end; None where the file does not say."""
        try:
            return (
                datetime.fromisoformat(self.ended or "") - datetime.fromisoformat(self.started or "")
            ).total_seconds()
        except (ValueError, TypeError):  # no date, or one with a time zone and one without
            return None


def is_refusal(error: str) -> bool:
    """Whether `ErrorClass: message` names an error that says no to what was asked."""
    name = error.partition(":")[0]
    kind = getattr(errors, name, None)
    return name in _REFUSALS_OF_0_1 or (isinstance(kind, type) and issubclass(kind, errors.Refusal))


class DataOrigin(Record):
    """Which data a result belongs to."""

    name: str | None = None
    digest: str | None = None
    split_scheme: str | None = None


class BaseOrigin(Record):
    """Which base model a result belongs to."""

    name: str | None = None
    revision: str | None = None
    digest: str | None = None
    """Of its files, where they are local."""
    dtype: str | None = None
    dtype_asked: str | None = None
    """What the recipe said: `auto` where the card decided."""


class Session(Record):
    """Where a run was resumed, where that can change the last bits of a result."""

    commit: str | None = None
    dirty: bool | None = None
    packages: dict[str, str] = Field(default_factory=dict)
    device_name: str | None = None
    processes: int | None = None
    gradient_checkpointing: bool | None = None
    threads: int | None = None
    command: str | None = None


class Provenance(Record):
    """provenance.json: with which code, packages, device, data and base model a result was made."""

    rscap: str | None = None
    commit: str | None = None
    """None for a package that runs from no checkout."""
    dirty: bool | None = None
    python: str | None = None
    platform: str | None = None
    packages: dict[str, str] = Field(default_factory=dict)
    command: str | None = None
    device: str | None = None
    device_name: str | None = None
    processes: int | None = None
    gradient_checkpointing: bool | None = None
    threads: int | None = None
    data: DataOrigin = DataOrigin()
    base: BaseOrigin = BaseOrigin()
    resumed: tuple[Session, ...] = ()
    """Sessions after the first."""

    def resumed_by(self, now: Provenance) -> Provenance:
        """The same with one more session, that of `now`."""
        known = now.content()
        session = Session(**{name: known[name] for name in Session.model_fields if name in known})
        return self.model_copy(update={"resumed": (*self.resumed, session)})


class TowerParameters(Record):
    """Parameters of one tower."""

    total: int
    trainable: int
    held: dict[str, int] = Field(default_factory=dict)
    """Parameters by how they are held: a dtype, nf4 or int8."""


class _Parameters(Record):
    """parameters.json: a key a tower."""

    __pydantic_extra__: dict[str, TowerParameters] = Field(init=False)


def read_parameters(path: Path) -> dict[str, TowerParameters]:
    """The parameters of every tower.

    Raises:
        StoreError: the file is missing or damaged; names it and the key.
    """
    return dict(_Parameters.read(path).__pydantic_extra__)


def write_parameters(path: Path, towers: Mapping[str, TowerParameters]) -> None:
    """Write parameters.json."""
    write_json(path, {tower: counts.content() for tower, counts in towers.items()})


class _RejectedRow(Record):
    row: str
    reason: str


def read_rejected(path: Path) -> list[Rejected]:
    """The rows of the data that could not be used.

    Raises:
        StoreError: the file is missing, or a line is damaged; names the line.
    """
    return [Rejected(found.row, found.reason) for found in read_rows(path, _RejectedRow)]


def write_rejected(path: Path, rejected: Iterable[Rejected]) -> None:
    """Write rejected.jsonl."""
    write_jsonl(path, map(asdict, rejected))


class Removed(Record):
    """A line of removed.jsonl: a caption that the quality rules dropped, and why."""

    example_id: str
    caption: str
    reason: str


class Weighted(Record):
    """A line of weighted.jsonl: a caption that stays and weighs less than 1."""

    example_id: str
    caption: str
    weight: float


class Quality(Record):
    """quality.json: what the quality rules did to the training captions."""

    captions_removed: int
    by_reason: dict[str, int] = Field(default_factory=dict)
    images_dropped: int
    captions_weighted: int
    mean_weight: float | None = None
    """Of those that were weighed down."""


# The log of a run. train.jsonl is a function of the recipe; speed.jsonl is what the clock and the memory said.


class TrainStep(Record):
    """A line of train.jsonl: one update."""

    event: Literal["step"]
    step: int
    loss: float | None = None
    """Nats a token."""
    epoch: float | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None
    """None where it was not finite."""
    supervised_tokens: int | None = None
    loss_scale: float | None = None
    """Of float16."""
    overflow: bool | None = None
    images: int | None = None
    captions: int | None = None
    images_per_s: float | None = None
    """Runs from before rscap 0.1 tell speed and memory here, others in speed.jsonl."""
    captions_per_s: float | None = None
    memory_bytes: int | None = None

    def with_speed(self, speed: SpeedStep | None) -> TrainStep:
        """The same step with what speed.jsonl says of it."""
        return self.model_copy(update=speed.content()) if speed else self


class TrainEvaluation(Record):
    """A line of train.jsonl: scores and loss of the evaluation panel between two updates."""

    event: Literal["evaluation"]
    step: int
    split: str = "val"
    n: int = 0
    metrics: Mapping[str, float | None]
    loss: float | None = None
    degenerate: float | None = None
    """Share of the captions."""


class SpeedStep(Record):
    """A line of speed.jsonl."""

    step: int
    images_per_s: float | None = None
    captions_per_s: float | None = None
    memory_bytes: int | None = None
    """Peak of what tensors took of a GPU since the update before; resident memory of the process elsewhere."""
    reserved_bytes: int | None = None
    """Peak of what the allocator held of a GPU for them; None elsewhere."""
    seconds: float | None = None
    """Since the session began."""


class _Event(Record):
    event: str


_EVENTS: dict[str, type[TrainStep | TrainEvaluation]] = {"step": TrainStep, "evaluation": TrainEvaluation}


def read_train_log(path: Path) -> list[tuple[int, TrainStep | TrainEvaluation]]:
    """Updates and evaluations with their line numbers; a last line that was cut off is left out.

    Raises:
        StoreError: the file is missing, or another line is damaged; names the line.
    """
    rows: list[tuple[int, TrainStep | TrainEvaluation]] = []
    for number, line in numbered_lines(path, growing=True):
        where = f"{path}, line {number}"
        if kind := _EVENTS.get(_Event.parse(line, where=where).event):
            rows.append((number, kind.parse(line, where=where)))
    return rows


def read_speed_log(path: Path) -> dict[int, SpeedStep]:
    """Speed and memory by step; a last line that was cut off is left out.

    Raises:
        StoreError: the file is missing, or another line is damaged; names the line.
    """
    return {row.step: row for row in read_rows(path, SpeedStep, growing=True)}


def forget_speed_after(path: Path, step: int) -> None:
    """Take the lines of later steps out of speed.jsonl, and lines that cannot be read: they hold times alone."""
    kept = []
    for _, line in numbered_lines(path, growing=True):
        with suppress(StoreError):
            row = SpeedStep.parse(line, where=str(path))
            kept += [row] if row.step <= step else []
    write_rows(path, kept)


class EvaluationSettings(Record):
    """evaluation.json: what an evaluation in a folder of its own is of."""

    model: str | None = None
    """A run folder, or a base model."""
    data: dict[str, Any] = Field(default_factory=dict)
    """`[data]` of a recipe."""
    split: str | None = None
    limit: int | None = None
    prefix: str | None = None
    training_prefixes: tuple[str, ...] | None = None
    """The words that the model was trained with; none for a base model."""
    generate: dict[str, Any] = Field(default_factory=dict)
    """`[generate]` of a recipe."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths of one run folder; creates and reads it, knows nothing of models."""

    path: Path

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """Make a new run folder and mark it `started`.

        Raises:
            StoreError: something is there already; nothing is overwritten.
        """
        cls.check_free(path)
        path.mkdir(parents=True, exist_ok=True)
        run = cls(path)
        run.start()
        return run

    @staticmethod
    def check_free(path: Path) -> None:
        """Raise before work begins that could not be stored.

        Raises:
            StoreError: something is at `path` already.
        """
        if path.exists() and (not path.is_dir() or any(not _is_leftover(inside) for inside in path.iterdir())):
            raise StoreError(
                f"{path} exists and is not an empty folder",
                hint="choose another name with --out, or move the old run away",
            )

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """An existing run folder.

        Raises:
            StoreError: there is none at `path`.
        """
        run = cls(path)
        if not run.exists:
            raise StoreError(f"{path} is not a run folder: it has no {STATUS}", hint="`rscap train` makes one")
        return run

    def __fspath__(self) -> str:
        return str(self.path)

    @classmethod
    def inside(cls, folder: Path) -> list[RunFolder]:
        """The run folders that lie directly in a folder, by name."""
        return [cls(file.parent) for file in sorted(folder.glob(f"*/{STATUS}"))]

    @property
    def exists(self) -> bool:
        """Whether a run or an evaluation was begun here."""
        return self.status_file.is_file()

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def recipe_file(self) -> Path:
        return self.path / RECIPE

    @property
    def provenance_file(self) -> Path:
        return self.path / PROVENANCE

    @property
    def status_file(self) -> Path:
        return self.path / STATUS

    @property
    def parameters_file(self) -> Path:
        return self.path / PARAMETERS

    @property
    def rejected_file(self) -> Path:
        return self.path / REJECTED

    @property
    def removed_file(self) -> Path:
        return self.path / REMOVED

    @property
    def weighted_file(self) -> Path:
        return self.path / WEIGHTED

    @property
    def quality_file(self) -> Path:
        return self.path / QUALITY

    @property
    def seen_file(self) -> Path:
        return self.path / SEEN

    @property
    def train_log(self) -> Path:
        return self.path / TRAIN_LOG

    @property
    def speed_log(self) -> Path:
        return self.path / SPEED_LOG

    @property
    def checkpoints(self) -> Path:
        return self.path / CHECKPOINTS

    @property
    def adapter(self) -> Path:
        return self.path / ADAPTER

    @property
    def model(self) -> Path:
        return self.path / MODEL

    @property
    def trackers(self) -> Path:
        return self.path / TRACKERS

    @property
    def report_file(self) -> Path:
        return self.path / REPORT

    def learned(self) -> Path:
        """What training left: the adapter, or the whole model where all of it learned."""
        return self.adapter if self.adapter.is_dir() else self.model

    def predictions(self, split: str) -> Path:
        return self.path / PREDICTIONS / f"{split}.jsonl"

    def references(self, split: str) -> Path:
        return self.path / REFERENCES / f"{split}.jsonl"

    def scores(self, split: str) -> Path:
        return self.path / SCORES / f"{split}.json"

    def captions_so_far(self, split: str) -> Path:
        return self.path / f".captions-{split}.jsonl"

    @property
    def evaluation_file(self) -> Path:
        return self.path / EVALUATION

    def panel(self, split: str) -> Path:
        return self.path / PANEL / split

    def baseline(self, name: str) -> RunFolder:
        """The folder of a baseline scored beside this run; it holds predictions and scores only."""
        return RunFolder(self.path / BASELINES / name)

    def baselines(self) -> list[RunFolder]:
        """The baselines that were scored beside this run, by name."""
        parent = self.path / BASELINES
        return [RunFolder(path) for path in sorted(parent.iterdir()) if path.is_dir()] if parent.is_dir() else []

    def splits(self) -> list[str]:
        """The splits that have a score sheet."""
        return sorted(path.stem for path in (self.path / SCORES).glob("*.json"))

    def captioned(self) -> list[str]:
        """The splits that have predictions."""
        return sorted(path.stem for path in (self.path / PREDICTIONS).glob("*.jsonl"))

    def referenced(self) -> list[str]:
        """The splits that have references."""
        return sorted(path.stem for path in (self.path / REFERENCES).glob("*.jsonl"))

    def pictured(self) -> list[str]:
        """The splits that have a panel of images."""
        return sorted(path.name for path in (self.path / PANEL).glob("*") if path.is_dir())

    def status(self) -> Status:
        """How far the run came.

        Raises:
            StoreError: the status file is missing or damaged.
        """
        return Status.read(self.status_file)

    def start(self, since: str | None = None) -> None:
        """Say that work is on its way, `since` an earlier session began or from now."""
        Status(state="started", started=since or now()).write(self.status_file)

    def close(self, state: Ending, **details: Any) -> None:
        """Write the final state, last of all files; `details` are keys of `Status`."""
        Status(**{**self.status().content(), "state": state, "ended": now(), **details}).write(self.status_file)

    def state(self, split: str) -> FolderState:
        """How far the folder is on the way to scores of a split.

        Raises:
            StoreError: the status file is damaged.
        """
        if not self.path.exists():
            return FolderState("missing")
        if not self.exists:
            return FolderState("started", f"it has no {STATUS}")
        status = self.status()
        if status.state == "failed":
            return FolderState("refused" if status.refused else "failed", status.error or "")
        if status.state != "finished":
            return FolderState(status.state, f"{STATUS} says {status.state}")
        if self.scores(split).is_file():
            return FolderState("finished")
        if self.recipe_file.is_file():
            return FolderState("trained", f"no scores for the {split} split")
        return FolderState("failed", f"{STATUS} says finished, and there are no scores for the {split} split")


@dataclass(frozen=True, slots=True)
class FolderState:
    """How far one folder is, and why it is not further."""

    state: State
    reason: str = ""


def _is_leftover(path: Path) -> bool:
    """Whether a file was being written when its process was killed: see `atomic_path`."""
    return path.name.startswith(".") and path.name.endswith(".part")
