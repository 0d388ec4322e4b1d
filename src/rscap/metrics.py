"""The metrics of captions as one table: names, what their numbers mean, and where each is computed.

A metric is one line here and one module of `rscap.scoring` (docs/extending.md); recipes, score sheets, tables, training
and reports read the line. No NumPy here: recipes are checked with this table before anything is loaded, so the line
names its computation as `module:attribute`, which `rscap.scoring.measures` imports when it is needed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

Visibility = Literal["always", "usual", "wide"]
"""Where room is short: `always` shown, `usual`ly, or only in `wide` tables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric."""

    name: str
    """As recipes, score sheets and tables call it."""
    computed_by: str
    """`module:attribute` of the `Averaged` or `Summed` measure under the protocols `coco` and `raw`."""
    sentence_by: str | None = None
    """The same under the protocol `sentence`; None where that does not define the metric."""
    low: float = 0.0
    high: float | None = 1.0
    """The range of its values; None: no upper limit."""
    higher_is_better: bool = True
    quoted_as: str | None = None
    """Its name where one score is quoted, if that differs."""
    digits: int = 3
    """Decimal places where one score is quoted; tables print one more."""
    headline: int | None = None
    """Order of preference where a report judges by one metric, 1 first; None: after all that have a number."""
    place: Visibility = "usual"
    slow: bool = False
    """Left out of evaluations during training (unless it selects) and of the control with shuffled captions."""
    needs: str | None = None
    """The extra of rscap that installs what it needs; without it the sheet leaves it out, with a note."""


_BLEU = "rscap.scoring.bleu:BLEU"

TABLE: tuple[Metric, ...] = (
    Metric(name="BLEU-1", computed_by=_BLEU, headline=7),
    Metric(name="BLEU-2", computed_by=_BLEU, headline=6, place="wide"),
    Metric(name="BLEU-3", computed_by=_BLEU, headline=5, place="wide"),
    Metric(
        name="BLEU-4",
        computed_by=_BLEU,
        sentence_by="rscap.scoring.sentence:SENTENCE_BLEU",
        headline=4,
        place="always",
    ),
    Metric(
        name="METEOR",
        computed_by="rscap.scoring.meteor:METEOR",
        headline=3,
        place="always",
        slow=True,
        needs="meteor",
    ),
    Metric(
        name="ROUGE-L",
        computed_by="rscap.scoring.rouge:ROUGE_L",
        sentence_by="rscap.scoring.sentence:ROUGE_L_F1",
        headline=2,
        place="always",
    ),
    Metric(
        name="CIDEr",
        computed_by="rscap.scoring.cider:CIDER",
        high=10.0,
        quoted_as="CIDEr-D",
        digits=2,
        headline=1,
        place="always",
    ),
)
"""All metrics, in the order in which every table prints them."""

METRICS: tuple[str, ...] = tuple(metric.name for metric in TABLE)
"""Their names, in that order."""

_BY_NAME = {metric.name: metric for metric in TABLE}


def known(name: str) -> Metric | None:
    """The metric of this name; None where rscap computes none."""
    return _BY_NAME.get(name)


def defined(protocol: str) -> tuple[str, ...]:
    """The metrics of a scoring protocol, in the order of tables."""
    return METRICS if protocol != "sentence" else tuple(one.name for one in TABLE if one.sentence_by is not None)


def in_order(names: Collection[str]) -> list[str]:
    """These metrics in the order of tables; those that are not rscap's own behind, in the order given."""
    return [*(name for name in METRICS if name in names), *(name for name in names if name not in METRICS)]


def in_training(selected_by: str | None = None) -> tuple[str, ...]:
    """The metrics of an evaluation during training: the fast ones, and the one that selects the best weights."""
    return tuple(metric.name for metric in TABLE if not metric.slow or metric.name == selected_by)


def headline_of(names: Collection[str]) -> str | None:
    """The metric to judge by where these are there: the lowest number under `headline`, else the first of `names`."""
    ranked = [metric for metric in TABLE if metric.name in names and metric.headline is not None]
    return min(ranked, key=lambda metric: metric.headline or 0).name if ranked else next(iter(names), None)
