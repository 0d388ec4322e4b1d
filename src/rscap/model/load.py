"""Load a base model and its processor, and check that its shape and precision are as asked."""

from __future__ import annotations

from dataclasses import dataclass
from logging import ERROR, getLogger
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedConfig
from transformers.utils.hub import cached_file, extract_commit_hash, resolve_revision
from transformers.utils.logging import disable_progress_bar, enable_progress_bar

from rscap import provenance
from rscap.errors import ModelError, RscapError
from rscap.hub import note_cached, reach_hub, why_not_reached
from rscap.model.card import check_served, decided
from rscap.model.families import (
    CHECKPOINTS,
    FAMILIES,
    Family,
    ImageSpec,
    Layout,
    family_by_name,
    family_named,
    family_of_checkpoint,
    geometry_config,
)
from rscap.model.quantise import keep_layout
from rscap.model.towers import tower_of
from rscap.progress import to_stderr
from rscap.recipe import TOWERS, ModelSection
from rscap.store import check_model_folder

NANO = Path(__file__).parent / "nano"

# Without a GPU, bitsandbytes warns about an optional kernel that it would download; rscap never downloads code.
getLogger("bitsandbytes.backends.cpu.ops").setLevel(ERROR)
# At every product with 8-bit weights it warns that inputs are rounded to float16; docs/training.md says it once.
getLogger("bitsandbytes.autograd._functions").setLevel(ERROR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A loaded base model, ready to be adapted or to caption."""

    name: str
    revision: str | None
    """Commit of the Hub repository that was loaded; None for a local folder."""
    family: Family
    model: Any
    """Of the family's own class in transformers."""
    compute_dtype: torch.dtype
    """Precision of matrix products, from the recipe."""
    processor: Any
    image: ImageSpec
    layout: Layout

    @property
    def tokenizer(self) -> Any:
        return self.processor.tokenizer

    @property
    def image_token_id(self) -> int:
        return self.model.config.image_token_id

    @property
    def image_tokens(self) -> int:
        return self.layout.image_tokens

    def describe(self) -> dict[str, Any]:
        """What a run records of its base model: name, revision, and the digest of its files if they are local."""
        source = locate(self.name)
        digest = provenance.folder_digest(source) if isinstance(source, Path) else None
        return {
            "name": self.name,
            "revision": self.revision,
            "digest": digest,
            "dtype": str(self.compute_dtype).removeprefix("torch."),
        }


def locate(base: str) -> Path | str:
    """The folder of a local base model, or the name of a Hub repository.

    Raises:
        ModelError: `base` is neither a folder nor shaped like a Hub name.
    """
    if base == "nano":
        return NANO
    folder = Path(base)
    if folder.is_dir():
        return folder
    is_file = folder.suffix.removeprefix(".").isalpha()  # as in models/mine.toml; 2.2B is no suffix
    if base.count("/") == 1 and not base.startswith((".", "/")) and not is_file:
        return base
    pinned = [name for name, checkpoint in CHECKPOINTS.items() if checkpoint.revision]
    raise ModelError(
        f"base model {base!r} is neither a folder nor a Hub name",
        hint=f"use 'nano' (built in), a local folder, or a Hub name such as {' or '.join(pinned)}",
    )


def load_base(section: ModelSection, *, device: str | torch.device = "cpu") -> Base:
    """Load model and processor as the recipe's [model] section says, onto the device, with all weights frozen.

    Raises:
        ModelError: the checkpoint is not found, gated, of no family that rscap knows, or not in the requested
            precision; or the installed torch has no kernels for the device.
        StoreError: the folder holds links that lead out of it, or asks for code of its own to be run.
    """
    source = locate(section.base)
    check_served(device)
    with reach_hub(isinstance(source, str)):
        base = _load(decided(section, device), source, device)
    if isinstance(source, str):
        note_cached(source, base.revision, to_stderr)
    return base


def _load(section: ModelSection, source: Path | str, device: str | torch.device) -> Base:
    known = CHECKPOINTS.get(section.base)
    options: dict[str, Any] = {}
    if isinstance(source, str):  # processor and weights of one commit, whatever a branch becomes meanwhile
        options["revision"] = resolve_revision(source, section.revision or (known.revision if known else None))
    # A download of gigabytes shows the library's progress bar; a local folder loads at once.
    (disable_progress_bar if isinstance(source, Path) else enable_progress_bar)()
    if isinstance(source, Path):
        check_model_folder(source)
    options["trust_remote_code"] = False  # the library would ask on the terminal, and take a piped `y` for consent
    try:
        family = _family(section.base, source, options)
        if section.image_splitting and not family.squares:
            raise ModelError(f"a {family.title} takes an image whole", hint="leave model.image_splitting out")
        processor = family.load_processor(source, options)
        model, loading = family.model_class.from_pretrained(
            source,
            output_loading_info=True,
            dtype=getattr(torch, section.dtype),
            quantization_config=_quantisation(section, family),
            device_map={"": device},  # weights go to the card as they are read, not through a copy in host memory
            **options,
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise _explain(section.base, error) from error
    if absent := sorted({*loading["missing_keys"], *(str(key) for key in loading["mismatched_keys"])}):
        raise ModelError(
            f"base model {section.base} is missing {len(absent)} weights of a {family.title}: {absent[:3]}",
            hint=f"check that this is a complete {family.title} checkpoint",
        )
    if known:
        check_geometry(model, known.geometry)
    model.requires_grad_(False)
    model.eval()
    keep_layout(model)
    _check_precision(model, section)
    image = family.image_spec(processor, model.config, split=bool(section.image_splitting))
    return Base(
        name=section.base,
        revision=_commit(source, options.get("revision")),
        family=family,
        model=model,
        compute_dtype=getattr(torch, section.dtype),
        processor=processor,
        image=image,
        layout=family.layout(processor, model.config, image),
    )


def _commit(source: Path | str, revision: str | None) -> str | None:
    """The commit of what was loaded from the Hub; None of a folder."""
    if isinstance(source, Path):
        return None
    return getattr(revision, "resolved", None) or extract_commit_hash(
        cached_file(source, "config.json", revision=revision), None
    )


def _family(base: str, source: Path | str, options: dict[str, Any]) -> Family:
    """The family of a known checkpoint by its name, of any other by the `model_type` in its config.json."""
    if (family := family_of_checkpoint(base)) is not None:
        return family
    table, _ = PreTrainedConfig.get_config_dict(source, **options)
    return family_named(table.get("model_type"), base=base)


def default_prompt(base: str) -> str:
    """The default prompt of a base model: that of its family.

    The family of a folder is read from its config.json. The family of a Hub repository is recognised by the name, else
    its config.json is downloaded, a few kilobytes. If that fails, the prompt is that of the first family, and loading
    the model reports the reason.
    """
    try:
        source = locate(base)
        if isinstance(source, Path):
            check_model_folder(source)
            return _family(base, source, {}).default_prompt
        with reach_hub(family_by_name(base) is None):
            return (family_by_name(base) or _family(base, source, {})).default_prompt
    except (OSError, ValueError, KeyError, RscapError):
        return next(iter(FAMILIES.values())).default_prompt


def empty_base(base: str) -> Any:
    """A base model without weights, on the device `meta`: its configuration alone is read, and nothing is downloaded.

    Raises:
        ModelError: its configuration is not on this machine, or of no family that rscap knows.
    """
    source = locate(base)
    try:
        if (known := CHECKPOINTS.get(base)) is not None:
            config, family = geometry_config(known.geometry), family_of_checkpoint(base)
        else:
            if isinstance(source, Path):
                check_model_folder(source)
            family = _family(base, source, {"local_files_only": True})
            config = family.config_class.from_pretrained(source, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"the configuration of {base} is not on this machine") from error
    assert family is not None
    with torch.device("meta"):
        net = family.model_class(config)
    net.name_or_path = base
    return net


def check_geometry(model: Any, geometry: str) -> None:
    """Refuse a checkpoint whose shape differs from the geometry recorded for it.

    Raises:
        ModelError: names each number that differs.
    """
    expected = geometry_config(geometry)
    differences = []
    for part in ("vision_config", "text_config"):
        ours, theirs = getattr(expected, part), getattr(model.config, part)
        for key in (
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "vocab_size",
            "patch_size",
            "image_size",
        ):
            if getattr(ours, key, None) != getattr(theirs, key, None) and not (
                part == "vision_config" and key == "vocab_size"
            ):
                differences.append(f"{part}.{key} is {getattr(theirs, key, None)}, expected {getattr(ours, key, None)}")
    if differences:
        raise ModelError(f"the checkpoint is not a {geometry}: {'; '.join(differences)}")


def _quantisation(section: ModelSection, family: Family) -> BitsAndBytesConfig | None:
    """The bitsandbytes configuration of the towers that the recipe quantises; other towers and the head stay as loaded.

    `nf4`: 4 bits, double quantisation (QLoRA, arXiv:2305.14314). `int8`: 8 bits, outlying features in 16 (LLM.int8(),
    arXiv:2208.07339).
    """
    if section.quantisation == "none":
        return None
    left = [tower for tower in TOWERS if tower not in section.quantise]
    skipped = [path for tower in left for path in family.modules[tower] if path != "lm_head"] + ["lm_head"]
    if section.quantisation == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=product_dtype(section),
        llm_int8_skip_modules=skipped,
    )


def product_dtype(section: ModelSection) -> torch.dtype:
    """Precision of products with 4-bit weights: 16 bits even if the rest computes in float32."""
    return torch.float16 if section.dtype == "float16" else torch.bfloat16


_QUANTISED = {"nf4": "Linear4bit", "int8": "Linear8bitLt", "none": ""}


def _check_precision(model: nn.Module, section: ModelSection) -> None:
    """Check the precision of every layer as it was loaded: the library ignores a misspelt option without an error."""
    wanted, asked = getattr(torch, section.dtype), section.quantisation
    quantise = set(section.quantise) if asked != "none" else set()
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if not isinstance(weight, nn.Parameter) or name == "lm_head":
            continue
        kind = type(module).__name__ if type(module).__name__ in _QUANTISED.values() else ""
        expected = isinstance(module, nn.Linear) and tower_of(f"{name}.") in quantise
        if kind != (_QUANTISED[asked] if expected else ""):
            raise ModelError(f"{name} is held as {kind or weight.dtype}, which contradicts the recipe's model.quantise")
        if kind == "Linear4bit":
            _check_nf4(name, module, product_dtype(section))
        elif kind == "Linear8bitLt" and weight.dtype != torch.int8:
            raise ModelError(f"{name} is held in {weight.dtype}, expected int8")
        elif not kind and weight.dtype != wanted:
            raise ModelError(f"{name} is held in {weight.dtype}, expected {wanted}")


def _check_nf4(name: str, module: Any, products: torch.dtype) -> None:
    found = module.weight.quant_type, module.compute_dtype, module.weight.compress_statistics
    if found != ("nf4", products, True):
        expected = f"nf4 and {str(products).removeprefix('torch.')}"
        raise ModelError(f"{name} was quantised as {found[0]} with products in {found[1]}, expected {expected}")


def _explain(base: str, error: Exception) -> ModelError:
    """Translate an error of the Hub client; the original stays attached as its cause."""
    text = f"{type(error).__name__}: {error}"
    first = text.splitlines()[0]
    if isinstance(error, ImportError):
        return ModelError(f"base model {base} needs a package: {first}", hint="pip install 'rscap[train]'")
    if isinstance(locate(base), Path):
        return ModelError(
            f"base model {base} could not be loaded: {first}",
            hint="the folder needs config.json, model.safetensors and the processor's files",
        )
    if "gated" in text.lower() or "401" in text or "403" in text:
        return ModelError(
            f"base model {base} is gated and no token with access to it was found",
            hint="accept its licence on the model's page, then run `hf auth login` or set HF_TOKEN",
        )
    if isinstance(error, OSError) and error.errno is None and (reason := why_not_reached()):
        return ModelError(
            f"base model {base} is not on this machine, or not whole, and {reason}",
            hint="check the network and the spelling; a folder with the model's files needs no Hub",
        )
    return ModelError(f"base model {base} could not be loaded: {first}", hint="check the name and the network")
