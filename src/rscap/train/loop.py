"""The loop. It reads from top to bottom and stops on nonsense."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

import torch
from accelerate import Accelerator

from rscap import score
from rscap.batch import Batch, Encoder
from rscap.data import Rejected
from rscap.data.draw import key
from rscap.errors import BrokenTargets, TrainingDiverged, TrainingError
from rscap.evaluate.outcome import Task, caption_all, check_rejected
from rscap.model.adapters import trainable_parameters
from rscap.model.captioner import Captioner
from rscap.recipe import Recipe
from rscap.records import Example
from rscap.train.log import TrainLog, memory_bytes
from rscap.train.optimiser import build_optimiser
from rscap.train.updates import CaptionWeights, Schedule, updates

_UNIFORM = 0.1  # share of ln V
_EVEN = 1.0  # nats
_SILENT = 1e-3


@dataclass(slots=True)
class Learner:
    """What the loop moves: the model, its data and the recipe."""

    captioner: Captioner
    encoder: Encoder
    recipe: Recipe
    train: Sequence[Example]
    panel: Sequence[Example]
    """Validation images that captions are generated for during training."""
    weights: CaptionWeights = field(default_factory=dict)
    pretrained: bool = True
    rejected: list[Rejected] = field(default_factory=list)
    """Training examples that turned out to be unusable."""


def fit(learner: Learner, accelerator: Accelerator, log: TrainLog, schedule: Schedule) -> None:
    """Train for `schedule.total_steps` updates.

    Raises:
        BrokenTargets: the first loss of a pretrained base says that the targets are wrong.
        TrainingDiverged: a loss or a gradient is not finite.
        DataError: more examples turned out unusable than the recipe allows.
    """
    if accelerator.num_processes > 1:
        raise TrainingError(f"{accelerator.num_processes} processes were launched; this version trains on one device")
    recipe, train = learner.recipe, learner.recipe.train
    optimiser, scheduler = build_optimiser(learner.captioner, recipe, total_steps=schedule.total_steps)
    model, optimiser = accelerator.prepare(learner.captioner, optimiser)
    parameters = list(trainable_parameters(model))
    model.train()
    unchecked = learner.pretrained

    for step, micro_batches in enumerate(
        islice(updates(learner.train, recipe, learner.encoder, learner.weights), schedule.total_steps), 1
    ):
        _note_rejected(learner, micro_batches)
        micro_batches = [batch for batch in micro_batches if batch.supervised]
        if not micro_batches:  # every example of it turned out unusable, and is listed
            continue
        tokens = sum(batch.supervised for batch in micro_batches)
        if unchecked:
            check_targets(learner.captioner, micro_batches[0].to(accelerator.device))
            unchecked = False
        total = torch.zeros((), device=accelerator.device)
        for index, batch in enumerate(micro_batches):
            torch.manual_seed(key("dropout", recipe.seed, step, index))  # dropout is a pure function of the place
            loss = model(batch.to(accelerator.device)) / tokens  # a mean over the tokens of the whole update
            accelerator.backward(loss)
            total += loss.detach()
        norm = accelerator.clip_grad_norm_(parameters, train.max_grad_norm)
        _check_finite(step, float(total), float(norm))
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        log.step(
            step=step,
            epoch=round(step / schedule.steps_per_epoch, 4),
            loss=float(total),
            learning_rate=scheduler.get_last_lr()[0],
            grad_norm=float(norm),
            supervised_tokens=tokens,
            images=sum(batch.images for batch in micro_batches),
            captions=sum(batch.captions for batch in micro_batches),
            memory=memory_bytes(accelerator.device),
        )
        scheduler.step()
        if train.evaluate_every and (step % train.evaluate_every == 0 or step == schedule.total_steps):
            evaluate_panel(learner, log, step)


def evaluate_panel(learner: Learner, log: TrainLog, step: int) -> None:
    """Caption the fixed panel of validation images and log the scores."""
    if not learner.panel:
        return
    begun = time.perf_counter()
    predictions, _ = caption_all(learner.captioner, learner.encoder, learner.panel, task=Task.of(learner.recipe))
    sheet = score.score_captions(
        {prediction.example_id: prediction.caption for prediction in predictions},
        {example.id: example.captions for example in learner.panel},
        metrics=("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr"),
        draws=0,
        allow_missing=True,
    )
    log.evaluation(step=step, split="val", n=sheet.n, metrics=dict(sheet.corpus), seconds=time.perf_counter() - begun)


def _note_rejected(learner: Learner, micro_batches: Sequence[Batch]) -> None:
    known = {item.row for item in learner.rejected}
    fresh = [item for batch in micro_batches for item in batch.rejected if item.row not in known]
    if fresh:
        learner.rejected += fresh
        allowed = learner.recipe.data.max_rejected_share
        check_rejected(learner.rejected, of=len(learner.train), allowed=allowed)


def _check_finite(step: int, loss: float, norm: float) -> None:
    if not math.isfinite(loss) or not math.isfinite(norm):
        raise TrainingDiverged(
            f"step {step}: loss {loss}, gradient norm {norm}",
            hint="lower train.learning_rate or lengthen train.warmup_share; or try model.dtype = 'float32'",
        )


@torch.no_grad()
def check_targets(captioner: Captioner, batch: Batch) -> None:
    """Look at the first losses of a pretrained base, token by token.

    A uniform guess has the loss ln V on every token. A base that knows language, but not these captions, may have the
    same mean: some tokens cost it nothing and some twice as much. So the spread is looked at too.

    Raises:
        BrokenTargets: all losses lie near ln V, or near 0; says what that means.
    """
    losses = captioner.token_losses(batch)
    mean, spread = losses.mean().item(), losses.std(correction=0).item()
    uniform = math.log(captioner.paligemma.config.text_config.vocab_size)
    if abs(mean / uniform - 1.0) < _UNIFORM and spread < _EVEN:
        raise BrokenTargets(
            f"the first loss is {mean:.2f} (spread {spread:.2f}); ln(vocabulary) = {uniform:.2f} is a uniform guess",
            hint="a pretrained base knows better: the targets are not the caption, or the weights are not the base's",
        )
    if mean < _SILENT:
        raise BrokenTargets(
            f"the first loss is {mean:.2g}: the answer is visible to the model, or nothing is supervised",
            hint="only the caption and its <eos> may be targets, and a token must not see itself",
        )
