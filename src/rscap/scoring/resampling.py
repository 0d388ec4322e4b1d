"""Resampling images: the bootstrap (Efron, Annals of Statistics 7, 1979) on kept statistics, and paired tests.

Tests of differences between two systems that captioned the same images:

* Paired bootstrap (Efron and Tibshirani, "An introduction to the bootstrap", 1993; Koehn, EMNLP 2004): images are drawn
  with replacement, both systems are scored on the same draw. Interval: percentiles. p-value: how often a draw lies as
  far from the observed difference as that difference lies from 0 (two-sided, centred).
* Approximate randomisation (Noreen, "Computer intensive methods for testing hypotheses", 1989; Riezler and Maxwell,
  2005): if the systems were the same, swapping their outputs on any image would change nothing. p-value: how often
  random swaps give a difference at least as large as the observed one.
* Holm's step-down correction (Scandinavian Journal of Statistics 6, 1979) over all pairs that are compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rscap.errors import ScoreError
from rscap.scoring.corpus import Floats
from rscap.scoring.measures import Statistics
from rscap.scoring.protocol import prepare

DRAWS = 10_000

LONGEST = 500_000
"""Characters of a candidate: METEOR's search takes minutes for more, and no model stops so late."""

CELLS = 250_000
"""Draws x images held at once: fits the cache, bounds the memory, and does not change the result."""


def resampled_sums(matrix: Floats, draws: int, seed: int) -> Floats:
    """float[draws, K]: sums of the rows [n, K] of `matrix` over `draws` resamples of n rows with replacement."""
    n = len(matrix)
    rng = np.random.default_rng(seed)
    sums = np.empty((draws, matrix.shape[1]))
    chunk = max(1, CELLS // n)
    counts = np.empty((chunk, n))
    for start in range(0, draws, chunk):
        rows = min(chunk, draws - start)
        picks = rng.integers(0, n, size=(rows, n), dtype=np.uint32)  # half the time of 64 bits
        cells = np.add(picks, np.arange(rows)[:, None] * n, dtype=np.int64)
        counts[:rows] = np.bincount(cells.ravel(), minlength=rows * n).reshape(rows, n)
        np.matmul(counts[:rows], matrix, out=sums[start : start + rows])
    return sums


def intervals(statistics: Statistics, *, draws: int = DRAWS, seed: int = 0) -> dict[str, tuple[float, float]]:
    """The 95 % percentile interval of every corpus score over resamples of the images; empty where `draws` is 0."""
    n = len(statistics.ids)
    if draws == 0 or n == 0:
        return {}
    resampled = statistics.corpus(resampled_sums(statistics.matrix, draws, seed), n)
    bounds = {metric: np.quantile(values, [0.025, 0.975]) for metric, values in resampled.items()}
    return {metric: (float(low), float(high)) for metric, (low, high) in bounds.items()}


POWER_QUANTILES = 1.959964 + 0.841621
"""Normal quantiles of a two-sided test at 5 % and of a power of 80 %, added."""
_ROUNDING = 1e-12


def swapped_sums(first: Floats, second: Floats, draws: int, seed: int) -> tuple[Floats, Floats]:
    """Sums of both systems' statistics [n, K] after swapping them on random images: float[draws, K] twice."""
    n = len(first)
    rng = np.random.default_rng(seed)
    moved = np.empty((draws, first.shape[1]))
    chunk = max(1, CELLS // n)
    for start in range(0, draws, chunk):
        rows = min(chunk, draws - start)
        bits = np.frombuffer(rng.bytes(rows * 8 * -(-n // 64)), dtype=np.uint8).reshape(rows, -1)
        swap = np.unpackbits(bits, axis=1, count=n).astype(np.float64)
        np.matmul(swap, first - second, out=moved[start : start + rows])
    return first.sum(axis=0) - moved, second.sum(axis=0) + moved


def bootstrap_p(resampled: Floats, observed: Floats | float) -> Floats:
    """Two-sided p-value from resampled differences [draws, …], centred at the observed one."""
    return _share(np.abs(resampled - observed), np.abs(observed))


def randomisation_p(swapped: Floats, observed: Floats | float) -> Floats:
    """Two-sided p-value from the differences [draws, …] after random swaps."""
    return _share(np.abs(swapped), np.abs(observed))


def _share(size: Floats, observed: Floats | float) -> Floats:
    """The share of draws that reach the observed size; the observation counts as one (Davison and Hinkley, 1997)."""
    return (1 + (size >= observed - _ROUNDING).sum(axis=0)) / (len(size) + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number, so that the chance of any false claim stays at the level of one test."""
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected


def images_needed(difference: float, error_images: float, error_seeds: float, n: int) -> int | None:
    """About how many images a 5 % test needs to find a true difference of this size in four of five trials.

    The variance over images falls as 1/n, that over training seeds does not: None where seeds alone hide the
    difference, or where the difference is 0.
    """
    room = (difference / POWER_QUANTILES) ** 2 - error_seeds**2
    if room <= 0 or difference == 0:
        return None
    return max(2, math.ceil(n * error_images**2 / room))


_SHOWN = 10


@dataclass(frozen=True)
class Paired:
    """The n images that are scored, by id ascending, as given and as the protocol's metrics see them.

    Under `sentence` the references are the first one alone. Sorting makes the figures independent of the order of
    files, but for what coco-caption itself makes of it: see "Order" in docs/scoring.md.
    """

    ids: tuple[str, ...]
    captions: tuple[str, ...]
    candidates: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]
    references_per_image: float
    distinct_per_image: float
    unscored: int


def pair(
    candidates: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    *,
    protocol: str,
    duplicates: str,
    allow_missing: bool,
) -> Paired:
    """Match ids and prepare the texts.

    Raises:
        ScoreError: an id is on one side only, a caption is not a string, an image has no reference, or nothing is left.
    """
    check_ids(candidates, references, allow_missing=allow_missing)
    check_captions(candidates)
    scored = {example: own for example, own in references.items() if example in candidates}
    check_references(scored)
    if protocol == "sentence":
        scored = {example: own[:1] for example, own in scored.items()}
    # Tokenised in the order in which they were given, as two files: see `prepare`.
    captions = dict(zip(candidates, prepare(protocol, list(candidates.values())), strict=True))
    texts = iter(prepare(protocol, [text for own in scored.values() for text in own]))
    prepared = {example: tuple(next(texts) for _ in own) for example, own in scored.items()}
    ids = sorted(candidates)
    groups = [prepared[example] for example in ids]
    distinct = [tuple(dict.fromkeys(group)) for group in groups]
    return Paired(
        ids=tuple(ids),
        captions=tuple(candidates[example] for example in ids),
        candidates=tuple(captions[example] for example in ids),
        references=tuple(distinct if duplicates == "distinct" else groups),
        references_per_image=sum(map(len, groups)) / len(ids),
        distinct_per_image=sum(map(len, distinct)) / len(ids),
        unscored=len(references) - len(ids),
    )


def check_ids(candidates: Iterable[str], references: Iterable[str], *, allow_missing: bool) -> None:
    """Raise ScoreError where ids differ, listing the first ten."""
    mine, theirs = set(candidates), set(references)
    odd = next((example for example in mine | theirs if not isinstance(example, str)), None)
    if odd is not None:
        raise ScoreError(f"an id is a string, found {odd!r} ({type(odd).__name__})")
    missing, extra = sorted(theirs - mine), sorted(mine - theirs)
    problems = []
    if missing and not allow_missing:
        problems.append(f"{len(missing):,} of {len(theirs):,} references have no candidate: {listed(missing)}")
    if extra:
        problems.append(f"{len(extra):,} of {len(mine):,} candidates have no reference: {listed(extra)}")
    if problems:
        hint = "ids must be equal strings on both sides; `--split` chooses the references of one split"
        hint += "; `--allow-missing` scores the images that have a candidate" if missing and not allow_missing else ""
        raise ScoreError("; ".join(problems), hint=hint)
    if not mine:
        raise ScoreError("there are no candidates to score")


def listed(ids: Sequence[str]) -> str:
    """The first ten ids, and an ellipsis where there are more."""
    return ", ".join(map(repr, ids[:_SHOWN])) + (", …" if len(ids) > _SHOWN else "")


def check_references(references: Mapping[str, Sequence[str]] | Mapping[int, Sequence[str]]) -> None:
    """Raise ScoreError where references are not a sequence of one string or more."""
    for example, own in references.items():
        if isinstance(own, str):  # would be taken for a list of letters
            raise ScoreError(f"the references of {example!r} are one string, not a list of strings")
        wrong = [text for text in own if not isinstance(text, str)]
        if wrong:
            raise ScoreError(f"a reference of {example!r} is a {type(wrong[0]).__name__}, not a string")
    bare = [str(example) for example, own in references.items() if len(own) == 0]
    if bare:
        raise ScoreError(f"{len(bare)} images have no reference: {listed(bare)}")


def check_captions(candidates: Mapping[str, str] | Mapping[int, str]) -> None:
    """Raise ScoreError where a candidate is not a string, or longer than any caption."""
    for example, caption in candidates.items():
        if not isinstance(caption, str):
            raise ScoreError(f"the candidate of {example!r} is a {type(caption).__name__}, not a string")
        if len(caption) > LONGEST:
            raise ScoreError(
                f"the candidate of {example!r} has {len(caption):,} characters; at most {LONGEST:,} are scored",
                hint="cut it where the model should have stopped",
            )
