"""What PiSSA, OLoRA, CorDA and EVA start from: PEFT's own starts where it has them, and what their papers say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PaliGemmaForConditionalGeneration

from rscap.captioner.batch import Batch, PackedRow, collate, pack
from rscap.errors import AdapterError
from rscap.model.adapters import Calibration, initial_factors, prepare
from rscap.model.adapters.start import corda, olora, pissa
from rscap.model.families.paligemma import paligemma_config
from rscap.recipe import AdapterSection, TowersSection

BOTH = TowersSection(vision_tower="adapted")
LENGTHS = (3, 9)


def model(geometry: str = "nano2") -> Any:
    torch.manual_seed(0)
    net = PaliGemmaForConditionalGeneration(paligemma_config(geometry, vocabulary=128, image_token_id=127)).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return net


def batch(seed: int, *, pad: int = 0, extra: int = 0) -> Batch:
    """Two images whose sequences differ in length; `extra` more padding, `pad` its token."""
    generator = torch.Generator().manual_seed(seed)
    rows = [
        PackedRow(
            example_id=str(length),
            pixels=torch.randn(3, 224, 224, generator=generator),
            captions=1,
            **pack([127] * 64 + [2, 11, 12], [[*torch.randint(5, 120, (length,), generator=generator).tolist(), 1]]),
        )
        for length in LENGTHS
    ]
    made = collate(rows, pad=pad)
    if not extra:
        return made

    def wider(values: Tensor, fill: int) -> Tensor:
        return torch.cat([values, torch.full((len(values), extra), fill)], dim=1)

    return replace(
        made,
        tokens=wider(made.tokens, pad),
        branch=wider(made.branch, -1),
        positions=wider(made.positions, 1),
    )


def looking(*batches: Batch) -> Calibration:
    return Calibration(batches=lambda: batches, compute_dtype=torch.float32)


def section(method: Any, **changes: Any) -> AdapterSection:
    targets = {"language_targets": ("k_proj", "down_proj"), "vision_targets": ("q_proj", "fc2")}
    return AdapterSection(method=method, rank=4, **{**targets, **changes})


def start(method: str, batches: Sequence[Batch] = (), net: Any = None, **changes: Any) -> dict[str, Tensor]:
    look = looking(*batches) if batches else None
    return initial_factors(prepare(net or model(), BOTH, section(method, **changes), seed=0, calibration=look))


def inputs_of(net: nn.Module, name: str, shown: Batch) -> list[Tensor]:
    """What transformers' own forward pass gives a layer for each image alone, unpadded."""
    seen: list[Tensor] = []
    handle = net.get_submodule(name).register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    with torch.no_grad():
        for row in range(2):
            real = shown.branch[row] >= 0
            tokens = shown.tokens[row, real].unsqueeze(0)
            net(
                input_ids=tokens,
                token_type_ids=(shown.branch[row, real] > 0).long().unsqueeze(0),
                attention_mask=torch.ones_like(tokens),
                pixel_values=shown.pixel_values[row].unsqueeze(0),
                labels=tokens,  # so that the prefix is bidirectional, as in training
            )
    handle.remove()
    return [part.squeeze(0) for part in seen]


def test_pissa_is_the_best_approximation_of_rank_r_split_evenly() -> None:
    """s·B·A is the truncated singular value decomposition of W, and A·Aᵀ = Bᵀ·B = S / s."""
    weight = torch.randn(24, 40, generator=torch.Generator().manual_seed(0))
    for matrix in (weight, weight.T.contiguous()):
        a, b = pissa(matrix, rank=5, scale=2.0)
        u, s, v = torch.linalg.svd(matrix, full_matrices=False)
        assert torch.allclose(2.0 * b @ a, (u[:, :5] * s[:5]) @ v[:5], atol=1e-5)
        for gram in (a @ a.T, b.T @ b):
            assert torch.allclose(gram, torch.diag(s[:5] / 2.0), atol=1e-5)


def test_a_weight_of_lower_rank_than_the_adapter_is_taken_out_whole() -> None:
    """Where W has 3 directions and the adapter 5, all factors are finite and s·B·A is W; CorDA too."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(24, 3, generator=generator) @ torch.randn(3, 40, generator=generator)
    for a, b in (pissa(weight, rank=5, scale=2.0), corda(weight, weight * 3.0, rank=5, scale=2.0)):
        assert torch.isfinite(a).all()
        assert torch.isfinite(b).all()
        assert torch.allclose(2.0 * b @ a, weight, atol=1e-4)


@pytest.mark.parametrize(("name", "ours"), [("pissa", pissa), ("olora", olora)])
@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (24, 24)])
def test_starts_from_weights_equal_those_of_peft(name: str, ours: Any, shape: tuple[int, int]) -> None:
    """The product and the rest are PEFT's to 1e-5, whatever signs a decomposition chose."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(5)
    layer = nn.Sequential(nn.Linear(shape[1], shape[0], bias=False))
    weight = layer[0].weight.detach().clone()
    config = LoraConfig(r=4, lora_alpha=8, init_lora_weights=name, target_modules=["0"])
    theirs: Any = get_peft_model(layer, config).base_model.model[0]
    a, b = ours(weight, rank=4, scale=2.0)
    product = theirs.lora_B["default"].weight @ theirs.lora_A["default"].weight
    assert torch.allclose(b @ a, product, atol=1e-5)
    assert torch.allclose(weight - 2.0 * b @ a, theirs.base_layer.weight, atol=1e-5)


@pytest.mark.parametrize("shape", [(24, 40), (40, 24)])
def test_corda_equals_that_of_peft_without_inverting_the_covariance(shape: tuple[int, int]) -> None:
    """Given one covariance, PEFT's preprocessing and ours leave the same rest."""
    from peft import LoraConfig, get_peft_model
    from peft.tuners.lora.config import CordaConfig
    from peft.tuners.lora.corda import preprocess_corda

    generator = torch.Generator().manual_seed(2)
    torch.manual_seed(5)
    layer = nn.Sequential(nn.Linear(shape[1], shape[0], bias=False))
    weight, seen = layer[0].weight.detach().clone(), torch.randn(300, shape[1], generator=generator)
    seen /= seen.max()
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        init_lora_weights="corda",
        corda_config=CordaConfig(corda_method="ipm", verbose=False),
        target_modules=["0"],
    )
    preprocess_corda(layer, config, run_model=lambda: layer(seen.unsqueeze(0)))
    theirs: Any = get_peft_model(layer, config).base_model.model[0]
    covariance = seen.T @ seen
    oriented = weight @ (covariance + 0.01 * covariance.diagonal().mean() * torch.eye(shape[1]))
    a, b = corda(weight, oriented, rank=4, scale=2.0)
    product = theirs.lora_B["default"].weight @ theirs.lora_A["default"].weight
    assert torch.allclose(b @ a, product, atol=1e-4)
    assert torch.allclose(weight - 2.0 * b @ a, theirs.base_layer.weight, atol=1e-4)


@pytest.mark.parametrize(
    "name",
    [
        "model.language_model.layers.0.mlp.down_proj",
        "model.language_model.layers.1.self_attn.k_proj",
        "model.vision_tower.encoder.layers.1.mlp.fc2",
    ],
)
def test_corda_sees_what_each_layer_reads_of_each_image(name: str) -> None:
    """The factors are those of W·C with C from transformers' own pass over every image alone: language and vision,
    the last layer too, padding left out, every token counted once."""
    net, shown = model("nano"), batch(1)
    weight = net.get_submodule(name).weight.detach().clone()
    parts = [seen / seen.abs().max() for seen in inputs_of(net, name, shown)]
    covariance = sum(part.T @ part for part in parts) / 2
    oriented = weight @ (covariance + 0.01 * covariance.diagonal().mean() * torch.eye(weight.shape[1]))
    a, b = corda(weight, oriented, rank=4, scale=8.0)
    found = start("corda", [shown], net)
    ours = found[f"{name}.lora_B"] @ found[f"{name}.lora_A"]
    assert torch.allclose(ours, b @ a, atol=1e-4 * float((b @ a).abs().max()) + 1e-6)


@pytest.mark.parametrize(
    "name", ["model.language_model.layers.1.self_attn.k_proj", "model.vision_tower.encoder.layers.0.self_attn.q_proj"]
)
def test_eva_finds_the_directions_of_largest_variance(name: str) -> None:
    """A's rows are orthonormal and span the leading eigenvectors of the centred covariance of what the layer reads."""
    net, shown = model("nano"), batch(1)
    seen = torch.cat(inputs_of(net, name, shown)).double()
    _, vectors = torch.linalg.eigh(torch.cov(seen.T))
    a = start("eva", [shown], net)[f"{name}.lora_A"].double()
    leading = vectors[:, -len(a) :]
    assert torch.allclose(a @ a.T, torch.eye(len(a), dtype=torch.float64), atol=1e-4)
    assert torch.allclose((a @ leading).square().sum(), torch.tensor(float(len(a)), dtype=torch.float64), atol=1e-2)


def test_eva_gives_ranks_where_they_explain_most_and_spends_the_budget() -> None:
    """Ranks differ between layers, none above twice the mean; their sum is rank x layers; the scale is one."""
    net = prepare(model("nano"), BOTH, section("eva", alpha=8.0), seed=0, calibration=looking(batch(1), batch(2)))
    ranks = [len(value) for value in initial_factors(net).values()]
    layers = [layer for layer in net.modules() if hasattr(layer, "lora_A")]
    assert sum(ranks) == 4 * 16
    assert max(ranks) <= 8
    assert len(set(ranks)) > 1
    assert sorted(layer.r["default"] for layer in layers) == sorted(ranks)
    assert {round(layer.scaling["default"], 9) for layer in layers} == {2.0}


@pytest.mark.parametrize("method", ["eva", "corda"])
def test_padding_changes_nothing(method: str) -> None:
    """Other padding tokens and more of them: the same start."""
    one, other = start(method, [batch(1)]), start(method, [batch(1, pad=77, extra=6)])
    assert one.keys() == other.keys()
    for key in (key for key in one if key.endswith("lora_A")):
        assert torch.allclose(one[key].T @ one[key], other[key].T @ other[key], atol=1e-3)


@pytest.mark.parametrize("method", ["eva", "corda"])
def test_the_start_is_a_pure_function_of_seed_and_images(method: str) -> None:
    """Whatever was drawn before, in whatever mode the model stood; other images give another start."""
    one = start(method, [batch(1)])
    torch.rand(5)
    again = start(method, [batch(1)], model().train())
    assert all(torch.equal(again[key], value) for key, value in one.items())
    other = start(method, [batch(2)])
    assert any(key not in other or not torch.equal(other[key], value) for key, value in one.items())


def test_corda_needs_no_more_room_for_several_passes() -> None:
    """Layers in passes of limited size give what one pass gives."""
    from rscap.model.adapters import start as module

    one = start("corda", [batch(1)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_PASS_BYTES", 1)
        several = start("corda", [batch(1)])
    assert all(torch.equal(several[key], value) for key, value in one.items())


def test_no_image_is_no_calibration() -> None:
    """An empty calibration is an error, not a start from nothing."""
    with pytest.raises(AdapterError, match="there is no image"):
        prepare(
            model(),
            BOTH,
            section("corda"),
            seed=0,
            calibration=Calibration(batches=list, compute_dtype=torch.float32),
        )


def test_what_is_taken_out_and_what_remains_make_the_weight() -> None:
    """W' + s·B·A = W in float32, to rounding."""
    net = model()
    name = "model.language_model.layers.0.mlp.down_proj"
    weight = net.get_submodule(name).weight.detach().clone()
    wrapped: Any = prepare(net, BOTH, section("pissa", alpha=12.0), seed=0)
    layer = wrapped.get_base_model().get_submodule(name)
    assert torch.allclose(layer.base_layer.weight + layer.get_delta_weight("default"), weight, atol=1e-6)
    assert not torch.allclose(layer.base_layer.weight, weight, atol=1e-2)
