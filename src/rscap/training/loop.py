"""The training loop, from top to bottom: update, evaluate, save, stop."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field

import torch
from torch import nn

from rscap.captioner import Captioner
from rscap.captioner.batch import Batch, Encoder
from rscap.data.source import check_rejected
from rscap.errors import Interrupted, TrainingDiverged, WorkerLost
from rscap.model.activations import measured
from rscap.model.adapters import Allocation
from rscap.model.memory import memory_size, release
from rscap.model.packed import PackedModel
from rscap.recipe import Recipe
from rscap.records import Example, Rejected
from rscap.stopping import StopRequest
from rscap.store import TrainingState
from rscap.training.checkpoints import Checkpoints, read_checkpoint
from rscap.training.examples import check_targets
from rscap.training.log import TrainLog, memory_since
from rscap.training.objectives.likelihood import Likelihood, Objective
from rscap.training.objectives.reward import by_heart
from rscap.training.objectives.self_critical import SelfCritical
from rscap.training.optimiser import (
    Average,
    budget_used,
    build_optimiser,
    build_scaler,
    load_optimiser,
    load_weights,
    optimiser_tensors,
    rate_factor,
    set_rate,
    trainable,
)
from rscap.training.panel import consider, evaluate_panel
from rscap.training.room import Gradients, micro_batch_size, pieces, restore_room
from rscap.training.team import Team, gathered
from rscap.training.updates import CaptionWeights, Schedule, updates

_ALLOCATION = "allocation:"
_OVERFLOWS = 25  # in a row: by then a scale of 65,536 has fallen below 0.01


@dataclass(slots=True)
class Learner:
    """What the loop trains: the model, its data and the recipe."""

    captioner: Captioner
    recipe: Recipe
    train: Sequence[Example]
    panel: Sequence[Example]
    """Validation images for which captions are generated during training."""
    weights: CaptionWeights = field(default_factory=dict)
    pretrained: bool = True
    objective: SelfCritical | None = None
    """What training maximises; likelihood when absent."""
    rejected: list[Rejected] = field(default_factory=list)
    """Training examples that turned out to be unusable."""

    @property
    def packed(self) -> PackedModel:
        return self.captioner.packed

    @property
    def encoder(self) -> Encoder:
        return self.captioner.encoder


def fit(
    learner: Learner, team: Team, log: TrainLog, schedule: Schedule, checkpoints: Checkpoints | None = None
) -> TrainingState:
    """Train for `schedule.total_steps` updates, from the newest checkpoint if there is one.

    Raises:
        BrokenTargets: the first loss of a pretrained base shows that the targets are wrong.
        TrainingDiverged: a loss or a gradient is not finite.
        OutOfMemory: a single image does not fit.
        Interrupted: SIGTERM or Ctrl-C; the state is saved.
        WorkerLost: a data worker was killed; the state is saved.
        DataError: more examples are unusable than the recipe allows.
        StoreError: a checkpoint cannot be written, or none can be read.
    """
    with StopRequest() as request:
        loop = _Loop(learner, team, log, schedule, checkpoints)
        coming = updates(
            learner.train, learner.recipe, learner.encoder, learner.weights, start=loop.state.step, share=team.share
        )
        for micro_batches in loop.saving_if_workers_end(coming):
            if loop.is_over():
                break
            loop.update(micro_batches)
            if loop.evaluation_is_due():
                loop.evaluate()
            stop, save = team.broadcast((request.name, loop.checkpoint_is_due()))
            if save or stop:
                loop.save()
            if stop:
                raise Interrupted(f"stopped by {stop} after step {loop.state.step}")
        loop.save()
        if loop.average:
            loop.average.put_in_place()
        if loop.allocation and (cut_short := loop.allocation.cut_short(loop.state.step)):
            log.note(cut_short)
        return loop.state


class _Loop:
    """The moving parts of the loop and their state."""

    def __init__(
        self, learner: Learner, team: Team, log: TrainLog, schedule: Schedule, checkpoints: Checkpoints | None
    ) -> None:
        self.learner, self.team, self.log, self.schedule = learner, team, log, schedule
        self.checkpoints = checkpoints
        packed, recipe = learner.packed, learner.recipe
        self.optimiser = build_optimiser(packed.net, recipe)
        self.scaler = build_scaler(team.device, packed.compute_dtype)
        self.allocation = Allocation.of(packed.net, recipe.adapter, schedule.total_steps)
        self.average = Average(packed.net, recipe.train.ema_decay) if recipe.train.ema_decay else None
        self.state = self._restored()
        self.parameters = list(trainable(packed.net).values())
        self.gradients = Gradients(
            packed=packed,
            parameters=self.parameters,
            recipe=recipe,
            team=team,
            scaler=self.scaler,
            state=self.state,
            say=log.note,
        )
        self.measured = False
        self.objective: Objective = learner.objective or Likelihood(team)
        self.reward: float | None = None
        """The mean reward of the captions drawn in the last update."""
        self.warned = False
        packed.train()
        self.saved = time.perf_counter()
        self.saved_step = self.state.step
        self.clock = self.saved - self.state.seconds
        """When this session began, less the seconds of earlier ones."""

    def is_over(self) -> bool:
        state = self.state
        done = state.step >= self.schedule.total_steps or budget_used(state, self.learner.recipe.train) >= 1.0
        return done or state.stopped is not None

    def update(self, micro_batches: Sequence[Batch]) -> None:
        """One update: gradients of all micro batches, summed over all processes, and a step of the optimiser."""
        state, team, train = self.state, self.team, self.learner.recipe.train
        step = state.step + 1
        self._note_rejected(micro_batches)
        usable = [batch for batch in micro_batches if batch.supervised]
        if self.learner.pretrained and step == 1 and usable:
            check_targets(self.learner.packed, pieces(usable[0], 16)[0].to(team.device))  # one image is enough
        work = self.objective(usable, step=step)
        state.step = step
        if not work.tokens:  # all examples are unusable, and listed; or all drawn captions score the same
            return
        total = self.schedule.total_steps
        factor = rate_factor(max(step - 1, budget_used(state, train) * total), train=train, total_steps=total)
        set_rate(self.optimiser, factor)
        loss = self._gradients(work.batches, step=step, divisor=work.divisor)
        self.scaler.unscale_(self.optimiser)
        if self.allocation:
            self.allocation.regularise()
        norm = float(gathered({"": nn.utils.clip_grad_norm_(self.parameters, train.max_grad_norm)})[""])
        scale = self.scaler.get_scale()
        self._check_finite(work.batches, loss, norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.allocation and math.isfinite(norm):
            self.allocation.after_step(step)
        if self.average and math.isfinite(norm):  # else the scaler skipped the update
            self.average.after_step()
        self.optimiser.zero_grad(set_to_none=True)
        self.reward = work.facts.get("reward")
        state.tokens += work.tokens
        state.images += work.images
        state.seconds = team.broadcast(time.perf_counter() - self.clock)
        extra = {"loss_scale": scale, "overflow": not math.isfinite(norm)} if self.scaler.is_enabled() else {}
        self.log.step(
            step=step,
            epoch=round(step / self.schedule.steps_per_epoch, 4),
            loss=loss,
            learning_rate=train.learning_rate * factor,
            grad_norm=norm if math.isfinite(norm) else None,
            supervised_tokens=work.tokens,
            images=work.images,
            captions=work.captions,
            memory=memory_since(team.device),
            **extra,
            **work.facts,
        )

    def _gradients(self, micro_batches: Sequence[Batch], *, step: int, divisor: int) -> float:
        """Set the gradients; in float16 the first update also measures how far activations are from overflow."""
        packed, state = self.learner.packed, self.state
        if packed.compute_dtype != torch.float16 or state.headroom or self.measured:
            return self.gradients(micro_batches, step=step, divisor=divisor)
        self.measured = True
        with measured(packed) as found:
            loss = self.gradients(micro_batches, step=step, divisor=divisor)
        for rooms in self.team.gather([found.headroom()]):
            state.headroom |= {layer: min(room, state.headroom.get(layer, room)) for layer, room in rooms.items()}
        self.log.note(f"step {step}: {found}")
        return loss

    def evaluation_is_due(self) -> bool:
        train, step = self.learner.recipe.train, self.state.step
        last = self.is_over()
        return bool(self.learner.panel and train.evaluate_every and (step % train.evaluate_every == 0 or last))

    def evaluate(self) -> None:
        """Caption the panel, log the scores, and save the weights if they are the best so far."""
        learner, state = self.learner, self.state
        size = micro_batch_size(learner.recipe, state)  # known to fit in memory
        reward = None if learner.objective is None else learner.objective.score
        with self.average.in_place() if self.average else nullcontext():
            result = evaluate_panel(
                learner.captioner, learner.panel, learner.recipe, self.team, batch_size=size, reward=reward
            )
        self.log.evaluation(
            step=state.step,
            split="val",
            n=result.n,
            metrics=result.metrics,
            loss=result.loss,
            degenerate=result.degenerate,
            watch=result.watch,
        )
        self._note_memorised(result.watch)
        self.log.captions(state.step, learner.panel, result.predictions)
        release(self.team.device)  # blocks of other sizes than those of the next update
        selection = learner.recipe.selection
        if selection and consider(
            state,
            selection,
            result.metrics,
            loss=result.loss,
            degenerate=result.degenerate,
            watch=result.watch,
        ):
            self.save()

    def _note_memorised(self, watch: Mapping[str, float]) -> None:
        """Report once that the model knows captions of training images by heart, so that a reward teaches it little."""
        if not watch or self.reward is None or self.warned or not by_heart(self.reward, watch["reward"]):
            return
        self.warned = True
        self.log.note(
            f"the mean reward is {self.reward:.2f} on training images and {watch['reward']:.2f} on validation images: "
            "the captions are known by heart, and little is left to win; train on images that the model has not "
            "learned (data.reward_share, docs/reward.md)"
        )

    def checkpoint_is_due(self) -> bool:
        train = self.learner.recipe.train
        by_step = train.checkpoint_every and self.state.step % train.checkpoint_every == 0
        return bool(by_step) or time.perf_counter() - self.saved >= 60 * train.checkpoint_minutes

    def saving_if_workers_end(self, coming: Iterator[list[Batch]]) -> Iterator[list[Batch]]:
        """Yield the updates of `coming`; if a data worker is killed, save the state before the error is raised.

        With several processes nothing is saved: only one of them knows of the loss, and they must save together.
        """
        try:
            yield from coming
        except WorkerLost as lost:
            if self.team.size == 1 and self.checkpoints is not None:
                self.save()
                folder = self.checkpoints.folder.parent
                lost.hint = f"the state of step {self.state.step} is saved: resume with `rscap train {folder} --resume`"
            raise

    def save(self) -> None:
        """Write a checkpoint of the current step, unless there is one."""
        state, net = self.state, self.learner.packed.net
        if self.checkpoints is None or (self.saved_step == state.step != 0):
            return
        if not self.team.leads and not self.team.sharded:
            return
        state.log_bytes = self.log.length
        state.rejected = [asdict(item) for item in self.learner.rejected]
        state.scaler = dict(self.scaler.state_dict())
        ranks = self.allocation.state() if self.allocation else {}
        moments = optimiser_tensors(net, self.optimiser) | {_ALLOCATION + name: value for name, value in ranks.items()}
        moments |= self.average.state() if self.average else {}
        weights, moments = gathered(trainable(net)), gathered(moments)
        if self.team.leads:
            self.checkpoints.save(state, weights, moments)
        self.saved, self.saved_step = time.perf_counter(), state.step

    def _restored(self) -> TrainingState:
        """Load the newest intact checkpoint; returns a new state where there is none."""
        learner, log, team = self.learner, self.log, self.team
        found = self.checkpoints.newest(log.note) if self.checkpoints and team.leads else None
        folder = team.broadcast(found.folder if found else None)
        if folder is None:
            log.rewind(length=0, step=0)
            return TrainingState()
        saved = found or read_checkpoint(folder)
        state = saved.state
        load_weights(learner.packed.net, saved.weights)
        ranks = {name: value for name, value in saved.optimiser.items() if name.startswith(_ALLOCATION)}
        if self.allocation:
            self.allocation.load_state({name.removeprefix(_ALLOCATION): value for name, value in ranks.items()})
        if self.average:
            self.average.load_state(saved.optimiser)
        moments = {name: value for name, value in saved.optimiser.items() if name not in ranks}
        load_optimiser(learner.packed.net, self.optimiser, moments)
        if state.scaler:
            self.scaler.load_state_dict(state.scaler)
        learner.rejected[:] = [Rejected(**row) for row in state.rejected]
        restore_room(state, min(team.gather([memory_size(team.device)])), log.note)
        if state.recomputes:
            learner.packed.checkpoint_activations()
        log.rewind(length=state.log_bytes, step=state.step)
        if state.step:
            log.note(f"resuming after step {state.step}")
        return state

    def _note_rejected(self, micro_batches: Sequence[Batch]) -> None:
        learner = self.learner
        known = {item.row for item in learner.rejected}
        fresh = [item for batch in micro_batches for item in batch.rejected if item.row not in known]
        if self.team.sums([len(fresh)])[0]:
            learner.rejected += self.team.gather(fresh)
            allowed = learner.recipe.data.max_rejected_share
            way_out = f"fix them, or allow more with data.max_rejected_share above {allowed}"
            check_rejected(learner.rejected, of=len(learner.train), allowed=allowed, way_out=way_out)

    def _check_finite(self, micro_batches: Sequence[Batch], loss: float, norm: float) -> None:
        step = self.state.step
        overflow = self.scaler.is_enabled() and not math.isfinite(norm) and math.isfinite(loss)
        self.state.overflows = self.state.overflows + 1 if overflow else 0
        if overflow and self.state.overflows < _OVERFLOWS:
            return  # the scaler skips this update and lowers the scale
        if not math.isfinite(loss) or not math.isfinite(norm):
            where = self.gradients.overflowing(micro_batches, step=step)
            raise TrainingDiverged(
                f"step {step}: loss {loss}, gradient norm {norm}; {where or 'the forward pass is finite everywhere'}",
                hint="lower train.learning_rate or raise train.warmup_share; or try model.dtype = 'bfloat16', if the "
                "card computes it, or 'float32'",
            )
