"""What a step leaves behind: a line in train.jsonl and a line on the screen."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_RECENT_STEPS = 20


def memory_bytes(device: torch.device) -> int:
    """Peak bytes allocated on a GPU; resident bytes of this process elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return psutil.Process().memory_info().rss


@dataclass(slots=True)
class TrainLog:
    """Appends to train.jsonl as it happens and drives the progress bar (on standard error)."""

    path: Path
    total_steps: int
    started: float = field(default_factory=time.perf_counter)
    _recent: list[tuple[float, int, int]] = field(default_factory=list)
    _bar: Progress = field(
        default_factory=lambda: Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
    )
    _task: Any = None

    def __enter__(self) -> TrainLog:
        self._bar.start()
        self._task = self._bar.add_task("training", total=self.total_steps, state="")
        self._recent.append((time.perf_counter(), 0, 0))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def step(self, *, step: int, loss: float, images: int, captions: int, memory: int, **values: Any) -> None:
        """Log one update; rates are those of the last twenty steps."""
        now = time.perf_counter()
        self._recent = [*self._recent[-_RECENT_STEPS:], (now, images, captions)]
        seconds = max(now - self._recent[0][0], 1e-9)
        images_per_s = sum(entry[1] for entry in self._recent[1:]) / seconds
        captions_per_s = sum(entry[2] for entry in self._recent[1:]) / seconds
        self._append(
            event="step",
            step=step,
            loss=loss,
            **values,
            images_per_s=round(images_per_s, 3),
            captions_per_s=round(captions_per_s, 3),
            memory_bytes=memory,
            seconds=round(now - self.started, 3),
        )
        rates = f"{captions_per_s:.1f} captions/s · {images_per_s:.1f} images/s"
        state = f"loss {loss:.3f} · {rates} · {memory / 2**30:.2f} GiB"
        self._bar.update(self._task, completed=step, state=state)

    def evaluation(self, *, step: int, split: str, n: int, metrics: dict[str, float], seconds: float) -> None:
        """Log scores of captions generated between two steps; the time they took is not charged to the rates."""
        self._append(event="evaluation", step=step, split=split, n=n, metrics=metrics, seconds=round(seconds, 3))
        shown = "  ".join(
            f"{name} {value:.3f}" for name, value in metrics.items() if name in ("BLEU-4", "ROUGE-L", "CIDEr")
        )
        self._bar.console.print(f"step {step}: {shown}  ({split}, n = {n})")
        self._recent = [(time.perf_counter(), 0, 0)]

    def _append(self, **row: Any) -> None:
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row, allow_nan=False) + "\n")
