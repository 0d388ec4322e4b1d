"""One training step at PaliGemma-3B's true geometry with random weights, on a CPU: minutes and about 12 GB a case.

pytest -m large tests/model/test_large.py
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from transformers import PaliGemmaForConditionalGeneration, PaliGemmaProcessor

from checkout import ROOT
from rscap.captioner.batch import Batch, PackedRow, collate, pack
from rscap.model.adapters import prepare
from rscap.model.families.paligemma import paligemma_config
from rscap.model.load import NANO, load_base
from rscap.model.packed import PackedModel
from rscap.model.towers import count_parameters
from rscap.recipe import ModelSection, TowersSection, read_recipe

pytestmark = pytest.mark.large

IMAGE_TOKENS, IMAGE_TOKEN, BOS, EOS = 256, 257152, 2, 1
RECIPE_B = ROOT / "recipes" / "risc-qlora.toml"


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
    return collate([PackedRow(example_id="x", pixels=pixels, captions=5, **pack(prefix, suffixes))], pad=0)


class Float16Products(TorchDispatchMode):
    """Products of float16 matrices summed in float32 and rounded once, as a GPU's matrix units do.

    A CPU's own float16 kernels take hours here. What is too large for float16 becomes infinite all the same.
    """

    products = frozenset({torch.ops.aten.mm.default, torch.ops.aten.addmm.default, torch.ops.aten.bmm.default})

    def __init__(self) -> None:
        super().__init__()
        self.done = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [one for one in args if isinstance(one, torch.Tensor)]
        if function not in self.products or any(one.dtype != torch.float16 for one in tensors):
            return function(*args, **(kwargs or {}))
        self.done += 1
        return function(*tree_map_only(torch.Tensor, torch.Tensor.float, args), **(kwargs or {})).half()


def test_products_are_rounded_to_float16() -> None:
    """The stand-in for a GPU's products overflows where float16 does, and else agrees with float64 to its rounding."""
    a, b = (torch.randn(32, 64, generator=torch.Generator().manual_seed(seed)).half() for seed in (0, 1))
    with Float16Products() as mode:
        found, large = a @ b.T, (100 * a) @ (100 * b).T
    assert mode.done == 2
    assert found.dtype == torch.float16
    assert torch.allclose(found.double(), a.double() @ b.double().T, rtol=1e-3, atol=1e-3)
    assert large.isinf().any()


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
    packed = PackedModel(net, compute_dtype=base.compute_dtype)
    packed.checkpoint_activations()
    packed.train()
    batch = five_captions()
    with Float16Products() if dtype == "float16" else nullcontext() as mode:
        loss = packed(batch) / batch.supervised
        (loss * scale).backward()
    assert mode is None or mode.done > 1000

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
