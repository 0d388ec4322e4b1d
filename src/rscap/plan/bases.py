"""The shape of a base model by its name, without its weights and without the network."""

from __future__ import annotations

from pathlib import Path

from transformers import PaliGemmaConfig

from rscap.errors import ModelError
from rscap.model.geometry import paligemma_config
from rscap.model.load import CHECKPOINTS, locate
from rscap.plan.shapes import Shapes, shapes_of


def shapes_of_base(base: str) -> Shapes:
    """Of a pinned checkpoint by its written geometry, of a folder or of what the Hub's cache holds by config.json.

    Raises:
        ModelError: no such folder, no configuration in it, or a Hub name that is neither pinned nor in the cache.
    """
    if (known := CHECKPOINTS.get(base)) is not None:
        return shapes_of(paligemma_config(known.geometry), name=base)
    source = locate(base)
    try:
        config = PaliGemmaConfig.from_pretrained(source, local_files_only=True)
    except (OSError, ValueError) as error:
        where = "in the folder" if isinstance(source, Path) else "in the Hub's cache"
        raise ModelError(
            f"the shape of base model {base} is not known: no configuration of a PaliGemma {where}",
            hint=f"download its config.json into a folder and name that; known without: {', '.join(CHECKPOINTS)}",
        ) from error
    if getattr(config, "model_type", None) != "paligemma":
        raise ModelError(f"base model {base} is a {config.model_type}, not a paligemma")
    return shapes_of(config, name=base)
