"""A model ready to caption: a base as it is, or a base with what a run learned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from rscap import provenance
from rscap.errors import AdapterError, StoreError
from rscap.model.adapters import load_adapter, precision_to_load
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


def device_name(device: torch.device) -> str:
    """What a person calls the device: the card's name, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def weights_digests(run: RunFolder) -> dict[str, str]:
    """SHA-256 of every file of weights that a run has learned, by its path in the run folder."""
    files = sorted(run.learned().glob("*.safetensors"))
    return {path.relative_to(run.path).as_posix(): provenance.file_digest(path) for path in files}


def check_weights(run: RunFolder) -> None:
    """Refuse weights that are not what training wrote, as status.json remembers it; earlier versions did not.

    Raises:
        StoreError: names the first file that was changed or is missing.
    """
    now = weights_digests(run)
    for name, digest in run.status().get("weights", {}).items():
        if now.get(name) != digest:
            what = "is missing" if name not in now else "is not what training wrote: its SHA-256 is another"
            raise StoreError(
                f"{run.path / name} {what}",
                hint=f"bring it back; or remove its folder, and `rscap train {run.path} --resume` writes it again",
            )


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
    base = load_base(precision_to_load(recipe.model, recipe.adapter), device=device)
    net = load_adapter(base.model, run.adapter, recipe).to(device).eval()
    return base, Captioner(net, compute_dtype=base.compute_dtype)


def _trained_whole(folder: Path, recipe: Recipe, device: str) -> tuple[Base, Captioner]:
    """What learned comes back in the float32 it was trained in; frozen towers and products in the recipe's dtype."""
    section = recipe.model.model_copy(update={"base": str(folder), "revision": None, "dtype": "float32"})
    base = replace(load_base(section, device=device), compute_dtype=getattr(torch, recipe.model.dtype))
    for tower in recipe.towers.in_state("frozen"):
        base.model.get_submodule(MODULES[tower]).to(base.compute_dtype)
    base.model.tie_weights()
    return base, Captioner(base.model, compute_dtype=base.compute_dtype)
