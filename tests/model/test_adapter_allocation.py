"""AdaLoRA's ranks: the penalty is PEFT's, the budget falls to its target, and a checkpoint carries all of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PaliGemmaForConditionalGeneration

from rscap.errors import AdapterError
from rscap.model.adapters import Allocation, prepare, save_adapter, trainable_parameters
from rscap.model.families.paligemma import paligemma_config
from rscap.recipe import AdapterSection, TowersSection

ADALORA = AdapterSection(method="adalora", rank=4, alpha=8.0)
STEPS = 12


def prepared(adapter: AdapterSection = ADALORA) -> Any:
    torch.manual_seed(0)
    net = PaliGemmaForConditionalGeneration(paligemma_config("nano2", vocabulary=128, image_token_id=127))
    return prepare(net, TowersSection(), adapter, seed=0)


def learner(total_steps: int = STEPS) -> tuple[Any, Allocation, torch.optim.Optimizer]:
    net = prepared()
    allocation = Allocation.of(net, ADALORA, total_steps)
    assert allocation is not None
    return net, allocation, torch.optim.AdamW(trainable_parameters(net), lr=1e-2)


def steps(net: Any, allocation: Allocation, optimiser: torch.optim.Optimizer, numbers: range) -> None:
    """Updates whose gradients are a pure function of the step."""
    for step in numbers:
        generator = torch.Generator().manual_seed(step)
        for parameter in trainable_parameters(net):
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        allocation.regularise()
        optimiser.step()
        allocation.after_step(step)
        optimiser.zero_grad()


def learned(net: Any) -> dict[str, Tensor]:
    return {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}


def test_the_penalty_is_that_of_peft() -> None:
    """`regularise` leaves the gradient of the term that PEFT adds to the loss, times the scale asked for."""
    net, allocation, _ = learner()
    weight = net.peft_config["default"].orth_reg_weight
    matrices = [(name, p) for name, p in net.named_parameters() if ".lora_A." in name or ".lora_B." in name]
    penalty: Any = 0.0
    for name, matrix in matrices:
        product = matrix @ matrix.T if ".lora_A." in name else matrix.T @ matrix
        penalty = penalty + torch.norm(product - torch.eye(len(product)), p="fro")
    expected = torch.autograd.grad(weight * penalty / len(matrices), [matrix for _, matrix in matrices])
    for times in (1.0, 3.0):
        for _, matrix in matrices:
            matrix.grad = torch.ones_like(matrix)
        allocation.regularise(scale=times)
        for gradient, (_, matrix) in zip(expected, matrices, strict=True):
            assert matrix.grad is not None
            assert torch.allclose(matrix.grad, 1.0 + times * gradient, atol=1e-6)


def test_ranks_start_at_one_and_a_half_times_the_rank_and_end_at_it() -> None:
    """The budget is whole in the first tenth, falls without rising, and is the target from the middle on."""
    net, allocation, optimiser = learner()
    layers = 7 * 2
    budgets = []
    for step in range(1, STEPS + 1):
        steps(net, allocation, optimiser, range(step, step + 1))
        budgets.append(sum(allocation.ranks().values()))
    assert budgets[0] == 6 * layers
    assert budgets == sorted(budgets, reverse=True)
    assert set(budgets[STEPS // 2 - 1 :]) == {4 * layers}
    assert len(set(allocation.ranks().values())) > 1  # some layers keep more than others


def test_a_training_that_ends_before_the_ranks_came_down_is_told() -> None:
    """A budget in minutes or tokens may end it: what is left and what was planned are said; nothing from then on."""
    net, allocation, optimiser = learner()
    told, left = [], []
    for step in range(1, STEPS + 1):
        steps(net, allocation, optimiser, range(step, step + 1))
        told.append(allocation.cut_short(step))
        left.append(sum(allocation.ranks().values()))
    assert "it keeps 84 singular values, 56 were planned" in str(told[0])
    assert [note is None for note in told] == [step >= STEPS // 2 for step in range(1, STEPS + 1)]
    assert {ranks for ranks, note in zip(left, told, strict=True) if note is None} == {56}


@pytest.mark.parametrize("at", [1, 3, 6, 9])
def test_a_checkpoint_carries_the_allocation(at: int) -> None:
    """Stopped at any phase and rebuilt, the run ends with the same weights, bit for bit."""
    net, allocation, optimiser = learner()
    steps(net, allocation, optimiser, range(1, at + 1))
    weights = {name: p.detach().clone() for name, p in learned(net).items()}
    state = {name: tensor.clone() for name, tensor in allocation.state().items()}
    moments: dict[str, Any] = {
        name: {key: value.clone() for key, value in optimiser.state[p].items()} for name, p in learned(net).items()
    }
    steps(net, allocation, optimiser, range(at + 1, STEPS + 1))

    again, other, second = learner()
    with torch.no_grad():
        for name, parameter in learned(again).items():
            parameter.copy_(weights[name])
            second.state[parameter] = moments[name]
    other.load_state(state)
    steps(again, other, second, range(at + 1, STEPS + 1))
    assert all(torch.equal(learned(again)[name], parameter) for name, parameter in learned(net).items())
    assert other.state().keys() == allocation.state().keys()


def test_a_state_of_another_model_is_refused() -> None:
    """A key that names no parameter is told."""
    _, allocation, _ = learner()
    with pytest.raises(AdapterError, match="elsewhere"):
        allocation.load_state({"exp_avg_ipt|elsewhere": torch.zeros(1)})


def test_gradients_must_still_be_there() -> None:
    """Importances without gradients would all be zero; the order of calls is told."""
    _, allocation, _ = learner()
    with pytest.raises(AdapterError, match="before zero_grad"):
        allocation.after_step(1)


def test_one_step_leaves_no_room() -> None:
    """AdaLoRA of one step would be another method."""
    with pytest.raises(AdapterError, match="1 step leaves no room"):
        Allocation.of(prepared(), ADALORA, 1)


def test_an_adapter_that_was_never_allocated_is_not_saved(tmp_path: Any) -> None:
    """A loop that forgets the allocation does not pass for AdaLoRA."""
    with pytest.raises(AdapterError, match="never allocated"):
        save_adapter(prepared(), tmp_path)


@pytest.mark.parametrize("make", [lambda: AdapterSection(method="lora"), lambda: None])
def test_other_methods_have_no_allocation(make: Callable[[], AdapterSection | None]) -> None:
    """Nothing to call after a step."""
    assert Allocation.of(torch.nn.Identity(), make(), STEPS) is None
