"""The files that a snapshot saves, one training batch and model.json; and the special tokens of a base model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

import rscap.model
from rscap.doctor.evidence import AttentionReach, FirstLosses, Learning, Targets, Weights
from rscap.doctor.reading import EvidenceReader, mapping
from rscap.errors import StoreError
from rscap.recipe import Tower
from rscap.store import write_json

_NANO = Path(rscap.model.__file__).parent / "nano"
_PALIGEMMA = {"vocabulary": 257_216, "image": 257_152, "bos": 2, "eos": 1, "pad": 0}


def known_tokens(base: str, reader: EvidenceReader) -> dict[str, int]:
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


# One saved training batch, as a transformers model receives it: its labels and token types.
#
# `batch.safetensors` or `batch.json` holds int[B, N] `input_ids` and `labels`, and where they were passed to the model
# `token_type_ids` and `attention_mask`.

BATCH_NAMES = ("batch.safetensors", "batch.json")
IGNORED = -100
"""A label that transformers' loss ignores."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenIds:
    """The special ids of PaliGemma's layout."""

    image: int
    bos: int
    eos: int
    pad: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedBatch:
    """int[B, N] each; None if it was not passed to the model."""

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
    """Count the labels of a batch by the kind of their token; a row is a caption.

    Without token types, prompt and caption cannot be told apart, except that `<bos>` always belongs to the prompt.
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


def attention_of(batch: SavedBatch, where: str) -> AttentionReach:
    """The attention that can be read from a batch without its model: whether token types mark the caption."""
    return AttentionReach(where=where, token_types=_types(batch))


def _types(batch: SavedBatch) -> Any:
    """`right` where every row has a prefix of 0 and a caption of 1."""
    if batch.token_type_ids is None:
        return "absent"
    return "right" if (batch.token_type_ids == 1).any(axis=1).all() else "zero on the caption"


# model.json: measurements of a model and its first batch, made where they were available.

MEASURED = "model.json"


class Measured(BaseModel):
    """The content of model.json."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: str = ""
    tokens: Mapping[str, int] = {}
    """`vocabulary`, `image`, `bos`, `eos`, `pad`."""
    frozen: Mapping[Tower, Mapping[str, int]] | None = None
    products: tuple[str, ...] = ()
    trainable: Mapping[Tower, int] | None = None
    earlier: int | None = None
    """These four as in `AttentionReach`."""
    future_seen: int | None = None
    before: int | None = None
    prefix_reach: int | None = None
    first_loss: float | None = None
    first_loss_spread: float = 0.0
    first_loss_tokens: int = 0

    @property
    def weights(self) -> Weights | None:
        return (
            None if self.frozen is None else Weights(where=MEASURED, dtypes=self.frozen, products=tuple(self.products))
        )

    @property
    def learning(self) -> Learning | None:
        return None if self.trainable is None else Learning(where=MEASURED, trainable=self.trainable)

    @property
    def first_losses(self) -> FirstLosses | None:
        if self.first_loss is None:
            return None
        return FirstLosses(
            where=MEASURED, mean=self.first_loss, spread=self.first_loss_spread, tokens=self.first_loss_tokens
        )

    def attention(self, read: AttentionReach) -> AttentionReach:
        """The attention read from a batch, with the measurements of its model."""
        if self.earlier is None and self.before is None:
            return read
        return AttentionReach(
            where=MEASURED,
            token_types=read.token_types,
            earlier=self.earlier,
            future_seen=self.future_seen,
            before=self.before,
            prefix_reach=self.prefix_reach,
        )


def write_measured(folder: Path, measured: Measured) -> None:
    """Write model.json."""
    write_json(folder / MEASURED, measured.model_dump())


def read_measured(path: Path) -> Measured:
    """Read model.json.

    Raises:
        StoreError: not a JSON object.
        ValidationError: unknown or wrong keys.
    """
    return Measured.model_validate(mapping(path))
