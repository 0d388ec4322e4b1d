"""What is frozen stays frozen, what is adapted is adapted as asked, and parameters are counted per tower."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import PaliGemmaForConditionalGeneration

from rscap.errors import AdapterError
from rscap.model.adapters import parameter_groups, prepare, target_expression
from rscap.model.families.paligemma import paligemma_config
from rscap.model.towers import count_parameters
from rscap.recipe import AdapterSection, TowersSection

# PaliGemma-3B: (q 2048+2048) + 2 x (kv 2048+256) + (o 2048+2048) + 3 x (mlp 2048+16384), rank 16, 18 layers.
TRAINABLE_B = 16 * 18 * (4096 + 2 * 2304 + 4096 + 3 * 18432)


def build(geometry: str, *, device: str = "cpu") -> Any:
    with torch.device(device):
        return PaliGemmaForConditionalGeneration(paligemma_config(geometry))


def test_geometries_have_the_parameters_of_the_checkpoints() -> None:
    """PaliGemma-3B has 2,923,466,480 parameters and PaliGemma 2 3B 3,032,242,416."""
    for geometry, expected in (("paligemma-3b", 2_923_466_480), ("paligemma2-3b", 3_032_242_416)):
        counts = count_parameters(build(geometry, device="meta"))
        assert sum(count.total for count in counts.values()) == expected


def test_recipe_b_learns_19_611_648_parameters_of_the_language_model_and_no_others() -> None:
    """At PaliGemma-3B's true geometry the frozen vision tower carries no adapter."""
    net = prepare(build("paligemma-3b", device="meta"), TowersSection(), AdapterSection(rank=16), seed=0)
    counts = count_parameters(net)
    assert counts["language_model"].trainable == TRAINABLE_B == 19_611_648
    assert counts["vision_tower"].trainable == counts["projector"].trainable == 0


def test_a_bare_module_list_would_adapt_the_vision_tower() -> None:
    """The trap itself: the same seven names without paths match SigLIP too, 22,597,632 parameters in all."""
    from peft import LoraConfig, get_peft_model

    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    net = get_peft_model(build("paligemma-3b", device="meta"), LoraConfig(r=16, target_modules=names))
    counts = count_parameters(net)
    assert sum(count.trainable for count in counts.values()) == 22_597_632
    assert counts["vision_tower"].trainable == 2_985_984


@pytest.mark.parametrize("vision", ["frozen", "adapted"])
@pytest.mark.parametrize("projector", ["frozen", "trained"])
@pytest.mark.parametrize("geometry", ["nano", "nano2"])
def test_every_combination_of_towers_learns_what_it_says(geometry: str, vision: Any, projector: Any) -> None:
    """Vision tower frozen or adapted x projector frozen or trained: trainable exactly where the recipe says."""
    towers = TowersSection(vision_tower=vision, projector=projector)
    counts = count_parameters(prepare(build(geometry), towers, AdapterSection(rank=2), seed=0))
    assert (counts["vision_tower"].trainable > 0) == (vision == "adapted")
    assert (counts["projector"].trainable > 0) == (projector == "trained")
    assert counts["language_model"].trainable > 0
    assert counts["projector"].total == count_parameters(build(geometry))["projector"].total


def test_full_fine_tuning_trains_everything() -> None:
    """With all towers trained and no adapter, every parameter learns."""
    towers = TowersSection(vision_tower="trained", projector="trained", language_model="trained")
    counts = count_parameters(prepare(build("nano2"), towers, None, seed=0))
    assert all(count.trainable == count.total > 0 for count in counts.values())


def test_trained_towers_are_held_in_float32() -> None:
    """A bfloat16 base keeps its frozen weights; the tower that is trained whole is put in float32."""
    net = build("nano2").to(torch.bfloat16)
    prepare(net, TowersSection(projector="trained", language_model="frozen"), None, seed=0)
    dtypes = {name.split(".")[1]: parameter.dtype for name, parameter in net.named_parameters()}
    assert dtypes["multi_modal_projector"] == torch.float32
    assert dtypes["language_model"] == dtypes["vision_tower"] == torch.bfloat16


@pytest.mark.parametrize(
    "adapter",
    [
        AdapterSection(rank=4, alpha=8),
        AdapterSection(rank=4, alpha=8, rank_stabilised=True),
        AdapterSection(rank=4, alpha=8, weight_decomposed=True),
        AdapterSection(rank=4, alpha=8, rank_stabilised=True, weight_decomposed=True),
    ],
)
def test_methods_are_applied_as_asked(adapter: AdapterSection) -> None:
    """LoRA scales by alpha / r, rsLoRA by alpha / sqrt(r), DoRA adds magnitudes: read back from the layers."""
    from peft.tuners.lora import LoraLayer

    net = prepare(build("nano2"), TowersSection(), adapter, seed=0)
    layers = [module for module in net.modules() if isinstance(module, LoraLayer)]
    assert len(layers) == 7 * 2
    scale = 8 / (2 if adapter.rank_stabilised else 4)
    assert {layer.scaling["default"] for layer in layers} == {scale}
    assert all(bool(layer.lora_magnitude_vector) == adapter.weight_decomposed for layer in layers)


def test_a_target_that_does_not_exist_is_refused_with_those_that_do() -> None:
    """A misspelt or foreign target is never dropped in silence."""
    with pytest.raises(AdapterError, match="'out_proj' matches 0 modules") as caught:
        prepare(build("nano2"), TowersSection(), AdapterSection(language_targets=("q_proj", "out_proj")), seed=0)
    assert "o_proj" in str(caught.value.hint)


def test_the_expression_matches_one_module_a_layer() -> None:
    """The full-path expression of the language model matches no module of the vision tower."""
    import re

    net = build("nano2")
    expression = target_expression(net, "language_model", ["q_proj", "v_proj"])
    matched = [name for name, _ in net.named_modules() if re.fullmatch(expression, name)]
    assert len(matched) == 2 * 2
    assert all(name.startswith("model.language_model.") for name in matched)


def test_lora_plus_gives_b_matrices_their_own_rate() -> None:
    """B matrices learn 16 times as fast, every trainable parameter stands in exactly one group, norms do not decay."""
    net = prepare(build("nano2"), TowersSection(), AdapterSection(rank=2), seed=0)
    groups = parameter_groups(net, learning_rate=1e-4, weight_decay=0.1, lora_plus_ratio=16.0)
    rate_of = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    learning = {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert sum(len(group["params"]) for group in groups) == len(learning) == len(rate_of)
    for name, parameter in learning.items():
        assert rate_of[id(parameter)] == pytest.approx(1.6e-3 if ".lora_B." in name else 1e-4)


def test_adapters_start_from_the_seed_alone() -> None:
    """The same seed gives the same A matrices whatever was drawn before; another seed gives others."""

    def first(seed: int) -> torch.Tensor:
        torch.rand(seed + 3)  # somebody else's draws
        net = prepare(build("nano2"), TowersSection(), AdapterSection(rank=2), seed=seed)
        return next(parameter for name, parameter in net.named_parameters() if ".lora_A." in name).detach()

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))
