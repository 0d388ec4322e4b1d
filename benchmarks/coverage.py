"""Do 95 % intervals cover the truth in 95 % of experiments, and do the paired tests raise 5 % false alarms?

    python benchmarks/coverage.py [--experiments 10000] [--n 500] [--draws 10000] [--golden FILE] [--out FILE]

A population of images is scored once, with its own IDF pool, which stays fixed; its corpus scores are the truth. Every
experiment draws n images with replacement from it and asks the code that `rscap score` and `rscap compare` run for
intervals and p-values. Without --golden the population is made of synthetic captions from a committed seed; with it,
of the real candidates and references of a golden file.

Null hypotheses of the paired tests: `exchangeable`, two noisy copies of the same sentence, swapped at random; `spread`,
two systems of the same mean whose item scores spread differently (means only).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rscap.scoring import score_captions
from rscap.scoring.measures import Statistics
from rscap.scoring.resampling import bootstrap_p, randomisation_p, resampled_sums, swapped_sums
from rscap.scoring.sheet import statistics_of
from rscap.store import write_json

SEED = 20_260_101
Floats = npt.NDArray[np.float64]


def synthetic_captions(images: int, seed: int) -> tuple[dict[str, str], dict[str, str], dict[str, list[str]]]:
    """Two systems' candidates and five references each: noisy copies of one sentence per image, words by Zipf's law."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, 401)
    words = np.array([f"w{i}" for i in range(400)])

    def draw(size: int) -> npt.NDArray[np.str_]:
        return rng.choice(words, size=size, p=weights / weights.sum())

    def noisy(sentence: npt.NDArray[np.str_], noise: float) -> str:
        changed = rng.random(len(sentence)) < noise
        copy = np.where(changed, draw(len(sentence)), sentence)
        return " ".join(copy[rng.random(len(sentence)) > noise / 3])

    first, second, references = {}, {}, {}
    for i in range(images):
        sentence = draw(int(rng.integers(6, 18)))
        difficulty = float(rng.beta(2, 3))
        first[f"{i:06}"], second[f"{i:06}"] = noisy(sentence, difficulty), noisy(sentence, difficulty)
        references[f"{i:06}"] = [noisy(sentence, 0.3) for _ in range(5)]
    return first, second, references


def populations(golden: Path | None, images: int) -> tuple[Statistics, Statistics]:
    """Statistics of two systems on the same images."""
    if golden is None:
        first, second, references = synthetic_captions(images, SEED)
    else:
        content = json.loads(golden.read_text(encoding="utf-8"))
        references = content["references"]
        first, second = content["candidates"], {example: own[-1] for example, own in references.items()}
    metrics = ["BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr"]
    sheets = (score_captions(own, references, draws=0, metrics=metrics) for own in (first, second))
    a, b = map(statistics_of, sheets)
    return a, b


def side_by_side(matrix: Floats, picks: npt.NDArray[np.int64]) -> Floats:
    """float[n, E * K]: the rows that E experiments [E, n] picked, one experiment beside the other."""
    return np.ascontiguousarray(matrix[picks].transpose(1, 0, 2)).reshape(picks.shape[1], -1)


def coverage(population: Statistics, experiments: int, n: int, draws: int, chunk: int) -> dict[str, float]:
    """Share of experiments whose 95 % interval holds the population's score, per metric."""
    rng = np.random.default_rng(SEED + 1)
    truth, width = population.corpus_scores(), population.matrix.shape[1]
    held = dict.fromkeys(truth, 0)
    for start in range(0, experiments, chunk):
        count = min(chunk, experiments - start)
        picks = rng.integers(0, len(population.ids), size=(count, n))
        sums = resampled_sums(side_by_side(population.matrix, picks), draws, seed=0).reshape(draws, count, width)
        for metric, resampled in population.corpus(sums, n).items():
            low, high = np.quantile(resampled, [0.025, 0.975], axis=0)
            held[metric] += int(((low <= truth[metric]) & (truth[metric] <= high)).sum())
    return {metric: count / experiments for metric, count in held.items()}


def false_alarms(
    first: Statistics, second: Statistics, experiments: int, n: int, draws: int, chunk: int
) -> dict[str, dict[str, float]]:
    """Share of experiments with p < 0.05 where nothing differs, per metric and test."""
    rng = np.random.default_rng(SEED + 2)
    width = first.matrix.shape[1]
    alarms = {metric: {"bootstrap": 0, "randomisation": 0} for metric in first.corpus_scores()}
    for start in range(0, experiments, chunk):
        count = min(chunk, experiments - start)
        picks = rng.integers(0, len(first.ids), size=(count, n))
        swap = rng.random((n, count)) < 0.5
        swap = np.repeat(swap, width, axis=1)
        a, b = side_by_side(first.matrix, picks), side_by_side(second.matrix, picks)
        a, b = np.where(swap, b, a), np.where(swap, a, b)

        def difference(x: Floats, y: Floats, count: int = count) -> dict[str, Floats]:
            shape = (*x.shape[:-1], count, width)
            own, other = first.corpus(x.reshape(shape), n), second.corpus(y.reshape(shape), n)
            return {metric: own[metric] - other[metric] for metric in own}

        observed = difference(a.sum(axis=0), b.sum(axis=0))
        resampled = difference(resampled_sums(a, draws, seed=0), resampled_sums(b, draws, seed=0))
        swapped = difference(*swapped_sums(a, b, draws, seed=0))
        for metric, size in observed.items():
            alarms[metric]["bootstrap"] += int((bootstrap_p(resampled[metric], size) < 0.05).sum())
            alarms[metric]["randomisation"] += int((randomisation_p(swapped[metric], size) < 0.05).sum())
    return {metric: {test: count / experiments for test, count in row.items()} for metric, row in alarms.items()}


def unequal_spread(first: Statistics) -> tuple[Statistics, Statistics]:
    """CIDEr of a system, and of one of the same mean with half the spread whose items are others'."""
    values = first.means["CIDEr"]
    other = np.random.default_rng(SEED + 3).permutation(values)
    narrow = values.mean() + 0.5 * (other - values.mean())
    return Statistics(ids=first.ids, means={"CIDEr": values}), Statistics(ids=first.ids, means={"CIDEr": narrow})


def unswapped_alarms(
    first: Statistics, second: Statistics, experiments: int, n: int, draws: int, chunk: int
) -> dict[str, float]:
    """As `false_alarms` for one mean, without the swap that makes systems exchangeable."""
    rng = np.random.default_rng(SEED + 4)
    alarms = {"bootstrap": 0, "randomisation": 0}
    for start in range(0, experiments, chunk):
        count = min(chunk, experiments - start)
        picks = rng.integers(0, len(first.ids), size=(count, n))
        a, b = side_by_side(first.matrix, picks), side_by_side(second.matrix, picks)
        observed = (a - b).mean(axis=0)
        alarms["bootstrap"] += int((bootstrap_p(resampled_sums(a - b, draws, seed=0) / n, observed) < 0.05).sum())
        mine, theirs = swapped_sums(a, b, draws, seed=0)
        alarms["randomisation"] += int((randomisation_p((mine - theirs) / n, observed) < 0.05).sum())
    return {test: count / experiments for test, count in alarms.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=10_000)
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=20_000, help="size of the synthetic population")
    parser.add_argument("--golden", type=Path)
    parser.add_argument("--chunk", type=int, default=40, help="experiments at once; bounds the memory")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "coverage.json")
    given = parser.parse_args()
    began = time.perf_counter()
    first, second = populations(given.golden, given.images)
    size = (given.experiments, given.n, given.draws, given.chunk)
    result = {
        "experiments": given.experiments,
        "n": given.n,
        "draws": given.draws,
        "seed": SEED,
        "population": f"{given.golden.name if given.golden else 'synthetic'}, {len(first.ids)} images",
        "truth": first.corpus_scores(),
        "coverage": coverage(first, *size),
        "false_alarms_exchangeable": false_alarms(first, second, *size),
        "false_alarms_unequal_spread": unswapped_alarms(*unequal_spread(first), *size),
        "seconds": round(time.perf_counter() - began, 1),
    }
    write_json(given.out, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
