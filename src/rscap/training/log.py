"""Log every update in the run folder, on the screen and with the trackers.

The training log holds what depends on the recipe alone, so a resumed run writes the same bytes as an uninterrupted one.
Times and memory are in the speed log.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import psutil
import torch

from rscap.errors import StoreError
from rscap.metrics import TABLE
from rscap.progress import ProgressBar, Say, to_stderr
from rscap.records import Example, Prediction
from rscap.store import (
    SPEED_LOG,
    Record,
    SpeedStep,
    TrainEvaluation,
    TrainStep,
    append_row,
    forget_speed_after,
    open_growing,
)
from rscap.training.trackers import Trackers

_RECENT_STEPS = 20


class Memory(NamedTuple):
    """The memory that an update took, in bytes."""

    taken: int
    """By tensors of a GPU, at their peak; by this process elsewhere."""
    reserved: int | None = None
    """By the allocator of a GPU, at its peak."""


def memory_since(device: torch.device) -> Memory:
    """Peaks since the last call on a GPU; what this process has now elsewhere."""
    if device.type != "cuda":
        return Memory(psutil.Process().memory_info().rss)
    found = Memory(torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device))
    torch.cuda.reset_peak_memory_stats(device)
    return found


@dataclass(slots=True)
class TrainLog:
    """Appends to the log files as updates are done, and shows progress and messages.

    With `path` None, in a process that does not lead, it writes and shows nothing.
    """

    path: Path | None
    total_steps: int
    trackers: Trackers = field(default_factory=Trackers)
    _: KW_ONLY
    say: Say = to_stderr
    """Receives messages."""
    shows_progress: bool = True
    started: float = field(default_factory=time.perf_counter)
    _recent: list[tuple[float, int, int]] = field(default_factory=list)
    _bar: ProgressBar = field(init=False)

    def __post_init__(self) -> None:
        self._bar = ProgressBar("training", shown=self.shows_progress and self.path is not None)

    def __enter__(self) -> TrainLog:
        self._bar.__enter__()
        self._recent.append((time.perf_counter(), 0, 0))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, trace)
        self.trackers.close()

    @property
    def length(self) -> int:
        """Bytes of the training log, all of them flushed to disk."""
        if self.path is None or not self.path.exists():
            return 0
        with open_growing(self.path) as stream:
            os.fsync(stream.fileno())
            return stream.seek(0, os.SEEK_END)

    def rewind(self, *, length: int, step: int) -> None:
        """Remove what was logged after a checkpoint, since these updates will be done and logged again.

        Raises:
            StoreError: the log is shorter than it was at the checkpoint.
        """
        self._bar(step, self.total_steps)
        if self.path is None:
            return
        size = self.path.stat().st_size if self.path.exists() else 0
        if size < length:
            raise StoreError(
                f"{self.path} has {size} bytes, but had {length} at the checkpoint of step {step}",
                hint="restore the file; or remove this checkpoint, to resume from the one before it",
            )
        if size and not step:
            self.note("there is no checkpoint: the run starts again at step 1")
        if size:
            with open_growing(self.path) as stream:
                stream.truncate(length)
        if self.speed_path.exists():
            forget_speed_after(self.speed_path, step)

    @property
    def speed_path(self) -> Path:
        assert self.path is not None
        return self.path.with_name(SPEED_LOG)

    def note(self, message: str) -> None:
        """Pass a message on, if this process leads."""
        if self.path is not None:
            with suppress(OSError):  # the terminal was closed
                self.say(message)

    def step(self, *, step: int, loss: float, images: int, captions: int, memory: Memory, **values: Any) -> None:
        """Log one update; rates are means over the last twenty steps."""
        now = time.perf_counter()
        self._recent = [*self._recent[-_RECENT_STEPS:], (now, images, captions)]
        seconds = max(now - self._recent[0][0], 1e-9)
        images_per_s = sum(entry[1] for entry in self._recent[1:]) / seconds
        captions_per_s = sum(entry[2] for entry in self._recent[1:]) / seconds
        facts = TrainStep(event="step", step=step, loss=loss, **values, images=images, captions=captions)
        speed = SpeedStep(
            step=step,
            images_per_s=round(images_per_s, 3),
            captions_per_s=round(captions_per_s, 3),
            memory_bytes=memory.taken,
            reserved_bytes=memory.reserved,
            seconds=round(now - self.started, 3),
        )
        self._append(self.path, facts)
        self._append(self.path and self.speed_path, speed)
        self.trackers.log({"train": {**facts.content(), **speed.content()}}, step=step)
        details = f"loss {loss:.3f} · {captions_per_s:.1f} captions/s · {memory.taken / 2**30:.2f} GiB"
        self._bar(step, self.total_steps, details)

    def evaluation(
        self,
        *,
        step: int,
        split: str,
        n: int,
        metrics: dict[str, float],
        loss: float,
        degenerate: float,
        watch: Mapping[str, float],
    ) -> None:
        """Log the scores of captions generated between two updates; the rates do not include the time they took."""
        known = loss if math.isfinite(loss) else None
        self._append(
            self.path,
            TrainEvaluation(
                event="evaluation",
                step=step,
                split=split,
                n=n,
                metrics=metrics,
                loss=known,
                degenerate=degenerate,
                **({"watch": dict(watch)} if watch else {}),
            ),
        )
        self.trackers.log({split: {**metrics, "loss": loss, "degenerate": degenerate, **watch}}, step=step)
        short = [line.name for line in TABLE if line.place == "always" and line.name in metrics]
        shown = "  ".join(f"{name} {metrics[name]:.3f}" for name in short)
        bad = f"  degenerate {degenerate:.0%}" if degenerate else ""
        if watch:
            bad += (
                f"  reward {watch['reward']:.3f}  bad endings {watch['bad_endings']:.1%}  "
                f"distinct {watch['distinct_captions']:.0%}"
            )
            if "thing-errors" in watch:
                bad += f"  wrong things {watch['thing-errors']:.0%}"
        self.note(f"step {step}: {shown}  loss {loss:.3f}{bad}  ({split}, n = {n})")
        self._recent = [(time.perf_counter(), 0, 0)]

    def captions(self, step: int, examples: Sequence[Example], predictions: Sequence[Prediction]) -> None:
        """Send images with their generated captions to the trackers."""
        self.trackers.captions(step, examples, predictions)

    def _append(self, path: Path | None, row: Record) -> None:
        if path is None:
            return
        try:
            append_row(path, row)
        except OSError as error:
            raise StoreError(
                f"{path} could not be written: {error.strerror or error}",
                hint=f"free disk space, then resume from the last checkpoint with `rscap train {path.parent} --resume`",
            ) from error
