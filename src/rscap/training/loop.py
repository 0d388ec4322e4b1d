"""The loop. It reads from top to bottom and stops on nonsense."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

import torch
from torch import nn

from rscap.captioner import Captioner
from rscap.captioner.batch import Batch, Encoder
from rscap.data.draw import key
from rscap.data.source import check_rejected
from rscap.errors import Interrupted, OutOfMemory, TrainingDiverged, TrainingError
from rscap.model.adapters import Allocation
from rscap.model.memory import is_out_of_memory, release
from rscap.model.packed import PackedModel
from rscap.recipe import Recipe
from rscap.records import Example, Rejected
from rscap.stopping import StopRequest
from rscap.training.checkpoints import Checkpoints, Progress, read_checkpoint
from rscap.training.log import TrainLog, memory_bytes
from rscap.training.optimiser import (
    budget_used,
    build_optimiser,
    build_scaler,
    learning,
    load_optimiser,
    load_weights,
    optimiser_tensors,
    rate_factor,
    set_rate,
)
from rscap.training.panel import consider, evaluate_panel
from rscap.training.targets import check_targets
from rscap.training.team import Team, whole
from rscap.training.updates import CaptionWeights, Schedule, updates

_ALLOCATION = "allocation:"
_OVERFLOWS = 25  # in a row: a scale of 65,536 has then come down below 0.01


@dataclass(slots=True)
class Learner:
    """What the loop moves: the model, its data and the recipe."""

    captioner: Captioner
    recipe: Recipe
    train: Sequence[Example]
    panel: Sequence[Example]
    """Validation images that captions are generated for during training."""
    weights: CaptionWeights = field(default_factory=dict)
    pretrained: bool = True
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
) -> Progress:
    """Train for `schedule.total_steps` updates, from the newest checkpoint where there is one.

    Raises:
        BrokenTargets: the first loss of a pretrained base says that the targets are wrong.
        TrainingDiverged: a loss or a gradient is not finite.
        OutOfMemory: a single image does not fit.
        Interrupted: SIGTERM or Ctrl-C; the state is saved.
        DataError: more examples turned out unusable than the recipe allows.
        StoreError: a checkpoint could not be written, or none can be read.
    """
    with StopRequest() as request:
        loop = _Loop.begin(learner, team, log, schedule, checkpoints)
        for micro_batches in updates(
            learner.train, learner.recipe, learner.encoder, learner.weights, start=loop.progress.step, share=team.share
        ):
            if loop.is_over():
                break
            loop.update(micro_batches)
            if loop.evaluation_is_due():
                loop.evaluate()
            stop, save = team.told((request.name, loop.checkpoint_is_due()))
            if save or stop:
                loop.save()
            if stop:
                raise Interrupted(f"stopped by {stop} after step {loop.progress.step}")
        loop.save()
        if loop.allocation and (cut_short := loop.allocation.cut_short(loop.progress.step)):
            log.say(cut_short)
        return loop.progress


@dataclass(slots=True)
class _Loop:
    """The moving parts, and where they stand."""

    learner: Learner
    team: Team
    log: TrainLog
    schedule: Schedule
    checkpoints: Checkpoints | None
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    allocation: Allocation | None
    parameters: list[nn.Parameter]
    progress: Progress
    clock: float
    """When this sitting began, less the seconds of those before."""
    saved: float
    saved_step: int
    spare: Batch | None = None
    """The last micro batch, for passes of weight 0."""

    @classmethod
    def begin(
        cls, learner: Learner, team: Team, log: TrainLog, schedule: Schedule, checkpoints: Checkpoints | None
    ) -> _Loop:
        packed = learner.packed
        optimiser = build_optimiser(packed.net, learner.recipe)
        scaler = build_scaler(team.device, packed.compute_dtype)
        allocation = Allocation.of(packed.net, learner.recipe.adapter, schedule.total_steps)
        progress = _restore(learner, team, log, checkpoints, optimiser, scaler, allocation)
        packed.train()
        now = time.perf_counter()
        parameters = list(learning(packed.net).values())
        clock = now - progress.seconds
        return cls(
            learner,
            team,
            log,
            schedule,
            checkpoints,
            optimiser,
            scaler,
            allocation,
            parameters,
            progress,
            clock,
            now,
            progress.step,
        )

    def is_over(self) -> bool:
        progress = self.progress
        done = progress.step >= self.schedule.total_steps or budget_used(progress, self.learner.recipe.train) >= 1.0
        return done or progress.stopped is not None

    def update(self, micro_batches: Sequence[Batch]) -> None:
        """One update: gradients of every micro batch, summed over all processes, and a step of the optimiser."""
        progress, team, train = self.progress, self.team, self.learner.recipe.train
        step = progress.step + 1
        self._note_rejected(micro_batches)
        micro_batches = [batch for batch in micro_batches if batch.supervised]
        counts = [sum(getattr(one, name) for one in micro_batches) for name in ("supervised", "images", "captions")]
        tokens, images, captions = team.sums(counts)
        progress.step = step
        if not tokens:  # every example of it turned out unusable, and is listed
            return
        if self.learner.pretrained and step == 1 and micro_batches:
            check_targets(self.learner.packed, pieces(micro_batches[0], 16)[0].to(team.device))  # one image tells
        total = self.schedule.total_steps
        factor = rate_factor(max(step - 1, budget_used(progress, train) * total), train=train, total_steps=total)
        set_rate(self.optimiser, factor)
        loss = self._gradients(micro_batches, step=step, tokens=tokens)
        self.scaler.unscale_(self.optimiser)
        if self.allocation:
            self.allocation.regularise()
        norm = float(whole({"": nn.utils.clip_grad_norm_(self.parameters, train.max_grad_norm)})[""])
        scale = self.scaler.get_scale()
        self._check_finite(step, loss, norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.allocation and math.isfinite(norm):
            self.allocation.after_step(step)
        self.optimiser.zero_grad(set_to_none=True)
        progress.tokens += tokens
        progress.images += images
        progress.seconds = team.told(time.perf_counter() - self.clock)
        extra = {"loss_scale": scale, "overflow": not math.isfinite(norm)} if self.scaler.is_enabled() else {}
        self.log.step(
            step=step,
            epoch=round(step / self.schedule.steps_per_epoch, 4),
            loss=loss,
            learning_rate=train.learning_rate * factor,
            grad_norm=norm if math.isfinite(norm) else None,
            supervised_tokens=tokens,
            images=images,
            captions=captions,
            memory=memory_bytes(team.device),
            **extra,
        )

    def evaluation_is_due(self) -> bool:
        train, step = self.learner.recipe.train, self.progress.step
        last = self.is_over()
        return bool(self.learner.panel and train.evaluate_every and (step % train.evaluate_every == 0 or last))

    def evaluate(self) -> None:
        """Caption the panel, log the scores, and note whether they are the best."""
        learner, progress = self.learner, self.progress
        size = math.ceil(learner.recipe.train.micro_batch / 2**progress.halvings)  # what is known to fit, and more
        result = evaluate_panel(learner.captioner, learner.panel, learner.recipe, self.team, batch_size=size)
        self.log.evaluation(
            step=progress.step,
            split="val",
            n=result.n,
            metrics=result.metrics,
            loss=result.loss,
            degenerate=result.degenerate,
        )
        self.log.captions(progress.step, learner.panel, result.predictions)
        selection = learner.recipe.selection
        if selection and consider(progress, selection, result.metrics, loss=result.loss, degenerate=result.degenerate):
            self.save()

    def checkpoint_is_due(self) -> bool:
        train = self.learner.recipe.train
        by_step = train.checkpoint_every and self.progress.step % train.checkpoint_every == 0
        return bool(by_step) or time.perf_counter() - self.saved >= 60 * train.checkpoint_minutes

    def save(self) -> None:
        """Write a checkpoint of this moment, if there is none yet."""
        progress, net = self.progress, self.learner.packed.net
        if self.checkpoints is None or (self.saved_step == progress.step != 0):
            return
        if not self.team.leads and not self.team.sharded:
            return
        progress.log_bytes = self.log.length
        progress.rejected = [asdict(item) for item in self.learner.rejected]
        progress.scaler = dict(self.scaler.state_dict())
        ranks = self.allocation.state() if self.allocation else {}
        state = optimiser_tensors(net, self.optimiser) | {_ALLOCATION + name: value for name, value in ranks.items()}
        weights, state = whole(learning(net)), whole(state)
        if self.team.leads:
            self.checkpoints.save(progress, weights, state)
        self.saved, self.saved_step = time.perf_counter(), progress.step

    def _gradients(self, micro_batches: Sequence[Batch], *, step: int, tokens: int) -> float:
        """Leave the gradients of the whole update with the parameters, and return its loss, a mean over its tokens.

        Where memory runs out, activations are computed again or micro batches cut in two, from here on, and the update
        begins again.
        """
        while True:
            loss = _attempt(self, micro_batches, step=step, tokens=tokens)
            failed = self.team.sums([loss is None])[0]
            if not failed:
                assert loss is not None
                self.team.sum_gradients(self.parameters)
                return float(self.team.sum(loss))
            self.optimiser.zero_grad(set_to_none=True)
            release(self.team.device)
            self._make_room(step)

    def _make_room(self, step: int) -> None:
        """Compute activations again if the recipe leaves that to us; where it is done already, cut micro batches."""
        packed, train = self.learner.packed, self.learner.recipe.train
        if train.gradient_checkpointing == "auto" and not packed.recomputes:
            packed.checkpoint_activations()
            self.progress.recomputes = True
            self.log.say(f"step {step}: out of memory; going on with gradient checkpointing, the update unchanged")
        else:
            self._halve(step)

    def _halve(self, step: int) -> None:
        size = self.learner.recipe.train.micro_batch
        if math.ceil(size / 2**self.progress.halvings) <= 1:
            checkpointing = "" if self.learner.packed.recomputes else "train.gradient_checkpointing = true, "
            raise OutOfMemory(
                f"step {step}: a single image with its captions does not fit in memory",
                hint=f"begin another run with {checkpointing}model.quantisation = 'nf4' or fewer captions an image; "
                "`rscap plan` says what fits",
            )
        self.progress.halvings += 1
        now = math.ceil(size / 2**self.progress.halvings)
        self.log.say(
            f"step {step}: out of memory; going on with micro batches of {now} image{'s' * (now > 1)}, "
            "the update unchanged"
        )

    def _note_rejected(self, micro_batches: Sequence[Batch]) -> None:
        learner = self.learner
        known = {item.row for item in learner.rejected}
        fresh = [item for batch in micro_batches for item in batch.rejected if item.row not in known]
        if self.team.sums([len(fresh)])[0]:
            learner.rejected += self.team.gather(fresh)
            allowed = learner.recipe.data.max_rejected_share
            way_out = f"fix them, or allow more with data.max_rejected_share above {allowed}"
            check_rejected(learner.rejected, of=len(learner.train), allowed=allowed, way_out=way_out)

    def _check_finite(self, step: int, loss: float, norm: float) -> None:
        overflow = self.scaler.is_enabled() and not math.isfinite(norm) and math.isfinite(loss)
        self.progress.overflows = self.progress.overflows + 1 if overflow else 0
        if overflow and self.progress.overflows < _OVERFLOWS:
            return  # the scaler skips this update and lowers the scale
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise TrainingDiverged(
                f"step {step}: loss {loss}, gradient norm {norm}",
                hint="lower train.learning_rate or lengthen train.warmup_share; or try model.dtype = 'float32'",
            )


def _attempt(loop: _Loop, micro_batches: Sequence[Batch], *, step: int, tokens: int) -> torch.Tensor | None:
    """Add up gradients of this process's micro batches; None if memory ran out.

    A function of its own, so that nothing of a failed attempt is held when the next one begins.
    """
    learner, device = loop.learner, loop.team.device
    total = torch.zeros((), device=device)
    halvings = loop.progress.halvings
    try:
        for number, place, piece, weight in _passes(loop, micro_batches, step):
            # Dropout is a pure function of the place.
            torch.manual_seed(key("dropout", learner.recipe.seed, step, number, *([place] if halvings else [])))
            loss = learner.packed(piece.to(device)) * weight / tokens  # a mean over the tokens of the whole update
            loop.scaler.scale(loss).backward()
            total += loss.detach()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if loop.team.sharded:  # the other processes wait in the middle of this pass: there is no beginning again
            raise OutOfMemory(
                f"step {step}: out of memory, which a sharded run cannot mend as it goes",
                hint="begin another run with a smaller train.micro_batch and a larger train.accumulation",
            ) from error
        return None
    return total


def _passes(loop: _Loop, micro_batches: Sequence[Batch], step: int) -> Iterator[tuple[int, int, Batch, float]]:
    """(number of the micro batch in the update, place in it, what is shown, its weight) of every pass.

    Sharded weights are gathered by all processes together, so there those that have fewer passes go through some of
    them again, at weight 0.
    """
    team = loop.team
    mine = [
        (team.share.number(index), place, piece, 1.0)
        for index, batch in enumerate(micro_batches)
        for place, piece in enumerate(pieces(batch, loop.progress.halvings))
    ]
    if team.sharded:
        loop.spare = mine[-1][2] if mine else loop.spare
        if any(team.gather([loop.spare is None])):
            raise TrainingError(f"step {step}: a process has no usable image to take part with; see rejected.jsonl")
        assert loop.spare is not None
        missing = max(team.gather([len(mine)])) - len(mine)
        mine += [(team.rank, 0, loop.spare, 0.0)] * missing
    yield from mine


def pieces(batch: Batch, halvings: int) -> list[Batch]:
    """A micro batch cut in two, `halvings` times over, down to single images."""
    cut = [batch]
    for _ in range(halvings):
        cut = [half for piece in cut for half in piece.halves()]
    return cut


def _restore(
    learner: Learner,
    team: Team,
    log: TrainLog,
    checkpoints: Checkpoints | None,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    allocation: Allocation | None,
) -> Progress:
    """Put the newest whole checkpoint back; a fresh `Progress` where there is none."""
    found = checkpoints.newest(log.say) if checkpoints and team.leads else None
    folder = team.told(found.folder if found else None)
    if folder is None:
        log.rewind(length=0, step=0)
        return Progress()
    saved = found or read_checkpoint(folder)
    load_weights(learner.packed.net, saved.weights)
    ranks = {name: value for name, value in saved.optimiser.items() if name.startswith(_ALLOCATION)}
    if allocation:
        allocation.load_state({name.removeprefix(_ALLOCATION): value for name, value in ranks.items()})
    moments = {name: value for name, value in saved.optimiser.items() if name not in ranks}
    load_optimiser(learner.packed.net, optimiser, moments)
    if saved.progress.scaler:
        scaler.load_state_dict(saved.progress.scaler)
    learner.rejected[:] = [Rejected(**row) for row in saved.progress.rejected]
    if saved.progress.recomputes:
        learner.packed.checkpoint_activations()
    log.rewind(length=saved.progress.log_bytes, step=saved.progress.step)
    if saved.progress.step:
        log.say(f"going on after step {saved.progress.step}")
    return saved.progress
