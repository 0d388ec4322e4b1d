"""Checkpoints: what a killed run goes on from, bit for bit.

    checkpoints/step-000120/
      weights.safetensors     every parameter that learns, by name, in the precision it learns in
      optimiser.safetensors   AdamW's two moments and its step, `<parameter>/<state>`
      progress.json           where the run stands, the SHA-256 of the other two, and one of itself

A folder is written beside its place and takes its name in one rename; before it is believed its digests are checked.
Order, captions, prompts, augmentation and dropout are pure functions of (seed, epoch, id), so that is all there is.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from rscap.errors import StoreError
from rscap.provenance import file_digest
from rscap.store import read_json, write_json

WEIGHTS, OPTIMISER, PROGRESS = "weights.safetensors", "optimiser.safetensors", "progress.json"
_PREFIX, _DAMAGED, _SAVING = "step-", "damaged-", ".saving-"
_OWN = "sha256"
_VERSION = 1

Tensors = Mapping[str, Tensor]


@dataclass(slots=True)
class Best:
    """The best evaluation so far."""

    step: int
    value: float


@dataclass(slots=True)
class Progress:
    """Where a run stands after `step` updates."""

    step: int = 0
    images: int = 0
    tokens: int = 0
    """Supervised tokens learned from."""
    seconds: float = 0.0
    """Time spent in the loop, all sittings together."""
    halvings: int = 0
    """How often micro batches were cut in two because memory ran out."""
    recomputes: bool = False
    """Whether gradient checkpointing was turned on on the way, because memory ran out."""
    overflows: int = 0
    """Updates in a row that float16 could not hold, up to now."""
    best: Best | None = None
    waited: int = 0
    """Evaluations in a row without a new best."""
    vetoed: int = 0
    """Those of them that had too many degenerate captions."""
    stopped: str | None = None
    """Why training ended before its last step, if it did."""
    scaler: dict[str, float] = field(default_factory=dict)
    """State of the loss scaling of float16."""
    log_bytes: int = 0
    """Length of train.jsonl."""
    rejected: list[dict[str, str]] = field(default_factory=list)

    @classmethod
    def parse(cls, row: dict[str, Any]) -> Progress:
        best = row.pop("best")
        return cls(**row, best=Best(**best) if best else None)


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint that was read back and found whole."""

    folder: Path
    progress: Progress
    weights: dict[str, Tensor]
    optimiser: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints of one run; the last `keep` and the best are kept."""

    folder: Path
    keep: int

    def at(self, step: int) -> Path:
        return self.folder / f"{_PREFIX}{step:06}"

    def steps(self) -> list[int]:
        """The steps there are checkpoints of, in order."""
        return sorted(int(path.name.removeprefix(_PREFIX)) for path in self.folder.glob(f"{_PREFIX}[0-9]*"))

    def save(self, progress: Progress, weights: Tensors, optimiser: Tensors) -> None:
        """Write a checkpoint whole or not at all, then remove those that are no longer kept.

        Raises:
            StoreError: the disk is full or cannot be written; says which checkpoint is still good.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not self.at(progress.step).exists():
                self._write(progress, weights, optimiser)
        except (OSError, SafetensorError) as error:
            last = max(self.steps(), default=None)
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise StoreError(
                f"the checkpoint of step {progress.step} could not be written: {reason}",
                hint=(f"the one of step {last} is whole" if last is not None else "there is none before it")
                + f"; make room, then go on with `rscap train {self.folder.parent} --resume`",
            ) from error
        self._remove_old(progress)

    def newest(self, say: Callable[[str], None]) -> Saved | None:
        """The newest checkpoint that is whole; a damaged one is named, set aside and passed over.

        Raises:
            StoreError: there are checkpoints and all of them are damaged.
        """
        for leftover in self.folder.glob(f"{_SAVING}*"):  # a save that was cut off
            shutil.rmtree(leftover)
        steps = self.steps()
        for step in reversed(steps):
            try:
                return read_checkpoint(self.at(step))
            except StoreError as error:
                aside = self.folder / f"{_DAMAGED}{self.at(step).name}"
                say(f"{error.message}: set aside as {aside.name}")
                if aside.exists():
                    shutil.rmtree(aside)
                self.at(step).rename(aside)
        if steps or any(self.folder.glob(f"{_DAMAGED}*")):
            raise StoreError(
                f"every checkpoint in {self.folder} is damaged",
                hint="remove the folder to train from the beginning",
            )
        return None

    def _write(self, progress: Progress, weights: Tensors, optimiser: Tensors) -> None:
        building = Path(tempfile.mkdtemp(prefix=_SAVING, dir=self.folder))
        try:
            digests = {}
            for name, tensors in ((WEIGHTS, weights), (OPTIMISER, optimiser)):
                save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, building / name)
                (building / name).chmod(0o644)
                _sync(building / name)
                digests[name] = file_digest(building / name)
            row = {"version": _VERSION, "digests": digests, **asdict(progress)}
            write_json(building / PROGRESS, {**row, _OWN: _row_digest(row)})
            building.chmod(0o755)
            building.rename(self.at(progress.step))
            _sync(self.folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)

    def _remove_old(self, progress: Progress) -> None:
        steps = self.steps()
        kept = {*steps[-self.keep :], progress.step}
        kept |= {best for step in kept if (best := self._best_of(step)) is not None}  # who goes back needs theirs, too
        for step in set(steps) - kept:
            shutil.rmtree(self.at(step))

    def _best_of(self, step: int) -> int | None:
        """The best step that the checkpoint of `step` knows of."""
        try:
            best = read_json(self.at(step) / PROGRESS)["best"]
            return int(best["step"]) if best else None
        except (StoreError, KeyError, TypeError, ValueError):
            return None


def read_checkpoint(folder: Path) -> Saved:
    """Read a checkpoint and check every byte of it.

    Raises:
        StoreError: a file is missing, cut short or changed; names it.
    """
    row = read_json(folder / PROGRESS)
    if not isinstance(row, dict) or row.get("version") != _VERSION:
        raise StoreError(f"{folder / PROGRESS} is not the progress of a checkpoint of version {_VERSION}")
    if row.pop(_OWN, None) != _row_digest(row):
        raise StoreError(f"{folder / PROGRESS} is damaged: its SHA-256 is not the one it holds")
    del row["version"]
    tensors = []
    digests = row.pop("digests", {})
    for name in (WEIGHTS, OPTIMISER):
        path = folder / name
        if not path.is_file():
            raise StoreError(f"{path} does not exist")
        if file_digest(path) != digests.get(name):
            raise StoreError(f"{path} is damaged: its SHA-256 is not the one in {PROGRESS}")
        tensors.append(load_file(path))
    try:
        progress = Progress.parse(row)
    except (TypeError, KeyError) as error:
        raise StoreError(f"{folder / PROGRESS} is damaged: {error}") from error
    return Saved(folder, progress, *tensors)


def _row_digest(row: Mapping[str, Any]) -> str:
    """SHA-256 over the progress itself, whatever the order and the spaces of its file."""
    return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()


def _sync(path: Path) -> None:
    """Have the disk hold what was written, so that a power cut cannot undo a rename's promise."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
