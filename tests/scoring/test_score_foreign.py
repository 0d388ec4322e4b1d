"""Metrics of one's own and from elsewhere have what rscap's own metrics have."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rscap import scoring
from rscap.errors import ScoreError
from rscap.scoring import METRICS, ForeignMetric

OURS = tuple(metric for metric in METRICS if metric != "METEOR")
IDS = [f"{number:03}.jpg" for number in range(60)]
REFERENCES = {i: [f"{int(i[:3]) % 7} planes on the runway", "many planes are parked"] for i in IDS}
GOOD = {i: f"{int(i[:3]) % 7} planes on the grass" if int(i[:3]) % 3 else "a river" for i in IDS}
BAD = {i: f"{int(i[:3]) % 5} boats on the sea" for i in IDS}


def words(candidates: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> list[float]:
    """Words of each candidate."""
    return [float(len(caption.split())) for caption in candidates.values()]


def errors_of(candidates: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Words that no reference has, by image."""
    return {
        i: float(len(set(caption.split()) - {word for text in references[i] for word in text.split()}))
        for i, caption in candidates.items()
    }


WORDS_MISSED = ForeignMetric(name="words missed", source="by hand", low=0, higher_is_better=False, scores=errors_of)


def test_a_function_is_a_metric() -> None:
    """A function handed in gets item scores, the corpus mean, an interval around it, groups, and its name and module in
    the signature; an image's number is found under its id whatever the order of the files."""
    backwards = dict(reversed(GOOD.items()))
    sheet = scoring.score_captions(
        backwards, REFERENCES, metrics=["CIDEr", words], draws=300, sources=dict.fromkeys(IDS, "risc")
    )
    expected = {i: len(GOOD[i].split()) for i in IDS}
    assert {i: row["words"] for i, row in sheet.items.items()} == expected
    assert sheet.corpus["words"] == pytest.approx(np.mean(list(expected.values())))
    low, high = sheet.intervals["words"]
    assert low < sheet.corpus["words"] < high
    assert f"foreign:words@{words.__module__}" in sheet.signature.split("|")
    assert sheet.extra["diagnostics"]["by_source"]["risc"]["words"] == pytest.approx(sheet.corpus["words"])


def test_a_foreign_metric_changes_no_other_number(tmp_path: Path) -> None:
    """With a foreign metric, every number and every key of the sheet without it is there, digit for digit."""
    plain = scoring.score_captions(GOOD, REFERENCES, metrics=OURS, draws=200)
    more = scoring.score_captions(GOOD, REFERENCES, metrics=[*OURS, words, WORDS_MISSED], draws=200)
    assert {name: more.corpus[name] for name in OURS} == plain.corpus
    assert {name: more.intervals[name] for name in OURS} == plain.intervals
    assert {i: {name: row[name] for name in OURS} for i, row in more.items.items()} == plain.items
    assert more.extra.keys() - plain.extra.keys() == {"foreign"}
    assert more.extra["statistics"] == plain.extra["statistics"]
    scoring.write_sheet(tmp_path / "sheet.json", more)
    assert scoring.read_sheet(tmp_path / "sheet.json") == more


def test_lower_is_better_where_the_metric_says_so() -> None:
    """A paired comparison and the judgement of a study turn round with the metric's direction."""
    sheets = {
        name: scoring.score_captions(own, REFERENCES, metrics=[WORDS_MISSED], draws=0)
        for name, own in (("good", GOOD), ("bad", BAD))
    }
    found = scoring.compare(sheets, "words missed", draws=500)
    assert found.differences[0].difference < 0
    assert found.differences[0].sentence.startswith("good is better than bad")
    assert found.conditions["foreign"] == "words missed@by hand"
    runs = {(name, seed): sheet for name, sheet in sheets.items() for seed in (0, 1)}
    judged = scoring.judge(runs, reference="bad", metric="words missed", draws=500)
    assert [row.name for row in judged.rows] == ["good", "bad"]
    assert (judged.row("good").verdict, judged.row("good").worst_rank) == ("better", 1)


def test_one_number_for_all_images() -> None:
    """A function that gives one number has a corpus score, but no item scores, no interval and no paired test."""

    def distinct(candidates: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> float:
        return len(set(candidates.values())) / len(candidates)

    sheet = scoring.score_captions(GOOD, REFERENCES, metrics=["CIDEr", distinct], draws=100)
    assert sheet.corpus["distinct"] == len(set(GOOD.values())) / len(GOOD)
    assert "distinct" not in sheet.intervals
    assert all(row.keys() == {"CIDEr"} for row in sheet.items.values())
    scoring.compare({"a": sheet, "b": sheet}, "CIDEr", draws=100)
    with pytest.raises(ScoreError, match="one distinct for all images"):
        scoring.compare({"a": sheet, "b": sheet}, "distinct", draws=100)


def test_adding_leaves_the_marks_of_a_signature_in_their_place() -> None:
    """What follows the version in a signature, such as images that the model has seen, still follows it."""
    sheet = scoring.score_captions(GOOD, REFERENCES, metrics=["CIDEr"], draws=0)
    marked = replace(sheet, signature=f"{sheet.signature}|seen:12/60")
    added = scoring.add_foreign(marked, [ForeignMetric(name="SPICE", source="1.0", scores=dict.fromkeys(IDS, 0.5))])
    kinds = [part.partition(":")[0] for part in added.signature.split("|")]
    assert kinds[-3:] == ["foreign", "rscap", "seen"]


def test_sources_are_not_mixed() -> None:
    """The same name from two sources is not compared."""
    sheets = {
        source: scoring.score_captions(
            GOOD,
            REFERENCES,
            metrics=[ForeignMetric(name="SPICE", source=source, scores=dict.fromkeys(IDS, 0.5))],
            draws=0,
        )
        for source in ("1.0", "2.0")
    }
    with pytest.raises(ScoreError, match="SPICE from different sources"):
        scoring.compare(sheets, "SPICE")


@pytest.mark.parametrize(
    ("metric", "problem"),
    [
        (ForeignMetric(name="x", source="y", scores={}), "x has no score for 60 of 60 images: '000.jpg'"),
        (ForeignMetric(name="x", source="y", scores={**dict.fromkeys(IDS, 0.1), "003.jpg": float("nan")}), "003.jpg"),
        (ForeignMetric(name="x", source="y", high=1, scores=dict.fromkeys(IDS, 31.0)), "×100"),
        (ForeignMetric(name="x", source="y", low=0, scores=dict.fromkeys(IDS, -1.0)), "outside its range of 0 to ∞"),
        (ForeignMetric(name="CIDEr (paper)", source="y", scores=dict.fromkeys(IDS, 87.3)), "×100"),
        (ForeignMetric(name="Bleu_4", source="y", high=100, scores=dict.fromkeys(IDS, 31.2)), "×100"),
        (ForeignMetric(name="x", source="y", scores=lambda c, r: [0.0]), r"shape \(1,\) for 60 images"),
        (ForeignMetric(name="x", source="y", scores=lambda c, r: ["a"] * 60), "not numbers"),
        (lambda c, r: 1.0, "the function <lambda> has no name"),
    ],
)
def test_what_is_no_score_is_an_error(metric: object, problem: str) -> None:
    """A missing, infinite or impossible score names metric and image; ten times too high says ×100."""
    with pytest.raises(ScoreError, match=problem):
        scoring.score_captions(GOOD, REFERENCES, metrics=[metric], draws=0)  # type: ignore[list-item]


@pytest.mark.parametrize("arguments", [{"name": "CIDEr"}, {"name": "a|b"}, {"source": "a@b"}, {"low": 1, "high": 1}])
def test_names_that_would_mislead_are_refused(arguments: dict[str, object]) -> None:
    """rscap's own names, the signature's separators and empty ranges."""
    with pytest.raises(ScoreError):
        ForeignMetric(**{"name": "a", "source": "b", "scores": {}, **arguments})  # type: ignore[arg-type]


DECLARATION = '{"metric": "SPICE", "low": 0, "high": 1, "better": "higher", "source": "SPICE 1.0"}'
CSV = f"# {DECLARATION}\nid,SPICE\n" + "".join(f"{i},0.{int(i[:3]):02}\n" for i in IDS)
JSONL = DECLARATION + "\n" + "".join(json.dumps({"id": i, "SPICE": int(i[:3]) / 100}) + "\n" for i in IDS)


@pytest.mark.parametrize(
    ("name", "text"), [("spice.csv", CSV), ("spice.jsonl", JSONL), ("w.csv", CSV.replace("\n", "\r\n"))]
)
def test_a_file_of_scores(tmp_path: Path, name: str, text: str) -> None:
    """CSV and JSON Lines with a declaration give the same metric."""
    (tmp_path / name).write_text(text, encoding="utf-8")
    (spice,) = scoring.load_foreign(tmp_path / name)
    assert (spice.name, spice.source, spice.low, spice.high) == ("SPICE", "SPICE 1.0", 0, 1)
    sheet = scoring.score_captions(GOOD, REFERENCES, metrics=[spice], draws=50)
    assert sheet.items["007.jpg"] == {"SPICE": 0.07}
    assert "foreign:SPICE@SPICE_1.0" in sheet.signature


@pytest.mark.parametrize("name", ["items.csv", "items.jsonl"])
def test_scores_go_out_and_come_in(tmp_path: Path, name: str) -> None:
    """What `write_items` writes, `load_foreign` reads to the last digit, direction and range included; a name of
    rscap's own is marked as foreign."""
    sheet = scoring.score_captions(GOOD, REFERENCES, metrics=["ROUGE-L", "CIDEr", WORDS_MISSED], draws=0)
    scoring.write_items(tmp_path / name, sheet)
    found = {metric.name: metric for metric in scoring.load_foreign(tmp_path / name)}
    assert set(found) == {"ROUGE-L (foreign)", "CIDEr (foreign)", "words missed"}
    for given, metric in found.items():
        assert metric.scores == {i: row[given.removesuffix(" (foreign)")] for i, row in sheet.items.items()}
    assert found["CIDEr (foreign)"].high == 10
    assert (found["words missed"].source, found["words missed"].higher_is_better) == ("by hand", False)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (CSV.replace(f"# {DECLARATION}\n", ""), "line 2: 'SPICE' is not declared"),
        (CSV + "000.jpg,0.5\n", "line 63: '000.jpg' occurs a second time"),
        (CSV.replace("007.jpg,0.07", "007.jpg,"), "line 10, SPICE: expected a finite number, found nothing"),
        (CSV.replace("007.jpg,0.07", "007.jpg,inf"), "line 10, SPICE: expected a finite number"),
        (CSV.replace("007.jpg,0.07", "007.jpg"), "line 10: 1 fields, but the header has 2"),
        (CSV.replace("id,SPICE", "name,SPICE"), "one column `id`"),
        (CSV.replace('"better": "higher", ', ""), "line 1: a declaration has exactly the keys"),
        (CSV.replace('"higher"', '"up"'), "line 1: better = 'up'"),
        (f"# {DECLARATION}\n", "holds no scores"),
    ],
)
def test_a_file_that_is_no_table_of_scores(tmp_path: Path, text: str, problem: str) -> None:
    """The error names file, line and what is missing."""
    (tmp_path / "spice.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ScoreError, match=problem):
        scoring.load_foreign(tmp_path / "spice.csv")
