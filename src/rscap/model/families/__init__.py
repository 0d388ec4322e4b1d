"""Families of models: one file each, listed here. A third family is a third file and one more entry in `FAMILIES`."""

from __future__ import annotations

from typing import Any

from rscap.errors import ModelError
from rscap.model.families.family import Checkpoint, Family, ImageSpec, Layout, Licence, Traits
from rscap.model.families.paligemma import PaliGemma
from rscap.model.families.smolvlm import SmolVLM

__all__ = [
    "CHECKPOINTS",
    "FAMILIES",
    "Checkpoint",
    "Family",
    "ImageSpec",
    "Layout",
    "Licence",
    "Traits",
    "family_by_name",
    "family_named",
    "family_of",
    "family_of_checkpoint",
    "geometry_config",
]

FAMILIES: dict[str, Family] = {family.name: family for family in (PaliGemma(), SmolVLM())}
"""By `model_type` of config.json."""

CHECKPOINTS: dict[str, Checkpoint] = {
    name: checkpoint for family in FAMILIES.values() for name, checkpoint in family.checkpoints.items()
}
"""The checkpoints on the Hub that rscap knows, of all families."""


def family_named(model_type: object, *, base: str) -> Family:
    """The family of a `model_type`; `base` is the model that has it.

    Raises:
        ModelError: rscap knows no such family; lists those it knows.
    """
    if (family := FAMILIES.get(str(model_type))) is None:
        known = ", ".join(f"{one.title} ({one.name})" for one in FAMILIES.values())
        if model_type is None:
            raise ModelError(
                f"{base} is no model: it has no config.json that names a model_type",
                hint=f"name a run folder, `nano`, or a model of a family that rscap knows: {known}",
            )
        raise ModelError(
            f"base model {base} is of type {model_type!r}, which rscap cannot train",
            hint=f"families that it can: {known}; docs/families.md describes how another comes in",
        )
    return family


def family_of(net: Any) -> Family:
    """The family of a loaded model, bare or inside a PEFT model."""
    bare = net.get_base_model() if hasattr(net, "get_base_model") else net
    return family_named(bare.config.model_type, base=type(bare).__name__)


def family_by_name(base: str) -> Family | None:
    """The family whose name a base model's name holds, for models that cannot be opened."""
    return next((family for family in FAMILIES.values() if family.name in base.lower()), None)


def family_of_checkpoint(name: str) -> Family | None:
    """The family of a checkpoint that rscap knows by its name on the Hub."""
    return next((family for family in FAMILIES.values() if name in family.checkpoints), None)


def geometry_config(name: str, *, vocabulary: int | None = None, image_token_id: int | None = None) -> Any:
    """The configuration of a named geometry of any family; small ones take the tokenizer's size and image token.

    Raises:
        ModelError: no such geometry; lists those there are.
    """
    for family in FAMILIES.values():
        if name in family.geometries:
            return family.config(name, vocabulary=vocabulary, image_token_id=image_token_id)
    known = ", ".join(one for family in FAMILIES.values() for one in family.geometries)
    raise ModelError(f"no geometry named {name!r}; there are {known}")
