"""`snapshot`: measure a model in memory and save it, from anybody's training script."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from rscap.doctor.snapshot_files import IGNORED, Measured, write_measured
from rscap.errors import AdapterError
from rscap.model.towers import count_parameters, tower_of
from rscap.recipe import Tower
from rscap.store import atomic_path

_MOVED = 1e-5  # of the largest output: rounding of another order of sums lies below, influence above
_SAVED = ("input_ids", "labels", "token_type_ids", "attention_mask")


def snapshot(folder: Path | str, model: Any, batch: Mapping[str, Tensor], tokenizer: Any) -> None:
    """Save the first training batch as batch.safetensors, and what it does to the untrained model as model.json.

    Call it once, before the first step:

        snapshot("my-run", model, batch, processor.tokenizer)

    Args:
        folder: of the run; made if it is not there.
        model: a transformers `PaliGemmaForConditionalGeneration`, bare or inside a PEFT model.
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
    config = model.config
    tokens = {
        "vocabulary": config.text_config.vocab_size,
        "image": config.image_token_id,
        **{name: getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")},
    }
    with _still(model):
        reaches = _reaches(model, row, tokens) if rows_are_apart(model) else {}
        losses = _losses(model, row, batch["labels"][:1])
    write_measured(
        folder,
        Measured(
            base=str(getattr(config, "_name_or_path", "")),
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
    """The last token of type 0, if the types mark a caption; else `<bos>`, which always belongs to the prefix."""
    types = row.get("token_type_ids")
    if types is not None and bool((types[0][there] == 1).any()):
        return int(there[types[0][there] == 0][-1])
    return int(torch.nonzero(ids == tokens["bos"]).flatten()[0])


def _losses(model: Any, row: Mapping[str, Any], labels: Tensor) -> Tensor:
    """float[S]: the loss of each label of a row; a label is predicted from the token before it."""
    logits = model(**row).logits[0, :-1].float()
    wanted = labels[0, 1:].to(logits.device)
    return F.cross_entropy(logits, wanted, ignore_index=IGNORED, reduction="none")[wanted != IGNORED]


# Measurements of any model in memory.


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
        except AdapterError:  # a part that PaliGemma does not have
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
