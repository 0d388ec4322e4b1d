"""PaliGemmas with random weights, made on the device, quantised and adapted as a case says."""

from __future__ import annotations

import gc
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from transformers import PaliGemmaForConditionalGeneration

from rscap.model.adapters import prepare
from rscap.model.families.paligemma import paligemma_config
from rscap.model.packed import PackedModel
from rscap.model.quantise import keep_layout, quantise
from rscap.recipe import Recipe, parse_recipe

DTYPES = {"bf16": "bfloat16", "nf4": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What cases must agree in to share a model."""

    geometry: str
    precision: str = "bf16"
    """bf16, nf4 (products in bfloat16) or fp16"""
    checkpointing: bool = False
    attention: str = "plain"

    @property
    def dtype(self) -> torch.dtype:
        return getattr(torch, DTYPES[self.precision])

    def recipe(self, *, micro_batch: int = 8, cached: bool = False, decoded: int = 32, length: int = 16) -> Recipe:
        """Of the adapter of `recipes/risc-fast.toml`; the base that it names is not looked at."""
        return parse_recipe(
            {
                "data": {"source": "sample", "captions": "all"},
                "model": {
                    "base": "nano",
                    "dtype": DTYPES[self.precision],
                    "quantisation": "nf4" if self.precision == "nf4" else "none",
                    "attention": self.attention,
                },
                "adapter": {"rank": 16, "alpha": 32, "rank_stabilised": True},
                "train": {
                    "micro_batch": micro_batch,
                    "gradient_checkpointing": self.checkpointing,
                    "cache_features": cached,
                },
                "generate": {"batch_size": decoded, "max_new_tokens": length},
            }
        )


def random_model(wanted: Wanted, device: torch.device) -> Any:
    """A frozen base model without adapters."""
    torch.manual_seed(0)
    with torch.device(device):
        model = PaliGemmaForConditionalGeneration._from_config(paligemma_config(wanted.geometry), dtype=wanted.dtype)
    model.requires_grad_(False)
    model.eval()
    if wanted.precision == "nf4":
        quantise(model, wanted.recipe().model)
    keep_layout(model)
    return model


def adapted(model: Any, wanted: Wanted, device: torch.device) -> nn.Module:
    """The model with LoRA on its language model, of which both matrices are random: PEFT starts one at zero."""
    recipe = wanted.recipe()
    net = prepare(model, recipe.towers, recipe.adapter, seed=0, model=recipe.model).to(device)
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.01, generator=generator)
    return net


@dataclass(slots=True)
class Models:
    """Keeps the last model that was made, for the next case that wants the same."""

    device: torch.device
    _wanted: Wanted | None = None
    _kept: list[PackedModel] = field(default_factory=list)

    def get(self, wanted: Wanted) -> PackedModel:
        """An adapted model in training mode."""
        if wanted == self._wanted:
            return self._kept[0]
        self.drop()
        net = adapted(random_model(wanted, self.device), wanted, self.device)
        packed = PackedModel(net, compute_dtype=wanted.dtype)
        if wanted.checkpointing:
            packed.checkpoint_activations()
        packed.choose_attention(wanted.recipe().model.attention, checkpointed=wanted.checkpointing)
        self._wanted, self._kept = wanted, [packed.train()]
        return packed

    def drop(self) -> None:
        """Let go of everything; also what a case that failed has left."""
        self._wanted, self._kept = None, []
        torch.compiler.reset()
        gc.collect()  # a model is full of circles
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
