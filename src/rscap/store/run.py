"""What the files of a run folder say, but for its log, its captions and its scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from rscap import errors
from rscap.records import Rejected
from rscap.store.files import write_json, write_jsonl
from rscap.store.record import Record, read_rows

Ending = Literal["finished", "interrupted", "failed"]
"""What a run says of its own end, in its status file; until then it says `started`."""

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


class AdapterOrigin(Record):
    """An adapter of another program that was asked for captions."""

    name: str
    """A folder, or a name on the Hub."""
    revision: str | None = None
    """The commit on the Hub."""
    digest: str | None = None
    """SHA-256 of its weights."""


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
    adapter: AdapterOrigin | None = None
    """Of another program; a run's own is in its folder."""
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
    base: str | None = None
    """The base model of an adapter of another program, where it is not the one that the adapter names."""
    quantisation: str | None = None
    """Of the base model, where it was quantised."""
    merged: bool = False
    """The adapter was added to the weights."""
