"""From the name of a run or a base model to a captioner."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch

from rscap import provenance
from rscap.captioner.asking import Captioner
from rscap.captioner.batch import Encoder
from rscap.captioner.exported import exported_as
from rscap.errors import AdapterError, ModelError, RecipeError, StoreError
from rscap.methods import METHODS
from rscap.model.adapters import (
    ForeignAdapter,
    find_adapter,
    load_adapter,
    load_foreign,
    merge,
    precision_to_load,
)
from rscap.model.card import decided
from rscap.model.families import family_of
from rscap.model.load import Base, default_prompt, load_base
from rscap.model.packed import PackedModel
from rscap.progress import to_stderr
from rscap.recipe import (
    Dtype,
    GenerateSection,
    ModelSection,
    Quantisation,
    Recipe,
    change_generate,
    read_recipe,
)
from rscap.store import ADAPTER, MODEL, STATUS, Provenance, RunFolder, plain_files
from rscap.tables import check_table


def load(
    model: str | Path,
    *,
    base: str | None = None,
    device: str | None = None,
    dtype: Dtype | None = None,
    quantisation: Quantisation | None = None,
    prefix: str | None = None,
    merged: bool = False,
) -> Captioner:
    """Load a model once, to ask it often.

    Args:
        model: a run folder; an adapter of another program, as a folder or by its name on the Hub; or a base model:
            `nano`, a local folder, or a name on the Hub.
        base: the base model of an adapter, in place of the one that it names.
        device: `cuda`, `cuda:1`, `mps` or `cpu`; by default the best that this machine has.
        dtype: precision of products; by default as the run was trained, and what the card computes best for a base.
        quantisation: `nf4` or `int8` for a base model, alone or below an adapter; a run is held as it was trained.
        prefix: the words before the caption; by default those the run was trained with, and of a base model those of
            its family.
        merged: add the adapter to the weights of its base, which costs less for each token and rounds them once more.

    Raises:
        StoreError: a run that did not finish, whose weights were changed, or that does not exist.
        AdapterError: an adapter that cannot be used, does not fit its base model, or cannot be merged.
        ModelError: a base model that cannot be loaded, or a device that is not there; says why.
        RecipeError: no such dtype.
    """
    return ModelRef.of(
        str(model), base=base, prefix=prefix, dtype=dtype, quantisation=quantisation, merged=merged
    ).load(device)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef:
    """Which model to ask, with which words and decode settings; nothing heavy is loaded until `load`."""

    name: str
    trained: tuple[RunFolder, Recipe] | None
    section: ModelSection
    prefix: str
    generate: GenerateSection
    adapter: ForeignAdapter | None = None
    """Of another program, over the base model of `section`."""
    merged: bool = False
    """The adapter is added to the weights."""
    exported: GenerateSection | None = None
    """How the card of what `rscap export` wrote says that it decodes; such a model was trained, without a recipe."""

    @classmethod
    def of(
        cls,
        model: str,
        *,
        base: str | None = None,
        prefix: str | None = None,
        dtype: Dtype | None = None,
        quantisation: Quantisation | None = None,
        merged: bool = False,
        changes: Sequence[str] = (),
    ) -> ModelRef:
        """A run folder if `model` is one, else an adapter of another program, else a base model.

        A mistyped run is refused and not looked for on the Hub. `base` is for an adapter and `quantisation` for what is
        no run; `prefix` replaces the words that training used; `changes` are overrides such as `generate.beams=3`. An
        export of rscap is asked as its card says: in its words, precision and decode settings.

        Raises:
            StoreError: a run folder that trained no model, or none at all beside others.
            RecipeError: the run's recipe cannot be read, there is no such dtype, the changes cannot be made, or an
                argument is not for this kind of model.
            AdapterError: an adapter whose files cannot be used, or that names no base model.
        """
        folder = Path(model)
        if not RunFolder(folder).exists:
            _refuse_misspelt(folder)
            adapter = find_adapter(model)
            if base is not None and adapter is None:
                raise RecipeError(f"{model} is no adapter, so it has no base model", hint="leave --base out")
            told = exported_as(folder, to_stderr)
            table = {
                "base": base or (adapter.base if adapter else model),
                "dtype": dtype or (told.dtype if told else None) or "auto",
                "quantisation": quantisation or "none",
                "revision": getattr(adapter.config, "revision", None) if adapter and base is None else None,
            }
            section = check_table(ModelSection, table, name="model")
            words = told.prefix if told and prefix is None else prefix
            generate = told.generate if told else GenerateSection()
            ref = cls.of_base(section, name=folder.name, prefix=words, generate=generate)
            return replace(ref, adapter=adapter, merged=merged, exported=generate if told else None).decoding(changes)
        if base is not None or quantisation is not None:
            raise RecipeError(
                f"{model} is a run and is asked over its own base model, held as it was trained",
                hint="leave --base and --quantisation out",
            )
        run = RunFolder.open(folder)
        if not run.recipe_file.is_file():
            raise StoreError(f"{folder} trained no model", hint="name a run that `rscap train` made, or a base model")
        recipe = recipe_of(run)
        if dtype:
            section = check_table(ModelSection, {**recipe.model.model_dump(), "dtype": dtype}, name="model")
            recipe = recipe.model_copy(update={"model": section})
        return replace(cls.of_run(run, recipe, prefix=prefix), merged=merged).decoding(changes)

    @classmethod
    def of_base(
        cls, section: ModelSection, *, name: str, prefix: str | None = None, generate: GenerateSection
    ) -> ModelRef:
        """A base model as it is, asked with the words of its family unless `prefix` gives others."""
        words = default_prompt(section.base) if prefix is None else prefix
        return cls(name=name, trained=None, section=section, prefix=words, generate=generate)

    @classmethod
    def of_run(cls, run: RunFolder, recipe: Recipe, *, prefix: str | None = None) -> ModelRef:
        """What a run learned, under its own recipe or one that differs in how the model is held."""
        words = recipe.prompt.prefix if prefix is None else prefix
        return cls(name=run.name, trained=(run, recipe), section=recipe.model, prefix=words, generate=recipe.generate)

    def decoding(self, changes: Sequence[str]) -> ModelRef:
        """The same model with `generate.key=value` overrides."""
        return replace(self, generate=change_generate(self.generate, changes))

    @property
    def training_prefixes(self) -> tuple[str, ...]:
        """The words that a run was trained with; none of a base model."""
        prompt = self.trained[1].prompt if self.trained else None
        return (prompt.training_prefixes or (prompt.prefix,)) if prompt else ()

    def load(self, device: str | None = None) -> Captioner:
        """The model on `device`, ready to caption.

        Raises:
            StoreError: weights that are not what training wrote.
            AdapterError: the run folder holds no weights, an adapter whose keys do not fit the base model, or one that
                cannot be merged.
            ModelError: there is no such device, or the installed torch has no kernels for it.
        """
        device = best_device() if device is None else present_device(device)
        if self.trained:
            check_weights(self.trained[0])
            run, recipe = self.trained
            recipe = recipe.model_copy(update={"model": decided(recipe.model, device)})
            base, packed = _load_run(run, recipe, device=device)
        else:
            base = load_base(self.section, device=device)
            net = load_foreign(base.model, self.adapter).to(device).eval() if self.adapter else base.model
            packed = PackedModel(net, compute_dtype=base.compute_dtype)
        if self.merged:
            if not hasattr(packed.net, "peft_config"):
                raise AdapterError(f"{self.name} has no adapter that could be merged", hint="leave merged out")
            packed = PackedModel(merge(packed.net), compute_dtype=base.compute_dtype)
        return self.around(base, packed)

    def around(self, base: Base, packed: PackedModel, *, beside: Captioner | None = None) -> Captioner:
        """The captioner of a model that is loaded."""
        return Captioner(
            packed.eval(),
            Encoder.of(base),
            prefix=self.prefix,
            settings=self.generate,
            name=self.name,
            base=base,
            beside=beside,
            merged=self.merged,
            pool=self.trained[0].pool_file if self.trained else None,
        )

    def over(self, shell: Any, beside: Captioner, *, device: str) -> Captioner:
        """A run's adapter over a model that shares its base's weights with the captioner `beside`.

        Raises:
            StoreError: weights that are not what training wrote.
            AdapterError: an adapter whose keys do not fit the base model.
        """
        if self.trained:
            run, recipe = self.trained
            check_weights(run)
            net = load_adapter(shell, run.adapter, recipe).to(device).eval()
        else:
            assert self.adapter is not None
            net = load_foreign(shell, self.adapter).to(device).eval()
        packed = PackedModel(net, compute_dtype=beside.base.compute_dtype)
        return self.around(replace(beside.base, model=shell), packed, beside=beside)


def load_together(
    model: str, adapters: Mapping[str, str], *, device: str | None = None, dtype: Dtype | None = None
) -> dict[str, Captioner]:
    """A base model, held in memory once, and runs over it by name: each captions as it does when loaded alone.

    Args:
        model: a base model, a run, or an adapter of another program. The base of an adapter comes with it, behind it.
        adapters: further runs, or adapters of other programs, by the name under which they are asked; their base must
            be the same, and that of runs held the same way.
        device, dtype: as for `load`; without a dtype, that of the first run.

    Raises:
        AdapterError: a run with another base or precision, or one that shares no weights with its base; says why.
        RscapError: whatever else keeps one of them from being loaded.
    """
    refs = {name: ModelRef.of(folder, dtype=dtype) for name, folder in adapters.items()}
    first = ModelRef.of(model, dtype=dtype)
    if first.trained and first.trained[0].model.is_dir():
        if refs:
            raise AdapterError(
                f"{model} is a run that trained whole weights, so no adapter can be loaded with it",
                hint="name its base model in its place, with adapters of that base",
            )
        return {first.name: first.load(device)}
    if first.trained or first.adapter:
        refs = {first.name: first, **refs}
        first = _base_of(first)
    if refs:  # a run says how its base is held; an adapter of another program does not
        theirs = next((ref for ref in refs.values() if ref.trained), next(iter(refs.values()))).section
        held = {"revision": theirs.revision} if dtype else theirs.model_dump(exclude={"base"})
        first = replace(first, section=first.section.model_copy(update=held))
    if first.name in refs:
        raise AdapterError(f"{first.name!r} names the base model, so an adapter needs another name")
    for name, ref in refs.items():
        _refuse_other_base(name, ref, first.section)
    device = best_device() if device is None else present_device(device)
    base = load_base(first.section, device=device)
    shells = {name: _shell(base.model, ref) for name, ref in refs.items()}
    alone = first.around(base, PackedModel(base.model, compute_dtype=base.compute_dtype))
    return {name: refs[name].over(shells[name], alone, device=device) for name in refs} | {first.name: alone}


def _base_of(ref: ModelRef) -> ModelRef:
    """The base model of a run, as the run holds it."""
    return ModelRef.of_base(ref.section, name=Path(ref.section.base).name, prefix=None, generate=GenerateSection())


def _refuse_other_base(name: str, ref: ModelRef, section: ModelSection) -> None:
    """Refuse a run whose adapter does not belong over this base.

    Raises:
        AdapterError: says what differs.
    """
    if ref.adapter is None and (ref.trained is None or not ref.trained[0].adapter.is_dir()):
        raise AdapterError(
            f"adapter {name!r}: {ref.name} is neither a run that trained an adapter nor a folder with one",
            hint="name such a folder",
        )
    theirs, adapter = ref.section, ref.trained[1].adapter if ref.trained else None
    held = ("base", "revision", "dtype", "quantisation", "quantise", "image_splitting") if ref.trained else ("base",)
    for key in held:
        if getattr(theirs, key) != getattr(section, key):
            raise AdapterError(
                f"adapter {name!r} was trained with model.{key} = {getattr(theirs, key)!r}, "
                f"but the base is loaded with {getattr(section, key)!r}",
                hint="serve them apart, or name a dtype that holds for all",
            )
    if adapter is not None and METHODS[adapter.method].residual and section.quantisation != "none":
        raise AdapterError(
            f"adapter {name!r} ({adapter.method}) quantises what it leaves of its base, so it cannot share one",
            hint="load this run alone",
        )


def _shell(net: Any, ref: ModelRef) -> Any:
    """A second model around the same weights, to be adapted without a change to the first.

    A method that takes a part out of the weights it adapts (PiSSA, OLoRA, CorDA) gets its own copy of those towers, and
    so does an adapter of another program that changes weights of its base, a copy of them all.
    """
    if ref.adapter and _changes_base(ref.adapter.config):
        return copy.deepcopy(net)
    recipe = ref.trained[1] if ref.trained else None
    moved = recipe is not None and recipe.adapter is not None and METHODS[recipe.adapter.method].residual
    adapted = recipe.towers.in_state("adapted") if recipe and moved else []
    own = tuple(f"{path}." for tower in adapted for path in family_of(net).modules[tower])
    shared = [one for name, one in [*net.named_parameters(), *net.named_buffers()] if not name.startswith(own)]
    return copy.deepcopy(net, {id(one): one for one in shared})


def _changes_base(config: Any) -> bool:
    """Whether PEFT changes weights of the base for such an adapter: learned biases, or a start taken out of weights."""
    return getattr(config, "bias", "none") != "none" or isinstance(getattr(config, "init_lora_weights", True), str)


def best_device() -> str:
    """`cuda`, Apple's `mps`, or `cpu`, whichever is there first."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def present_device(name: str) -> str:
    """The device of that name.

    Raises:
        ModelError: no device has this name, or this machine has none of that kind and number.
    """
    try:
        torch.empty(0, device=name)  # only an attempt tells whether a driver and a second card are there
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # the second from torch without CUDA
        there = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
        there += ["mps"] if torch.backends.mps.is_available() else []
        raise ModelError(
            f"there is no device {str(name)!r} on this machine: {str(error).splitlines()[0]}",
            hint=f"there is {', '.join([*there, 'cpu'])}",
        ) from None
    return name


def device_name(device: torch.device) -> str:
    """What a person calls the device: the card's name, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def recipe_of(run: RunFolder) -> Recipe:
    """The recipe of a run, with the commit of its base model that training recorded, whatever the Hub has since.

    Raises:
        RecipeError: the recipe cannot be read.
        StoreError: the record of where the run comes from is damaged.
    """
    return with_commit(read_recipe(run.recipe_file), run)


def with_commit(recipe: Recipe, run: RunFolder) -> Recipe:
    """The recipe with the recorded commit of the run's base model; as it is where none was recorded.

    Raises:
        StoreError: the record of where the run comes from is damaged.
    """
    base = Provenance.read(run.provenance_file).base if run.provenance_file.is_file() else None
    if base is None or base.revision is None or base.name != recipe.model.base:
        return recipe
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"revision": base.revision})})


_SAFETENSORS = ".safetensors"
_FREE = ("README.md",)
"""Files beside learned weights that decide nothing: PEFT writes a card there, and people write in it."""


def weights_digests(run: RunFolder) -> dict[str, str]:
    """SHA-256 of every file that a run has learned, weights, configuration and tokenizer, by its path in the folder."""
    if not run.learned().is_dir():
        return {}
    files = [path for path in plain_files(run.learned()) if path.name not in _FREE]
    return {path.relative_to(run.path).as_posix(): provenance.file_digest(path) for path in files}


def check_weights(run: RunFolder) -> None:
    """Refuse what a run learned if it is not what training wrote, as the status file remembers it.

    Runs of rscap 0.1 remember their weights alone or nothing.

    Raises:
        StoreError: names the first file that was changed, is missing or was added.
    """
    now, written = weights_digests(run), run.status().weights
    for name, digest in written.items():
        if now.get(name) != digest:
            what = "is missing" if name not in now else "is not what training wrote: its SHA-256 is another"
            raise StoreError(
                f"{run.path / name} {what}",
                hint=f"bring it back; or remove its folder, and `rscap train {run.path} --resume` writes it again",
            )
    added = sorted(now.keys() - written.keys())
    if added and any(not name.endswith(_SAFETENSORS) for name in written):
        raise StoreError(f"{run.path / added[0]} was not there when training ended", hint="move it out of the folder")


def _load_run(run: RunFolder, recipe: Recipe, *, device: str) -> tuple[Base, PackedModel]:
    """The base model of a finished run with its adapter, or its fully trained model.

    Raises:
        AdapterError: the run folder holds neither, or an adapter whose keys do not fit the base model.
    """
    if run.model.is_dir():
        return _trained_whole(run.model, recipe, device)
    if not run.adapter.is_dir():
        raise AdapterError(
            f"{run.path} has no weights yet: it holds neither {ADAPTER}/ nor {MODEL}/",
            hint=f"`rscap train {run.path} --resume` continues an interrupted training; {STATUS} says how it ended",
        )
    base = load_base(precision_to_load(recipe.model, recipe.adapter), device=device)
    net = load_adapter(base.model, run.adapter, recipe).to(device).eval()
    return base, PackedModel(net, compute_dtype=base.compute_dtype)


def _trained_whole(folder: Path, recipe: Recipe, device: str) -> tuple[Base, PackedModel]:
    """What learned comes back in the float32 it was trained in; frozen towers and products in the recipe's dtype."""
    section = recipe.model.model_copy(update={"base": str(folder), "revision": None, "dtype": "float32"})
    base = replace(load_base(section, device=device), compute_dtype=getattr(torch, recipe.model.dtype))
    for tower in recipe.towers.in_state("frozen"):
        for path in base.family.modules[tower]:
            base.model.get_submodule(path).to(base.compute_dtype)
    base.model.tie_weights()
    return base, PackedModel(base.model, compute_dtype=base.compute_dtype)


def _refuse_misspelt(folder: Path) -> None:
    """Say so where a run of another name was meant, and not ask the Hub for it.

    Raises:
        StoreError: there is nothing at `folder`, and its parent folder holds runs.
    """
    beside = [run.name for run in RunFolder.inside(folder.parent)] if folder.parent != Path() else []
    if beside and not folder.exists():
        near = get_close_matches(folder.name, beside, n=3, cutoff=0.0)
        raise StoreError(f"there is no run {folder}", hint=f"{folder.parent} holds {', '.join(near)}")
