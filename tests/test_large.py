"""One training step at PaliGemma-3B's true geometry with random weights, on a CPU: minutes and about 12 GB a case.

pytest -m large tests/test_large.py
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PaliGemmaForConditionalGeneration, PaliGemmaProcessor

from rscap.batch import Batch, Row, collate, pack
from rscap.model.adapters import prepare
from rscap.model.captioner import Captioner
from rscap.model.geometry import paligemma_config
from rscap.model.load import NANO, load_base
from rscap.model.towers import count_parameters
from rscap.recipe import ModelSection, TowersSection, read_recipe

pytestmark = pytest.mark.large

IMAGE_TOKENS, IMAGE_TOKEN, BOS, EOS = 256, 257152, 2, 1
RECIPE_B = Path(__file__).parents[1] / "recipes" / "risc-qlora.toml"


@pytest.fixture(scope="module", params=["paligemma-3b", "paligemma2-3b"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the true geometry with random bfloat16 weights (6 GB), and some processor beside it."""
    where = tmp_path_factory.mktemp("large") / request.param
    with torch.device("meta"):
        model = PaliGemmaForConditionalGeneration(paligemma_config(request.param)).to(torch.bfloat16)
    model.to_empty(device="cpu")
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.zero_() if "norm" in name or name.endswith("bias") else parameter.normal_(std=0.02)
        for name, parameter in model.model.vision_tower.named_parameters():
            if "norm" in name and name.endswith("weight"):
                parameter.fill_(1.0)
    model.tie_weights()
    model.save_pretrained(where)
    PaliGemmaProcessor.from_pretrained(NANO).save_pretrained(where)
    return where


def five_captions() -> Batch:
    """One image, five captions of 8 to 16 tokens, 256 image tokens."""
    generator = torch.Generator().manual_seed(0)
    prefix = [IMAGE_TOKEN] * IMAGE_TOKENS + [BOS, 1000, 1001, 108]
    suffixes = [
        [*torch.randint(1000, 200_000, (length,), generator=generator).tolist(), EOS] for length in (8, 10, 12, 14, 16)
    ]
    pixels = torch.randn(3, 224, 224, generator=generator).clamp(-1, 1)
    return collate([Row(example_id="x", pixels=pixels, captions=5, **pack(prefix, suffixes))], pad=0)


@pytest.mark.parametrize(
    ("dtype", "quantisation", "scale"),
    [("bfloat16", "none", 1.0), ("bfloat16", "nf4", 1.0), ("float16", "none", 2.0**16)],
)
def test_a_training_step_at_the_true_geometry(folder: Path, dtype: Any, quantisation: Any, scale: float) -> None:
    """The loss is finite and near ln V, gradients are finite and on the 19,611,648 adapter parameters of the language
    model alone (PaliGemma 1 with prior work B's adapter), and every B matrix learns something; in float16 under the
    loss scale that training begins with, so nothing overflows."""
    recipe = read_recipe(RECIPE_B)
    base = load_base(ModelSection(base=str(folder), dtype=dtype, quantisation=quantisation))
    net = prepare(base.model, TowersSection(), recipe.adapter, seed=0)
    captioner = Captioner(net, compute_dtype=base.compute_dtype)
    captioner.checkpoint_activations()
    captioner.train()
    batch = five_captions()
    loss = captioner(batch) / batch.supervised
    (loss * scale).backward()

    uniform = math.log(base.model.config.text_config.vocab_size)
    assert loss.item() == pytest.approx(uniform, rel=0.15)
    counts = count_parameters(net)
    assert counts["vision_tower"].trainable == counts["projector"].trainable == 0
    if "paligemma-3b" in folder.name:
        assert counts["language_model"].trainable == 19_611_648
    for name, parameter in net.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        if parameter.grad is not None:
            assert torch.isfinite(parameter.grad).all(), name
            assert ".lora_A." in name or parameter.grad.any(), name
