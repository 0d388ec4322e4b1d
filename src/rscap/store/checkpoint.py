"""The folder of checkpoints: what a run that was killed resumes from, bit for bit. The tensors are the training's own.

    checkpoints/start.safetensors   the initial factors of methods that compute them from weights or data, once a run
    checkpoints/step-000120/
      weights.safetensors           every trainable parameter, by name, in its own precision
      optimiser.safetensors         AdamW's two moments and its step, `<parameter>/<state>`
      progress.json                 the state of the run, the SHA-256 of the other two files, and one of itself

Order, captions, prompts, augmentation and dropout are pure functions of (seed, epoch, id), so nothing else is needed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rscap.errors import StoreError, WrittenByNewer
from rscap.store.door import plain_path
from rscap.store.files import read_json, write_json

CHECKPOINT_START = "start.safetensors"
CHECKPOINT_WEIGHTS = "weights.safetensors"
CHECKPOINT_OPTIMISER = "optimiser.safetensors"
CHECKPOINT_PROGRESS = "progress.json"
_OWN = "sha256"
_VERSION = 1


@dataclass(slots=True)
class Best:
    """The best evaluation so far."""

    step: int
    value: float


@dataclass(slots=True)
class TrainingState:
    """The state of a run after `step` updates, besides weights and optimiser: progress.json."""

    step: int = 0
    images: int = 0
    tokens: int = 0
    """Supervised tokens trained on."""
    seconds: float = 0.0
    """Time spent in the loop, over all sessions."""
    halvings: int = 0
    """How often micro batches were halved because memory ran out."""
    recomputes: bool = False
    """Whether gradient checkpointing was turned on during training, because memory ran out."""
    short_at: int | None = None
    """Bytes of the memory that ran out; a run that resumes on a larger card begins whole again."""
    headroom: dict[str, float] = field(default_factory=dict)
    """How many times the largest float16 activation of a layer fits below overflow, in the first update."""
    overflows: int = 0
    """Consecutive updates up to now whose gradients overflowed float16."""
    best: Best | None = None
    waited: int = 0
    """Consecutive evaluations without a new best."""
    vetoed: int = 0
    """Those of them with too many degenerate captions."""
    stopped: str | None = None
    """Why training ended before its last step; None if it did not."""
    scaler: dict[str, float] = field(default_factory=dict)
    """State of the loss scaling for float16."""
    log_bytes: int = 0
    """Length of train.jsonl."""
    rejected: list[dict[str, str]] = field(default_factory=list)


def write_progress(folder: Path, state: TrainingState, digests: Mapping[str, str]) -> None:
    """Write progress.json; `digests` are the SHA-256 of the checkpoint's other files, by name."""
    row = {"version": _VERSION, "digests": dict(digests), **asdict(state)}
    write_json(folder / CHECKPOINT_PROGRESS, {**row, _OWN: _digest(row)})


def read_progress(folder: Path) -> tuple[TrainingState, dict[str, str]]:
    """The state of a run at a checkpoint, and the digests of the checkpoint's other files.

    Raises:
        StoreError: progress.json is missing or damaged, or a newer rscap wrote it.
    """
    path = plain_path(folder, CHECKPOINT_PROGRESS)
    row = read_json(path)
    version = row.get("version") if isinstance(row, dict) else None
    if isinstance(version, int) and version > _VERSION:
        raise WrittenByNewer(
            f"{path} was written by a newer rscap: its format is version {version}, and this rscap reads up to version "
            f"{_VERSION}",
            hint="resume the run with a newer rscap",
        )
    if version != _VERSION:
        raise StoreError(f"{path} is not of a checkpoint of version {_VERSION}")
    if row.pop(_OWN, None) != _digest(row):
        raise StoreError(f"{path} is damaged: its SHA-256 does not match the one it holds")
    try:
        del row["version"]
        digests, best = row.pop("digests"), row.pop("best")
        return TrainingState(**row, best=Best(**best) if best else None), dict(digests)
    except (TypeError, KeyError, ValueError) as error:
        raise StoreError(f"{path} is damaged: {error}") from error


def best_step(folder: Path) -> int | None:
    """The best step so far according to a checkpoint; None also where it cannot be read."""
    try:
        best = read_progress(folder)[0].best
    except StoreError:
        return None
    return best.step if best else None


def _digest(row: Mapping[str, Any]) -> str:
    """SHA-256 of the values in progress.json, independent of their order and of spaces."""
    return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()
