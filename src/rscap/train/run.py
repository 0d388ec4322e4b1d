"""`rscap train`: from a recipe to a run folder."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import Accelerator

from rscap import provenance
from rscap.batch import Encoder
from rscap.data import Source, open_source
from rscap.model.adapters import prepare
from rscap.model.captioner import Captioner
from rscap.model.load import Base, load_base
from rscap.model.run import best_device
from rscap.model.towers import count_parameters
from rscap.quality import QualityRules, select
from rscap.recipe import Recipe, dump_recipe
from rscap.records import Example
from rscap.store import RunFolder, replace_folder, write_json, write_jsonl, write_text
from rscap.train.log import TrainLog
from rscap.train.loop import Learner, fit
from rscap.train.updates import CaptionWeights, Schedule

Say = Callable[[str], None]


def train(recipe: Recipe, out: Path, *, say: Say) -> RunFolder:
    """Run a recipe: data, model, loop, adapter; all of it in a new run folder.

    Raises:
        RscapError: whatever makes the recipe impossible to run; the folder then says `failed` and why.
    """
    RunFolder.check_free(out)
    source = open_source(
        recipe.data.source,
        split_scheme=recipe.data.splits,
        max_rejected_share=recipe.data.max_rejected_share,
        normalise=recipe.data.normalise,
        check="decode",  # now, and not at step 9,000: about a millisecond an image
    ).for_training()
    device = best_device()
    base = load_base(recipe.model, device=device)
    run = RunFolder.create(out)
    try:
        _train(recipe, run, source, base, say=say)
    except BaseException as error:
        run.close("failed", error=f"{type(error).__name__}: {error}")
        raise
    run.close("finished")
    return run


def _train(recipe: Recipe, run: RunFolder, source: Source, base: Base, *, say: Say) -> None:
    accelerator = Accelerator(cpu=not torch.cuda.is_available() and not torch.backends.mps.is_available())
    write_text(run.recipe_file, dump_recipe(recipe))
    write_json(
        run.provenance_file,
        provenance.collect(
            device=str(accelerator.device),
            threads=torch.get_num_threads(),
            data={"name": source.name, "digest": source.digest, "split_scheme": source.split_scheme},
            base=base.describe(),
        ),
    )
    panel = validation_panel(source, recipe)  # before captions are removed: what is measured stays whole
    source, weights = _selected(source, recipe, run, say)
    examples = training_examples(source, recipe)
    net = prepare(base.model, recipe.towers, recipe.adapter, seed=recipe.seed)
    learner = Learner(
        captioner=Captioner(net, compute_dtype=base.compute_dtype),
        encoder=Encoder.of(base),
        recipe=recipe,
        train=examples,
        panel=panel,
        weights=weights,
    )
    _report_parameters(learner.captioner, run, say)
    if recipe.train.gradient_checkpointing:
        learner.captioner.checkpoint_activations()
    schedule = Schedule.of(recipe, len(examples))
    say(f"{len(examples):,} images, {schedule.total_steps:,} steps, {schedule.steps_per_epoch:,} an epoch")
    try:
        with TrainLog(run.train_log, schedule.total_steps) as log:
            fit(learner, accelerator, log, schedule)
    finally:
        write_jsonl(
            run.rejected_file,
            ({"row": item.row, "reason": item.reason} for item in [*source.rejected, *learner.rejected]),
        )
    save(learner.captioner, base, recipe, run)


def _selected(source: Source, recipe: Recipe, run: RunFolder, say: Say) -> tuple[Source, CaptionWeights]:
    """The source after the recipe's quality rules; what they removed is listed in removed.jsonl."""
    if recipe.data.quality is None:
        return source, {}
    selection = select(source, QualityRules(**recipe.data.quality.model_dump(exclude_none=True)))
    write_jsonl(run.path / "removed.jsonl", map(asdict, selection.removed))
    summary = selection.summary()
    say(
        f"quality: {summary['captions_removed']:,} captions removed, {summary['captions_weighted']:,} weighted down, "
        f"{summary['images_dropped']:,} images dropped"
    )
    return selection.source, selection.weights


def training_examples(source: Source, recipe: Recipe) -> list[Example]:
    """The examples a recipe learns from: the training split, or `train_limit` of it."""
    limit = recipe.data.train_limit
    return source.subset("train", limit, recipe.seed) if limit else source.split("train")


def validation_panel(source: Source, recipe: Recipe) -> list[Example]:
    """The fixed validation images that captions are generated for during training."""
    if not recipe.train.evaluate_every:
        return []
    available = source.splits.get("val", 0)
    return source.subset("val", min(recipe.train.evaluate_images, available), recipe.seed) if available else []


def save(captioner: Captioner, base: Base, recipe: Recipe, run: RunFolder) -> None:
    """Write adapter/ in PEFT's layout, or model/ after full fine-tuning, whole or not at all."""
    target = run.adapter if recipe.adapter else run.model
    with tempfile.TemporaryDirectory(dir=run.path, prefix=".saving-") as folder:
        finished = Path(folder) / target.name
        captioner.net.save_pretrained(finished, safe_serialization=True)  # type: ignore[operator]
        if not recipe.adapter:
            base.processor.save_pretrained(finished)
        replace_folder(finished, target)


def _report_parameters(captioner: Captioner, run: RunFolder, say: Say) -> None:
    counts = count_parameters(captioner.net)
    write_json(run.parameters_file, {tower: asdict(count) for tower, count in counts.items()})
    for tower, count in counts.items():
        say(f"{tower:15} {count.trainable:>13,} of {count.total:>13,} parameters learn")
