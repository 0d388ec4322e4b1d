"""What a step leaves behind: a line in train.jsonl, one in speed.jsonl, one on the screen and one with the trackers.

train.jsonl holds what is a function of the recipe alone, so that a resumed run writes the same bytes as one that was
never cut off. What the clock and the memory say stands in speed.jsonl.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rscap.errors import StoreError
from rscap.records import Example, Prediction
from rscap.store import write_jsonl
from rscap.training.trackers import Trackers

_RECENT_STEPS = 20


def memory_bytes(device: torch.device) -> int:
    """Peak bytes allocated on a GPU; resident bytes of this process elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return psutil.Process().memory_info().rss


@dataclass(slots=True)
class TrainLog:
    """Appends to the log files as it happens and drives the progress bar (on standard error).

    With `path` None nothing is written or shown: the log of a process that does not lead.
    """

    path: Path | None
    total_steps: int
    trackers: Trackers = field(default_factory=Trackers)
    started: float = field(default_factory=time.perf_counter)
    _recent: list[tuple[float, int, int]] = field(default_factory=list)
    _bar: Progress = field(
        default_factory=lambda: Progress(
            TextColumn("training"),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("left · {task.fields[state]}"),
            console=Console(stderr=True),
        )
    )
    shown: bool = True
    """Whether the progress bar is shown."""
    _task: Any = None

    def __enter__(self) -> TrainLog:
        self._bar.disable = self.path is None or not self.shown
        self._bar.start()
        self._task = self._bar.add_task("training", total=self.total_steps, state="")
        self._recent.append((time.perf_counter(), 0, 0))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # the terminal is gone
            self._bar.stop()
        self.trackers.close()

    @property
    def length(self) -> int:
        """Bytes of train.jsonl, all of them on the disk."""
        if self.path is None or not self.path.exists():
            return 0
        with self.path.open("ab") as stream:
            os.fsync(stream.fileno())
            return stream.tell()

    def rewind(self, *, length: int, step: int) -> None:
        """Forget what was logged after a checkpoint: it will be done, and logged, again.

        Raises:
            StoreError: the log is shorter than the checkpoint says.
        """
        self._bar.update(self._task, completed=step)
        if self.path is None:
            return
        size = self.path.stat().st_size if self.path.exists() else 0
        if size < length:
            raise StoreError(
                f"{self.path} has {size} bytes, and had {length} at the checkpoint of step {step}",
                hint="bring the file back; or remove this checkpoint, and the run goes on from the one before it",
            )
        if size and not step:
            self.say("there is no checkpoint: the run begins again at step 1")
        if size:
            with self.path.open("r+b") as stream:
                stream.truncate(length)
        if self.speed_path.exists():
            write_jsonl(self.speed_path, _rows_up_to(self.speed_path, step))

    @property
    def speed_path(self) -> Path:
        assert self.path is not None
        return self.path.with_name("speed.jsonl")

    def say(self, message: str) -> None:
        """A line above the progress bar."""
        if self.path is not None and self.shown:
            with suppress(OSError):
                self._bar.console.print(message, markup=False, highlight=False)

    def step(self, *, step: int, loss: float, images: int, captions: int, memory: int, **values: Any) -> None:
        """Log one update; rates are those of the last twenty steps."""
        now = time.perf_counter()
        self._recent = [*self._recent[-_RECENT_STEPS:], (now, images, captions)]
        seconds = max(now - self._recent[0][0], 1e-9)
        images_per_s = sum(entry[1] for entry in self._recent[1:]) / seconds
        captions_per_s = sum(entry[2] for entry in self._recent[1:]) / seconds
        facts = {"step": step, "loss": loss, **values, "images": images, "captions": captions}
        speed = {
            "images_per_s": round(images_per_s, 3),
            "captions_per_s": round(captions_per_s, 3),
            "memory_bytes": memory,
            "seconds": round(now - self.started, 3),
        }
        self._append(self.path, event="step", **facts)
        self._append(self.path and self.speed_path, step=step, **speed)
        self.trackers.log({"train": {**facts, **speed}}, step=step)
        state = f"loss {loss:.3f} · {captions_per_s:.1f} captions/s · {memory / 2**30:.2f} GiB"
        self._bar.update(self._task, completed=step, state=state)

    def evaluation(
        self, *, step: int, split: str, n: int, metrics: dict[str, float], loss: float, degenerate: float
    ) -> None:
        """Log scores of captions generated between two steps; the time they took is not charged to the rates."""
        facts = {"metrics": metrics, "loss": loss if math.isfinite(loss) else None, "degenerate": degenerate}
        self._append(self.path, event="evaluation", step=step, split=split, n=n, **facts)
        self.trackers.log({split: {**metrics, "loss": loss, "degenerate": degenerate}}, step=step)
        shown = "  ".join(
            f"{name} {value:.3f}" for name, value in metrics.items() if name in ("BLEU-4", "ROUGE-L", "CIDEr")
        )
        bad = f"  degenerate {degenerate:.0%}" if degenerate else ""
        self.say(f"step {step}: {shown}  loss {loss:.3f}{bad}  ({split}, n = {n})")
        self._recent = [(time.perf_counter(), 0, 0)]

    def captions(self, step: int, examples: Sequence[Example], predictions: Sequence[Prediction]) -> None:
        """Show the trackers some images with the captions generated for them."""
        self.trackers.captions(step, examples, predictions)

    def _append(self, path: Path | None, **row: Any) -> None:
        if path is None:
            return
        try:
            with path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(row, allow_nan=False) + "\n")
        except OSError as error:
            raise StoreError(
                f"{path} could not be written: {error.strerror or error}",
                hint=f"make room, then go on from the last checkpoint with `rscap train {path.parent} --resume`",
            ) from error


def _rows_up_to(path: Path, step: int) -> list[dict[str, Any]]:
    """Rows up to a step. They hold times alone: a line that cannot be read, such as one cut off, is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(json.JSONDecodeError, KeyError, TypeError):
            row = json.loads(line)
            if row["step"] <= step:
                rows.append(row)
    return rows
