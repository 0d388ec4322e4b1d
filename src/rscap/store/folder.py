"""The folder of one run, or of an evaluation that stands apart from its run: where its files are, and how far it is."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rscap.errors import StoreError
from rscap.store.door import plain_path
from rscap.store.files import (
    ADAPTER,
    BASELINES,
    CHECKPOINTS,
    EVALUATION,
    MODEL,
    PANEL,
    PARAMETERS,
    POOL,
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
    THUMBNAIL_FOLDER,
    TRACKERS,
    TRAIN_LOG,
    WEIGHTED,
    now,
)
from rscap.store.growing import locked
from rscap.store.run import Ending, Status

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
            there = os.path.lexists(path / STATUS)
            what = f"its {STATUS} is no file" if there else f"it has no {STATUS}"
            raise StoreError(f"{path} is not a run folder: {what}", hint="`rscap train` makes one")
        return run

    def __fspath__(self) -> str:
        return str(self.path)

    @classmethod
    def inside(cls, folder: Path) -> list[RunFolder]:
        """The run folders that lie directly in a folder, by name."""
        return [cls(file.parent) for file in sorted(folder.glob(f"*/{STATUS}"))]

    def _at(self, *parts: str) -> Path:
        """A path in this folder, which other people may have made: see `plain_path`."""
        return plain_path(self.path, *parts)

    def locked(self, part: str = "") -> AbstractContextManager[None]:
        """Hold the folder, or a part of it, for this process alone.

        Raises:
            StoreError: another process is at work in it, or it cannot be locked.
        """
        name = f".lock-{part}" if part else ".lock"
        return locked(self.path / name, busy=f"another process is at work in {self.path}")

    @property
    def exists(self) -> bool:
        """Whether a run or an evaluation was begun here."""
        return self.status_file.is_file()

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def recipe_file(self) -> Path:
        return self._at(RECIPE)

    @property
    def provenance_file(self) -> Path:
        return self._at(PROVENANCE)

    @property
    def status_file(self) -> Path:
        return self._at(STATUS)

    @property
    def parameters_file(self) -> Path:
        return self._at(PARAMETERS)

    @property
    def rejected_file(self) -> Path:
        return self._at(REJECTED)

    @property
    def removed_file(self) -> Path:
        return self._at(REMOVED)

    @property
    def weighted_file(self) -> Path:
        return self._at(WEIGHTED)

    @property
    def quality_file(self) -> Path:
        return self._at(QUALITY)

    @property
    def seen_file(self) -> Path:
        return self._at(SEEN)

    @property
    def pool_file(self) -> Path:
        return self._at(POOL)

    @property
    def train_log(self) -> Path:
        return self._at(TRAIN_LOG)

    @property
    def speed_log(self) -> Path:
        return self._at(SPEED_LOG)

    @property
    def checkpoints(self) -> Path:
        return self._at(CHECKPOINTS)

    @property
    def adapter(self) -> Path:
        return self._at(ADAPTER)

    @property
    def model(self) -> Path:
        return self._at(MODEL)

    @property
    def trackers(self) -> Path:
        return self._at(TRACKERS)

    @property
    def report_file(self) -> Path:
        return self._at(REPORT)

    def learned(self) -> Path:
        """What training left: the adapter, or the whole model where all of it learned."""
        return self.adapter if self.adapter.is_dir() else self.model

    def predictions(self, split: str) -> Path:
        return self._at(PREDICTIONS, f"{split}.jsonl")

    def references(self, split: str) -> Path:
        return self._at(REFERENCES, f"{split}.jsonl")

    def scores(self, split: str) -> Path:
        return self._at(SCORES, f"{split}.json")

    def captions_so_far(self, split: str) -> Path:
        return self._at(f".captions-{split}.jsonl")

    @property
    def evaluation_file(self) -> Path:
        return self._at(EVALUATION)

    def panel(self, split: str) -> Path:
        return self._at(PANEL, split)

    def thumbnails(self, split: str) -> Path:
        """Small pictures of the evaluated images."""
        return self._at(THUMBNAIL_FOLDER, f"{split}.jsonl")

    def baseline(self, name: str) -> RunFolder:
        """The folder of a baseline scored beside this run; it holds predictions and scores only."""
        return RunFolder(self._at(BASELINES, name))

    def baselines(self) -> list[RunFolder]:
        """The baselines that were scored beside this run, by name."""
        parent = self._at(BASELINES)
        names = sorted(path.name for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []
        return [self.baseline(name) for name in names]

    def splits(self) -> list[str]:
        """The splits that have a score sheet."""
        return sorted(path.stem for path in self._at(SCORES).glob("*.json"))

    def captioned(self) -> list[str]:
        """The splits that have predictions."""
        return sorted(path.stem for path in self._at(PREDICTIONS).glob("*.jsonl"))

    def referenced(self) -> list[str]:
        """The splits that have references."""
        return sorted(path.stem for path in self._at(REFERENCES).glob("*.jsonl"))

    def pictured(self) -> list[str]:
        """The splits that have a panel of images."""
        return sorted(path.name for path in self._at(PANEL).glob("*") if path.is_dir())

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
