"""The names of a run folder's files, and text, JSON and JSON Lines with errors that name the file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rscap.errors import StoreError
from rscap.opening import read_plain
from rscap.store.growing import is_json
from rscap.store.outputs import atomic_path


def write_text(path: Path, text: str) -> None:
    r"""Write a UTF-8 file in one move; the bytes of a file name that is no UTF-8 stand as `\udcff`, as in JSON."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, value: Any) -> None:
    """Write JSON in one move; NaN and infinity are refused, since no other reader takes them."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write JSON Lines in one move."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", errors="backslashreplace") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        StoreError: the file is missing or is not JSON; names it.
    """
    try:
        return json.loads(text_of(path))
    except (ValueError, RecursionError) as error:  # the former also for a number of thousands of digits
        raise StoreError(f"{path} is not JSON: {error}") from error


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read JSON Lines; a line that is not a JSON object is an error that names file and line.

    Raises:
        StoreError: the file is missing, or a line of it is broken.
    """
    rows = []
    for number, line in numbered_lines(path):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise StoreError(f"{path}, line {number}: not JSON ({error})") from error
        if not isinstance(row, dict):
            raise StoreError(f"{path}, line {number}: expected a JSON object, found {type(row).__name__}")
        rows.append(row)
    return rows


def text_of(path: Path) -> str:
    """The text of a UTF-8 file.

    Raises:
        StoreError: the file is missing or cannot be read; names it.
    """
    try:
        return read_plain(path).decode("utf-8")
    except FileNotFoundError:
        raise StoreError(f"{path} does not exist") from None
    except UnicodeDecodeError as error:
        raise StoreError(f"{path} is not UTF-8: {error}") from error
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}") from error


def numbered_lines(path: Path, *, growing: bool = False) -> Iterator[tuple[int, str]]:
    """The lines of a file that hold anything, with their numbers.

    A `growing` file is appended to, so that its last line may have been cut off: it is left out where it has no end
    and is not JSON.
    """
    lines = text_of(path).split("\n")  # not splitlines: U+2028 may stand inside a caption
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if growing and number == len(lines) and not is_json(line):
            return
        yield number, line


def now() -> str:
    """This moment, UTC, ISO 8601 with seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


RECIPE = "recipe.toml"
STATUS = "status.json"
PROVENANCE = "provenance.json"
PARAMETERS = "parameters.json"
REJECTED = "rejected.jsonl"
REMOVED = "removed.jsonl"
WEIGHTED = "weighted.jsonl"
QUALITY = "quality.json"
TRAIN_LOG = "train.jsonl"
SPEED_LOG = "speed.jsonl"
EVALUATION = "evaluation.json"
CHECKPOINTS = "checkpoints"
ADAPTER = "adapter"
MODEL = "model"
PREDICTIONS = "predictions"
REFERENCES = "references"
SCORES = "scores"
PANEL = "panel"
THUMBNAIL_FOLDER = "thumbnails"
BASELINES = "baselines"
TRACKERS = "trackers"
REPORT = "report.html"
SEEN = "seen.npz"
POOL = "idf.npz"
MODEL_ITEM = "model.stac.json"
