"""A run that rscap did not make: losses from the Trainer, JSON Lines or CSV, and whatever else its folder holds."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rscap.doctor import batch_file
from rscap.doctor import measured as measured_file
from rscap.doctor.adapters import CONFIG, read_adapter
from rscap.doctor.asked import STATEMENT, Statement, asked_by_statement, read_statement
from rscap.doctor.batch_file import TokenIds, known_tokens, read_batch, sight_of, targets_of
from rscap.doctor.evaluations import of_folder
from rscap.doctor.evidence import Asked, DataFacts, Evidence, LogEntry, RunState, TrainingLog
from rscap.doctor.measured import Measured, read_measured
from rscap.doctor.reading import Reader, json_lines, mapping, number, whole
from rscap.errors import StoreError
from rscap.store import ADAPTER, PREDICTIONS, TRAIN_LOG

NAMES = (TRAIN_LOG, "log.jsonl", "log.csv")
"""Logs of a folder that has no trainer_state.json, in the order in which they are looked for."""

_LOSS = ("loss", "train_loss")
_RATE = ("learning_rate", "lr")
_STEP = ("step", "global_step")
_NORM = ("grad_norm",)


def read_log(path: Path, where: str) -> TrainingLog:
    """The updates of a log file, by its ending; rows without a loss are passed over.

    Raises:
        StoreError: the file is broken.
    """
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            return _entries(where, ((reader.line_num, row) for row in reader))
    if path.suffix == ".json":
        history = mapping(path).get("log_history", [])
        return _entries(where, ((None, row) for row in history))
    return _entries(where, ((line, row) for line, row in json_lines(path) if row.get("event", "step") == "step"))


def _entries(where: str, rows: Iterable[tuple[int | None, Mapping[str, Any]]]) -> TrainingLog:
    entries: list[LogEntry] = []
    for line, row in rows:
        loss = _first(row, _LOSS)
        if loss is None or "train_runtime" in row:  # the Trainer's last entry is a summary
            continue
        step = whole(next((row[name] for name in _STEP if name in row), None))
        entries.append(
            LogEntry(
                step=step if step is not None else len(entries) + 1,
                loss=loss,
                grad_norm=_first(row, _NORM),
                learning_rate=_first(row, _RATE),
                line=line,
            )
        )
    return TrainingLog(where=where, entries=tuple(entries))


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> float | None:
    return next((value for name in names if (value := number(row.get(name))) is not None), None)


# A run that rscap did not make: whatever of it lies in one folder.
#
# adapter_config.json, adapter_model.safetensors     PEFT's files, here, below, or in the newest checkpoint-N/
# trainer_state.json | log.jsonl | log.csv           losses: the Trainer's, or step, loss, learning_rate, grad_norm
# predictions.jsonl  references.json  scores.json    captions, references, and on how many images they were scored
# batch.safetensors | batch.json                     one training batch
# model.json                                         what `rscap.doctor.snapshot.snapshot` measured
# doctor.toml                                        what the files do not say

_TRAINER_LIMIT = 1.0  # max_grad_norm of the Trainer where nobody says another
_KNOWN = (CONFIG, "trainer_state.json", *NAMES, *batch_file.NAMES, measured_file.FILE, STATEMENT, PREDICTIONS)


def is_foreign(folder: Path) -> bool:
    """Whether a folder holds anything that can be looked at."""
    names = {path.name for path in folder.iterdir()} | {path.stem for path in folder.iterdir()}
    return bool(names.intersection(_KNOWN)) or _adapter_folder(folder) is not None or _newest(folder) is not None


def read_foreign(folder: Path, reader: Reader) -> Evidence:
    """Everything that the files of a foreign run say.

    Raises:
        StoreError: there is nothing in the folder that could be looked at.
    """
    if not is_foreign(folder):
        raise StoreError(
            f"{folder} holds neither a run of rscap nor files of another one", hint=f"known names: {', '.join(_KNOWN)}"
        )
    statement = reader.read(folder / STATEMENT, read_statement) or Statement()
    measured = reader.read(folder / measured_file.FILE, read_measured) or Measured()
    asked = asked_by_statement(statement, folder / STATEMENT) if (folder / STATEMENT).is_file() else Asked()
    place = _adapter_folder(folder)
    tokens = _tokens(statement, measured, place, reader)
    state_file = _beside_checkpoint(folder, "trainer_state.json")
    if asked.max_grad_norm is None and state_file is not None:
        asked = replace(asked, max_grad_norm=_TRAINER_LIMIT)
    data = statement.data
    return Evidence(
        path=folder,
        asked=asked,
        vocabulary=tokens.get("vocabulary"),
        state=_state(state_file, statement, reader),
        log=_log(folder, state_file, reader),
        **_batch(folder, measured, tokens, reader),
        first_losses=measured.first_losses,
        weights=measured.weights,
        learning=measured.learning,
        adapter=reader.read(place, lambda path: read_adapter(path, reader.name(path / CONFIG))) if place else None,
        data=DataFacts(
            where=asked.at("data.training_images"),
            training_images=data.training_images,
            captions_per_image=data.captions_per_image,
        )
        if data.training_images is not None or data.captions_per_image is not None
        else None,
        evaluations=of_folder(folder, reader, reported=statement.evaluation.images) or None,
    )


def _newest(folder: Path) -> Path | None:
    """The Trainer's newest checkpoint-N."""
    numbered = [
        (int(match[1]), path) for path in folder.iterdir() if (match := re.fullmatch(r"checkpoint-(\d+)", path.name))
    ]
    return max(numbered)[1] if numbered else None


def _beside_checkpoint(folder: Path, name: str) -> Path | None:
    places = [folder / name, *([newest / name] if (newest := _newest(folder)) else [])]
    return next((path for path in places if path.is_file()), None)


def _adapter_folder(folder: Path) -> Path | None:
    if (folder / ADAPTER / CONFIG).is_file():
        return folder / ADAPTER
    config = _beside_checkpoint(folder, CONFIG)
    return config.parent if config else None


def _log(folder: Path, state_file: Path | None, reader: Reader) -> TrainingLog | None:
    files = ([state_file] if state_file else []) + [folder / name for name in NAMES]
    file = next((path for path in files if path.is_file()), None)
    return reader.read(file, lambda path: read_log(path, reader.name(path))) if file else None


def _state(state_file: Path | None, statement: Statement, reader: Reader) -> RunState | None:
    state = reader.read(state_file, mapping) if state_file else None
    steps = whole(state.get("global_step")) if state else None
    planned = statement.train.steps or (whole(state.get("max_steps")) if state else None)
    if state_file is None or steps is None or planned is None:
        return None
    return RunState(
        where=reader.name(state_file),
        state="finished" if steps >= planned else "stopped early",
        steps=steps,
        planned_steps=planned,
    )


def _tokens(statement: Statement, measured: Measured, adapter: Path | None, reader: Reader) -> dict[str, int]:
    """Vocabulary and special ids: as measured, as stated, or those of the base model."""
    base = statement.model.base or measured.base or _base_of(adapter, reader) or ""
    stated = {name: value for name, value in statement.tokens.model_dump().items() if value is not None}
    return {**known_tokens(base, reader), **stated, **measured.tokens}


def _base_of(adapter: Path | None, reader: Reader) -> str | None:
    config = reader.read(adapter / CONFIG, mapping) if adapter else None
    return config.get("base_model_name_or_path") if config else None


def _batch(folder: Path, measured: Measured, tokens: Mapping[str, int], reader: Reader) -> dict[str, Any]:
    """Targets and sight, from the saved batch and from what was measured with it."""
    file = next((path for name in batch_file.NAMES if (path := folder / name).is_file()), None)
    batch = reader.read(file, read_batch) if file else None
    if file is None or batch is None:
        return {}
    where = reader.name(file)
    missing = [name for name in ("image", "bos", "eos", "pad") if name not in tokens]
    if missing:
        reader.absent["labels of a training batch"] = f"the ids of {', '.join(missing)} are unknown; see [tokens]"
        return {"sight": measured.sight(sight_of(batch, where))}
    ids = TokenIds(**{name: tokens[name] for name in ("image", "bos", "eos", "pad")})
    return {"targets": targets_of(batch, ids, where), "sight": measured.sight(sight_of(batch, where))}
