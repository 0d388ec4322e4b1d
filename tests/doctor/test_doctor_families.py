"""Runs of SmolVLM2 by other programs: learning the prompt and splitting images are named, a right run is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import pad
from transformers import SmolVLMForConditionalGeneration

from recipes import small_recipe
from rscap.doctor import diagnose
from rscap.doctor.snapshot import snapshot
from rscap.model.families import FAMILIES
from rscap.recipe import dump_recipe
from rscap.sample import sample_examples

SMOL = FAMILIES["smolvlm"]
LABELS = {"image-targets", "prompt-targets", "padding-targets", "no-targets", "no-eos", "many-eos"}
ATTENTION = {"answer-visible", "prefix-causal"}


def codes(folder: Path) -> set[str]:
    return {finding.code for finding in diagnose(folder).findings}


def made(smolnano: Path, folder: Path, *, learns_prompt: bool, split: bool = False) -> Path:
    """The first batch of a training script, two rows padded on the right, as `snapshot` leaves it."""
    model = SmolVLMForConditionalGeneration.from_pretrained(smolnano)
    processor = SMOL.load_processor(smolnano, {})
    image = SMOL.image_spec(processor, model.config, split=split)
    layout = SMOL.layout(processor, model.config, image)
    rows = [
        SMOL.inputs(processor, layout, example.image.load(), "Describe this image.", example.captions[0])
        for example in sample_examples()[:2]
    ]
    width = max(row["input_ids"].shape[1] for row in rows)

    def padded(name: str, fill: int) -> torch.Tensor:
        return torch.cat([pad(row[name], (0, width - row[name].shape[1]), value=fill) for row in rows])

    fills = {"input_ids": layout.pad, "attention_mask": 0, "labels": -100}
    batch: dict[str, Any] = {name: padded(name, fill) for name, fill in fills.items()}
    if learns_prompt:  # as collators in circulation do it: all but padding and image tokens
        ids = batch["input_ids"]
        batch["labels"] = torch.where((ids == layout.pad) | (ids == layout.image_token_id), -100, ids)
    batch["pixel_values"] = torch.cat([row["pixel_values"] for row in rows])
    snapshot(folder, model, batch, processor.tokenizer)
    return folder


def test_a_right_run_has_no_finding(smolnano: Path, tmp_path: Path) -> None:
    """Labels on the caption and its end alone, a causal prefix, no token types: that is how this family is trained."""
    assert not codes(made(smolnano, tmp_path / "run", learns_prompt=False)) & (LABELS | ATTENTION | {"image-split"})


def test_a_collator_that_learns_the_prompt_is_named(smolnano: Path, tmp_path: Path) -> None:
    """The user's turn among the labels is the prompt, and its end is not a caption's second one."""
    folder = made(smolnano, tmp_path / "run", learns_prompt=True)
    (found,) = (one for one in diagnose(folder).findings if one.code == "prompt-targets")
    assert "belong to the prompt" in found.evidence
    assert codes(folder) & LABELS == {"prompt-targets"}


def test_a_split_image_is_named_with_its_cost(smolnano: Path, tmp_path: Path) -> None:
    """Seventeen squares in place of one, with the number of tokens of each."""
    folder = made(smolnano, tmp_path / "run", learns_prompt=False, split=True)
    (found,) = (one for one in diagnose(folder).findings if one.code == "image-split")
    assert "272 tokens; one square takes 16" in found.evidence


@pytest.mark.slow
def test_a_recipe_that_splits_is_warned(smolnano: Path, tmp_path: Path) -> None:
    """Before a step is run: what `model.image_splitting` costs; without it nothing is said of labels or attention."""
    for split in (True, None):
        model = {"base": str(smolnano), "pretrained": False, **({"image_splitting": True} if split else {})}
        recipe = small_recipe({"model": model, "data": {"train_limit": 4}, "train": {"max_steps": 2, "micro_batch": 1}})
        file = tmp_path / f"{split}.toml"
        file.write_text(dump_recipe(recipe), encoding="utf-8")
        found = codes(file)
        assert ("image-split" in found) == bool(split)
        assert not found & (LABELS | ATTENTION)
