"""Which evaluation is the best so far, and when to stop waiting for a better one."""

from __future__ import annotations

import math

from rscap.recipe import SelectionSection
from rscap.train.checkpoints import Best, Progress

_ROUNDING = 1e-6  # BLEU of next to no matches is some 1e-10, and its changes mean nothing


def consider(
    progress: Progress, selection: SelectionSection, metrics: dict[str, float], *, loss: float, degenerate: float
) -> bool:
    """Note an evaluation in `progress`; True if it is the best so far.

    An evaluation with too many degenerate captions never is, whatever its score: a model that repeats one phrase may
    still score well on a metric, and early in training often does.
    """
    lower_is_better = selection.metric == "loss"
    value = loss if lower_is_better else metrics[selection.metric]
    gain = _gain(progress.best, value, lower_is_better=lower_is_better)
    degenerates = degenerate > selection.max_degenerate
    fit = math.isfinite(value) and not degenerates
    is_best = fit and (gain is None or gain > max(selection.min_gain, _ROUNDING))
    if is_best:
        progress.best, progress.waited, progress.vetoed = Best(step=progress.step, value=value), 0, 0
    else:
        progress.waited += 1
        progress.vetoed += degenerates
    if selection.patience is not None and progress.waited >= selection.patience:
        progress.stopped = f"{progress.waited} evaluations in a row without a better {selection.metric}"
        if progress.vetoed:
            share = f"more than {selection.max_degenerate:.0%} degenerate captions"
            progress.stopped += f", {progress.vetoed} of them not considered for {share}"
    return is_best


def _gain(best: Best | None, value: float, *, lower_is_better: bool) -> float | None:
    if best is None:
        return None
    return best.value - value if lower_is_better else value - best.value
