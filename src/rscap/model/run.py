"""A model ready to caption: a base as it is, or a base with what a run learned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from rscap.errors import AdapterError
from rscap.model.adapters import quiet_peft
from rscap.model.captioner import Captioner
from rscap.model.load import Base, load_base
from rscap.model.towers import MODULES
from rscap.recipe import Recipe
from rscap.store import RunFolder


def best_device() -> str:
    """`cuda`, Apple's `mps`, or `cpu`, whichever is there first."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def load_run(run: RunFolder, recipe: Recipe, *, device: str) -> tuple[Base, Captioner]:
    """The base model of a finished run with its adapter, or its fully trained model.

    Raises:
        AdapterError: the run folder holds neither, or an adapter whose keys do not fit the base model.
    """
    if run.model.is_dir():
        return _trained_whole(run.model, recipe, device)
    if not run.adapter.is_dir():
        raise AdapterError(
            f"{run.path} holds neither adapter/ nor model/", hint="did the training finish? see status.json"
        )
    base = load_base(recipe.model, device=device)
    return base, Captioner(_with_adapter(base, run.adapter, device), compute_dtype=base.compute_dtype)


def _trained_whole(folder: Path, recipe: Recipe, device: str) -> tuple[Base, Captioner]:
    """What learned comes back in the float32 it was trained in; frozen towers and products in the recipe's dtype."""
    section = recipe.model.model_copy(update={"base": str(folder), "revision": None, "dtype": "float32"})
    base = replace(load_base(section, device=device), compute_dtype=getattr(torch, recipe.model.dtype))
    for tower in recipe.towers.in_state("frozen"):
        base.model.get_submodule(MODULES[tower]).to(base.compute_dtype)
    base.model.tie_weights()
    return base, Captioner(base.model, compute_dtype=base.compute_dtype)


def _with_adapter(base: Base, folder: Path, device: str) -> torch.nn.Module:
    from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict

    with quiet_peft():
        net = PeftModel.from_pretrained(base.model, folder, torch_device=device)
    stored_file = folder / "adapter_model.safetensors"
    with safe_open(stored_file, "pt") as stored:
        there, expected = set(stored.keys()), set(get_peft_model_state_dict(net))
    if there != expected:
        missing, extra = sorted(expected - there), sorted(there - expected)
        raise AdapterError(
            f"the adapter in {folder} does not fit {base.name}: missing {missing[:5]}, unknown {extra[:5]}",
            hint="was the base model or the folder changed since the run?",
        )
    for name, parameter in net.named_parameters():
        if ".modules_to_save." in name:  # PEFT read them in the base's dtype; what learned was float32
            parameter.data = parameter.data.float()
    set_peft_model_state_dict(net, load_file(stored_file))
    return net.to(device).eval()
