"""The shape of a base model by its name, without its weights and without the network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
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
    return shapes_of(PaliGemmaConfig.from_dict(_configuration(base)), name=base)


def _configuration(base: str) -> dict[str, Any]:
    """config.json of a folder, or of what the Hub's cache holds. Read here: the library gives defaults for none."""
    source = locate(base)
    file = source / "config.json" if isinstance(source, Path) else try_to_load_from_cache(source, "config.json")
    if not isinstance(file, str | Path) or not Path(file).is_file():
        where = "in the folder" if isinstance(source, Path) else "in the Hub's cache"
        raise ModelError(
            f"the shape of base model {base} is not known: no config.json {where}",
            hint=f"put its config.json into a folder and name that; known without: {', '.join(CHECKPOINTS)}",
        )
    table = json.loads(Path(file).read_text(encoding="utf-8"))
    if table.get("model_type") != "paligemma":
        raise ModelError(f"base model {base} is a {table.get('model_type')}, not a paligemma")
    return table
