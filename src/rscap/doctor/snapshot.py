"""What a snapshot saves of any model, and how it is read: one training batch as transformers receives it, and
model.json with measurements of the model in memory.

`batch.safetensors` or `batch.json` holds int[B, N] `input_ids` and `labels`, and where they were passed to the model
`token_type_ids` and `attention_mask`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from safetensors.torch import save_file
from torch import Tensor, nn

import rscap.model
from rscap.doctor.evidence import AttentionReach, FirstLosses, Learning, Targets, Weights
from rscap.doctor.reading import EvidenceReader, mapping
from rscap.errors import AdapterError, StoreError
from rscap.model.families import FAMILIES, Family, family_by_name, family_of
from rscap.model.towers import count_parameters, tower_of
from rscap.recipe import Tower
from rscap.store import atomic_path, write_json

_NANO = Path(rscap.model.__file__).parent / "nano"


def known_tokens(base: str, reader: EvidenceReader) -> dict[str, int]:
    """`vocabulary`, `image`, `square` (tokens of one), `bos`, `eos`, `pad`.

    Of a local base model's config.json, or a family's by its name.
    """
    named = family_by_name(base)
    known = dict(named.special_ids) if named else {}
    file = _config_file(base)
    config = reader.read(file, mapping) if base and file.is_file() else None
    if not config:
        return known
    text = config.get("text_config")
    text = text if isinstance(text, dict) else {}
    family = FAMILIES.get(str(config.get("model_type")))
    found = {
        "vocabulary": text.get("vocab_size", config.get("vocab_size")),
        "image": config.get("image_token_index", config.get("image_token_id")),
        "square": family.image_tokens(family.config_class.from_dict(config)) if family else None,
        **{name: text.get(f"{name}_token_id", config.get(f"{name}_token_id")) for name in ("bos", "eos", "pad")},
    }
    return known | {name: value for name, value in found.items() if isinstance(value, int)}


def _config_file(base: str) -> Path:
    return (_NANO if base == "nano" else Path(base)) / "config.json"


def family_of_base(base: str) -> Family | None:
    """The family of a base model, by its name or the config.json of a local folder; None if neither tells."""
    if (named := family_by_name(base)) is not None or not base or not _config_file(base).is_file():
        return named
    return FAMILIES.get(str(mapping(_config_file(base)).get("model_type")))


BATCH_NAMES = ("batch.safetensors", "batch.json")
IGNORED = -100
"""A label that transformers' loss ignores."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenIds:
    """The special ids of a family's layout."""

    image: int
    bos: int
    eos: int
    pad: int
    square: int | None = None
    """Image tokens of one square of the model."""
    chat: bool = False
    """The prompt is a user's turn, closed by an `eos` of its own; masks do not depend on token types."""


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

    Without token types, prompt and caption cannot be distinguished, except that `<bos>` always belongs to the prompt;
    in a chat, the prompt reaches to the end of the user's turn.
    """
    ids, supervised = batch.input_ids, batch.labels != IGNORED
    padding = (batch.attention_mask == 0) if batch.attention_mask is not None else (ids == tokens.pad)
    image = (ids == tokens.image) & ~padding
    prompt = _prompt(batch, tokens) & ~padding & ~image
    ends = (batch.labels == tokens.eos) & ~padding & ~prompt
    learned = (supervised & ~padding & ~image).any(axis=1)
    return Targets(
        where=where,
        captions=len(ids),
        supervised=int(supervised.sum()),
        image=int((supervised & image).sum()),
        prompt=int((supervised & prompt).sum()),
        prompt_known=tokens.chat or _types(batch) == "right",
        padding=int((supervised & padding).sum()),
        unsupervised=int((~learned).sum()),
        without_eos=int((learned & (ends.sum(axis=1) == 0)).sum()),
        several_eos=int((ends.sum(axis=1) > 1).sum()),
        image_tokens=int(image.sum(axis=1).max(initial=0)),
        one_square=tokens.square,
    )


def _prompt(batch: SavedBatch, tokens: TokenIds) -> NDArray[np.bool_]:
    if tokens.chat:
        ends = batch.input_ids == tokens.eos
        return (ends.cumsum(axis=1) - ends == 0) & ends.any(axis=1, keepdims=True)
    if _types(batch) == "right":
        assert batch.token_type_ids is not None
        return batch.token_type_ids == 0
    return batch.input_ids == tokens.bos


def attention_of(batch: SavedBatch, where: str, *, chat: bool) -> AttentionReach:
    """The attention that can be read from a batch without its model: whether token types mark the caption."""
    return AttentionReach(where=where, token_types="unknown" if chat else _types(batch), causal=chat)


def _types(batch: SavedBatch) -> Any:
    """`right` where every row has a prefix of 0 and a caption of 1."""
    if batch.token_type_ids is None:
        return "absent"
    return "right" if (batch.token_type_ids == 1).any(axis=1).all() else "zero on the caption"


MEASURED = "model.json"


class Measured(BaseModel):
    """The content of model.json."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: str = ""
    family: str = ""
    """`model_type` of its configuration; snapshots of earlier versions do not say."""
    tokens: Mapping[str, int] = {}
    """`vocabulary`, `image`, `square`, `bos`, `eos`, `pad`."""
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
            causal=read.causal,
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


_MOVED = 1e-5  # of the largest output: below it: rounding of another order of sums; above it: influence
_SAVED = ("input_ids", "labels", "token_type_ids", "attention_mask")


def snapshot(folder: Path | str, model: Any, batch: Mapping[str, Tensor], tokenizer: Any) -> None:
    """Save the first training batch as batch.safetensors, and what it does to the untrained model as model.json.

    Call it once, before the first step:

        snapshot("my-run", model, batch, processor.tokenizer)

    Args:
        folder: of the run; made if it is not there.
        model: of a family that rscap knows, in its class of transformers, bare or inside a PEFT model.
        batch: exactly what the training loop passes to the model: `input_ids`, `labels`, `pixel_values` and, if they
            are passed, `token_type_ids` and `attention_mask`.
        tokenizer: of the processor, for the special ids.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: batch[name].detach().cpu().contiguous() for name in _SAVED if batch.get(name) is not None}
    with atomic_path(folder / "batch.safetensors") as temporary:
        save_file(tensors, temporary)
    row = {
        name: value[:1] if torch.is_tensor(value) else value
        for name, value in batch.items()
        if name != "labels" and value is not None
    }
    config, family = model.config, family_of(model)
    tokens = {
        "vocabulary": config.text_config.vocab_size,
        "image": config.image_token_id,
        "square": family.image_tokens(config),
        **{name: getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")},
    }
    with _still(model):
        reaches = _reaches(model, row, tokens) if rows_are_apart(model) else {}
        losses = _losses(model, row, batch["labels"][:1])
    write_measured(
        folder,
        Measured(
            base=str(getattr(config, "_name_or_path", "")),
            family=family.name,
            tokens=tokens,
            frozen=frozen_dtypes(model),
            products=product_dtypes(model),
            trainable=trainable(model),
            first_loss=losses.mean().item() if losses.numel() else None,
            first_loss_spread=losses.std(correction=0).item() if losses.numel() else 0.0,
            first_loss_tokens=losses.numel(),
            **reaches,
        ),
    )


@contextmanager
def _still(model: Any) -> Iterator[None]:
    """The model without dropout and gradients; restores its mode afterwards."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def _reaches(model: Any, row: Mapping[str, Any], tokens: Mapping[str, int]) -> dict[str, int]:
    """Change the last token of the caption, then that of the prefix, and count the outputs that change before them."""
    ids = row["input_ids"][0]
    there = torch.nonzero(row["attention_mask"][0] if "attention_mask" in row else torch.ones_like(ids)).flatten()
    first, last = int(there[0]), int(there[-1])

    def outputs(changed: Tensor) -> Tensor:
        given = {**row, "input_ids": changed.unsqueeze(0), "output_hidden_states": True}
        return model(**given).hidden_states[-1][0]

    end = reach(outputs, ids, last, tokens["bos"], first)
    prefix = reach(outputs, ids, _last_of_prefix(row, ids, there, tokens), tokens["eos"], first)
    return {
        "earlier": end.before,
        "future_seen": end.moved,
        "before": prefix.before,
        "prefix_reach": prefix.moved,
    }


def _last_of_prefix(row: Mapping[str, Any], ids: Tensor, there: Tensor, tokens: Mapping[str, int]) -> int:
    """The last token of type 0, if the types mark a caption; else `<bos>`, which always belongs to the prefix.

    In a chat `<bos>` is the first token, and nothing is before it.
    """
    types = row.get("token_type_ids")
    if types is not None and bool((types[0][there] == 1).any()):
        return int(there[types[0][there] == 0][-1])
    return int(torch.nonzero(ids == tokens["bos"]).flatten()[0])


def _losses(model: Any, row: Mapping[str, Any], labels: Tensor) -> Tensor:
    """float[S]: the loss of each label of a row; a label is predicted from the token before it."""
    logits = model(**row).logits[0, :-1].float()
    wanted = labels[0, 1:].to(logits.device)
    return F.cross_entropy(logits, wanted, ignore_index=IGNORED, reduction="none")[wanted != IGNORED]


@dataclass(frozen=True, slots=True)
class Reach:
    """How many outputs before a token change when that token is changed."""

    before: int
    moved: int


def rows_are_apart(net: nn.Module) -> bool:
    """Whether tokens are rounded independently: LLM.int8 (arXiv:2208.07339) picks outlier columns over all tokens."""
    return not any(type(module).__name__ == "Linear8bitLt" for module in net.modules())


def reach(outputs: Callable[[Tensor], Tensor], tokens: Tensor, column: int, replacement: int, first: int) -> Reach:
    """Change int[N] `tokens` at `column` and count which float[N, H] outputs from `first` up to it change."""
    changed = tokens.clone()
    changed[column] = replacement
    with torch.no_grad():
        here, there = outputs(tokens).float(), outputs(changed).float()
    difference = (here - there).abs().amax(dim=-1)
    moved = difference > _MOVED * here.abs().max()
    return Reach(before=column - first, moved=int(moved[first:column].sum()))


def frozen_dtypes(net: nn.Module) -> dict[Tower, dict[str, int]]:
    """Elements of frozen weights by precision, for each tower; a 4-bit weight counts its unpacked elements."""
    counts: dict[Tower, Counter[str]] = {}
    for name, parameter in net.named_parameters():
        if parameter.requires_grad or ".original_module." in name:
            continue
        try:
            tower = tower_of(name)
        except AdapterError:  # a part that is none of the towers
            continue
        counts.setdefault(tower, Counter())[_dtype(parameter)] += _elements(parameter)
    return {tower: dict(own) for tower, own in counts.items()}


def _dtype(parameter: nn.Parameter) -> str:
    if hasattr(parameter, "quant_type"):
        return str(parameter.quant_type)  # bitsandbytes' Params4bit: nf4 or fp4
    return str(parameter.dtype).removeprefix("torch.")


def _elements(parameter: nn.Parameter) -> int:
    state = getattr(parameter, "quant_state", None)
    return int(torch.Size(state.shape).numel()) if state is not None else parameter.numel()


def product_dtypes(net: nn.Module) -> tuple[str, ...]:
    """Precisions that 4-bit layers compute in."""
    found = {
        str(module.compute_dtype).removeprefix("torch.")
        for module in net.modules()
        if type(module).__name__ == "Linear4bit" and getattr(module, "compute_dtype", None) is not None
    }
    return tuple(sorted(found))


def trainable(net: nn.Module) -> dict[Tower, int]:
    """Trainable parameters, by tower."""
    return {tower: count.trainable for tower, count in count_parameters(net).items()}
