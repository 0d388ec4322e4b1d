"""Vocabulary and special ids of a base model, as far as its name or its local files tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import rscap.model
from rscap.doctor.evidence import Sight, Targets
from rscap.doctor.reading import Reader, mapping
from rscap.errors import StoreError

_NANO = Path(rscap.model.__file__).parent / "nano"
_PALIGEMMA = {"vocabulary": 257_216, "image": 257_152, "bos": 2, "eos": 1, "pad": 0}


def known_tokens(base: str, reader: Reader) -> dict[str, int]:
    """`vocabulary`, `image`, `bos`, `eos`, `pad`: of a local base model's config.json, or PaliGemma's by its name."""
    known = dict(_PALIGEMMA) if "paligemma" in base.lower() else {}
    file = (_NANO if base == "nano" else Path(base)) / "config.json"
    config = reader.read(file, mapping) if base and file.is_file() else None
    if not config:
        return known
    found = {
        "vocabulary": config.get("text_config", {}).get("vocab_size", config.get("vocab_size")),
        "image": config.get("image_token_index", config.get("image_token_id")),
        **{name: config.get(f"{name}_token_id") for name in ("bos", "eos", "pad")},
    }
    return known | {name: value for name, value in found.items() if isinstance(value, int)}


# One saved training batch, as a transformers model is given it: what it supervises and who sees whom.
#
# `batch.safetensors` or `batch.json` holds int[B, N] `input_ids` and `labels`, and where they were passed to the model
# `token_type_ids` and `attention_mask`.

NAMES = ("batch.safetensors", "batch.json")
IGNORED = -100
"""A label that transformers' loss passes over."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenIds:
    """The ids that mean something in PaliGemma's layout."""

    image: int
    bos: int
    eos: int
    pad: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedBatch:
    """int[B, N] each; None where the model was not given it."""

    input_ids: Ints
    labels: Ints
    token_type_ids: Ints | None
    attention_mask: Ints | None


def read_batch(path: Path) -> SavedBatch:
    """Read a saved batch.

    Raises:
        StoreError: not readable, `input_ids` or `labels` missing, or shapes that differ.
    """
    arrays = _arrays(path)
    for name in ("input_ids", "labels"):
        if name not in arrays:
            raise StoreError(f"{path} holds no {name}; it has {', '.join(arrays) or 'nothing'}")
    shape = arrays["input_ids"].shape
    for name, array in arrays.items():
        if array.shape != shape or array.ndim != 2:
            raise StoreError(f"{path}: {name} has shape {array.shape}, input_ids {shape}; both are [rows, tokens]")
    return SavedBatch(
        input_ids=arrays["input_ids"],
        labels=arrays["labels"],
        token_type_ids=arrays.get("token_type_ids"),
        attention_mask=arrays.get("attention_mask"),
    )


def _arrays(path: Path) -> dict[str, Ints]:
    wanted = ("input_ids", "labels", "token_type_ids", "attention_mask")
    content: Mapping[str, Any]
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            content = load_file(path)
        except SafetensorError as error:
            raise StoreError(f"{path} is damaged: {error}") from error
    else:
        content = mapping(path)
    return {name: np.array(content[name], dtype=np.int64) for name in wanted if content.get(name) is not None}


def targets_of(batch: SavedBatch, tokens: TokenIds, where: str) -> Targets:
    """Count what the labels of a batch stand on; a row is a caption.

    Without token types the prompt cannot be told from the caption, but for `<bos>`, which always belongs to the prompt.
    """
    ids, supervised = batch.input_ids, batch.labels != IGNORED
    padding = (batch.attention_mask == 0) if batch.attention_mask is not None else (ids == tokens.pad)
    image = (ids == tokens.image) & ~padding
    prompt = _prompt(batch, tokens) & ~padding & ~image
    ends = (batch.labels == tokens.eos) & ~padding
    learned = (supervised & ~padding & ~image).any(axis=1)
    return Targets(
        where=where,
        captions=len(ids),
        supervised=int(supervised.sum()),
        image=int((supervised & image).sum()),
        prompt=int((supervised & prompt).sum()),
        prompt_known=_types(batch) == "right",
        padding=int((supervised & padding).sum()),
        unsupervised=int((~learned).sum()),
        without_eos=int((learned & (ends.sum(axis=1) == 0)).sum()),
        several_eos=int((ends.sum(axis=1) > 1).sum()),
    )


def _prompt(batch: SavedBatch, tokens: TokenIds) -> NDArray[np.bool_]:
    if _types(batch) == "right":
        assert batch.token_type_ids is not None
        return batch.token_type_ids == 0
    return batch.input_ids == tokens.bos


def sight_of(batch: SavedBatch, where: str) -> Sight:
    """What can be read of a batch without its model: whether token types mark the caption."""
    return Sight(where=where, token_types=_types(batch))


def _types(batch: SavedBatch) -> Any:
    """`right` where every row has a prefix of 0 and a caption of 1."""
    if batch.token_type_ids is None:
        return "absent"
    return "right" if (batch.token_type_ids == 1).any(axis=1).all() else "zero on the caption"
