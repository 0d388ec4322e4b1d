"""Save adapters in PEFT's layout, load them, and add them to the weights of their base.

Whatever the method, `PeftModel.from_pretrained(base, folder)` on the untouched base gives the trained model.
PiSSA, OLoRA and CorDA trained s·B·A on W - s·B0·A0; they are written as a LoRA of twice the rank on W itself:
s·(B·A - B0·A0) = s·[B, -B0]·[A; A0].
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from rscap.errors import AdapterError
from rscap.methods import METHODS
from rscap.model.adapters.config import quiet_peft
from rscap.model.adapters.preparation import hold_bases, prepare
from rscap.model.adapters.start import Factors
from rscap.recipe import Recipe
from rscap.store import AdapterConfig, check_expressions, read_adapter_config
from rscap.store.adapter import ADAPTER_CONFIG, ADAPTER_TENSORS

_A, _B = ".lora_A.default.weight", ".lora_B.default.weight"


def save_adapter(net: Any, folder: Path, *, weights: Mapping[str, Tensor] | None = None) -> None:
    """Write an adapter in PEFT's layout: adapter_config.json and adapter_model.safetensors.

    Args:
        net: what `prepare` returned.
        weights: its state dict, where that is not simply `net.state_dict()` (sharded training).
    """
    config = net.peft_config["default"]
    state = dict(net.state_dict() if weights is None else weights)
    stored = copy.deepcopy(config)
    factors = {name: start for name, start in getattr(net, "rscap_factors", {}).items() if start.b is not None}
    if factors:
        _subtract_start(state, factors)
        stored.r *= 2
        stored.lora_alpha *= 2**0.5 if stored.use_rslora else 2
    elif config.peft_type == "ADALORA":
        if config.total_step < 2:
            raise AdapterError("AdaLoRA was asked for, but its ranks were never allocated (`Allocation.of`)")
        stored.rank_pattern = _kept(config.rank_pattern, state)
    elif config.peft_type == "RANDLORA":
        state = {key: value for key, value in state.items() if not _repeats_bases(key)}
    net.peft_config["default"] = stored
    try:
        with quiet_peft():
            # No adapter targets embeddings; left to itself PEFT would ask the Hub about the base's vocabulary.
            net.save_pretrained(folder, safe_serialization=True, state_dict=state, save_embedding_layers=False)
    finally:
        net.peft_config["default"] = config


def load_adapter(base: nn.Module, folder: Path, recipe: Recipe) -> Any:
    """The base model with a run's adapter, as it was trained; `base` is loaded by `precision_to_load`.

    Where the base was quantised after a part had been taken out, this takes the same part out and quantises again;
    PEFT alone would quantise the whole.

    Raises:
        AdapterError: the keys or shapes do not fit the base model; lists them.
    """
    config = read_adapter_config(folder)
    check_expressions(config, [name for name, _ in base.named_modules()], where=folder)
    stored = read_weights(folder)
    check_rank(config, stored, folder)
    adapter = recipe.adapter
    if adapter is not None and METHODS[adapter.method].residual:
        trained, initial = _split_start(stored)
        net = prepare(base, recipe.towers, adapter, seed=recipe.seed, model=recipe.model, initial=initial)
        _fill(net, trained, folder)
    else:
        net = wrap(base, read_peft_config(folder), folder)
        _fill(net, stored, folder)
    return net.requires_grad_(False)


def continue_adapter(net: nn.Module, folder: Path) -> None:
    """Put a run's adapter into what `prepare` returned for the same settings, to be trained on.

    Raises:
        AdapterError: keys or shapes differ; lists them.
    """
    _fill(net, read_weights(folder), folder)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of an adapter by their keys.

    Raises:
        AdapterError: the file is missing or damaged; names it.
    """
    try:
        return load_file(folder / ADAPTER_TENSORS)
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"{folder / ADAPTER_TENSORS} cannot be read: {error}") from error


def check_rank(config: AdapterConfig, stored: Mapping[str, Tensor], folder: Path) -> None:
    """Refuse a rank that no tensor has, before matrices of that rank are made."""
    largest = max((size for value in stored.values() for size in value.shape), default=0)
    if config.r is not None and config.r > largest:
        raise AdapterError(
            f"the adapter in {folder} states rank {config.r:,}, and its largest matrix measures {largest:,}",
            hint="restore the folder as training wrote it",
        )


def read_peft_config(folder: Path) -> Any:
    """PEFT's configuration of an adapter.

    Raises:
        AdapterError: it has keys or values that PEFT does not know.
    """
    from peft import PeftConfig

    try:
        return PeftConfig.from_pretrained(folder)
    except (ValueError, TypeError, KeyError, ImportError) as error:
        raise AdapterError(f"{folder / ADAPTER_CONFIG} is not PEFT's: {error}") from error


def wrap(base: Any, config: Any, folder: Path) -> Any:
    """The base model with an adapter as PEFT starts it; its weights are still to be loaded.

    Raises:
        AdapterError: PEFT cannot put such an adapter around this model.
    """
    from peft import PeftModel

    config.base_model_name_or_path = base.name_or_path  # where it lies here; PEFT asks the Hub for a path it misses
    allocated = config.rank_pattern if config.peft_type == "ADALORA" else None
    if allocated is not None:
        config.rank_pattern = None  # wrapping would take it for LoRA's; loading the weights applies it
    try:
        with torch.random.fork_rng(devices=[]), quiet_peft():
            net = PeftModel(base, config)
    except (ValueError, TypeError, KeyError, AttributeError, ImportError, NotImplementedError) as error:
        raise AdapterError(f"PEFT cannot apply the adapter in {folder}: {error}") from error
    if allocated is not None:
        config.rank_pattern = allocated
    for name, parameter in net.named_parameters():
        if ".modules_to_save." in name:  # PEFT copies them in the base's dtype; they were trained in float32
            parameter.data = parameter.data.float()
    hold_bases(net)
    return net


def _fill(net: Any, stored: dict[str, Tensor], folder: Path) -> None:
    """Load every key; none may be missing or left over."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    state = {key: value for key, value in net.state_dict().items() if not _repeats_bases(key)}
    pattern = getattr(config := net.peft_config["default"], "rank_pattern", None)
    if config.peft_type == "ADALORA":
        config.rank_pattern = None  # it changes shapes, not keys, and PEFT applies it when it loads
    expected = get_peft_model_state_dict(net, state_dict=state, save_embedding_layers=False)
    if config.peft_type == "ADALORA":
        config.rank_pattern = pattern
    if stored.keys() != expected.keys():
        raise AdapterError(
            f"the adapter in {folder} does not fit the base model\n"
            f"  missing: {listed_keys(expected.keys() - stored.keys())}\n"
            f"  unknown: {listed_keys(stored.keys() - expected.keys())}",
            hint="check that the base model and the folder have not changed since the run",
        )
    try:
        set_peft_model_state_dict(net, stored)
    except (RuntimeError, IndexError) as error:  # the message of torch names every key with both shapes
        raise AdapterError(f"the adapter in {folder} has other shapes than the base model: {error}") from error


def listed_keys(keys: Iterable[str]) -> str:
    """All keys, those of several layers on one line: `….layers.0,1,2.self_attn.q_proj.lora_A.weight`."""
    layers: dict[str, list[int]] = {}
    for key in sorted(keys):
        found = re.search(r"\.layers\.(\d+)\.", key)
        form = key if found is None else key.replace(found.group(), ".layers.{}.", 1)
        layers.setdefault(form, []).extend([int(found.group(1))] if found else [])
    lines = [form.replace("{}", ",".join(map(str, sorted(numbers)))) for form, numbers in layers.items()]
    return "\n    ".join(["", *lines]) if lines else "none"


def _subtract_start(state: dict[str, Tensor], factors: Mapping[str, Factors]) -> None:
    """[A; A0] and [B, -B0] in place of A and B."""
    for name, start in factors.items():
        assert start.b is not None
        a, b = f"base_model.model.{name}{_A}", f"base_model.model.{name}{_B}"
        state[a] = torch.cat([state[a], start.a.to(state[a].device)], dim=0)
        state[b] = torch.cat([state[b], -start.b.to(state[b].device)], dim=1)


def _split_start(stored: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Undo `_subtract_start`: the trained matrices, and those that training started from."""
    trained, initial = dict(stored), {}
    for key, value in stored.items():
        layer = key.removeprefix("base_model.model.").removesuffix(".weight")
        if key.endswith(".lora_A.weight"):
            half, start = value.chunk(2, dim=0)
        elif key.endswith(".lora_B.weight"):
            half, start = value.chunk(2, dim=1)
            start = -start
        else:
            continue
        trained[key], initial[layer] = half.contiguous(), start.contiguous()
    return trained, initial


def _kept(pattern: dict[str, list[bool]] | None, state: Mapping[str, Tensor]) -> dict[str, list[bool]] | None:
    """AdaLoRA's singular values to store: the last allocation's, and those that became non-zero again since."""
    if pattern is None:
        return None
    return {
        name: (torch.tensor(mask) | (state[f"base_model.model.{name}"].cpu().view(-1) != 0)).tolist()
        for name, mask in pattern.items()
    }


def _repeats_bases(key: str) -> bool:
    """RandLoRA's layers share two random bases, which PEFT would write once per layer (8 GB at 3B parameters)."""
    return ".layers." in key and key.endswith((".randlora_A.default", ".randlora_B.default"))


_QUANTISED = ("Linear4bit", "Linear8bitLt")


def merge(net: Any) -> Any:
    """The model inside a PEFT model, in its own class, with the adapter merged into its weights.

    Works in place: `net` is used up. Sums are rounded to the precision of the base's weights, so captions may differ
    from those of the adapter beside its base; they cost what the base alone costs. A model without an adapter is
    returned as it is.

    Raises:
        AdapterError: the base is quantised, the method has no merged form, or its weights are damaged.
    """
    if not hasattr(net, "peft_config"):
        return net
    from peft.tuners.tuners_utils import BaseTunerLayer

    method = str(net.peft_config["default"].peft_type.value)
    if quantised := [name for name, module in net.named_modules() if type(module).__name__ in _QUANTISED]:
        raise AdapterError(
            f"an adapter cannot be merged into quantised weights ({len(quantised)} layers): sums are not on their grid",
            hint="caption without merging, or load the base with model.quantisation = 'none'",
        )
    try:
        with quiet_peft():
            model = net.merge_and_unload(safe_merge=True)
    except (AttributeError, NotImplementedError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AdapterError(f"an adapter of the method {method} cannot be merged: {reason}") from error
    if left := [name for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)]:
        raise AdapterError(f"an adapter of the method {method} cannot be merged: {left[0]} still carries it")
    return model
