"""`snapshot`: one line in anybody's training script that saves what a doctor needs and cannot see afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from rscap.doctor.batch_file import IGNORED
from rscap.doctor.measured import (
    Measured,
    frozen_dtypes,
    product_dtypes,
    reach,
    rows_are_apart,
    trainable,
    write_measured,
)
from rscap.store import atomic_path

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
    """The model without dropout, and without gradients; as it was, afterwards."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def _reaches(model: Any, row: Mapping[str, Any], tokens: Mapping[str, int]) -> dict[str, int]:
    """Change the last token of the caption, then the last of the prefix, and count what moves before them."""
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
