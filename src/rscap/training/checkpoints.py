"""Checkpoints: a run that was killed resumes from the newest one, bit for bit.

A checkpoint is written to a temporary folder, which is then renamed. Its digests are verified before it is used.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, uint8

from rscap.errors import StoreError, WrittenByNewer
from rscap.progress import Say
from rscap.provenance import file_digest
from rscap.store import (
    CHECKPOINT_OPTIMISER,
    CHECKPOINT_PROGRESS,
    CHECKPOINT_START,
    CHECKPOINT_WEIGHTS,
    TrainingState,
    atomic_path,
    best_step,
    plain_path,
    read_progress,
    remove_leftover,
    write_progress,
)

_PREFIX, _DAMAGED, _SAVING = "step-", "damaged-", ".saving-"
_OWN = "sha256"

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint that was read and whose digests are right."""

    folder: Path
    state: TrainingState
    weights: dict[str, Tensor]
    optimiser: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints of one run; the newest `keep` and the best are kept."""

    folder: Path
    keep: int

    def at(self, step: int) -> Path:
        return plain_path(self.folder, f"{_PREFIX}{step:06}")

    def steps(self) -> list[int]:
        """The steps of all checkpoints, in order."""
        return sorted(int(path.name.removeprefix(_PREFIX)) for path in self.folder.glob(f"{_PREFIX}[0-9]*"))

    def save(self, state: TrainingState, weights: Tensors, optimiser: Tensors) -> None:
        """Write a checkpoint, whole or not at all, then remove those that are no longer kept.

        Raises:
            StoreError: the disk is full or not writable; names the last checkpoint that is intact.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not self.at(state.step).exists():
                self._write(state, weights, optimiser)
        except (OSError, SafetensorError) as error:
            last = max(self.steps(), default=None)
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise StoreError(
                f"the checkpoint of step {state.step} could not be written: {reason}",
                hint=(f"the one of step {last} is intact" if last is not None else "there is none before it")
                + f"; free disk space, then resume with `rscap train {self.folder.parent} --resume`",
            ) from error
        self._remove_old(state)

    def newest(self, say: Say) -> Saved | None:
        """The newest intact checkpoint; `say` reports a damaged one, which is renamed and skipped.

        Raises:
            StoreError: there are checkpoints, and all are damaged.
        """
        for pattern in (f"{_SAVING}*", f".{CHECKPOINT_START}.*"):  # of a process that was killed
            for leftover in self.folder.glob(pattern):
                remove_leftover(leftover)
        steps = self.steps()
        for step in reversed(steps):
            try:
                return read_checkpoint(self.at(step))
            except WrittenByNewer:
                raise
            except StoreError as error:
                aside = self.folder / f"{_DAMAGED}{self.at(step).name}"
                say(f"{error.message}: renamed to {aside.name}")
                remove_leftover(aside)
                self.at(step).rename(aside)
        if steps or any(self.folder.glob(f"{_DAMAGED}*")):
            raise StoreError(
                f"every checkpoint in {self.folder} is damaged",
                hint="remove this folder to train from the beginning",
            )
        return None

    def write_start(self, factors: Tensors) -> None:
        """Keep the initial factors of the adapters, from which every later session builds the same model."""
        held = {name: value.detach().cpu().contiguous() for name, value in factors.items()}
        with atomic_path(plain_path(self.folder, CHECKPOINT_START)) as temporary:
            save_file(held, temporary, metadata={_OWN: _tensors_digest(held)})

    def has_start(self) -> bool:
        return (plain_path(self.folder, CHECKPOINT_START)).exists()

    def read_start(self) -> dict[str, Tensor]:
        """The initial factors of the adapters.

        Raises:
            StoreError: the file is damaged.
        """
        path = plain_path(self.folder, CHECKPOINT_START)
        try:
            with safe_open(path, framework="pt") as stream:
                digest = (stream.metadata() or {}).get(_OWN)
                factors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise _damaged_start(path, str(error)) from error
        if digest != _tensors_digest(factors):
            raise _damaged_start(path, "its SHA-256 does not match the one it holds")
        return factors

    def _write(self, state: TrainingState, weights: Tensors, optimiser: Tensors) -> None:
        building = Path(tempfile.mkdtemp(prefix=_SAVING, dir=self.folder))
        try:
            digests = {}
            for name, tensors in ((CHECKPOINT_WEIGHTS, weights), (CHECKPOINT_OPTIMISER, optimiser)):
                save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, building / name)
                (building / name).chmod(0o644)
                _sync(building / name)
                digests[name] = file_digest(building / name)
            write_progress(building, state, digests)
            building.chmod(0o755)
            building.rename(self.at(state.step))
            _sync(self.folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)

    def _remove_old(self, state: TrainingState) -> None:
        steps = self.steps()
        kept = {*steps[-self.keep :], state.step}
        kept |= {
            best for step in kept if (best := best_step(self.at(step))) is not None
        }  # also of earlier ones: a run may resume there
        for step in set(steps) - kept:
            remove_leftover(self.at(step))


def read_checkpoint(folder: Path) -> Saved:
    """Read a checkpoint and verify every byte of it.

    Raises:
        StoreError: a file is missing, truncated or changed; names it.
    """
    state, digests = read_progress(folder)
    tensors = []
    for name in (CHECKPOINT_WEIGHTS, CHECKPOINT_OPTIMISER):
        path = plain_path(folder, name)
        if not path.is_file():
            raise StoreError(f"{path} does not exist")
        if file_digest(path) != digests.get(name):
            raise StoreError(f"{path} is damaged: its SHA-256 does not match the one in {CHECKPOINT_PROGRESS}")
        tensors.append(load_file(path))
    return Saved(folder, state, *tensors)


def _damaged_start(path: Path, reason: str) -> StoreError:
    return StoreError(
        f"{path} is damaged: {reason}",
        hint="restore the file, or start another run: the checkpoints are of no use without it",
    )


def _tensors_digest(tensors: Tensors) -> str:
    """SHA-256 of names, types, shapes and values, independent of the order of the tensors."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        digest.update(value.contiguous().view(-1).view(uint8).numpy().data)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    """Flush a file or folder to disk, so that a power failure after a rename cannot lose it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
