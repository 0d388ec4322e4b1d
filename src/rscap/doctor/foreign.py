"""The folder of a run of another program; every file is optional.

adapter_config.json, adapter_model.safetensors     PEFT's files, here, below, or in the newest checkpoint-N/
trainer_state.json | log.jsonl | log.csv           losses: the Trainer's, or step, loss, learning_rate, grad_norm
predictions.jsonl  references.json  scores.json    captions, references, and on how many images they were scored
batch.safetensors | batch.json                     one training batch
model.json                                         what `rscap.doctor.snapshot.snapshot` measured
doctor.toml                                        what the files do not say
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from rscap.doctor.evaluations import of_folder
from rscap.doctor.evidence import AdapterFiles, DataFacts, Evidence, Expected, RunState, Trained, TrainingLog
from rscap.doctor.reading import EvidenceReader, key_lines, mapping, read_log, whole
from rscap.doctor.snapshot import (
    BATCH_NAMES,
    MEASURED,
    Measured,
    TokenIds,
    attention_of,
    family_of_base,
    known_tokens,
    read_batch,
    read_measured,
    targets_of,
)
from rscap.errors import AdapterError, StoreError
from rscap.model.families import FAMILIES
from rscap.model.towers import tower_of
from rscap.recipe import TOWERS, Tower, TowerState
from rscap.store import ADAPTER, MOST_TENSORS, PREDICTIONS, TRAIN_LOG, read_adapter_config
from rscap.store.adapter import ADAPTER_CONFIG, ADAPTER_TENSORS
from rscap.tables import check_table, read_toml

NAMES = (TRAIN_LOG, "log.jsonl", "log.csv")
"""Logs of a folder that has no trainer_state.json, in the order in which they are looked for."""


CONFIG, TENSORS = ADAPTER_CONFIG, ADAPTER_TENSORS
STATEMENT = "doctor.toml"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Model(_Part):
    base: str | None = None
    dtype: str | None = None
    quantisation: str | None = None
    quantise: tuple[Tower, ...] = ("language_model",)


class _Towers(_Part):
    vision_tower: TowerState | None = None
    projector: TowerState | None = None
    language_model: TowerState | None = None


class _Adapter(_Part):
    rank: int | None = None
    alpha: float | None = None
    rank_stabilised: bool | None = None
    weight_decomposed: bool | None = None


class _Prompt(_Part):
    training: tuple[str, ...] = ()
    test: tuple[str, ...] = ()


class _Data(_Part):
    training_images: int | None = None
    captions_per_image: float | None = None
    captions: str | None = None


class _Train(_Part):
    learning_rate: float | None = None
    max_grad_norm: float | None = None
    steps: int | None = None


class _Evaluation(_Part):
    images: int | None = None


class _Tokens(_Part):
    vocabulary: int | None = None
    image: int | None = None
    bos: int | None = None
    eos: int | None = None
    pad: int | None = None


class Statement(_Part):
    """doctor.toml: what the files of a foreign run do not say. Every key may be left out; docs/doctor.md shows one."""

    model: _Model = _Model()
    towers: _Towers = _Towers()
    adapter: _Adapter = _Adapter()
    prompt: _Prompt = _Prompt()
    data: _Data = _Data()
    train: _Train = _Train()
    evaluation: _Evaluation = _Evaluation()
    tokens: _Tokens = _Tokens()


def read_statement(path: Path) -> Statement:
    """Read doctor.toml.

    Raises:
        RecipeError: not TOML, unknown or wrong keys; names each.
    """
    return check_table(Statement, read_toml(path, what="statement"), name=str(path))


def expected_by_statement(statement: Statement, path: Path) -> Expected:
    """The settings that doctor.toml gives."""
    states = {tower: getattr(statement.towers, tower) for tower in TOWERS}
    towers = {tower: state for tower, state in states.items() if state is not None}
    return Expected(
        where=path.name,
        lines=key_lines(path),
        dtype=statement.model.dtype,
        quantisation=statement.model.quantisation,
        quantise=statement.model.quantise,
        towers=towers or None,
        rank=statement.adapter.rank,
        alpha=statement.adapter.alpha,
        rank_stabilised=statement.adapter.rank_stabilised,
        weight_decomposed=statement.adapter.weight_decomposed,
        training_prompts=statement.prompt.training,
        test_prompts=statement.prompt.test,
        learning_rate=statement.train.learning_rate,
        max_grad_norm=statement.train.max_grad_norm,
        captions=statement.data.captions,
    )


_TRAINER_LIMIT = 1.0  # the Trainer's default max_grad_norm
_KNOWN = (CONFIG, "trainer_state.json", *NAMES, *BATCH_NAMES, MEASURED, STATEMENT, PREDICTIONS)


def is_foreign(folder: Path) -> bool:
    """Whether a folder holds anything that can be examined."""
    names = {path.name for path in folder.iterdir()} | {path.stem for path in folder.iterdir()}
    return bool(names.intersection(_KNOWN)) or adapter_folder(folder) is not None or _newest(folder) is not None


def read_foreign(folder: Path, reader: EvidenceReader) -> Evidence:
    """The evidence in the files of a foreign run.

    Raises:
        StoreError: there is nothing to examine in the folder.
    """
    if not is_foreign(folder):
        raise StoreError(
            f"{folder} holds neither a run of rscap nor files of another one", hint=f"known names: {', '.join(_KNOWN)}"
        )
    statement = reader.read(folder / STATEMENT, read_statement) or Statement()
    measured = reader.read(folder / MEASURED, read_measured) or Measured()
    expected = expected_by_statement(statement, folder / STATEMENT) if (folder / STATEMENT).is_file() else Expected()
    place = adapter_folder(folder)
    tokens = _tokens(statement, measured, place, reader)
    state_file = _beside_checkpoint(folder, "trainer_state.json")
    if expected.max_grad_norm is None and state_file is not None:
        expected = replace(expected, max_grad_norm=_TRAINER_LIMIT)
    data = statement.data
    return Evidence(
        path=folder,
        expected=expected,
        vocabulary=tokens.get("vocabulary"),
        state=_state(state_file, statement, reader),
        log=_log(folder, state_file, reader),
        **_batch(folder, measured, _base(statement, measured, place, reader), tokens, reader),
        first_losses=measured.first_losses,
        weights=measured.weights,
        learning=measured.learning,
        adapter=reader.read(place, lambda path: read_adapter(path, reader.name(path / CONFIG))) if place else None,
        data=DataFacts(
            where=expected.at("data.training_images"),
            training_images=data.training_images,
            captions_per_image=data.captions_per_image,
        )
        if data.training_images is not None or data.captions_per_image is not None
        else None,
        evaluations=of_folder(folder, reader, reported=statement.evaluation.images) or None,
        trained=reader.read(place, lambda path: _misfit(path, reader.name(path / TENSORS))) if place else None,
    )


_TAIL = 4
"""Last parts of a module's path, `layers.0.self_attn.q_proj`: what comes before them differs between versions."""


def _misfit(folder: Path, where: str) -> Trained | None:
    """What adapted modules the base model lacks, where its folder is at hand; None where all are there."""
    base = Path(read_adapter_config(folder).base_model_name_or_path or "")
    files = sorted(base.glob("*.safetensors")) if base.is_absolute() and base.is_dir() else []
    if not files or not (folder / TENSORS).is_file():
        return None
    there = {_tail(_module(f"{key.removesuffix('.weight')}.x")) for file in files for key in _keys(file)}
    adapted = {_tail(path) for key in _keys(folder / TENSORS) if ".lora_" in key and (path := _adapted(key))}
    if not (lacking := sorted(adapted - there)):
        return None
    which = "none" if len(lacking) == len(adapted) else f"{len(adapted) - len(lacking)}"
    return Trained(
        where=where,
        misfit=f"{which} of the {len(adapted)} adapted modules is in the base model {base.name}: {lacking[0]} is not",
    )


def _keys(path: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(path, "pt") as stored:
        return list(stored.keys())


def _adapted(key: str) -> str:
    """`base_model.model.….q_proj.lora_A.weight` adapts `….q_proj`."""
    return key.partition(".lora_")[0]


def _tail(path: str) -> str:
    return ".".join(path.split(".")[-_TAIL:])


def _newest(folder: Path) -> Path | None:
    """The Trainer's newest checkpoint-N."""
    numbered = [
        (int(match[1]), path) for path in folder.iterdir() if (match := re.fullmatch(r"checkpoint-(\d+)", path.name))
    ]
    return max(numbered)[1] if numbered else None


def _beside_checkpoint(folder: Path, name: str) -> Path | None:
    places = [folder / name, *([newest / name] if (newest := _newest(folder)) else [])]
    return next((path for path in places if path.is_file()), None)


def adapter_folder(folder: Path) -> Path | None:
    """Where the adapter of a foreign run lies: in the folder, below it, or in the newest checkpoint."""
    if (folder / ADAPTER / CONFIG).is_file():
        return folder / ADAPTER
    config = _beside_checkpoint(folder, CONFIG)
    return config.parent if config else None


def _log(folder: Path, state_file: Path | None, reader: EvidenceReader) -> TrainingLog | None:
    files = ([state_file] if state_file else []) + [folder / name for name in NAMES]
    file = next((path for path in files if path.is_file()), None)
    return reader.read(file, lambda path: read_log(path, reader.name(path))) if file else None


def _state(state_file: Path | None, statement: Statement, reader: EvidenceReader) -> RunState | None:
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


def _tokens(statement: Statement, measured: Measured, adapter: Path | None, reader: EvidenceReader) -> dict[str, int]:
    """Vocabulary size and special ids: measured, stated, or those of the base model."""
    base = _base(statement, measured, adapter, reader)
    stated = {name: value for name, value in statement.tokens.model_dump().items() if value is not None}
    return {**known_tokens(base, reader), **stated, **measured.tokens}


def _base(statement: Statement, measured: Measured, adapter: Path | None, reader: EvidenceReader) -> str:
    """The base model's name, as stated, measured or kept with the adapter; empty if nothing says it."""
    return statement.model.base or measured.base or _base_of(adapter, reader) or ""


def _base_of(adapter: Path | None, reader: EvidenceReader) -> str | None:
    config = reader.read(adapter / CONFIG, mapping) if adapter else None
    name = config.get("base_model_name_or_path") if config else None
    return name if isinstance(name, str) else None


def _batch(
    folder: Path, measured: Measured, base: str, tokens: Mapping[str, int], reader: EvidenceReader
) -> dict[str, Any]:
    """Targets and attention, from the saved batch and from what was measured with it."""
    file = next((path for name in BATCH_NAMES if (path := folder / name).is_file()), None)
    batch = reader.read(file, read_batch) if file else None
    if file is None or batch is None:
        return {}
    where, family = reader.name(file), FAMILIES.get(measured.family) or family_of_base(base)
    chat = family is not None and family.causal_prefix
    missing = [name for name in ("image", "bos", "eos", "pad") if name not in tokens]
    if missing:
        reader.absent["labels of a training batch"] = f"the ids of {', '.join(missing)} are unknown; see [tokens]"
        return {"attention": measured.attention(attention_of(batch, where, chat=chat))}
    named = {name: tokens[name] for name in ("image", "bos", "eos", "pad")}
    ids = TokenIds(**named, square=tokens.get("square"), chat=chat)
    return {
        "targets": targets_of(batch, ids, where),
        "attention": measured.attention(attention_of(batch, where, chat=chat)),
    }


def read_adapter(folder: Path, where: str) -> AdapterFiles:
    """Read an adapter in PEFT's layout.

    Raises:
        StoreError: a file is missing or broken.
    """
    config = read_adapter_config(folder).content()
    tensors = _look(folder / TENSORS)
    saved_whole = tuple(f".{name}." for name in config.get("modules_to_save") or ())
    adapted = {key: facts for key, facts in tensors.items() if not any(name in f"{key}." for name in saved_whole)}
    paths = {path: tower for key in adapted if (path := _module(key)) and (tower := _tower(path))}
    targets = config.get("target_modules")
    listed = tuple(targets) if isinstance(targets, list) else str(targets or "")
    return AdapterFiles(
        where=where,
        kind=str(config.get("peft_type", "")),
        targets=listed,
        rank=config.get("r"),
        alpha=config.get("lora_alpha"),
        rank_stabilised=config.get("use_rslora"),
        weight_decomposed=config.get("use_dora"),
        modules=Counter(paths.values()),
        unmatched=_unmatched(listed, paths),
        untouched=_untouched(adapted),
        not_finite=tuple(key for key, (_, finite) in tensors.items() if not finite),
    )


def _look(path: Path) -> dict[str, tuple[bool, bool]]:
    """For every tensor, whether it is all zero and whether it is finite."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise StoreError(f"{path} does not exist")
    facts = {}
    try:
        with safe_open(path, "pt") as stored:
            if (count := len(stored.keys())) > MOST_TENSORS:
                raise StoreError(f"{path} holds {count:,} tensors; at most {MOST_TENSORS:,} are read")
            for key in stored.keys():  # noqa: SIM118 - not a mapping
                tensor = stored.get_tensor(key)
                facts[key] = (not bool(tensor.any()), bool(tensor.isfinite().all()))
    except SafetensorError as error:
        raise StoreError(f"{path} is damaged: {error}") from error
    return facts


def _module(key: str) -> str:
    """The module that a tensor adapts: `….q_proj.lora_A.weight` belongs to `….q_proj`."""
    return key.removesuffix(".weight").rpartition(".")[0]


def _tower(path: str) -> Tower | None:
    try:
        return tower_of(f"{path}.")
    except AdapterError:
        return None


def _unmatched(targets: Sequence[str] | str, paths: Mapping[str, Any]) -> tuple[str, ...]:
    if isinstance(targets, str):
        return ()
    return tuple(name for name in sorted(targets) if not any(f".{path}".endswith(f".{name}") for path in paths))


def _untouched(tensors: Mapping[str, tuple[bool, bool]]) -> tuple[Tower, ...]:
    """Towers whose B matrices are all zero."""
    zero: dict[Tower, bool] = {}
    for key, (empty, _) in tensors.items():
        if ".lora_B." in key and (tower := _tower(_module(key))):
            zero[tower] = zero.get(tower, True) and empty
    return tuple(tower for tower, empty in zero.items() if empty)
