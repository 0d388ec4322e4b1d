"""`score_captions`: candidates and references in, a score sheet out."""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from rscap import __version__
from rscap.errors import ScoreError
from rscap.metrics import METRICS, defined, known
from rscap.records import ScoreSheet
from rscap.scoring import diagnostics
from rscap.scoring.cider import cautions as cider_cautions
from rscap.scoring.content import ContentErrors
from rscap.scoring.corpus import Corpus
from rscap.scoring.foreign import ForeignMetric, Function
from rscap.scoring.measures import Material, Statistics, measured, shuffled
from rscap.scoring.pool import IdfPool
from rscap.scoring.protocol import Conditions, check, data_digest, tokenizer_label
from rscap.scoring.resampling import DRAWS, Paired, intervals, pair
from rscap.scoring.sheet import kept_statistics

DUPLICATES = ("keep", "distinct")
P = ParamSpec("P")
R = TypeVar("R")
_SHUFFLE_SEED = 20_150_607


def _without_collector(function: Callable[P, R]) -> Callable[P, R]:
    """Pause the cyclic garbage collector, which thousands of lists of words, none in a cycle, start again and again."""

    @wraps(function)
    def paused(*args: P.args, **kwargs: P.kwargs) -> R:
        if not gc.isenabled():
            return function(*args, **kwargs)
        gc.disable()
        try:
            return function(*args, **kwargs)
        finally:
            gc.enable()

    return paused


@_without_collector
def score_captions(
    candidates: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    *,
    protocol: str = "coco",
    reference_duplicates: str = "keep",
    decode: str | None = None,
    pool: IdfPool | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    sources: Mapping[str, str] | None = None,
    scene_classes: Mapping[str, str | None] | None = None,
    training_captions: Collection[str] | None = None,
    prefix: str | None = None,
    metrics: Sequence[str | Function | ForeignMetric] | None = None,
    allow_missing: bool = False,
    processes: int = 1,
    content: bool = False,
) -> ScoreSheet:
    """Score one caption per image against its references.

    Args:
        candidates: `{id: caption}`. An empty caption is scored like any other.
        references: `{id: captions}`, the same ids.
        protocol: `coco`, `raw` or `sentence`, see `rscap.scoring.protocol`.
        reference_duplicates: `keep` as published, or `distinct`: a sentence that an image has twice counts once.
        decode: how the captions were generated, for the signature, such as `greedy-64`.
        pool: document frequencies for CIDEr; by default those of `references` (of all of them).
        draws: bootstrap resamples of the images; 0 for no intervals.
        seed: of the bootstrap; the same seed draws the same images for every sheet of n images.
        sources, scene_classes: `{id: name}`, to score each group apart.
        training_captions: to count captions that are learnt by heart.
        prefix: the prompt, to find outputs that repeat it.
        metrics: which to compute: names of the protocol's own, all by default and METEOR where it is installed; also
            functions of one's own and foreign metrics, as in `[*METRICS, my_metric]` (see `rscap.scoring.foreign`).
        allow_missing: score the images that have a candidate and count the others in `unscored`.
        processes: 2 lets METEOR of a thousand images and more use a second process; no number depends on it.
        content: also count wrong things, counts, colours and directions, see `rscap.scoring.content`.

    Returns:
        The sheet; see docs/scoring.md for what `extra` holds. METEOR is absent, with a note, where it is not installed.

    Raises:
        ScoreError: ids differ, an image has no reference, an argument has no such value, or a foreign metric gives no
            number for an image.
    """
    _check(protocol, reference_duplicates, draws)
    wanted, foreign = _wanted(protocol, metrics)
    paired = pair(
        candidates, references, protocol=protocol, duplicates=reference_duplicates, allow_missing=allow_missing
    )
    corpus = Corpus.build(paired.candidates, [sorted(own) for own in paired.references])
    idf = _pool(pool, corpus, references, protocol, paired)
    material = Material(corpus, paired.references, idf, processes)
    statistics, notes = measured(paired.ids, material, wanted, protocol)
    others = {one.name: one.evaluated(paired.ids, candidates, references) for one in foreign}
    per_image = {name: values for name, values in others.items() if not isinstance(values, float)}
    everything = replace(statistics, means={**statistics.means, **per_image})
    conditions = _conditions(paired, references, idf, protocol, reference_duplicates, decode, pool is not None, foreign)
    errors = ContentErrors.of(paired.ids, candidates, references) if content else None
    conditions = replace(conditions, content=errors.version if errors else None)
    found = diagnostics.describe(
        everything,
        corpus,
        paired,
        prefix=prefix,
        sources=sources or {},
        scene_classes=scene_classes or {},
        training_captions=training_captions,
    )
    control = replace(material, corpus=shuffled(corpus, _SHUFFLE_SEED))
    found["shuffled"] = measured(paired.ids, control, _fast(wanted), protocol)[0].corpus_scores()
    extra = {
        **conditions.fields(),
        "draws": draws,
        "seed": seed,
        "rscap": __version__,
        "notes": notes,
        "diagnostics": found,
        "statistics": kept_statistics(statistics),
    }
    if cautions := _cautions(statistics, paired, idf, own_pool=pool is None and not paired.unscored):
        extra["cautions"] = cautions
    if errors:
        extra["content"] = errors.content(draws=draws, seed=seed)
        extra["statistics"] |= kept_statistics(errors.statistics)
    if foreign:
        extra["foreign"] = {one.name: one.declaration(per_image=one.name in per_image) for one in foreign}
    bounds = intervals(statistics, draws=draws, seed=seed)
    if per_image:  # by themselves: not a digit of the others depends on what else is scored
        bounds |= intervals(Statistics(ids=statistics.ids, means=per_image), draws=draws, seed=seed)
    sheet = _sheet(everything, wanted, bounds, str(conditions), paired.unscored, extra)
    whole = {name: values for name, values in others.items() if isinstance(values, float)}
    return replace(sheet, corpus={**sheet.corpus, **whole})


def _cautions(statistics: Statistics, paired: Paired, idf: IdfPool | None, *, own_pool: bool) -> dict[str, str]:
    if idf is None or "CIDEr" not in statistics.means:
        return {}
    score = statistics.corpus_scores()["CIDEr"]
    return cider_cautions(len(paired.ids), paired.references_per_image, idf, score, own_pool=own_pool)


def _check(protocol: str, duplicates: str, draws: int) -> None:
    check(protocol)
    if duplicates not in DUPLICATES:
        raise ScoreError(f"unknown reference_duplicates {duplicates!r}", hint=f"one of {', '.join(DUPLICATES)}")
    if draws < 0:
        raise ScoreError(f"draws must be 0 or more, found {draws}")


def _wanted(
    protocol: str, metrics: Sequence[str | Function | ForeignMetric] | None
) -> tuple[tuple[str, ...], list[ForeignMetric]]:
    """(the metrics of the table; those of one's own and from elsewhere)."""
    here = defined(protocol)
    if metrics is None:
        return here, []
    if isinstance(metrics, str) or not metrics:
        raise ScoreError(f"metrics is a list of metrics, found {metrics!r}", hint='such as ["CIDEr"]')
    names = [metric for metric in metrics if isinstance(metric, str)]
    unknown = [name for name in names if name not in here]
    if unknown:
        hint = f"it defines {', '.join(here)}; a metric of your own is a function or a ForeignMetric"
        raise ScoreError(f"protocol {protocol} does not define {unknown}", hint=hint)
    others = [metric for metric in metrics if not isinstance(metric, str)]
    foreign = [one if isinstance(one, ForeignMetric) else ForeignMetric.of(one) for one in others]
    if len({one.name for one in foreign}) < len(foreign):
        raise ScoreError(f"two foreign metrics bear the same name: {', '.join(one.name for one in foreign)}")
    return tuple(name for name in here if name in names), foreign


def _fast(metrics: Sequence[str]) -> list[str]:
    """Without the metrics that take too long to be computed a second time for a control."""
    return [metric for metric in metrics if not ((line := known(metric)) and line.slow)]


def _pool(
    given: IdfPool | None,
    corpus: Corpus,
    references: Mapping[str, Sequence[str]],
    protocol: str,
    paired: Paired,
) -> IdfPool | None:
    """The given pool, or that of all references; none under `sentence`."""
    if protocol == "sentence":
        if given is not None:
            raise ScoreError("protocol sentence has no CIDEr, so an IDF pool has no use", hint="leave the pool out")
        return None
    if given is None and paired.unscored:
        return IdfPool.build(references, protocol=protocol)
    if given is None:
        return IdfPool.of(corpus, len(corpus), protocol)
    if (given.protocol, given.tokenizer) != (protocol, tokenizer_label(protocol)):
        raise ScoreError(
            f"the IDF pool was built under protocol {given.protocol} with tokenizer {given.tokenizer}, "
            f"the scores are asked for under {protocol} with {tokenizer_label(protocol)}",
            hint="build the pool under the protocol that it is used with",
        )
    return given


def _conditions(
    paired: Paired,
    references: Mapping[str, Sequence[str]],
    idf: IdfPool | None,
    protocol: str,
    duplicates: str,
    decode: str | None,
    pool_was_given: bool,
    foreign: Sequence[ForeignMetric],
) -> Conditions:
    return Conditions(
        protocol=protocol,
        tokenizer=tokenizer_label(protocol),
        references_per_image=paired.references_per_image,
        distinct_per_image=paired.distinct_per_image,
        duplicates=duplicates,
        pool="none" if idf is None else f"{'file' if pool_was_given else 'self'}:{idf.digest}/{idf.n}",
        n=len(paired.ids),
        decode=decode,
        data=data_digest({example: references[example] for example in paired.ids}),
        foreign=tuple(map(str, foreign)),
    )


def _sheet(
    statistics: Statistics,
    wanted: Sequence[str],
    bounds: Mapping[str, tuple[float, float]],
    signature: str,
    unscored: int,
    extra: Mapping[str, Any],
) -> ScoreSheet:
    scores = statistics.item_scores()
    reported = [metric for metric in scores if metric in wanted or metric not in METRICS]
    columns = {metric: scores[metric].tolist() for metric in reported}
    rows = zip(*columns.values(), strict=True) if columns else ([] for _ in statistics.ids)
    corpus = statistics.corpus_scores()
    return ScoreSheet(
        signature=signature,
        n=len(statistics.ids),
        corpus={metric: corpus[metric] for metric in reported},
        intervals={metric: bounds[metric] for metric in reported if metric in bounds},
        items={i: dict(zip(reported, row, strict=True)) for i, row in zip(statistics.ids, rows, strict=True)},
        unscored=unscored,
        extra=extra,
    )
