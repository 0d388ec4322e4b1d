"""Which evaluation is the best so far, and when to stop waiting for a better one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch

from rscap import scoring
from rscap.captioner import Captioner, caption_all
from rscap.captioner.batch import Encoder, PackedRow
from rscap.captioner.loader import batches
from rscap.metrics import in_training, known
from rscap.model.packed import PackedModel
from rscap.recipe import Recipe, SelectionSection
from rscap.records import Example, Prediction
from rscap.scoring.content import error_rates
from rscap.scoring.fluency import fluency
from rscap.store import Best, TrainEvaluation, TrainingState
from rscap.training.team import Team

_ROUNDING = 1e-6  # BLEU of next to no matches is some 1e-10, and its changes mean nothing


def consider(
    state: TrainingState,
    selection: SelectionSection,
    metrics: dict[str, float],
    *,
    loss: float,
    degenerate: float,
    watch: Mapping[str, float] | None = None,
) -> bool:
    """Record an evaluation in `state`; returns whether it is the best so far.

    An evaluation with too many degenerate captions is never the best, whatever its score: a model that repeats one
    phrase can score well on a metric, and early in training it often does. The same holds for an evaluation in which a
    value of `watch` exceeds its limit.
    """
    line = known(selection.metric)  # None: the loss
    lower_is_better = line is None or not line.higher_is_better
    value = loss if line is None else metrics[selection.metric]
    gain = _gain(state.best, value, lower_is_better=lower_is_better)
    over = _beyond(selection, degenerate, watch or {})
    fit = math.isfinite(value) and not over
    is_best = fit and (gain is None or gain > max(selection.min_gain, _ROUNDING))
    if is_best:
        state.best, state.waited, state.vetoed = Best(step=state.step, value=value), 0, 0
    else:
        state.waited += 1
        state.vetoed += bool(over)
    if selection.patience is not None and state.waited >= selection.patience:
        state.stopped = f"{state.waited} evaluations in a row without a better {selection.metric}"
        if state.vetoed:
            limit = over or f"more than {selection.max_degenerate:.0%} degenerate captions"
            state.stopped += f", {state.vetoed} of them not considered for {limit}"
    return is_best


def _beyond(selection: SelectionSection, degenerate: float, watch: Mapping[str, float]) -> str:
    """The first limit that an evaluation exceeds, in words; empty if it keeps to all."""
    if degenerate > selection.max_degenerate:
        return f"more than {selection.max_degenerate:.0%} degenerate captions"
    bad, distinct = watch.get("bad_endings", 0.0), watch.get("distinct_captions", 1.0)
    if selection.max_bad_endings is not None and bad > selection.max_bad_endings:
        return f"more than {selection.max_bad_endings:.0%} captions that end in an article, preposition or conjunction"
    if selection.min_distinct is not None and distinct < selection.min_distinct:
        return f"less than {selection.min_distinct:.0%} different captions"
    return ""


def passed_over(selection: SelectionSection, best: Best, rows: Iterable[TrainEvaluation]) -> str:
    """Why better evaluations than the best were not kept: `steps 12, 18 had a lower loss, but more than 50% …`.

    Empty where there were none. `rows` are the evaluations of the log.
    """
    line = known(selection.metric)
    lower_is_better = line is None or not line.higher_is_better
    reasons: dict[str, list[str]] = {}
    for row in rows:
        value = row.loss if line is None else row.metrics.get(selection.metric)
        gain = None if value is None else _gain(best, value, lower_is_better=lower_is_better)
        over = _beyond(selection, row.degenerate or 0.0, row.watch or {})
        if over and gain is not None and gain > 0 and row.step != best.step:
            reasons.setdefault(over, []).append(str(row.step))
    way = "lower" if lower_is_better else "higher"
    return "; ".join(
        f"step{'s' if len(steps) > 1 else ''} {', '.join(steps)} had a {way} {selection.metric}, but {over}"
        for over, steps in reasons.items()
    )


def _gain(best: Best | None, value: float, *, lower_is_better: bool) -> float | None:
    if best is None:
        return None
    return best.value - value if lower_is_better else value - best.value


# Evaluation during training: captions and loss of a fixed panel of validation images.


@dataclass(frozen=True, slots=True)
class PanelResult:
    """The result of evaluating a panel."""

    n: int
    metrics: dict[str, float]
    loss: float
    """Nats a token, over all captions of the panel."""
    degenerate: float
    """Share of the captions that are empty, loop, echo the prompt or are no language."""
    predictions: list[Prediction]
    watch: dict[str, float]
    """What may get worse when a reward is trained on (`rscap.scoring.fluency`), errors of content by the names of
    `rscap.scoring.content.RATES`, and the panel's reward; empty for likelihood."""


@contextmanager
def asked(packed: PackedModel) -> Iterator[None]:
    """Within the block the model is in evaluation mode, without dropout; afterwards its mode is restored."""
    was_training = packed.training
    packed.eval()
    try:
        yield
    finally:
        packed.train(was_training)


def evaluate_panel(
    captioner: Captioner,
    panel: Sequence[Example],
    recipe: Recipe,
    team: Team,
    *,
    batch_size: int,
    reward: Callable[[Sequence[Prediction], Mapping[str, Example]], float] | None = None,
) -> PanelResult:
    """Caption the panel, its images dealt out to all processes, and score the captions.

    The loss is computed of `batch_size` images at a time; generation has its own size, which it halves where memory
    runs out. With a `reward`, metrics outside it are computed too, and the values of `watch`.
    """
    mine = panel[team.rank :: team.size]
    allowed = recipe.data.max_rejected_share
    with asked(captioner.packed):
        made, _ = caption_all(
            captioner,
            mine,
            max_rejected_share=allowed,
            way_out=f"fix them, or allow more with data.max_rejected_share above {allowed}",
            workers=recipe.data.workers if mine else 0,
        )
        loss = panel_loss(captioner, panel, recipe, team, batch_size=batch_size)
    selected_by = recipe.selection.metric if recipe.selection else None
    place = {example.id: number for number, example in enumerate(panel)}
    predictions = sorted(team.gather(made), key=lambda prediction: place[prediction.example_id])
    sheet = scoring.score_captions(
        {prediction.example_id: prediction.caption for prediction in predictions},
        {example.id: example.captions for example in panel},
        metrics=in_training(selected_by if reward is None or selected_by not in (None, "loss") else "METEOR"),
        draws=0,
        allow_missing=True,
    )
    bad = sum(bool(scoring.degenerate(prediction.caption, prediction.prefix)) for prediction in predictions)
    return PanelResult(
        n=sheet.n,
        metrics=dict(sheet.corpus),
        loss=loss,
        degenerate=bad / max(1, len(predictions)),
        predictions=predictions,
        watch={} if reward is None else _watched(predictions, panel, reward),
    )


def _watched(
    predictions: Sequence[Prediction],
    panel: Sequence[Example],
    reward: Callable[[Sequence[Prediction], Mapping[str, Example]], float],
) -> dict[str, float]:
    examples = {example.id: example for example in panel}
    captions = [prediction.caption for prediction in predictions]
    references = [examples[prediction.example_id].captions for prediction in predictions]
    found = {**fluency(captions, references), **error_rates(captions, references)}
    return {**found, "reward": reward(predictions, examples)}


@torch.no_grad()
def panel_loss(captioner: Captioner, panel: Sequence[Example], recipe: Recipe, team: Team, *, batch_size: int) -> float:
    """Mean negative log-likelihood a token of all captions of the panel, in nats."""
    packed, encoder = captioner.packed, captioner.encoder
    encode = partial(_with_captions, encoder=encoder, prefix=recipe.prompt.prefix)
    mine = panel[team.rank :: team.size]
    total, tokens = torch.zeros((), device=team.device), 0
    for batch in batches(mine, encode, size=batch_size, pad=encoder.prompter.pad):
        if batch.supervised:
            total += packed(batch.to(team.device))
            tokens += batch.supervised
    return float(team.sum(total)) / max(1, team.sums([tokens])[0])


def _with_captions(example: Example, *, encoder: Encoder, prefix: str) -> PackedRow:
    return encoder(example, prefix=prefix, captions=example.captions)
