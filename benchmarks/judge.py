"""Is a study judged rightly? One real difference among ten rows, nine null ones, a thousand times over.

    python benchmarks/judge.py

Every repetition simulates the score sheets of a study (11 rows with the reference, 3 seeds, 200 images: images share
their difficulty, seeds shift whole runs) and judges it. A study errs if any null row is called better or worse; the
stated rate is 5 %. Exits with 1 if the errors are more than that rate allows (99 % of binomial draws), if the real
difference is found in fewer than half of the studies, or if a null row is ranked before it in more than 5 %.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from common import environment
from rscap.records import ScoreSheet
from rscap.scoring.comparison import LEVEL
from rscap.scoring.judgement import judge
from rscap.store import write_json

RESULT = Path(__file__).parent / "results" / "judge.json"
NULL = tuple(f"null-{number}" for number in range(9))
PLANTED, SEED_NOISE, OWN, COMMON = 0.12, 0.03, 0.3, 0.8
CONDITIONS = {
    "protocol": "coco",
    "tokenizer": "ptb",
    "reference_duplicates": "keep",
    "pool": "self:x",
    "data": "x",
    "statistics": {},
}


def study(rng: np.random.Generator, *, seeds: int, images: int) -> dict[tuple[str, int], ScoreSheet]:
    """Sheets of one simulated study."""
    difficulty = rng.gamma(2.0, COMMON / 2, size=images)
    effects = {"reference": 0.0, **dict.fromkeys(NULL, 0.0), "planted": PLANTED}
    return {
        (row, seed): sheet(difficulty + effect + rng.normal(0, SEED_NOISE) + rng.normal(0, OWN, size=images))
        for row, effect in effects.items()
        for seed in range(seeds)
    }


def sheet(values: np.ndarray) -> ScoreSheet:
    items = {f"{number:05}": {"CIDEr": float(value)} for number, value in enumerate(values)}
    corpus = {"CIDEr": float(values.mean())}
    return ScoreSheet(signature="", n=len(values), corpus=corpus, intervals={}, items=items, extra=CONDITIONS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=200)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    false = found = misranked = 0
    for _ in range(arguments.repetitions):
        judged = judge(study(rng, seeds=arguments.seeds, images=arguments.images), reference="reference", draws=2000)
        false += any(judged.row(name).verdict in ("better", "worse") for name in NULL)
        found += judged.row("planted").verdict == "better"
        misranked += judged.row("planted").best_rank > 1
    total = arguments.repetitions
    limit = LEVEL + 2.326 * (LEVEL * (1 - LEVEL) / total) ** 0.5
    print(f"{total} studies: a false claim in {false / total:.1%} (stated {LEVEL:.0%}), the real difference found in")
    print(f"{found / total:.1%}, a null row ranked beyond doubt before the planted one in {misranked / total:.1%}")
    write_json(
        RESULT,
        {
            "environment": environment(threads=1),
            "studies": total,
            "seeds": arguments.seeds,
            "images": arguments.images,
            "false_claims": false / total,
            "stated": LEVEL,
            "planted": PLANTED,
            "planted_found": found / total,
            "planted_misranked": misranked / total,
        },
    )
    sys.exit(0 if false / total <= limit and found / total >= 0.5 and misranked / total <= LEVEL else 1)


if __name__ == "__main__":
    main()
