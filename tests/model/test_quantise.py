"""Quantisation after loading gives what loading quantised gives, and 4-bit weights keep a layout that can learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from rscap.errors import ModelError
from rscap.model.adapters import prepare, trainable_parameters
from rscap.model.load import load_base
from rscap.model.quantise import keep_layout, quantise
from rscap.recipe import AdapterSection, ModelSection, TowersSection


def section(base: Path, **values: Any) -> ModelSection:
    return ModelSection(
        base=str(base), **{"dtype": "bfloat16", "quantise": ("language_model", "vision_tower"), **values}
    )


@pytest.mark.parametrize("quantisation", ["nf4", "int8"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["nano2", "smolnano"])
def test_quantised_afterwards_is_quantised_when_loaded(
    name: str, quantisation: Any, dtype: Any, nano2: Path, smolnano: Path
) -> None:
    """The same modules with the same bytes, scales and products, and no other tower touched."""
    folder = nano2 if name == "nano2" else smolnano
    asked = section(folder, quantisation=quantisation, dtype=dtype)
    theirs = load_base(asked).model
    ours = load_base(section(folder, dtype=dtype)).model
    quantise(ours, asked)
    assert ours.is_loaded_in_4bit if quantisation == "nf4" else ours.is_loaded_in_8bit
    for (name, one), (other_name, other) in zip(ours.named_modules(), theirs.named_modules(), strict=True):
        assert (name, type(one)) == (other_name, type(other))
        if isinstance(one, nn.Linear):
            assert torch.equal(one.weight.data, other.weight.data), name
            if quantisation == "int8" and type(one) is not nn.Linear:
                assert torch.equal(one.weight.SCB, other.weight.SCB)
                assert one.state.threshold == other.state.threshold
            elif type(one) is not nn.Linear:
                assert one.compute_dtype == other.compute_dtype
                mine, its = one.weight.quant_state.as_dict(packed=True), other.weight.quant_state.as_dict(packed=True)
                assert all(torch.equal(mine[key], its[key]) for key in its)


def test_nothing_is_quantised_twice(nano2: Path) -> None:
    """A base that was loaded quantised is refused by name; so is a recipe that asks for none."""
    asked = section(nano2, quantisation="nf4")
    with pytest.raises(ModelError, match="already a Linear4bit"):
        quantise(load_base(asked).model, asked)
    with pytest.raises(ModelError, match=r"unknown model\.quantisation"):
        quantise(load_base(asked).model, section(nano2))


def test_an_evaluation_does_not_stop_4_bit_layers_from_passing_gradients_on(nano2: Path) -> None:
    """Where a processor has AVX-512 BF16, bitsandbytes packs weights in evaluation mode and gradients end there."""
    base = load_base(section(nano2, quantisation="nf4", quantise=("language_model",)))
    net = prepare(base.model, TowersSection(), AdapterSection(rank=2), seed=0)
    model: Any = net.get_base_model()  # type: ignore[operator]
    language = model.model.language_model
    seen = torch.randn(1, 5, 128, dtype=torch.bfloat16)
    held = [(module.weight, module.weight.data.clone()) for module in net.modules() if hasattr(module, "quant_state")]

    def hidden() -> torch.Tensor:
        return language(inputs_embeds=seen).last_hidden_state

    net.eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        hidden()
    assert all(torch.equal(weight.data, before) for weight, before in held)
    net.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden().float().square().sum().backward()
    first = next(parameter for parameter in trainable_parameters(net) if parameter.shape[0] != 2)
    assert first.grad is not None
    assert first.grad.abs().sum() > 0


def test_a_model_without_4_bit_layers_is_left_alone(nano2: Path) -> None:
    """Nothing to keep, nothing changed."""
    base = load_base(section(nano2)).model
    before = {name: set(vars(module)) for name, module in base.named_modules()}
    keep_layout(base)
    assert before == {name: set(vars(module)) for name, module in base.named_modules()}
