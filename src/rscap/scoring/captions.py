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
from rscap.scoring.bootstrap import DRAWS, intervals
from rscap.scoring.corpus import Corpus
from rscap.scoring.measures import Material
from rscap.scoring.pairing import Paired, pair
from rscap.scoring.pool import IdfPool
from rscap.scoring.protocol import check, tokenizer_label
from rscap.scoring.sheet import kept_statistics
from rscap.scoring.signature import Conditions, data_digest
from rscap.scoring.statistics import Statistics, measured, shuffled

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
    metrics: Sequence[str] | None = None,
    allow_missing: bool = False,
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
        metrics: which to compute, of those of the protocol; all by default, METEOR where it is installed.
        allow_missing: score the images that have a candidate and count the others in `unscored`.

    Returns:
        The sheet; see docs/scoring.md for what `extra` holds. METEOR is absent, with a note, where it is not installed.

    Raises:
        ScoreError: ids differ, an image has no reference, or an argument has no such value.
    """
    wanted = _wanted(protocol, reference_duplicates, metrics, draws)
    paired = pair(
        candidates, references, protocol=protocol, duplicates=reference_duplicates, allow_missing=allow_missing
    )
    corpus = Corpus.build(paired.candidates, [sorted(own) for own in paired.references])
    idf = _pool(pool, corpus, references, protocol, paired)
    material = Material(corpus, paired.references, idf)
    statistics, notes = measured(paired.ids, material, wanted, protocol)
    conditions = _conditions(paired, references, idf, protocol, reference_duplicates, decode, pool is not None)
    found = diagnostics.describe(
        statistics,
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
    bounds = intervals(statistics, draws=draws, seed=seed)
    return _sheet(statistics, wanted, bounds, str(conditions), paired.unscored, extra)


def _wanted(protocol: str, duplicates: str, metrics: Sequence[str] | None, draws: int) -> tuple[str, ...]:
    check(protocol)
    if duplicates not in DUPLICATES:
        raise ScoreError(f"unknown reference_duplicates {duplicates!r}", hint=f"one of {', '.join(DUPLICATES)}")
    if draws < 0:
        raise ScoreError(f"draws must be 0 or more, found {draws}")
    here = defined(protocol)
    unknown = [metric for metric in metrics or () if metric not in here]
    if unknown:
        raise ScoreError(f"protocol {protocol} does not define {unknown}", hint=f"it defines {', '.join(here)}")
    return here if metrics is None else tuple(metric for metric in METRICS if metric in metrics)


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
    reported = [metric for metric in scores if metric in wanted]
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
