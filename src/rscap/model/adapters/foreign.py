"""Adapters of other programs: a bare PEFT folder or its name on the Hub, with the names of any transformers since 4.4x.

The same layer of the first family has been called, and is called in adapter files,

    transformers 4.4x   language_model.model.layers.0 …          vision_tower.vision_model.encoder.layers.0 …
    transformers 4.5x   model.language_model.layers.0 …          model.vision_tower.vision_model.encoder.layers.0 …
    transformers 5.x    model.language_model.layers.0 …          model.vision_tower.encoder.layers.0 …

`load_foreign` finds its layers under any of these names; PEFT must then report no key as missing or unexpected.
`make_portable` writes the names of 4.5x into an adapter that is handed on: PEFT 0.21 reads them on 4.57 and on 5.23. Of
names of 5.x it warns on 4.57, and leaves the vision tower as the base has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from rscap import provenance
from rscap.errors import AdapterError
from rscap.hub import note_cached, reach_hub
from rscap.model.adapters.config import quiet_peft
from rscap.model.adapters.storage import check_rank, listed_keys, read_peft_config, read_weights, wrap
from rscap.model.load import CHECKPOINTS, NANO
from rscap.progress import to_stderr
from rscap.store import AdapterConfig, check_expressions, read_adapter_config, write_json
from rscap.store.adapter import ADAPTER_CONFIG, ADAPTER_TENSORS

_PICKLE = "adapter_model.bin"
_PREFIX = "base_model.model."
_SINCE_4_4 = (
    (re.compile(r"^language_model\.lm_head\b"), "lm_head"),
    (re.compile(r"^language_model\.model\b"), "model.language_model"),
    (re.compile(r"^(vision_tower|multi_modal_projector)\b"), r"model.\1"),
)
_INNER = "model.vision_tower.vision_model."


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignAdapter:
    """An adapter in PEFT's layout, outside any run folder of rscap; its files are on this machine."""

    name: str
    """The folder or the name on the Hub, as the user gave it."""
    folder: Path
    revision: str | None
    """The commit on the Hub; None for a local folder."""
    config: AdapterConfig

    @property
    def base(self) -> str:
        """The base model that it names.

        Raises:
            AdapterError: it names none that can be found.
        """
        named = self.config.base_model_name_or_path
        if not named:
            raise AdapterError(f"{self.name} does not name its base model", hint="name it with --base")
        if Path(named).is_absolute() and not Path(named).exists():
            raise AdapterError(
                f"{self.name} names the base model {named}, a folder that is not there", hint="name it with --base"
            )
        return "nano" if Path(named).is_dir() and Path(named).resolve() == NANO.resolve() else named

    def describe(self) -> dict[str, Any]:
        """What an evaluation records of it."""
        return {
            "name": self.name,
            "revision": self.revision,
            "digest": provenance.file_digest(self.folder / ADAPTER_TENSORS),
        }


def find_adapter(model: str) -> ForeignAdapter | None:
    """The adapter that a folder or a Hub repository holds; None where it holds something else.

    Raises:
        StoreError: its configuration is damaged, or asks for code to be run.
        AdapterError: its weights are missing or a pickle, or rscap cannot use its method.
    """
    folder, revision = Path(model), None
    if not folder.is_dir():
        found = _on_hub(model)
        if found is None:
            return None
        folder, revision = found, found.name
        note_cached(model, revision, to_stderr)
    if not (folder / ADAPTER_CONFIG).is_file():
        return None
    config = read_adapter_config(folder)
    if not (folder / ADAPTER_TENSORS).is_file():
        _explain_missing(folder)
    _refuse_unusable(model, config)
    return ForeignAdapter(name=model, folder=folder, revision=revision, config=config)


def _on_hub(model: str) -> Path | None:
    """The folder of a downloaded adapter; None where the Hub has none of that name, or cannot be asked."""
    if model in CHECKPOINTS or not re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        return None
    from httpx import HTTPError
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:  # first the small file that tells what it is
        with reach_hub():
            hf_hub_download(model, ADAPTER_CONFIG)
            return Path(snapshot_download(model, allow_patterns=["adapter_*"]))
    except (HfHubHTTPError, HTTPError, HFValidationError, OSError):  # loading a base model of that name says more
        return None


def _explain_missing(folder: Path) -> None:
    if (folder / _PICKLE).is_file():
        raise AdapterError(
            f"{folder} holds {_PICKLE}, a pickle, which can run code when it is opened: rscap does not load it",
            hint=f"save it again as {ADAPTER_TENSORS} with the program that wrote it (save_pretrained)",
        )
    raise AdapterError(
        f"{folder} has the configuration of an adapter and no {ADAPTER_TENSORS}", hint="copy it again, whole"
    )


_USABLE = ("LORA", "ADALORA", "HIRA", "LOHA", "LOKR", "MISS", "RANDLORA", "VERA")
"""Methods that change layers and nothing else: rscap runs the layers, and not PEFT's own forward pass."""
_MORE_THAN_LAYERS = ("alora_invocation_tokens", "layer_replication", "target_parameters", "trainable_token_indices")


def _refuse_unusable(name: str, config: AdapterConfig) -> None:
    if (kind := config.peft_type) not in _USABLE:
        raise AdapterError(
            f"{name} is of the method {kind}, which rscap does not load", hint=f"it loads {', '.join(_USABLE)}"
        )
    if used := [key for key in _MORE_THAN_LAYERS if getattr(config, key, None)]:
        raise AdapterError(f"{name} uses {used[0]}, which rscap does not load")


def load_foreign(base: Any, adapter: ForeignAdapter) -> Any:
    """The base model with the adapter around it, every weight of it in its place.

    Raises:
        AdapterError: the base has no such layers, or PEFT reports a weight missing, unexpected or of another shape.
    """
    from peft import set_peft_model_state_dict
    from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING

    names = [name for module, _ in base.named_modules() for name in _names(module)]
    check_expressions(adapter.config, names, where=adapter.folder)
    stored = read_weights(adapter.folder)
    check_rank(adapter.config, stored, adapter.folder)
    config = read_peft_config(adapter.folder)
    _find_layers(config, base, adapter.name)
    net = wrap(base, config, adapter.folder)
    here = {current_name(key, base): value for key, value in stored.items()}
    try:
        with quiet_peft():
            found = set_peft_model_state_dict(net, here)
    except (RuntimeError, IndexError, KeyError) as error:
        raise AdapterError(f"{adapter.name} has other shapes or keys than the base model: {error}") from error
    prefix = PEFT_TYPE_TO_PREFIX_MAPPING[config.peft_type]
    missing = [key for key in found.missing_keys if prefix in key or ".modules_to_save." in key]
    if missing or found.unexpected_keys:
        raise AdapterError(
            f"{adapter.name} does not fit the base model {base.name_or_path}\n"
            f"  missing: {listed_keys(missing)}\n"
            f"  unexpected: {listed_keys(found.unexpected_keys)}",
            hint="is it of this base model? --base names another",
        )
    return net.requires_grad_(False)


def current_name(key: str, base: nn.Module) -> str:
    """The key of an adapter file under the names of the loaded base model."""
    name = _since_4_5(key)
    return name if _has_inner(base) else name.replace(_INNER, "model.vision_tower.", 1)


def _since_4_5(key: str) -> str:
    """The key of an adapter file without what transformers 4.4x put around its towers."""
    name = key.removeprefix(_PREFIX)
    for old, new in _SINCE_4_4:
        name = old.sub(new, name)
    return _PREFIX + name if key.startswith(_PREFIX) else name


def portable_name(name: str) -> str:
    """A key or a module's path as transformers 4.52 to 4.57 call it: names that PEFT also reads on transformers 5."""
    return re.sub(r"(^|\.)model\.vision_tower\.(?!vision_model\.)", rf"\1{_INNER}", name, count=1)


def _has_inner(base: nn.Module) -> bool:
    return any(name.startswith(_INNER) for name, _ in base.named_modules())


def _names(name: str) -> tuple[str, str, str]:
    """A module's path as it is, as in transformers 4.5x, and as in 4.4x."""
    since_4_5 = portable_name(name)
    before = re.sub(r"^model\.language_model\b", "language_model.model", since_4_5)
    before = re.sub(r"^model\.(vision_tower|multi_modal_projector)\b", r"\1", before)
    return name, since_4_5, re.sub(r"^lm_head\b", "language_model.lm_head", before)


def _find_layers(config: Any, base: nn.Module, adapter: str) -> None:
    """Rewrite the configuration to the full paths of this model's layers, with their ranks and scales.

    Raises:
        AdapterError: the base has none of them.
    """
    from peft.tuners.tuners_utils import check_target_module_exists

    if getattr(config, "target_modules", None) in (None, "all-linear"):
        return
    modules = [name for name, module in base.named_modules() if not any(True for _ in module.children())]
    fitting = [name for name in modules if any(check_target_module_exists(config, own) for own in _names(name))]
    if not fitting:
        raise AdapterError(
            f"{adapter} adapts {_shown(config.target_modules)}, which the base model {base.name_or_path} does not have",
            hint="is it of this base model? --base names another",
        )
    for pattern in ("rank_pattern", "alpha_pattern"):
        if (told := getattr(config, pattern, None)) and config.peft_type != "ADALORA":
            setattr(config, pattern, {name: value for name in fitting if (value := _matched(told, name)) is not None})
    config.target_modules = set(fitting)
    for rule in ("exclude_modules", "layers_to_transform", "layers_pattern"):
        if getattr(config, rule, None) is not None:
            setattr(config, rule, None)  # was applied above


def _matched(pattern: Mapping[str, Any], name: str) -> Any:
    """The value of the first key that names a module, as PEFT matches it; None where none does."""
    keys = (key for key in pattern for own in _names(name) if re.match(rf"(.*\.)?({key})$", own))
    return next((pattern[key] for key in keys), None)


def _shown(targets: Iterable[str] | str) -> str:
    text = targets if isinstance(targets, str) else ", ".join(sorted(targets))
    return text if len(text) <= 160 else f"{text[:160]}…"


def recipe_of_adapter(adapter: ForeignAdapter) -> dict[str, Any]:
    """The table of a recipe that trains an adapter of this shape on RISC; `rscap plan` uses it.

    Raises:
        AdapterError: its method has no recipe, or it adapts layers that no recipe names.
    """
    config, keys = adapter.config, read_weights(adapter.folder).keys()
    if config.peft_type != "LORA" or config.r is None:
        raise AdapterError(f"{adapter.name} is of the method {config.peft_type}: only LoRA is planned")
    paths = [_since_4_5(key).removeprefix(_PREFIX).rpartition(".lora_")[0] for key in keys if ".lora_A." in key]
    layers = {
        tower: sorted({path.rpartition(".")[2] for path in paths if path.startswith(f"model.{tower}.")})
        for tower in ("language_model", "vision_tower")
    }
    saved = any("multi_modal_projector" in name for name in config.modules_to_save or ())
    return {
        "data": {"source": "caglarmert/full_riscm"},
        "model": {"base": adapter.base},
        "towers": {
            **{tower: "adapted" if names else "frozen" for tower, names in layers.items()},
            "projector": "trained" if saved else "frozen",
        },
        "adapter": {
            "rank": config.r,
            **({"alpha": config.lora_alpha} if config.lora_alpha else {}),
            "rank_stabilised": bool(config.use_rslora),
            "weight_decomposed": bool(config.use_dora),
            **({"language_targets": layers["language_model"]} if layers["language_model"] else {}),
            **({"vision_targets": layers["vision_tower"]} if layers["vision_tower"] else {}),
        },
    }


# The other direction: an adapter that rscap exports.

_LITERAL = re.compile(r"vision_tower(\\?\.)encoder")
"""In a path, or in an expression in which its dots are escaped."""


def make_portable(folder: Path) -> None:
    """Rename the layers of an adapter in a folder, where necessary, so that transformers 4.52 and later read it.

    Two kinds keep the names of transformers 5, since PEFT compares them letter by letter: AdaLoRA's ranks, and a vision
    tower whose weights were saved whole.

    Raises:
        AdapterError: its weights are damaged.
    """
    config, stored = read_adapter_config(folder), read_weights(folder)
    renamed = {portable_name(_since_4_5(key)): value for key, value in stored.items()}
    whole = tuple(f"{_PREFIX}{name}." for name in config.modules_to_save or ())
    changed = [key for key in stored if key not in renamed]
    if not changed or config.peft_type == "ADALORA" or (whole and any(key.startswith(whole) for key in changed)):
        return
    save_file(renamed, folder / ADAPTER_TENSORS, metadata={"format": "pt"})
    told = config.content()
    for key in ("target_modules", "exclude_modules"):
        if isinstance(names := told.get(key), str):
            told[key] = _LITERAL.sub(_either, names)
        elif names is not None:
            told[key] = [re.sub(r"^.*vision_tower\.(?=encoder\.)", "", name) for name in names]
    for key in ("rank_pattern", "alpha_pattern"):
        if told.get(key):
            told[key] = {_LITERAL.sub(_either, name): value for name, value in told[key].items()}
    write_json(folder / ADAPTER_CONFIG, told)


def _either(found: re.Match[str]) -> str:
    """The path as an expression that both versions' names match."""
    return rf"vision_tower{found[1]}(?:vision_model{found[1]})?encoder"


def least_transformers(folder: Path) -> str | None:
    """The version of transformers that first knows the names of an adapter's layers; None if rscap has not tried.

    Raises:
        AdapterError: its weights are damaged.
    """
    keys = read_weights(folder).keys()
    if not any(key.startswith(f"{_PREFIX}model.language_model.") or ".model.vision_tower." in key for key in keys):
        return None
    return "5" if any(portable_name(key) != key for key in keys) else "4.52"
