"""The files of an export: merged weights as a transformers checkpoint, or an adapter in PEFT's layout."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError

from rscap.errors import AdapterError, ExportError, StoreError
from rscap.exporting.hub import public_name
from rscap.model.adapters import merge
from rscap.model.load import Base
from rscap.recipe import GenerateSection
from rscap.store import RunFolder, read_json, write_json


def generate_arguments(settings: GenerateSection) -> dict[str, Any]:
    """Keyword arguments of `generate` that decode as the recipe does; settings at their neutral value are omitted.

    Draws are seeded per example in rscap and from torch's own generator there, so sampled captions differ.
    """
    arguments: dict[str, Any] = {"max_new_tokens": settings.max_new_tokens, "do_sample": settings.temperature > 0}
    if settings.beams > 1:
        arguments |= {"num_beams": settings.beams, "length_penalty": settings.length_penalty}
    if settings.repetition_penalty != 1.0:
        arguments["repetition_penalty"] = settings.repetition_penalty
    if settings.no_repeat_ngram:
        arguments["no_repeat_ngram_size"] = settings.no_repeat_ngram
    if settings.temperature > 0:
        arguments |= {"temperature": settings.temperature, "top_k": settings.top_k, "top_p": settings.top_p}
    return arguments


Dtype = Literal["float32", "bfloat16", "float16"]
_HALVES = (torch.bfloat16, torch.float16)


def merged(net: Any, dtype: torch.dtype) -> Any:
    """`net` with its adapter merged, as a `PaliGemmaForConditionalGeneration` with every weight in `dtype`.

    The base is put in `dtype` before merging, so that base and update are rounded once, together: an export in
    float32 is the sum as training had it. Adapters keep the float32 they learned in until then.

    Raises:
        AdapterError: this method has no merged form, or its weights are damaged.
        ExportError: a weight is not finite in `dtype`.
    """
    for parameter in net.parameters():
        if parameter.dtype in _HALVES:
            parameter.data = parameter.data.to(dtype)
    try:
        model = merge(net).to(dtype)
    except AdapterError as error:
        hint = "--adapter-only exports it unmerged, for use with PEFT"
        raise AdapterError(error.message, hint=hint) from error
    model.requires_grad_(False)
    overflown = [name for name, parameter in model.named_parameters() if not bool(torch.isfinite(parameter).all())]
    if overflown:
        raise ExportError(
            f"{len(overflown)} weights are not finite in {dtype}: {overflown[:3]}", hint="export with --dtype bfloat16"
        )
    return model


def write_checkpoint(model: Any, processor: Any, folder: Path, *, decoding: Mapping[str, Any]) -> None:
    """Write model and processor as transformers reads them; its `generate` then decodes as `decoding` says.

    Raises:
        StoreError: the disk is full or cannot be written.
    """
    for name, value in decoding.items():
        setattr(model.generation_config, name, value)
    try:
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    except (OSError, SafetensorError) as error:
        raise StoreError(
            f"the weights could not be written to {folder.parent}: {error}", hint="is the disk full?"
        ) from error


def write_adapter(run: RunFolder, base: Base, folder: Path) -> None:
    """Copy an adapter; its configuration names the base model and its revision instead of a local path.

    Raises:
        StoreError: the adapter's files are missing, or the disk is full.
    """
    try:
        shutil.copytree(run.adapter, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("README.md"))
    except (OSError, shutil.Error) as error:
        raise StoreError(f"{run.adapter} cannot be copied: {error}") from error
    file = folder / "adapter_config.json"
    configuration = {**read_json(file), "base_model_name_or_path": public_name(base.name), "revision": base.revision}
    write_json(file, configuration)
