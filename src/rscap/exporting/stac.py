"""What a catalogue needs to know of an exported model: a STAC Item with the MLM extension 1.5.2.

https://github.com/stac-extensions/mlm/tree/v1.5.2: bands, value scaling, resize, output, artifact and hyperparameters
in words that programs read, so that a model can be found and its input prepared without opening it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from rscap.exporting.card import CardSubject
from rscap.model.families import ImageSpec
from rscap.tables import flatten

MLM = "https://stac-extensions.github.io/mlm/v1.5.2/schema.json"
_COLOURS = ("red", "green", "blue")
_WEIGHTS = "*.safetensors"
_SECTIONS = ("seed", "prompt", "generate", "adapter", "towers", "train", "objective")
"""The parts of a recipe that are hyperparameters; the others say where data and weights lie."""


def model_item(subject: CardSubject, image: ImageSpec, folder: Path, *, made: str) -> dict[str, Any]:
    """The Item of an export.

    Args:
        subject: the facts that the card tells too.
        image: how pixels are prepared.
        folder: the export, whose weights become assets.
        made: when the run ended, RFC 3339.
    """
    weights = sorted(folder.glob(_WEIGHTS))
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [MLM],
        "id": re.sub(r"[^\w.-]+", "-", subject.name).strip("-") or "model",
        "geometry": None,
        "properties": {
            "datetime": made,
            "title": subject.name,
            "description": "Captions of remote-sensing images, one sentence an image.",
            "mlm:name": subject.name,
            "mlm:architecture": subject.family.title,
            "mlm:tasks": ["image-captioning"],
            "mlm:framework": "PyTorch",
            "mlm:framework_version": torch.__version__,
            "mlm:total_parameters": sum(tower.total for tower in subject.parameters.values()),
            "mlm:memory_size": sum(path.stat().st_size for path in weights),
            "mlm:pretrained": True,
            "mlm:pretrained_source": subject.base,
            "mlm:accelerator": None,
            "mlm:input": [_pixels(image), _words()],
            "mlm:output": [_caption(subject.recipe.generate.max_new_tokens)],
            "mlm:hyperparameters": _hyperparameters(subject),
        },
        "links": [],
        "assets": {**_weights(weights, subject), **_others(folder)},
    }


def _pixels(image: ImageSpec) -> dict[str, Any]:
    """Values 0 … 255 of three bands, resized to a square and normalised; the numbers are on that scale."""
    side = image.resolution_px
    return {
        "name": "pixels",
        "description": "An RGB image of 8 bits, resized to a square, scaled and normalised per band.",
        "bands": list(_COLOURS),
        "input": {
            "shape": [-1, len(_COLOURS), side, side],
            "dim_order": ["batch", "bands", "height", "width"],
            "data_type": "float32",
        },
        "value_scaling": [
            {"type": "z-score", "mean": 255.0 * mean, "stddev": 255.0 * std}
            for mean, std in zip(image.mean, image.std, strict=True)
        ],
        "resize_type": image.resampling,
    }


def _words() -> dict[str, Any]:
    return {
        "name": "prompt",
        "description": "The tokens of the prompt that hyperparameters name, behind those of the image.",
        "bands": [],
        "input": {"shape": [-1, -1], "dim_order": ["batch", "token"], "data_type": "int64"},
    }


def _caption(most_tokens: int) -> dict[str, Any]:
    return {
        "name": "caption",
        "description": "The tokens of a caption, ended by the end-of-sequence token.",
        "tasks": ["image-captioning"],
        "result": {"shape": [-1, most_tokens], "dim_order": ["batch", "token"], "data_type": "int64"},
    }


def _hyperparameters(subject: CardSubject) -> dict[str, Any]:
    table = subject.recipe.model_dump(mode="json", exclude_none=True)
    found = flatten({name: table[name] for name in _SECTIONS if name in table})
    return {**found, "weights.form": subject.form, "weights.dtype": subject.dtype}


def _weights(files: list[Path], subject: CardSubject) -> dict[str, Any]:
    """An asset for each file of weights; the bands that the input names are described with it."""
    kind = "adapter of PEFT" if subject.form == "adapter" else "transformers checkpoint"
    bands = [{"name": colour, "eo:common_name": colour} for colour in _COLOURS]
    return {
        path.stem: {
            "href": f"./{path.name}",
            "type": "application/vnd.safetensors",
            "title": f"Weights, {kind}",
            "roles": ["mlm:model", "mlm:weights"],
            "mlm:artifact_type": "safetensors.torch.save_file",
            "bands": bands,
        }
        for path in files
    }


def _others(folder: Path) -> dict[str, Any]:
    kinds = {"README.md": ("text/markdown", "Model card"), "config.json": ("application/json", "Configuration")}
    return {
        Path(name).stem.lower(): {"href": f"./{name}", "type": kind, "title": title, "roles": ["metadata"]}
        for name, (kind, title) in kinds.items()
        if (folder / name).is_file()
    }
