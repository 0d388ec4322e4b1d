"""Foreign metrics in reports: columns, intervals, paired tests and directions."""

from __future__ import annotations

import csv
import html
import json
from pathlib import Path

import numpy as np
import pytest

import study_folder as make
from rscap import scoring
from rscap.escape import for_markdown
from rscap.metrics import METRICS
from rscap.records import Prediction
from rscap.reports import build_table, tables_markdown, write_report
from rscap.reports.study import load_study, study_csv, study_markdown, summarise
from rscap.scoring import ForeignMetric
from rscap.store import RunFolder, write_predictions

IDS = [f"{number:03}.jpg" for number in range(900)]
REFERENCES = {i: (f"{int(i[:3]) % 13} planes on a runway", f"planes {int(i[:3]) % 13}") for i in IDS}


def spice(run: str, *, shift: float, source: str = "SPICE 1.0") -> ForeignMetric:
    """Made-up scores: equal difficulty of an image for every run, a little luck, and the run's own level."""
    difficulty = np.random.default_rng(0).uniform(0.2, 0.6, size=len(IDS))
    luck = np.random.default_rng(sum(run.encode())).uniform(-0.05, 0.05, size=len(IDS))
    scores = dict(zip(IDS, (difficulty + luck + shift).tolist(), strict=True))
    return ForeignMetric(name="SPICE", source=source, low=0, high=1, scores=scores)


def edits(run: str, *, shift: float) -> ForeignMetric:
    """The same for a metric of which less is better."""
    scores = {i: 10 * value for i, value in spice(run, shift=shift).scores.items()}  # type: ignore[union-attr]
    return ForeignMetric(name="edits", source="by hand", low=0, higher_is_better=False, scores=scores)


def make_run(folder: Path, name: str, foreign: list[ForeignMetric]) -> Path:
    run = RunFolder.create(folder / name)
    captions = {i: f"{int(i[:3]) % (13 if name == 'a' else 7)} planes" for i in IDS}
    rows = [Prediction(example_id=i, caption=text, prefix="", tokens=3, stopped="eos") for i, text in captions.items()]
    write_predictions(run.predictions("test"), rows)
    sheet = scoring.score_captions(captions, REFERENCES, metrics=["BLEU-4", "CIDEr", *foreign], draws=200)
    scoring.write_sheet(run.scores("test"), sheet)
    run.close("finished")
    return run.path


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The report, by kind of file, of two runs with SPICE of one source and edits."""
    folder = tmp_path_factory.mktemp("reports")
    runs = [
        make_run(folder, name, [spice(name, shift=shift), edits(name, shift=-shift)])
        for name, shift in (("a", 0.02), ("b", 0.0))
    ]
    written = {path.suffix: path.read_text() for path in write_report(runs, folder / "report.html")}
    return {**written, ".md": tables_markdown(build_table(runs))}


def test_a_foreign_metric_of_900_images_has_column_interval_and_paired_test(reported: dict[str, str]) -> None:
    """Page, JSON, CSV and Markdown show SPICE with its source, its interval, and which run is better."""
    (table,) = json.loads(reported[".json"])["tables"]
    rows = {row["label"]: row for row in table["rows"]}
    column = "SPICE (SPICE 1.0)"
    low, high = rows["a"]["intervals"][column]
    assert low < rows["a"]["scores"][column] < high
    tested = {(one["metric"], one["first"], one["second"]): one for one in table["differences"]}
    assert tested["SPICE", "a", "b"]["p_holm"] < 0.01
    assert tested["SPICE", "a", "b"]["difference"] == pytest.approx(0.02, abs=0.005)
    assert ("CIDEr", "a", "b") in tested
    sentence = tested["SPICE", "a", "b"]["sentence"]
    assert sentence.startswith("a is better than b at n = 900 (SPICE")
    assert for_markdown(sentence) in reported[".md"]
    assert html.escape(sentence) in reported[".html"]
    assert column in reported[".html"]
    first = next(csv.DictReader(reported[".csv"].splitlines()))
    assert float(first[column]) == rows["a"]["scores"][column]
    assert float(first[f"{column} low"]) == low


def test_less_is_better_where_the_metric_says_so(reported: dict[str, str]) -> None:
    """The run with fewer edits is the better one, comes first in the comparison and has the bold cell."""
    (table,) = json.loads(reported[".json"])["tables"]
    found = next(one for one in table["differences"] if one["metric"] == "edits")
    assert (found["first"], found["second"]) == ("a", "b")
    assert found["difference"] < 0
    assert found["sentence"].startswith("a is better than b")
    assert "edits (by hand), lower is better" in reported[".html"]


def test_two_sources_are_two_columns(tmp_path: Path) -> None:
    """Runs with SPICE from different programs stand in one table, in two columns, without a paired test of the two."""
    runs = [
        make_run(tmp_path, "a", [spice("a", shift=0.02)]),
        make_run(tmp_path, "b", [spice("b", shift=0.0, source="SPICE 2.0")]),
    ]
    written = {path.suffix: path for path in write_report(runs, tmp_path / "report.html")}
    (table,) = json.loads(written[".json"].read_text())["tables"]
    columns = [set(row["scores"]) - set(METRICS) for row in table["rows"]]
    assert columns == [{"SPICE (SPICE 1.0)"}, {"SPICE (SPICE 2.0)"}]
    assert {one["metric"] for one in table["differences"]} == {"CIDEr"}


def test_a_study_is_judged_by_a_foreign_metric(tmp_path: Path) -> None:
    """Rows are judged, ranked and sorted by a metric of which less is better, and its column is in every format."""
    folder = make.write_study(tmp_path, images=30, failed=None)
    for path in sorted(folder.glob("runs/*/*/scores/test.json")):
        sheet = scoring.read_sheet(path)
        missed = {i: 10 - row["CIDEr"] for i, row in sheet.items.items()}
        lost = ForeignMetric(name="lost", source="by hand", low=0, higher_is_better=False, scores=missed)
        scoring.write_sheet(path, scoring.add_foreign(sheet, [lost]))
    study = load_study(folder)
    by_cider, by_lost = summarise(study), summarise(study, metric="lost")
    assert [one.row.name for one in by_lost.rows] == [one.row.name for one in by_cider.rows]
    assert by_lost.front == by_cider.front
    assert by_lost.judgement is not None
    assert by_lost.judgement.row("better").verdict == "better"
    assert "lost" in study_markdown(by_lost)
    assert float(next(csv.DictReader(study_csv(by_lost).splitlines()))["lost"]) > 0
