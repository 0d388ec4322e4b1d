"""Evaluation during training: captions and loss of a fixed panel of validation images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch

from rscap import score
from rscap.batch import Encoder, Row, batches
from rscap.evaluate.outcome import Task, caption_all
from rscap.model.captioner import Captioner
from rscap.recipe import Recipe
from rscap.records import Example, Prediction
from rscap.train.team import Team

METRICS = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr")


@dataclass(frozen=True, slots=True)
class PanelResult:
    """How a panel did."""

    n: int
    metrics: dict[str, float]
    loss: float
    """Nats a token, over all captions of the panel."""
    degenerate: float
    """Share of the captions that are empty, loop, echo the prompt or are no language."""
    predictions: list[Prediction]


def evaluate_panel(
    captioner: Captioner, encoder: Encoder, panel: Sequence[Example], recipe: Recipe, team: Team, *, batch_size: int
) -> PanelResult:
    """Caption the panel, its images dealt out to all processes, and score the captions.

    `batch_size` images at a time go through the loss; generation has its own size, and halves it where it must.
    """
    mine = panel[team.rank :: team.size]
    made, _ = caption_all(captioner, encoder, mine, task=Task.of(recipe)) if mine else ([], [])
    place = {example.id: number for number, example in enumerate(panel)}
    predictions = sorted(team.gather(made), key=lambda prediction: place[prediction.example_id])
    sheet = score.score_captions(
        {prediction.example_id: prediction.caption for prediction in predictions},
        {example.id: example.captions for example in panel},
        metrics=(*METRICS, "METEOR") if recipe.selection and recipe.selection.metric == "METEOR" else METRICS,
        draws=0,
        allow_missing=True,
    )
    bad = sum(bool(score.degenerate(prediction.caption, prediction.prefix)) for prediction in predictions)
    return PanelResult(
        n=sheet.n,
        metrics=dict(sheet.corpus),
        loss=panel_loss(captioner, encoder, panel, recipe, team, batch_size=batch_size),
        degenerate=bad / max(1, len(predictions)),
        predictions=predictions,
    )


@torch.no_grad()
def panel_loss(
    captioner: Captioner, encoder: Encoder, panel: Sequence[Example], recipe: Recipe, team: Team, *, batch_size: int
) -> float:
    """Mean negative log-likelihood a token of all captions of the panel, in nats."""
    encode = partial(_with_captions, encoder=encoder, prefix=recipe.prompt.prefix)
    mine = panel[team.rank :: team.size]
    total, tokens = torch.zeros((), device=team.device), 0
    was_training = captioner.training
    captioner.eval()
    for batch in batches(mine, encode, size=batch_size, pad=encoder.prompter.pad):
        if batch.supervised:
            total += captioner(batch.to(team.device))
            tokens += batch.supervised
    captioner.train(was_training)
    return float(team.sum(total)) / max(1, team.sums([tokens])[0])


def _with_captions(example: Example, *, encoder: Encoder, prefix: str) -> Row:
    return encoder(example, prefix=prefix, captions=example.captions)
