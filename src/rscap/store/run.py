"""The folder of one run, or of an evaluation that stands apart from its run: what lies where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rscap.errors import StoreError
from rscap.store.files import now, read_json, write_json

State = Literal["started", "interrupted", "finished", "failed"]


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
        write_json(run.status_file, {"state": "started", "started": now()})
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
        if not run.status_file.is_file():
            raise StoreError(f"{path} is not a run folder: it has no status.json", hint="`rscap train` makes one")
        return run

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def recipe_file(self) -> Path:
        return self.path / "recipe.toml"

    @property
    def provenance_file(self) -> Path:
        return self.path / "provenance.json"

    @property
    def status_file(self) -> Path:
        return self.path / "status.json"

    @property
    def parameters_file(self) -> Path:
        return self.path / "parameters.json"

    @property
    def rejected_file(self) -> Path:
        return self.path / "rejected.jsonl"

    @property
    def train_log(self) -> Path:
        return self.path / "train.jsonl"

    @property
    def speed_log(self) -> Path:
        return self.path / "speed.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def adapter(self) -> Path:
        return self.path / "adapter"

    @property
    def model(self) -> Path:
        return self.path / "model"

    def learned(self) -> Path:
        """What training left: the adapter, or the whole model where all of it learned."""
        return self.adapter if self.adapter.is_dir() else self.model

    def predictions(self, split: str) -> Path:
        return self.path / "predictions" / f"{split}.jsonl"

    def references(self, split: str) -> Path:
        return self.path / "references" / f"{split}.jsonl"

    def scores(self, split: str) -> Path:
        return self.path / "scores" / f"{split}.json"

    def captions_so_far(self, split: str) -> Path:
        return self.path / f".captions-{split}.jsonl"

    @property
    def evaluation_file(self) -> Path:
        return self.path / "evaluation.json"

    def panel(self, split: str) -> Path:
        return self.path / "panel" / split

    def baseline(self, name: str) -> RunFolder:
        """The folder of a baseline scored beside this run; it holds predictions/ and scores/ only."""
        return RunFolder(self.path / "baselines" / name)

    def baselines(self) -> list[RunFolder]:
        """The baselines that were scored beside this run, by name."""
        parent = self.path / "baselines"
        return [RunFolder(path) for path in sorted(parent.iterdir()) if path.is_dir()] if parent.is_dir() else []

    def splits(self) -> list[str]:
        """The splits that have a score sheet."""
        return sorted(path.stem for path in (self.path / "scores").glob("*.json"))

    def status(self) -> dict[str, Any]:
        """What status.json says."""
        return read_json(self.status_file)

    def close(self, state: State, **details: Any) -> None:
        """Write the final state, last of all files."""
        write_json(self.status_file, {**self.status(), "state": state, "ended": now(), **details})


def _is_leftover(path: Path) -> bool:
    """Whether a file was being written when its process was killed: see `atomic_path`."""
    return path.name.startswith(".") and path.name.endswith(".part")
