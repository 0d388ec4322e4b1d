"""Judge a study on some of its images: on one source, and on all others.

    python tools/study_sources.py runs/adapt --source NWPU --start runs/start-0 runs/start-1 runs/start-2 \
        --out benchmarks/results/studies/adapt-sources.json

Each run's captions of the images are scored again, with document frequencies of these images alone, and the rows are
judged by `rscap.scoring.judgement.judge`, as the study's report judges them on all images. --start names evaluations of
the models that the runs began with, one a seed, which become one more row, the reference.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rscap
from rscap.records import ScoreSheet
from rscap.scoring.judgement import Judgement, judge
from rscap.store import RunFolder, write_json
from rscap.store.evaluation import read_predictions, read_references

METRICS = ["BLEU-4", "METEOR", "ROUGE-L", "CIDEr"]


def runs_of(study: Path) -> dict[tuple[str, int], Path]:
    """The folder of each run by row and seed."""
    found = sorted((study / "runs").glob("*/seed-*"))
    return {(path.parent.name, int(path.name.removeprefix("seed-"))): path for path in found}


def sheet_of(folder: Path, split: str, wanted: Callable[[str], bool]) -> ScoreSheet:
    """The scores of a run's captions on the images whose source is wanted."""
    run = RunFolder(folder)
    references = {
        name: one.captions for name, one in read_references(run.references(split)).items() if wanted(one.source or "")
    }
    captions = {
        name: one.caption for name, one in read_predictions(run.predictions(split)).items() if name in references
    }
    return rscap.score(captions, references, metrics=METRICS, draws=0)


def described(judgement: Judgement, sheets: dict[tuple[str, int], ScoreSheet]) -> dict[str, Any]:
    """Rows with their scores and differences from the reference, all seeds together."""
    rows = {}
    for row in judgement.rows:
        own = [sheet.corpus for (name, _), sheet in sheets.items() if name == row.name]
        rows[row.name] = {
            "seeds": row.seeds,
            **{metric: sum(one[metric] for one in own) / len(own) for metric in METRICS},
            "interval": row.interval,
            **(
                {}
                if row.against is None
                else {
                    "difference": row.against.difference,
                    "interval_corrected": row.against.corrected,
                    "p_holm": row.against.p_holm,
                    "verdict": row.verdict,
                }
            ),
        }
    return {"images": judgement.n, "metric": judgement.metric, "reference": judgement.reference, "rows": rows}


def judged(study: Path, start: list[Path], source: str, split: str, reference: str) -> dict[str, Any]:
    """The study on one source, and on all others."""
    folders = runs_of(study) | {("start", seed): path for seed, path in enumerate(start)}
    found = {}
    for name, wanted in ((source, source.__eq__), (f"not {source}", source.__ne__)):
        sheets = {key: sheet_of(folder, split, wanted) for key, folder in folders.items()}
        found[name] = {
            against: described(judge(sheets, reference=against), sheets)
            for against in dict.fromkeys(["start", reference] if start else [reference])
        }
    return found


def table(found: dict[str, Any]) -> str:
    """A line for each row."""
    lines = []
    for images, by_reference in found.items():
        for reference, one in by_reference.items():
            lines.append(f"{images} ({one['images']} images), against {reference}")
            for name, row in one["rows"].items():
                line = f"  {name:20} CIDEr {row['CIDEr']:.3f}  METEOR {row['METEOR']:.3f}"
                if "difference" in row:
                    low, high = row["interval_corrected"]
                    line += f"  {row['difference']:+.3f} [{low:.3f}, {high:.3f}], p = {row['p_holm']:.4f}"
                lines.append(line)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--source", required=True)
    parser.add_argument("--start", type=Path, nargs="*", default=[])
    parser.add_argument("--split", default="test")
    parser.add_argument("--reference", default="reward", help="a second row that the others are compared with")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    found = judged(given.study, given.start, given.source, given.split, given.reference)
    write_json(given.out, found)
    print(table(found))


if __name__ == "__main__":
    main()
