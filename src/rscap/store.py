"""The run folder: what lies where, and how it is written so that a reader never sees half a file.

runs/<name>/
  recipe.toml       what was asked for (absent for a zero-shot evaluation, which has `evaluation.json` alone)
  provenance.json   commit, versions, device, data digests
  status.json       started -> interrupted | finished | failed, written last
  parameters.json   total and trainable parameters per tower, and how they are held (dtype, nf4, int8), as read back
  rejected.jsonl    rows of the data that could not be used, with the reason
  removed.jsonl     captions that the quality rules of the recipe removed, with the reason (if it has rules)
  weighted.jsonl    captions that they weighed down, with the weight; quality.json counts both
  train.jsonl       one line a step, one line an evaluation: what is a function of the recipe alone
  speed.jsonl       one line a step: what the clock and the memory said
  checkpoints/step-000120/   enough to resume bit for bit: weights, optimiser, progress.json
  adapter/          PEFT's own layout            (or model/ after full fine-tuning)
  predictions/<split>.jsonl    references/<split>.jsonl    scores/<split>.json
  .captions-<split>.jsonl      captions so far, while an evaluation runs or after it was cut off
  panel/<split>/*.jpg          the examples that the report shows
  baselines/<name>/predictions|scores/<split>…
  report.html
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from rscap.errors import StoreError
from rscap.records import Example, Prediction

State = Literal["started", "interrupted", "finished", "failed"]

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_ROOM_WORDS = "|".join(map(os.strerror, _NO_ROOM))


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`: it takes the name if the block ends well, and vanishes if it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def way_out(reason: str) -> str:
    """What to do about a reason that `no_room` found."""
    return "lift the limit on the size of a file" if reason == os.strerror(errno.EFBIG) else "make room"


def no_room(error: BaseException) -> str | None:
    """What the system said, where an error means that nothing more can be written; None for any other error.

    Also looks into the words of a `SafetensorError`, which is no `OSError`.
    """
    if isinstance(error, OSError):
        return os.strerror(error.errno) if error.errno in _NO_ROOM else None
    found = re.search(_NO_ROOM_WORDS, str(error)) if type(error).__name__ == "SafetensorError" else None
    return found[0] if found else None


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file in one move."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON in one move; NaN and infinity are refused, since no other reader takes them."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write JSON Lines in one move."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        StoreError: the file is missing or is not JSON; names it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoreError(f"{path} does not exist") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise StoreError(f"{path} is not readable as UTF-8 JSON: {error}") from error


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read JSON Lines; a line that is not a JSON object is an error that names file and line.

    Raises:
        StoreError: the file is missing, or a line of it is broken.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise StoreError(f"{path} does not exist") from None
    except UnicodeDecodeError as error:
        raise StoreError(f"{path} is not UTF-8: {error}") from error
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):  # not splitlines: U+2028 may stand inside a caption
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise StoreError(f"{path}, line {number}: not JSON ({error.msg})") from error
        if not isinstance(row, dict):
            raise StoreError(f"{path}, line {number}: expected a JSON object, found {type(row).__name__}")
        rows.append(row)
    return rows


def prediction_row(prediction: Prediction) -> dict[str, Any]:
    """The JSON object of one prediction: id, caption, prefix, tokens, stopped, and near_ties where there are any."""
    row = {
        "id": prediction.example_id,
        "caption": prediction.caption,
        "prefix": prediction.prefix,
        "tokens": prediction.tokens,
        "stopped": prediction.stopped,
    }
    return {**row, "near_ties": prediction.near_ties} if prediction.near_ties else row


def reference_row(example: Example) -> dict[str, Any]:
    """The JSON object of one example's references: id, captions, source, scene class."""
    return {
        "id": example.id,
        "captions": list(example.captions),
        "source": example.source,
        "scene_class": example.scene_class,
    }


def now() -> str:
    """This moment, UTC, ISO 8601 with seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


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


def replace_folder(source: Path, target: Path) -> None:
    """Put the finished folder `source` at `target`, in one rename where `target` does not exist yet."""
    if target.exists():
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)
