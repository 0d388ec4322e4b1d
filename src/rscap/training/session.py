"""`rscap train`: from a recipe to a run folder, or from a run folder that was cut off to its end."""

from __future__ import annotations

import math
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from filelock import FileLock, Timeout

from rscap import provenance
from rscap.captioner import Captioner
from rscap.captioner.batch import Encoder
from rscap.captioner.loading import device_name, weights_digests
from rscap.data import Source, open_data
from rscap.errors import Interrupted, ModelError, RecipeError, StoreError
from rscap.model.adapters import Calibration, precision_to_load, prepare, save_adapter
from rscap.model.load import Base, load_base
from rscap.model.packed import PackedModel
from rscap.model.towers import count_parameters
from rscap.planning import choose_checkpointing
from rscap.planning.cards import memory_at_hand
from rscap.recipe import Recipe, dump_recipe, read_recipe
from rscap.records import Example
from rscap.stopping import stopping
from rscap.store import (
    RunFolder,
    no_room,
    read_json,
    replace_folder,
    way_out,
    write_json,
    write_jsonl,
    write_text,
)
from rscap.tables import differences
from rscap.training.checkpoints import Checkpoints, Progress, read_checkpoint
from rscap.training.examples import (
    calibration,
    check_validation,
    selected,
    training_examples,
    validation_panel,
)
from rscap.training.features import cached_encoder, features_folder
from rscap.training.log import TrainLog
from rscap.training.loop import Learner, fit
from rscap.training.optimiser import load_weights
from rscap.training.team import Team, check_shardable, shard
from rscap.training.trackers import Trackers, check_trackers
from rscap.training.updates import Schedule

Say = Callable[[str], None]

_SAVING = ".saving-"
_NOTHING = 5e-4  # a score that is shown as 0.000


def train(
    recipe: Recipe, out: Path, *, say: Say, resume: bool = False, source: Source | None = None, progress: bool = True
) -> RunFolder:
    """Run a recipe: data, model, loop, adapter; all of it in one run folder.

    `source` stands in for the recipe's own data, which is opened otherwise. `progress` shows a progress bar.

    With `resume` a run that was cut off goes on from its newest checkpoint and ends as if nothing had happened; where
    there is none yet, it begins.

    Raises:
        RscapError: whatever makes the recipe impossible to run; the folder then says `failed` and why.
        Interrupted: SIGTERM or Ctrl-C; the folder says `interrupted`, and its state is saved.
    """
    team = Team.of(Accelerator(cpu=not torch.cuda.is_available() and not torch.backends.mps.is_available()))
    say = say if team.leads else _silent
    begun = resume and (out / "status.json").is_file()
    if begun:
        check_same_recipe(RunFolder(out), recipe)
        if RunFolder(out).status()["state"] == "finished" and _learned(RunFolder(out), recipe).is_dir():
            say(f"{out} is finished already")
            return RunFolder(out)
    elif team.leads:
        check_not_begun(out)
        RunFolder.check_free(out)
    check_shares(recipe, team, say)
    check_trackers(recipe.track)
    if source is None:
        source = open_data(recipe.data, check="decode")  # a broken image fails now, not at step 9,000
    source = source.for_training()
    check_validation(recipe, source, say, begun=begun)
    recomputes = team.told(recomputes_activations(recipe, RunFolder(out), team, say) if team.leads else None)
    base = load_base(precision_to_load(recipe.model, recipe.adapter), device=team.device)
    say(f"{team} on {device_name(team.device)}")
    if team.leads and not begun:
        RunFolder.create(out)
    team.wait()
    job = _Job(recipe, RunFolder(out), source, base, team, say, recomputes, progress)
    if team.leads:
        _led(job)
    else:
        job.run()
    return job.folder


def check_not_begun(out: Path) -> None:
    """Point at the way on where a run was cut off.

    Raises:
        StoreError: there is an unfinished run at `out`.
    """
    if (out / "status.json").is_file() and (state := RunFolder(out).status().get("state")) != "finished":
        raise StoreError(
            f"{out} holds a run that is {state}",
            hint=f"`rscap train {out} --resume` goes on with it; or give another --out",
        )


def check_same_recipe(run: RunFolder, recipe: Recipe) -> None:
    """Refuse to go on with a run under another recipe.

    Raises:
        RecipeError: names each key that differs.
    """
    if not run.recipe_file.exists():  # cut off before it was written
        return
    before = read_recipe(run.recipe_file)
    if differing := differences(before.model_dump(mode="json"), recipe.model_dump(mode="json")):
        listed = "; ".join(f"{path}: {was!r} → {now!r}" for path, (was, now) in differing.items())
        raise RecipeError(
            f"{run.path} was begun with another recipe: {listed}",
            hint=f"`rscap train {run.path} --resume` goes on with its own; another recipe needs another --out",
        )


def _led(job: _Job) -> None:
    """Run as the process that writes: one at a time, and the status says how it ended."""
    run = job.folder
    try:
        with FileLock(run.path / ".lock", timeout=0):
            for leftover in run.path.glob(f"{_SAVING}*"):  # of a process that was killed
                shutil.rmtree(leftover)
            write_json(run.status_file, {"state": "started", "started": run.status()["started"]})
            try:
                with stopping():
                    details = job.run()
                run.close("finished", **details)
            except Interrupted as error:
                run.close("interrupted", error=error.message)
                error.hint = f"go on with: rscap train {run.path} --resume"
                raise
            except BaseException as error:
                with suppress(OSError):  # a full disk is told by the error itself
                    run.close("failed", error=f"{type(error).__name__}: {error}")
                if reason := no_room(error):
                    raise StoreError(
                        f"{run.path} could not be written: {reason}",
                        hint=f"{way_out(reason)}, then go on with `rscap train {run.path} --resume`",
                    ) from error
                raise
    except Timeout:
        raise StoreError(f"another process is training in {run.path}", hint="wait for it, or stop it") from None


def _silent(_: str) -> None:
    """What a process that does not lead has to say."""


@dataclass(frozen=True, slots=True)
class _Job:
    """One run, its data and base model at hand."""

    recipe: Recipe
    folder: RunFolder
    source: Source
    base: Base
    team: Team
    say: Say
    recomputes: bool
    """Whether activations are computed again in the backward pass."""
    progress: bool = True
    """Whether a progress bar is shown."""

    def run(self) -> dict[str, Any]:
        """Train from where the folder stands and write what was learned; returns how it ended, for status.json."""
        recipe, run, team = self.recipe, self.folder, self.team
        if team.leads:
            write_text(run.recipe_file, dump_recipe(recipe))
            self._describe()
        panel = validation_panel(self.source, recipe)  # before captions are removed: what is measured stays whole
        source, weights = selected(self.source, recipe, run, self.say, team)
        examples = training_examples(source, recipe)
        encoder = Encoder.of(self.base)
        look = calibration(examples, recipe, encoder, weights, self.base.compute_dtype)
        packed = _prepared(recipe, self.base, look)
        if recipe.train.cache_features:
            encoder = self._cached(packed, encoder, [*examples, *panel])
        learner = Learner(
            captioner=Captioner(
                packed,
                encoder,
                prefix=recipe.prompt.prefix,
                settings=recipe.generate,
                name=recipe.model.base,
                base=self.base,
            ),
            recipe=recipe,
            train=examples,
            panel=panel,
            weights=weights,
            pretrained=recipe.model.pretrained,
        )
        if self.recomputes:
            packed.checkpoint_activations()
        may = recipe.train.gradient_checkpointing is not False  # `auto` may turn it on later
        if wrong := packed.choose_attention(recipe.model.attention, checkpointed=may):
            self.say(f"FlexAttention is not used here: {wrong}")
        if team.leads:
            _report_parameters(packed, run, self.say)
        if team.sharded:
            shard(packed, team.device)
        progress = self._fit(learner, source)
        if not team.leads:
            return {}
        if team.sharded:  # no process holds it whole: build it again, where there is room
            packed = _prepared(recipe, load_base(precision_to_load(recipe.model, recipe.adapter)), look)
        details = self._choose_weights(packed, progress)
        save(packed, self.base, recipe, run)
        return {**details, "weights": weights_digests(run)}

    def _cached(self, packed: PackedModel, encoder: Encoder, examples: Sequence[Example]) -> Encoder:
        folder = features_folder(self.folder.path, self.recipe.train.features_folder)
        workers = self.recipe.data.workers
        return cached_encoder(packed, encoder, examples, folder=folder, team=self.team, workers=workers, say=self.say)

    def _describe(self) -> None:
        """provenance.json; a resumed run adds its sitting to those before it.

        Raises:
            StoreError: the data or the base model is not what the run began with.
        """
        run, source = self.folder, self.source
        now = provenance.collect(
            device=str(self.team.device),
            device_name=device_name(self.team.device),
            processes=self.team.size,
            gradient_checkpointing=self.recomputes,
            threads=torch.get_num_threads(),
            data={"name": source.name, "digest": source.digest, "split_scheme": source.split_scheme},
            base=self.base.describe(),
        )
        if not run.provenance_file.exists():
            write_json(run.provenance_file, now)
            return
        first = _first_sitting(run)
        for part, key in (("data", "digest"), ("base", "digest"), ("base", "revision")):
            if first[part].get(key) != now[part].get(key):
                raise StoreError(
                    f"the {part} changed since {run.path} was begun: {key} {first[part].get(key)} before, "
                    f"{now[part].get(key)} now",
                    hint="bring the old one back, or begin another run",
                )
        same = {
            name: now[name] == first.get(name) for name in ("commit", "packages", "device_name", "processes", "threads")
        }
        if not all(same.values()):
            changed = ", ".join(name for name, is_same in same.items() if not is_same)
            self.say(f"changed since the run was begun: {changed}; the result may differ in the last bits")
        sittings = [*first.get("resumed", []), {name: now[name] for name in ("commit", "dirty", *same, "command")}]
        write_json(run.provenance_file, {**first, "resumed": sittings})

    def _fit(self, learner: Learner, source: Source) -> Progress:
        recipe, run, team = self.recipe, self.folder, self.team
        schedule = Schedule.of(recipe, len(learner.train))
        self.say(
            f"{len(learner.train):,} images, {schedule.total_steps:,} steps, {schedule.steps_per_epoch:,} an epoch"
        )
        trackers = Trackers.of(recipe, run.path, say=self.say) if team.leads else Trackers()
        checkpoints = Checkpoints(run.checkpoints, recipe.train.keep_checkpoints)
        try:
            path = run.train_log if team.leads else None
            with TrainLog(path, schedule.total_steps, trackers, shown=self.progress) as log:
                return fit(learner, team, log, schedule, checkpoints)
        finally:
            if team.leads:
                with suppress(OSError) if sys.exc_info()[0] else nullcontext():  # not to hide what ended the loop
                    write_jsonl(run.rejected_file, map(asdict, [*source.rejected, *learner.rejected]))

    def _choose_weights(self, packed: PackedModel, progress: Progress) -> dict[str, Any]:
        """Leave the model with the weights that the recipe selects; says which in words for status.json."""
        details: dict[str, Any] = {"steps": progress.step, "loop_seconds": round(progress.seconds, 1)}
        if progress.recomputes or progress.halvings:
            details["went_on_with"] = {  # after memory ran out
                "micro_batch": math.ceil(self.recipe.train.micro_batch / 2**progress.halvings),
                "gradient_checkpointing": self.recomputes or progress.recomputes,
            }
        kept = Checkpoints(self.folder.checkpoints, 1)
        if self.team.sharded:
            load_weights(packed.net, read_checkpoint(kept.at(progress.step)).weights)
        if progress.stopped:
            details["stopped_early"] = progress.stopped
            self.say(f"stopped early: {progress.stopped}")
        selection = self.recipe.selection
        if selection is None:
            return details
        if progress.best is None:
            self.say(
                "no evaluation had few enough degenerate captions to be selected; the last weights are kept, "
                "and `rscap doctor` may say why"
            )
            return {**details, "selected": None}
        try:
            load_weights(packed.net, read_checkpoint(kept.at(progress.best.step)).weights)
        except StoreError as error:
            self.say(f"the best checkpoint cannot be used, the last weights are kept: {error.message}")
            return {**details, "selected": None, "not_selected": error.message}
        chosen = {"step": progress.best.step, "metric": selection.metric, "value": progress.best.value}
        self.say(f"selected: step {progress.best.step}, {selection.metric} {progress.best.value:.3f} on the panel")
        if selection.metric != "loss" and progress.best.value < _NOTHING:
            self.say(f"a {selection.metric} of 0.000 is next to nothing: these weights were hardly chosen")
        return {**details, "selected": chosen}


def _first_sitting(run: RunFolder) -> dict[str, Any]:
    """provenance.json of a run that goes on.

    Raises:
        StoreError: it does not say on which data and base the run was begun.
    """
    first = read_json(run.provenance_file)
    if not isinstance(first, dict) or not all(isinstance(first.get(part), dict) for part in ("data", "base")):
        raise StoreError(
            f"{run.provenance_file} is damaged: it does not say on which data and base the run was begun",
            hint="bring the file back, or begin another run",
        )
    return first


def recomputes_activations(recipe: Recipe, run: RunFolder, team: Team, say: Say) -> bool:
    """Whether to checkpoint activations; `auto` is settled by the memory at hand, once for all sittings of a run.

    A sharded run does: its base does not fit on one card, and it could not turn checkpointing on as it goes.
    """
    asked = recipe.train.gradient_checkpointing
    if asked != "auto":
        return asked
    if run.provenance_file.exists() and (before := _first_sitting(run).get("gradient_checkpointing")) is not None:
        return before
    if team.sharded:
        say("gradient checkpointing on, for the weights are shared out")
        return True
    try:
        choice = choose_checkpointing(recipe, memory_at_hand(team.device))
    except ModelError as error:
        say(f"gradient checkpointing on, to be careful: {error.message}")
        return True
    say(str(choice))
    return choice.on


def _prepared(recipe: Recipe, base: Base, look: Calibration | None) -> PackedModel:
    net = prepare(base.model, recipe.towers, recipe.adapter, seed=recipe.seed, model=recipe.model, calibration=look)
    return PackedModel(net, compute_dtype=base.compute_dtype)


def check_shares(recipe: Recipe, team: Team, say: Say) -> None:
    """Refuse processes that would never have anything to do.

    Raises:
        RecipeError: an update has fewer micro batches than there are processes, or cannot be sharded.
    """
    train = recipe.train
    if team.sharded:
        check_shardable(recipe)
    if train.accumulation < team.size:
        raise RecipeError(
            f"{team.size} processes share an update of {train.accumulation} micro batches; some would stand idle",
            hint=_enough_for(team.size, images=train.micro_batch * train.accumulation),
        )
    if train.accumulation % team.size:
        say(f"{train.accumulation} micro batches an update do not divide evenly among {team.size} processes")


def _enough_for(processes: int, *, images: int) -> str:
    """How an update of so many images gives every process something to do."""
    fitting = [count for count in range(processes, images + 1) if images % count == 0]
    if not fitting:
        return f"an update of {images} images is for {images} processes at most"
    settings = f"--set train.micro_batch={images // fitting[0]} --set train.accumulation={fitting[0]}"
    return f"keep the update's {images} images: {settings}"


def save(packed: PackedModel, base: Base, recipe: Recipe, run: RunFolder) -> None:
    """Write adapter/ in PEFT's layout, or model/ after full fine-tuning, whole or not at all."""
    target = _learned(run, recipe)
    with tempfile.TemporaryDirectory(dir=run.path, prefix=_SAVING) as folder:
        finished = Path(folder) / target.name
        if recipe.adapter:
            save_adapter(packed.net, finished)
        else:
            packed.net.save_pretrained(finished, safe_serialization=True)  # type: ignore[operator]
            base.processor.save_pretrained(finished)
        for written in finished.iterdir():
            written.chmod(0o644)  # safetensors writes for its owner alone
        replace_folder(finished, target)


def _learned(run: RunFolder, recipe: Recipe) -> Path:
    return run.adapter if recipe.adapter else run.model


def _report_parameters(packed: PackedModel, run: RunFolder, say: Say) -> None:
    counts = count_parameters(packed.net)
    write_json(run.parameters_file, {tower: asdict(count) for tower, count in counts.items()})
    for tower, count in counts.items():
        held = ", ".join(sorted(count.held, key=lambda way: -count.held[way]))
        say(f"{tower:15} {count.trainable:>13,} of {count.total:>13,} parameters learn, held in {held}")
