"""Every adapter method: applied as asked, alone in what it changes, read by plain PEFT, rebuilt for a resumed run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.utils import save_and_load
from safetensors.torch import load_file
from torch import Tensor

from rscap.captioner import ModelRef
from rscap.captioner.batch import Batch, PackedRow, collate, pack
from rscap.errors import AdapterError
from rscap.methods import METHODS
from rscap.model.adapters import (
    Allocation,
    Calibration,
    initial_factors,
    load_adapter,
    parameter_groups,
    precision_to_load,
    preparation,
    prepare,
    quiet_peft,
    save_adapter,
    trainable_parameters,
)
from rscap.model.families import FAMILIES, family_of
from rscap.model.load import Base, load_base
from rscap.model.packed import PackedModel
from rscap.recipe import Recipe, dump_recipe, parse_recipe
from rscap.store import RunFolder
from smolnano import IMAGE

STACKED = {"rank_stabilised": True, "weight_decomposed": True, "lora_plus_ratio": 4.0}
CASES: dict[str, dict[str, Any]] = {name: {"method": name} for name in METHODS} | {
    "lora, stacked": {"method": "lora", **STACKED},
    "pissa, stacked": {"method": "pissa", **STACKED},
    "eva, stacked": {"method": "eva", **STACKED},
}
RESIDUAL = [name for name, method in METHODS.items() if method.residual]


@cache
def batches(family: str) -> list[Batch]:
    """Two batches of two images with noise for pixels and words; rows differ in length, so there is padding."""
    generator = torch.Generator().manual_seed(3)
    paligemma = family == "paligemma"
    prefix = [2943] * 64 + [2, 100, 101, 108] if paligemma else [1, 40, *[IMAGE] * 16, 41, 100, 101]
    shape = (3, 224, 224) if paligemma else (1, 3, 128, 128)

    def row(index: int) -> PackedRow:
        most = 2900 if paligemma else 500
        words = torch.randint(5, most, (2, 3 + 4 * (index % 2)), generator=generator).tolist()
        packed = pack(prefix, [[*suffix, 1] for suffix in words], first=FAMILIES[family].first_position)
        return PackedRow(example_id=str(index), pixels=torch.randn(*shape, generator=generator), captions=2, **packed)

    return [collate([row(index), row(index + 1)], pad=0) for index in (0, 2)]


@dataclass(frozen=True)
class Trained:
    """One method after two updates."""

    recipe: Recipe
    net: Any
    logits: Tensor
    start: Tensor
    """Logits before the first update."""
    frozen: dict[str, bool]
    """Whether a frozen weight or buffer is the same after training, bit for bit."""
    moved: float
    """Share of the parameters that changed, of those that learn."""


def made_recipe(base: str, model: dict[str, Any], adapter: dict[str, Any]) -> Recipe:
    return parse_recipe(
        {
            "seed": 1,
            "data": {"source": "sample"},
            "model": {"base": base, "dtype": "float32", **model},
            "towers": {"vision_tower": "adapted", "projector": "trained"},
            "adapter": {"rank": 4, "vision_targets": ["q_proj", "fc1"], **adapter},
        }
    )


def prepared(recipe: Recipe, base: Base, **options: Any) -> Any:
    look = Calibration(batches=lambda: batches(base.family.name), compute_dtype=base.compute_dtype)
    options = {"calibration": look, **options}
    return prepare(base.model, recipe.towers, recipe.adapter, seed=recipe.seed, model=recipe.model, **options)


@torch.no_grad()
def logits_of(net: Any, compute_dtype: torch.dtype = torch.float32) -> Tensor:
    packed = PackedModel(net, compute_dtype=compute_dtype).eval()
    with packed.autocast():
        return packed.head(packed.hidden(batches(packed.family.name)[0])).float()


@cache
def trained(case: str, folder: str, dtype: str = "float32", quantisation: str = "none") -> Trained:
    """Two AdamW steps on noise."""
    recipe = made_recipe(folder, {"dtype": dtype, "quantisation": quantisation}, CASES[case])
    base = load_base(precision_to_load(recipe.model, recipe.adapter))
    net = prepared(recipe, base)
    start = logits_of(net, base.compute_dtype)
    packed = PackedModel(net, compute_dtype=base.compute_dtype).train()
    assert recipe.adapter is not None
    allocation = Allocation.of(net, recipe.adapter, total_steps=4)
    ratio = recipe.adapter.lora_plus_ratio
    groups = parameter_groups(net, learning_rate=1e-2, weight_decay=0.0, lora_plus_ratio=ratio)
    optimiser = torch.optim.AdamW(groups)
    learning = {id(parameter) for parameter in trainable_parameters(net)}
    named = [*net.named_parameters(), *net.named_buffers()]
    before = {name: tensor.detach().clone() for name, tensor in named}
    for step, batch in enumerate(batches(base.family.name), start=1):
        (packed(batch) / batch.supervised).backward()
        if allocation:
            allocation.regularise()
        optimiser.step()
        if allocation:
            allocation.after_step(step)
        optimiser.zero_grad()
    same = {name: torch.equal(before[name], tensor) for name, tensor in named}
    frozen = {name: same[name] for name, tensor in named if id(tensor) not in learning}
    changed = [not same[name] for name, tensor in named if id(tensor) in learning]
    logits = logits_of(net, base.compute_dtype)
    return Trained(recipe, net, logits, start, frozen, sum(changed) / len(changed))


def plainly_loaded(recipe: Recipe, folder: Path) -> Any:
    """What anybody gets who knows PEFT and the base model, and nothing of rscap."""
    from peft import PeftModel

    base = load_base(recipe.model).model
    with quiet_peft():
        return PeftModel.from_pretrained(base, folder)


@pytest.fixture(params=["nano2", pytest.param("smolnano", marks=pytest.mark.slow)])
def folder(request: pytest.FixtureRequest, nano2: Path, smolnano: Path) -> str:
    return str(nano2 if request.param == "nano2" else smolnano)


@pytest.mark.parametrize("case", CASES)
def test_the_start_is_the_base_and_training_moves_the_adapter_alone(case: str, folder: str) -> None:
    """Before the first step the model is the base (to 1e-5); after two steps no frozen weight or buffer has changed."""
    one = trained(case, folder)
    bare = logits_of(load_base(one.recipe.model).model)
    assert torch.allclose(one.start, bare, atol=1e-5)
    assert not torch.allclose(one.logits, bare, atol=1e-2)
    assert all(one.frozen.values())
    assert one.moved > 0.9  # AdaLoRA leaves matrices of layers alone whose ranks are all gone


@pytest.mark.parametrize("case", CASES)
def test_plain_peft_reads_what_was_trained(case: str, folder: str, tmp_path: Path) -> None:
    """`PeftModel.from_pretrained` on the untouched base gives the same logits to 1e-4, after a training that moved them
    by a hundred times that; the folder holds no pickle."""
    one = trained(case, folder)
    save_adapter(one.net, tmp_path)
    loaded = logits_of(plainly_loaded(one.recipe, tmp_path))
    assert torch.allclose(loaded, one.logits, atol=1e-4)
    assert (one.logits - one.start).abs().max() > 1e-2
    assert {path.name for path in tmp_path.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "README.md",
    }


@pytest.mark.parametrize("case", CASES)
def test_a_run_folder_gives_back_what_was_trained(case: str, folder: str, tmp_path: Path) -> None:
    """A loaded run gives the logits of the end of training: exactly, but for AdaLoRA, which drops zero ranks."""
    one = trained(case, folder)
    run = RunFolder.create(tmp_path / "run")
    run.recipe_file.write_text(dump_recipe(one.recipe), encoding="utf-8")
    save_adapter(one.net, run.adapter)
    packed = ModelRef.of_run(run, one.recipe).load("cpu").packed
    assert torch.allclose(logits_of(packed.net), one.logits, atol=1e-5 if case == "adalora" else 0.0)
    assert not any(parameter.requires_grad for parameter in packed.net.parameters())


def test_an_adapter_from_another_machine_asks_the_hub_for_nothing(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """adapter_config.json names the base by its path over there, which PEFT would take for a model of the Hub."""
    one = trained("lora", folder)
    save_adapter(one.net, tmp_path)
    config = tmp_path / "adapter_config.json"
    config.write_text(config.read_text(encoding="utf-8").replace(folder, "/elsewhere/base"), encoding="utf-8")
    assert "/elsewhere/base" in config.read_text(encoding="utf-8")
    asked: list[str] = []
    monkeypatch.setattr(save_and_load, "check_file_exists_on_hf_hub", lambda name, _: asked.append(name))
    loaded = load_adapter(load_base(one.recipe.model).model, tmp_path, one.recipe)
    assert asked == []
    assert torch.equal(logits_of(loaded), one.logits)


@pytest.mark.parametrize("case", CASES)
def test_a_resumed_run_is_rebuilt_from_recipe_and_trained_parameters(case: str, folder: str) -> None:
    """`prepare` again, with the stored start in place of data, and the parameters that learned: the same logits."""
    one = trained(case, folder)
    base = load_base(precision_to_load(one.recipe.model, one.recipe.adapter))
    initial = initial_factors(one.net)
    assert bool(initial) == (METHODS[CASES[case]["method"]].residual or case.startswith("eva"))
    again = prepared(one.recipe, base, calibration=None, initial=initial or None)
    with torch.no_grad():
        learned = {name: p for name, p in one.net.named_parameters() if p.requires_grad}
        for name, parameter in again.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(learned.pop(name))
    assert not learned
    assert torch.equal(logits_of(again), one.logits)


@pytest.mark.parametrize("case", METHODS)
def test_every_method_learns_on_a_4_bit_base(case: str, folder: str, tmp_path: Path) -> None:
    """With NF4 the towers are quantised, nothing frozen moves, and a run gives back exactly what was trained."""
    one = trained(case, folder, "bfloat16", "nf4")
    kinds = {type(module).__name__ for module in one.net.modules()}
    assert "Linear4bit" in kinds
    assert all(one.frozen.values())
    save_adapter(one.net, tmp_path)
    base = load_base(precision_to_load(one.recipe.model, one.recipe.adapter))
    own = logits_of(load_adapter(base.model, tmp_path, one.recipe), torch.bfloat16)
    assert torch.allclose(own, one.logits, atol=0.05 if case == "adalora" else 0.0)
    plain = logits_of(plainly_loaded(one.recipe, tmp_path), torch.bfloat16)
    coarse = 0.5 if "nano2" in folder else 2.0  # SmolVLM2's twin has larger logits
    rest = coarse if case in RESIDUAL else 0.05 if case == "adalora" else 0.0
    assert torch.allclose(plain, one.logits, atol=rest)


@pytest.mark.parametrize("name", ["nano2", "smolnano"])
def test_an_adapter_learns_on_an_8_bit_base(name: str, nano2: Path, smolnano: Path, tmp_path: Path) -> None:
    """With LLM.int8() on a processor: every learned weight moves, nothing frozen does, and what is saved gives back
    what was trained."""
    one = trained("lora", str(nano2 if name == "nano2" else smolnano), "bfloat16", "int8")
    assert "Linear8bitLt" in {type(module).__name__ for module in one.net.modules()}
    assert all(one.frozen.values())
    assert one.moved > 0.99
    assert not torch.equal(one.start, one.logits)
    save_adapter(one.net, tmp_path)
    base = load_base(precision_to_load(one.recipe.model, one.recipe.adapter))
    assert torch.equal(logits_of(load_adapter(base.model, tmp_path, one.recipe), torch.bfloat16), one.logits)


@pytest.mark.parametrize("case", RESIDUAL)
def test_the_rest_is_quantised_and_not_the_whole(case: str, folder: str) -> None:
    """W - s·B·A is what the 4-bit layers hold: it differs from the base's own 4-bit weights by about s·B·A."""
    from bitsandbytes.functional import dequantize_4bit

    def held(layer: Any) -> Tensor:
        return dequantize_4bit(layer.weight.data, layer.weight.quant_state).float()

    one = trained(case, folder, "bfloat16", "nf4")
    name = f"{family_of(one.net).modules['language_model'][0]}.layers.0.mlp.up_proj"
    layer = one.net.get_base_model().get_submodule(name)
    whole = held(load_base(one.recipe.model).model.get_submodule(name))
    start = initial_factors(one.net)
    taken = layer.scaling["default"] * start[f"{name}.lora_B"] @ start[f"{name}.lora_A"]
    assert (held(layer.base_layer) + taken - whole).norm() < 0.3 * whole.norm()
    assert (held(layer.base_layer) + taken - whole).norm() < (held(layer.base_layer) - whole).norm()


@pytest.mark.parametrize("case", METHODS)
def test_what_learns_is_held_in_float32(case: str, folder: str) -> None:
    """On a bfloat16 base too; AdaLoRA's divisor, which PEFT marks as trainable there, stays fixed."""
    recipe = made_recipe(folder, {"dtype": "bfloat16"}, {"method": case})
    net = prepared(recipe, load_base(recipe.model))
    assert {parameter.dtype for parameter in trainable_parameters(net)} == {torch.float32}
    assert not any(".ranknum." in name for name, p in net.named_parameters() if p.requires_grad)


@pytest.mark.parametrize("asked", ["hira", "vera", "adalora", "miss", "randlora"])
def test_another_method_than_the_one_asked_for_is_an_error(
    asked: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were PEFT to be given a LoRA in place of the method, the layers that are read back would say so."""
    from peft import LoraConfig

    from rscap.model.adapters import preparation as module

    def lora(_: Any, *, targets: str, whole: Any, **__: Any) -> Any:
        return LoraConfig(r=4, target_modules=targets, modules_to_save=whole)

    monkeypatch.setattr(module, "peft_config", lora)
    recipe = made_recipe(folder, {}, {"method": asked})
    with pytest.raises(
        AdapterError, match=rf"does not carry {asked} as the recipe asks: layer 'lora', expected '{asked}'"
    ):
        prepared(recipe, load_base(recipe.model))


@pytest.mark.parametrize("case", METHODS)
@pytest.mark.parametrize(
    ("change", "told"),
    [({"rank": 5}, "parameters"), ({"dropout": 0.5}, "dropout"), ({"rank_stabilised": True}, "scale")],
)
def test_every_difference_is_read_back(case: str, change: dict[str, Any], told: str, folder: str) -> None:
    """A layer with another rank, dropout or scale than the recipe's is named."""
    one = trained(case, folder)
    assert one.recipe.adapter is not None
    if told == "scale" and not METHODS[one.recipe.adapter.method].lora:
        change, told = ({"alpha": 7.0}, "scale") if one.recipe.adapter.alpha else ({"rank": 3}, "rank")
    layer = next(layer for layer in one.net.modules() if hasattr(layer, "base_layer"))
    rank = change.get("rank", 4)
    adapter = one.recipe.adapter.model_copy(update=change)
    facts = preparation._facts(layer, adapter, rank)
    assert told in {what for what, (there, wanted) in facts.items() if not preparation._same(there, wanted)}


def test_residual_methods_refuse_a_base_that_is_quantised_already(folder: str) -> None:
    """PiSSA of 4-bit weights would be PiSSA of their rounding; the message says how to load."""
    recipe = made_recipe(folder, {"dtype": "bfloat16", "quantisation": "nf4"}, {"method": "pissa"})
    with pytest.raises(AdapterError, match="is quantised already") as caught:
        prepared(recipe, load_base(recipe.model))
    assert "precision_to_load" in str(caught.value.hint)


@pytest.mark.parametrize("method", ["eva", "corda"])
def test_methods_that_look_at_data_refuse_to_start_without(method: str, folder: str) -> None:
    """EVA and CorDA without activations would be another method."""
    recipe = made_recipe(folder, {}, {"method": method})
    with pytest.raises(AdapterError, match="activations of training images"):
        prepared(recipe, load_base(recipe.model), calibration=None)


@pytest.mark.parametrize("method", ["pissa", "eva"])
def test_a_rank_beyond_a_layers_own_is_refused(method: str, folder: str) -> None:
    """A weight of 64 x 64 has no 65 directions."""
    recipe = made_recipe(folder, {}, {"method": method, "rank": 65})
    with pytest.raises(AdapterError, match="has 64 directions"):
        prepared(recipe, load_base(recipe.model))


def test_a_stored_start_of_another_recipe_is_refused(folder: str) -> None:
    """A start with other layers or other ranks is not taken."""
    one = trained("pissa", folder)
    start = initial_factors(one.net)
    recipe = made_recipe(folder, {}, {"method": "pissa", "rank": 8})
    with pytest.raises(AdapterError, match="ranks of"):
        prepared(recipe, load_base(recipe.model), initial=start)
    fewer = {key: value for key, value in start.items() if "layers.0" in key}
    with pytest.raises(AdapterError, match="targets are missing"):
        prepared(one.recipe, load_base(recipe.model), initial=fewer)


def test_keys_that_do_not_match_stop_with_the_whole_list(folder: str, nano2: Path, tmp_path: Path) -> None:
    """Missing and unknown keys are all told, layers of one name on one line."""
    from safetensors.torch import save_file

    one = trained("lora", folder)
    save_adapter(one.net, tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    stored = load_file(file)
    renamed = {key.replace("q_proj.lora_A", "q_proj.lora_C"): value for key, value in stored.items()}
    save_file(renamed, file)
    with pytest.raises(AdapterError) as caught:
        load_adapter(load_base(one.recipe.model).model, tmp_path, one.recipe)
    message = caught.value.message
    modules = family_of(one.net).modules
    text, vision = modules["language_model"][0], modules["vision_tower"][0]
    layers = "0,1" if "nano2" in folder else "0,1,2"
    assert f"{text}.layers.{layers}.self_attn.q_proj.lora_A.weight" in message
    assert f"{vision}.encoder.layers.0,1.self_attn.q_proj.lora_C.weight" in message
    listed = [line for line in message.splitlines() if "q_proj.lora_" in line]
    assert len(listed) == 4


def test_shapes_that_do_not_match_are_told(folder: str, tmp_path: Path) -> None:
    """A matrix of another size is named with both sizes."""
    from safetensors.torch import save_file

    one = trained("miss", folder)
    save_adapter(one.net, tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    stored = load_file(file)
    key = next(iter(stored))
    save_file({**stored, key: stored[key][:, :-1].contiguous()}, file)
    with pytest.raises(AdapterError, match="other shapes"):
        load_adapter(load_base(one.recipe.model).model, tmp_path, one.recipe)


def test_randlora_writes_its_shared_bases_once(folder: str, tmp_path: Path) -> None:
    """PEFT would write them once per layer: 8 GB at PaliGemma-3B."""
    save_adapter(trained("randlora", folder).net, tmp_path)
    keys = set(load_file(tmp_path / "adapter_model.safetensors"))
    assert {key for key in keys if key.endswith(("randlora_A", "randlora_B"))} == {
        "base_model.randlora_A",
        "base_model.randlora_B",
    }


def test_a_key_that_is_really_missing_is_still_told(folder: str, tmp_path: Path) -> None:
    """Of RandLoRA's folder only the copies of the shared bases may be missing in silence."""
    from safetensors.torch import save_file

    one = trained("randlora", folder)
    save_adapter(one.net, tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    stored = load_file(file)
    del stored[next(key for key in stored if key.endswith("randlora_lambda"))]
    save_file(stored, file)
    with pytest.warns(UserWarning, match="Found missing adapter keys"):
        plainly_loaded(one.recipe, tmp_path)


def test_residual_methods_are_written_as_lora_of_twice_the_rank(folder: str, tmp_path: Path) -> None:
    """Rank 8 with twice the alpha for rank 4, started by nobody; what was trained stands before its start."""
    one = trained("pissa", folder)
    save_adapter(one.net, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 8, 64.0)
    assert config["init_lora_weights"] is True
    assert one.net.peft_config["default"].r == 4
