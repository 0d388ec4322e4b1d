"""Read an adapter from its files: adapter_config.json, and the keys and values of adapter_model.safetensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rscap.doctor.evidence import AdapterFiles
from rscap.doctor.reading import mapping
from rscap.errors import AdapterError, StoreError
from rscap.model.towers import tower_of
from rscap.recipe import Tower

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"


def read_adapter(folder: Path, where: str) -> AdapterFiles:
    """Read an adapter in PEFT's layout.

    Raises:
        StoreError: a file is missing or broken.
    """
    config = mapping(folder / CONFIG)
    tensors = _look(folder / TENSORS)
    saved_whole = tuple(f".{name}." for name in config.get("modules_to_save") or ())
    adapted = {key: facts for key, facts in tensors.items() if not any(name in f"{key}." for name in saved_whole)}
    paths = {path: tower for key in adapted if (path := _module(key)) and (tower := _tower(path))}
    targets = config.get("target_modules")
    listed = tuple(targets) if isinstance(targets, list) else str(targets or "")
    return AdapterFiles(
        where=where,
        kind=str(config.get("peft_type", "")),
        targets=listed,
        rank=config.get("r"),
        alpha=config.get("lora_alpha"),
        rank_stabilised=config.get("use_rslora"),
        weight_decomposed=config.get("use_dora"),
        modules=Counter(paths.values()),
        unmatched=_unmatched(listed, paths),
        untouched=_untouched(adapted),
        not_finite=tuple(key for key, (_, finite) in tensors.items() if not finite),
    )


def _look(path: Path) -> dict[str, tuple[bool, bool]]:
    """For every tensor, whether it is all zero and whether it is finite."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise StoreError(f"{path} does not exist")
    facts = {}
    try:
        with safe_open(path, "pt") as stored:
            for key in stored.keys():  # noqa: SIM118 - not a mapping
                tensor = stored.get_tensor(key)
                facts[key] = (not bool(tensor.any()), bool(tensor.isfinite().all()))
    except SafetensorError as error:
        raise StoreError(f"{path} is damaged: {error}") from error
    return facts


def _module(key: str) -> str:
    """The module that a tensor adapts: `….q_proj.lora_A.weight` belongs to `….q_proj`."""
    return key.removesuffix(".weight").rpartition(".")[0]


def _tower(path: str) -> Tower | None:
    try:
        return tower_of(f"{path}.")
    except AdapterError:
        return None


def _unmatched(targets: Sequence[str] | str, paths: Mapping[str, Any]) -> tuple[str, ...]:
    if isinstance(targets, str):
        return ()
    return tuple(name for name in sorted(targets) if not any(f".{path}".endswith(f".{name}") for path in paths))


def _untouched(tensors: Mapping[str, tuple[bool, bool]]) -> tuple[Tower, ...]:
    """Towers whose B matrices are all zero."""
    zero: dict[Tower, bool] = {}
    for key, (empty, _) in tensors.items():
        if ".lora_B." in key and (tower := _tower(_module(key))):
            zero[tower] = zero.get(tower, True) and empty
    return tuple(tower for tower, empty in zero.items() if empty)
