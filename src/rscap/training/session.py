"""One session of training: from a recipe to a run folder, or from an interrupted run folder to its end."""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rscap import provenance
from rscap.captioner import Captioner
from rscap.captioner.batch import Encoder
from rscap.captioner.loading import device_name, weights_digests, with_commit
from rscap.data import Source
from rscap.errors import ModelError, StoreError
from rscap.evaluation.seen import seen_by_training
from rscap.model.adapters import (
    Calibration,
    initial_factors,
    precision_to_load,
    prepare,
    save_adapter,
)
from rscap.model.card import check_served, decided, emulated
from rscap.model.load import Base, load_base
from rscap.model.packed import PackedModel
from rscap.model.towers import count_parameters
from rscap.planning import choose_checkpointing
from rscap.planning.cards import available_memory
from rscap.progress import Say, no_messages
from rscap.recipe import ModelSection, Recipe, dump_recipe
from rscap.records import Example
from rscap.scoring import IdfPool
from rscap.store import (
    Provenance,
    RunFolder,
    TowerParameters,
    TrainEvaluation,
    TrainingState,
    read_train_log,
    replace_folder,
    write_parameters,
    write_rejected,
    write_seen,
    write_text,
)
from rscap.tables import check_table
from rscap.training.checkpoints import Checkpoints, read_checkpoint
from rscap.training.examples import TrainingData, calibration, check_validation, decoded_data
from rscap.training.features import cached_encoder, features_folder
from rscap.training.folder import (
    SAVING,
    check_new,
    check_same_images,
    check_same_recipe,
    first_provenance,
    is_finished,
    record_provenance,
    recorded,
    trained_folder,
)
from rscap.training.log import TrainLog
from rscap.training.loop import Learner, fit
from rscap.training.objectives.self_critical import SelfCritical
from rscap.training.optimiser import learned, load_weights
from rscap.training.panel import passed_over
from rscap.training.start import Start
from rscap.training.team import Team, check_shares, shard
from rscap.training.trackers import Trackers, check_trackers
from rscap.training.updates import Schedule

_NOTHING = 5e-4  # a score below this is shown as 0.000


def train(
    recipe: Recipe, out: Path, *, say: Say, resume: bool = False, source: Source | None = None, progress: bool = True
) -> RunFolder:
    """Train as a recipe says, and keep everything in one run folder.

    Args:
        recipe: the settings.
        out: the run folder.
        say: receives messages.
        resume: resume an interrupted run from its newest checkpoint; the result is that of an uninterrupted run. Where
            there is no run yet, one begins.
        source: examples to use instead of the recipe's own data.
        progress: show a progress bar.

    Raises:
        RscapError: the recipe cannot be run, or training failed; the status then says `failed` and why.
        Interrupted: SIGTERM or Ctrl-C; the status says `interrupted`, and the state is saved.
    """
    team = Team.joined()
    say = say if team.leads else no_messages
    check_served(team.device)  # before anything is downloaded
    run = RunFolder(out)
    resumes = resume and run.status_file.is_file()
    if resumes:
        check_same_recipe(run, recipe)
        if is_finished(run, recipe):
            say(f"{out} is finished already")
            return run
    elif team.leads:
        check_new(out)
    asked, recipe = recipe.model.dtype, with_dtype(recipe, run, team, say, resumes=resumes)
    check_shares(recipe, team, say)
    check_trackers(recipe.track)
    start = Start.of(recipe)
    if start is not None and resumes:
        start.check_same(run)
    if source is None:
        source = decoded_data(recipe.data, team)  # a broken image fails now, not at step 9,000
    source = source.for_training()
    check_validation(recipe, source, say, resumes=resumes)
    recomputes = team.broadcast(recomputes_activations(recipe, run, team, say) if team.leads else None)
    named = with_commit(recipe, run) if resumes else recipe
    base = load_base(precision_to_load(named.model, recipe.adapter), device=team.device)
    say(f"{team} on {device_name(team.device)}")
    if team.leads and not resumes:
        RunFolder.create(out)
    team.wait()
    session = _Session(
        recipe=recipe,
        run=run,
        source=source,
        base=base,
        dtype_asked=asked,
        team=team,
        say=say,
        recomputes=recomputes,
        shows_progress=progress,
        start=start,
    )
    if team.leads:
        with recorded(run) as details:
            details.update(session.train())
    else:
        session.train()
    return run


@dataclass(frozen=True, slots=True, kw_only=True)
class _Session:
    """One session of a run, with its data and base model loaded."""

    recipe: Recipe
    run: RunFolder
    source: Source
    base: Base
    dtype_asked: str
    """`auto`, or the dtype that the recipe names."""
    team: Team
    say: Say
    recomputes: bool
    """Whether activations are recomputed in the backward pass."""
    shows_progress: bool
    start: Start | None = None
    """The run whose weights training begins with."""

    def train(self) -> dict[str, Any]:
        """Train from the state of the folder on and write the result; returns what is added to the status."""
        recipe, run, team = self.recipe, self.run, self.team
        if team.leads:
            write_text(run.recipe_file, dump_recipe(recipe))
            record_provenance(run, self._provenance(), self.say)
        data = TrainingData.of(self.source, recipe, run, self.say, team)
        if team.leads and (shown := [name for name, one in self.source.contents.items() if one.faint]):
            self.say(
                f"note: {len(shown):,} images show next to nothing, such as {shown[0]}; `rscap data audit` lists them"
            )
        if team.leads:
            seen = seen_by_training(data.train, data.panel, recipe, self.source.contents)
            if run.seen_file.exists():  # one list for all sessions
                check_same_images(run, seen)
            else:
                write_seen(run.seen_file, self.start.seen_with(seen, self.say) if self.start else seen)
        learner = self._learner(data)
        state = self._fit(learner, data)
        if not team.leads:
            return {}
        packed = self._whole(learner.packed, state) if team.sharded else learner.packed
        details = self._ending(state) | self._select(packed, state)
        save(packed, self.base, recipe, run)
        IdfPool.build({example.id: example.captions for example in data.train}).save(run.pool_file)
        return {**details, "weights": weights_digests(run)}

    @property
    def _checkpoints(self) -> Checkpoints:
        return Checkpoints(self.run.checkpoints, self.recipe.train.keep_checkpoints)

    def _provenance(self) -> Provenance:
        source = self.source
        found = provenance.collect(
            device=str(self.team.device),
            device_name=device_name(self.team.device),
            processes=self.team.size,
            gradient_checkpointing=self.recomputes,
            threads=torch.get_num_threads(),
            data={"name": source.name, "digest": source.digest, "split_scheme": source.split_scheme},
            base={
                **self.base.describe(),
                "dtype_asked": self.dtype_asked,
                **({"start": self.start.describe()} if self.start else {}),
            },
        )
        return Provenance(**found)

    def _learner(self, data: TrainingData) -> Learner:
        """The model with its adapters, ready to train on `data`."""
        recipe, encoder = self.recipe, Encoder.of(self.base)
        packed = self._adapted(data, encoder)
        if recipe.train.cache_features:
            encoder = self._cached(packed, encoder, [*data.train, *data.panel])
        packed.smoothing = recipe.train.label_smoothing
        if self.recomputes:
            packed.checkpoint_activations()
        may = recipe.train.gradient_checkpointing is not False  # `auto` may turn it on later
        packed.choose_attention(recipe.model.attention, checkpointed=may)
        if self.team.leads:
            _report_parameters(packed, self.run, self.say)
        if self.team.sharded:
            shard(packed, self.team.device)
        return Learner(
            captioner=Captioner(
                packed,
                encoder,
                prefix=recipe.prompt.prefix,
                settings=recipe.generate,
                name=recipe.model.base,
                base=self.base,
            ),
            recipe=recipe,
            train=data.train,
            panel=data.panel,
            weights=data.weights,
            pretrained=recipe.model.pretrained,
            objective=self._objective(packed, encoder, data),
        )

    def _objective(self, packed: PackedModel, encoder: Encoder, data: TrainingData) -> SelfCritical | None:
        """What the recipe maximises; None for likelihood."""
        if self.recipe.objective is None:
            return None
        counted = data.source.split("train")
        return SelfCritical.of(packed, encoder, self.recipe, self.team, data.train, counted, self.say)

    def _adapted(self, data: TrainingData, encoder: Encoder) -> PackedModel:
        """The base with the adapters that the run began with.

        Some methods compute the initial factors of their adapters from weights or data, and another machine may compute
        them differently in the last digits. So the first session keeps them, and later ones read them.
        """
        recipe, checkpoints = self.recipe, self._checkpoints
        kept = self.team.broadcast(checkpoints.has_start())
        packed = _prepared(
            recipe,
            self.base,
            calibration=calibration(data, recipe, encoder, self.base.compute_dtype),
            initial=checkpoints.read_start() if kept else None,
        )
        if self.team.leads and not kept and (factors := initial_factors(packed.net)):
            if checkpoints.steps():  # of rscap 0.1, which did not keep them
                assert recipe.adapter is not None
                self.say(
                    f"{checkpoints.folder} holds no initial factors of {recipe.adapter.method}: they were computed "
                    "again, which is exact only on the machine where the run began"
                )
            else:
                checkpoints.write_start(factors)
        if self.start is not None:
            self.start.fill(packed.net)
        return packed

    def _cached(self, packed: PackedModel, encoder: Encoder, examples: Sequence[Example]) -> Encoder:
        return cached_encoder(
            packed,
            encoder,
            examples,
            folder=features_folder(self.run.path, self.recipe.train.features_folder),
            team=self.team,
            workers=self.recipe.data.workers,
            say=self.say,
            shows_progress=self.shows_progress,
        )

    def _fit(self, learner: Learner, data: TrainingData) -> TrainingState:
        recipe, run, team = self.recipe, self.run, self.team
        schedule = Schedule.of(recipe, len(learner.train))
        self.say(
            f"{len(learner.train):,} images, {schedule.total_steps:,} steps, {schedule.steps_per_epoch:,} an epoch"
        )
        trackers = Trackers.of(recipe, run.path, say=self.say) if team.leads else Trackers()
        log = TrainLog(
            run.train_log if team.leads else None,
            schedule.total_steps,
            trackers=trackers,
            say=self.say,
            shows_progress=self.shows_progress,
        )
        try:
            with log:
                return fit(learner, team, log, schedule, self._checkpoints)
        finally:
            if team.leads:
                with suppress(OSError) if sys.exc_info()[0] else nullcontext():  # not to hide the error of the loop
                    write_rejected(run.rejected_file, [*data.source.rejected, *learner.rejected])

    def _whole(self, packed: PackedModel, state: TrainingState) -> PackedModel:
        """The trained model on one device, built again, since no process of a sharded run holds all of it."""
        section = self.recipe.model.model_copy(update={"revision": self.base.revision})
        base = load_base(precision_to_load(section, self.recipe.adapter))
        whole = _prepared(self.recipe, base, initial=initial_factors(packed.net) or None)
        load_weights(whole.net, learned(read_checkpoint(self._checkpoints.at(state.step))))
        return whole

    def _ending(self, state: TrainingState) -> dict[str, Any]:
        """How the loop ended, for the status."""
        details: dict[str, Any] = {"steps": state.step, "loop_seconds": round(state.seconds, 1)}
        if state.recomputes or state.halvings:
            details["went_on_with"] = {  # after memory ran out
                "micro_batch": math.ceil(self.recipe.train.micro_batch / 2**state.halvings),
                "gradient_checkpointing": self.recomputes or state.recomputes,
            }
        if state.headroom:
            details["headroom"] = state.headroom
        if state.stopped:
            details["stopped_early"] = state.stopped
            self.say(f"stopped early: {state.stopped}")
        return details

    def _select(self, packed: PackedModel, state: TrainingState) -> dict[str, Any]:
        """Load the weights that the recipe selects; returns which, for the status."""
        selection, best = self.recipe.selection, state.best
        if selection is None:
            return {}
        if best is None:
            self.say(
                "every evaluation had too many degenerate captions to be selected; kept the last weights "
                "(`rscap doctor` may find the cause)"
            )
            return {"selected": None}
        try:
            load_weights(packed.net, learned(read_checkpoint(self._checkpoints.at(best.step))))
        except StoreError as error:
            self.say(f"kept the last weights, since the best checkpoint cannot be used: {error.message}")
            return {"selected": None, "not_selected": error.message}
        self.say(f"kept the checkpoint of step {best.step} ({selection.metric} {best.value:.3f} on validation images)")
        if self.run.train_log.is_file():
            logged = (row for _, row in read_train_log(self.run.train_log))
            if better := passed_over(selection, best, (row for row in logged if isinstance(row, TrainEvaluation))):
                self.say(f"not kept: {better}")
        if selection.metric != "loss" and best.value < _NOTHING:
            self.say(f"its {selection.metric} is almost 0, so this selection means little")
        return {"selected": {"step": best.step, "metric": selection.metric, "value": best.value}}


def with_dtype(recipe: Recipe, run: RunFolder, team: Team, say: Say, *, resumes: bool) -> Recipe:
    """The recipe with the precision of the whole run: `auto` is decided once, by the card that begins it.

    Raises:
        ModelError: a run that began in bfloat16 because its card computes it is resumed on one that does not.
    """
    began = first_provenance(run).base if resumes and run.provenance_file.exists() else None
    if recipe.model.dtype == "auto" and began is not None and began.dtype is not None:
        section = check_table(ModelSection, {**recipe.model.model_dump(), "dtype": began.dtype}, name="model")
    else:
        section = decided(recipe.model, team.device)
        section = section.model_copy(update={"dtype": team.broadcast(section.dtype)})
        if recipe.model.dtype == "auto":
            say(f"precision: {section.dtype}, which {device_name(team.device)} computes best")
    if note := emulated(section, team.device):
        if began is not None and began.dtype_asked == "auto":
            raise ModelError(
                f"{run.path} began in bfloat16, which its card computed; {note.partition(':')[0]}",
                hint="resume it on a card with bfloat16, or start another run here",
            )
        say(note)
    return recipe.model_copy(update={"model": section})


def recomputes_activations(recipe: Recipe, run: RunFolder, team: Team, say: Say) -> bool:
    """Whether to recompute activations. `auto` is decided by the available memory, once for all sessions on one card.

    A sharded run always does: its base does not fit on one GPU, and it cannot turn checkpointing on later.
    """
    asked = recipe.train.gradient_checkpointing
    if asked != "auto":
        return asked
    if run.provenance_file.exists():
        first, here = first_provenance(run), device_name(team.device)
        before = [
            (first.device_name, first.gradient_checkpointing),
            *((one.device_name, one.gradient_checkpointing) for one in first.resumed),
        ]
        if known := [choice for name, choice in before if name == here and choice is not None]:
            return known[-1]
    if team.sharded:
        say("gradient checkpointing on, as always in a sharded run")
        return True
    try:
        choice = choose_checkpointing(recipe, available_memory(team.device))
    except ModelError as error:
        say(f"gradient checkpointing on, to be safe: {error.message}")
        return True
    say(str(choice))
    return choice.on


def save(packed: PackedModel, base: Base, recipe: Recipe, run: RunFolder) -> None:
    """Write the adapter in PEFT's layout, or the model after full fine-tuning, whole or not at all."""
    target = trained_folder(run, recipe)
    with tempfile.TemporaryDirectory(dir=run.path, prefix=SAVING) as folder:
        finished = Path(folder) / target.name
        if recipe.adapter:
            save_adapter(packed.net, finished)
        else:
            packed.net.save_pretrained(finished, safe_serialization=True)  # type: ignore[operator]
            base.processor.save_pretrained(finished)
        for written in finished.iterdir():
            written.chmod(0o644)  # safetensors makes files that only their owner can read
        replace_folder(finished, target)


def _prepared(
    recipe: Recipe,
    base: Base,
    *,
    calibration: Calibration | None = None,
    initial: Mapping[str, Tensor] | None = None,
) -> PackedModel:
    net = prepare(
        base.model,
        recipe.towers,
        recipe.adapter,
        seed=recipe.seed,
        model=recipe.model,
        calibration=calibration,
        initial=initial,
    )
    return PackedModel(net, compute_dtype=base.compute_dtype)


def _report_parameters(packed: PackedModel, run: RunFolder, say: Say) -> None:
    counts = count_parameters(packed.net)
    write_parameters(run.parameters_file, {tower: TowerParameters(**asdict(count)) for tower, count in counts.items()})
    for tower, count in counts.items():
        held = ", ".join(sorted(count.held, key=lambda way: -count.held[way]))
        say(f"{tower:15} {count.trainable:>13,} of {count.total:>13,} parameters trainable ({held})")
