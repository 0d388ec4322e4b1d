"""`rscap export`: the request, and the steps in their order; the target appears at the end, complete."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

import torch

from rscap.captioner import ModelRef
from rscap.captioner.loading import best_device, check_weights, recipe_of
from rscap.errors import AdapterError, ExportError, ModelError, RscapError, StoreError
from rscap.exporting.agreement import Agreement, compare
from rscap.exporting.card import CardSubject, Form, card, notice_of
from rscap.exporting.evaluation import place_evaluation
from rscap.exporting.foreign import export_foreign
from rscap.exporting.hub import (
    Hub,
    check_target,
    default_hub,
    generate_arguments,
    merged,
    push,
    refuse_secrets_in,
    write_adapter,
    write_checkpoint,
)
from rscap.exporting.reading import Asking, Pictures, Reading, captions, load_export, pictures, read
from rscap.exporting.stac import model_item
from rscap.model.adapters import ForeignAdapter, find_adapter, least_transformers
from rscap.model.card import dtype_of
from rscap.model.families import Family, ImageSpec
from rscap.progress import Say
from rscap.recipe import Dtype, Recipe
from rscap.stopping import stopping
from rscap.store import MODEL_ITEM, RunFolder, new_folder, now, write_json, write_text


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """The options of an export."""

    run: Path
    """A run; or an adapter of another program, a folder or a name on the Hub."""
    base: str | None = None
    """The base model of such an adapter, in place of the one that it names."""
    out: Path | None = None
    """The folder of the export; `exports/<run>` by default."""
    form: Literal["merged", "adapter"] = "merged"
    dtype: Dtype | None = None
    """Precision of merged weights; by default that of the recipe."""
    images: int = 8
    """Images on which run and export are compared."""
    agree: float = 0.9
    """Share of captions that must be the same, or differ only at a near-tie."""
    push_to: str | None = None
    public: bool = False
    evaluation: bool | None = None
    """Whether captions and references go with it; by default they do, but into a public upload only if asked for."""
    evaluation_at: str | None = None
    """The address at which they are published instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The result of an export."""

    path: Path
    agreement: Agreement
    address: str | None
    """On the Hub, if it was uploaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    request: ExportRequest
    run: RunFolder
    recipe: Recipe
    target: Path
    form: Form
    dtype: Dtype

    @property
    def unquantised(self) -> Recipe:
        """The recipe with its base model in the precision that the weights had before they were quantised."""
        return self.recipe.model_copy(update={"model": self.recipe.model.model_copy(update={"quantisation": "none"})})

    @property
    def asking(self) -> Asking:
        settings = self.recipe.generate
        return Asking(
            prefix=self.recipe.prompt.prefix, max_new_tokens=settings.max_new_tokens, batch_size=settings.batch_size
        )

    @property
    def coarsest(self) -> torch.dtype:
        """The coarser precision of run and export: that with the larger step between neighbouring numbers."""
        both = (getattr(torch, self.recipe.model.dtype), getattr(torch, self.dtype))
        return max(both, key=lambda dtype: torch.finfo(dtype).eps)


def export(request: ExportRequest, *, say: Say, hub: Hub | None = None) -> Exported:
    """Export a run; `hub` replaces the Hub if given.

    Raises:
        StoreError: no finished run, or the target is taken.
        AdapterError: a method that cannot be merged.
        ExportError: the captions of the export differ from those of the run (nothing is written), or the upload failed.
    """
    if not RunFolder(request.run).exists and (adapter := find_adapter(str(request.run))) is not None:
        return _foreign(request, adapter, say)
    if request.base is not None:
        raise ExportError(f"{request.run} is no adapter of another program, so its base is known", hint="no --base")
    plan = _plan(request)
    if request.push_to:
        hub = hub or default_hub()
        check_target(hub, request.push_to)
    with stopping(), new_folder(plan.target) as folder:
        try:
            family, image, agreement = _make(plan, folder, say=say)
        except torch.OutOfMemoryError as error:
            raise ModelError(
                "the unquantised model does not fit the memory of this device",
                hint="CUDA_VISIBLE_DEVICES= rscap export … works on the processor, slowly",
            ) from error
        subject = CardSubject.of(
            plan.run,
            plan.recipe,
            agreement,
            family,
            form=plan.form,
            dtype=plan.dtype,
            evaluation=place_evaluation(
                plan.run,
                folder,
                wanted=request.evaluation,
                address=request.evaluation_at,
                public=request.public and request.push_to is not None,
                say=say,
            ),
            needs=least_transformers(folder) if plan.form == "adapter" else None,
        )
        write_text(folder / "README.md", card(subject))
        ended = datetime.fromisoformat(plan.run.status().ended or now()).astimezone(UTC)
        item = model_item(subject, image, folder, made=ended.strftime("%Y-%m-%dT%H:%M:%SZ"))
        write_json(folder / MODEL_ITEM, item)
        if (notice := notice_of(subject.base)) is not None:
            write_text(folder / "NOTICE", notice)
        for file in (one for one in folder.rglob("*") if one.is_file()):
            file.chmod(0o644)  # transformers writes weights for the owner alone
            refuse_secrets_in(file)
    address = push(hub, plan.target, request.push_to, public=request.public) if hub and request.push_to else None
    return Exported(path=plan.target, agreement=agreement, address=address)


def _foreign(request: ExportRequest, adapter: ForeignAdapter, say: Say) -> Exported:
    """Export an adapter of another program."""
    if request.push_to is not None or request.evaluation or request.evaluation_at:
        raise ExportError(
            f"{request.run} is an adapter of another program: it has no evaluation, and is not uploaded as one's own",
            hint="export it to a folder",
        )
    ref = ModelRef.of(str(request.run), base=request.base, dtype=request.dtype)
    target = request.out if request.out is not None else Path("exports") / ref.name
    agreement = export_foreign(
        ref, adapter, target, form=request.form, images=request.images, agree=request.agree, say=say
    )
    return Exported(path=target, agreement=agreement, address=None)


def _plan(request: ExportRequest) -> _Plan:
    for name, kind in (("form", Literal["merged", "adapter"]), ("dtype", Dtype)):
        if (value := getattr(request, name)) is not None and value not in get_args(kind):
            raise ExportError(f"there is no {name} {value!r}", hint=f"one of {', '.join(get_args(kind))}")
    if request.evaluation_at is not None:
        if request.evaluation:
            raise ExportError("the evaluation travels inside the export or is published at an address, not both")
        if not request.evaluation_at.startswith(("https://", "http://")):
            raise ExportError(f"{request.evaluation_at!r} is no address", hint="it begins with https://")
    run = RunFolder.open(request.run)
    if (state := run.status().state) != "finished":
        raise StoreError(f"{run.path} is {state!r}, not finished", hint="only a finished run is exported")
    if not run.recipe_file.is_file():
        raise StoreError(f"{run.path} trained no model", hint="name a run that `rscap train` made")
    recipe = recipe_of(run)
    check_weights(run)
    whole = run.model.is_dir()
    if request.form == "adapter" and whole:
        raise AdapterError(f"{run.path} has no adapter: its towers were trained whole", hint="leave --adapter-only out")
    if request.form == "adapter" and request.dtype:
        raise ExportError("--dtype is for merged weights; an adapter keeps the precision it learned in")
    target = request.out if request.out is not None else Path("exports") / run.name
    RunFolder.check_free(target)
    form: Form = "whole" if whole else request.form
    return _Plan(
        request=request,
        run=run,
        recipe=recipe,
        target=target,
        form=form,
        dtype=request.dtype or dtype_of(recipe.model, best_device()),
    )


def _make(plan: _Plan, folder: Path, *, say: Say) -> tuple[Family, ImageSpec, Agreement]:
    """Caption with the run, write the files, load them as a user would, compare."""
    shown = pictures(plan.run, plan.recipe, plan.request.images)
    trained = _as_trained(plan, shown, say) if plan.recipe.model.quantisation != "none" else None
    gc.collect()  # two models at once may not fit
    say(f"captions of the run: {shown.origin}")
    family, image, readings = _write(plan, folder, shown)
    gc.collect()
    say("captions of the export, loaded with " + ("PEFT" if plan.form == "adapter" else "plain transformers"))
    agreement = compare(
        readings,
        load_export(plan.form, plan.unquantised.model, plan.dtype, family, folder),
        plan.asking,
        origin=shown.origin,
        coarsest=plan.coarsest,
    )
    if trained is not None:
        agreement = agreement.beside(plan.recipe.model.quantisation, trained)
    agreement.require(plan.request.agree)
    return family, image, agreement


def _as_trained(plan: _Plan, shown: Pictures, say: Say) -> dict[str, str] | str:
    """Captions of the quantised run by id, or why there are none."""
    say(f"captions of the run as it was trained, {plan.recipe.model.quantisation}")
    try:
        captioner = ModelRef.of_run(plan.run, plan.recipe).load()
    except RscapError as error:
        return error.message
    return captions(captioner, shown.examples, plan.asking)


def _write(plan: _Plan, folder: Path, shown: Pictures) -> tuple[Family, ImageSpec, list[Reading]]:
    captioner = ModelRef.of_run(plan.run, plan.unquantised).load()
    readings = read(captioner, shown.examples, plan.asking)
    if plan.form == "adapter":
        write_adapter(plan.run, captioner.base, folder)
    else:
        model = merged(captioner.packed.net, getattr(torch, plan.dtype))
        write_checkpoint(model, captioner.base.processor, folder, decoding=generate_arguments(plan.recipe.generate))
    return captioner.base.family, captioner.base.image, readings
