"""One training step at SmolVLM2-500M's true geometry with random weights, on a CPU: a minute and about 6 GB a case.

pytest -m large tests/model/test_large_smol.py
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from rscap.captioner.batch import Batch, PackedRow, collate, pack
from rscap.model.adapters import prepare
from rscap.model.load import load_base
from rscap.model.packed import PackedModel
from rscap.model.towers import count_parameters
from rscap.recipe import ModelSection, TowersSection, read_recipe
from smolnano import IMAGE, write_smolnano

pytestmark = pytest.mark.large


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the true geometry with random bfloat16 weights (1 GB), and some tokenizer beside it."""
    return write_smolnano(
        tmp_path_factory.mktemp("large") / "smolvlm2-500m", geometry="smolvlm2-500m", dtype=torch.bfloat16
    )


def five_captions() -> Batch:
    """One image, five captions of 8 to 16 tokens, 64 image tokens in the middle of a prompt."""
    generator = torch.Generator().manual_seed(0)
    prefix = [1, 1000, 1001, *[IMAGE] * 64, 1002, 1003, 1004, 1005]
    suffixes = [
        [*torch.randint(1000, 49_000, (length,), generator=generator).tolist(), 599] for length in (8, 10, 12, 14, 16)
    ]
    pixels = torch.randn(1, 3, 512, 512, generator=generator).clamp(-1, 1)
    row = PackedRow(example_id="x", pixels=pixels, captions=5, **pack(prefix, suffixes, first=0))
    return collate([row], pad=2)


@pytest.mark.parametrize(("dtype", "quantisation"), [("float32", "none"), ("bfloat16", "none"), ("bfloat16", "nf4")])
def test_a_step_of_five_captions_at_the_true_geometry(folder: Path, dtype: Any, quantisation: Any) -> None:
    """The loss is finite and near ln V; gradients are finite and on the adapters of the language model alone, 8,683,520
    parameters at rank 16, of which every B matrix learns something."""
    base = load_base(ModelSection(base=str(folder), dtype=dtype, quantisation=quantisation))
    net = prepare(base.model, TowersSection(), read_recipe("risc-smol-500m").adapter, seed=0)
    packed = PackedModel(net, compute_dtype=base.compute_dtype).train()
    batch = five_captions()
    loss = packed(batch) / batch.supervised
    loss.backward()
    assert loss.item() == pytest.approx(math.log(49_280), rel=0.15)
    counts = count_parameters(net)
    assert sum(count.total for count in counts.values()) - counts["language_model"].trainable == 507_482_304
    assert counts["vision_tower"].trainable == counts["projector"].trainable == 0
    assert counts["language_model"].trainable == 8_683_520
    for name, parameter in net.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        if parameter.grad is not None:
            assert torch.isfinite(parameter.grad).all(), name
            assert ".lora_A." in name or parameter.grad.any(), name
