"""The log of a run: train.jsonl is a function of the recipe, speed.jsonl is what the clock and the memory said."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

from rscap.errors import StoreError
from rscap.store.files import numbered_lines
from rscap.store.record import Record, read_rows, write_rows


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
    reward: float | None = None
    """Mean of the captions that were drawn; these four in training on a reward alone."""
    reward_spread: float | None = None
    """Standard deviation within an image, on average."""
    ended: float | None = None
    """Share of the drawn captions that ended by themselves."""
    distinct: float | None = None
    """Share of the drawn captions that differ from the others of their image."""

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
    watch: Mapping[str, float] | None = None
    """What training on a reward may cost: see `rscap.scoring.fluency`; and the mean reward of the panel."""


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
