"""The score sheet: what it holds, and that the file says the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import rscap
from rscap import scoring
from rscap.errors import ScoreError, StoreError
from rscap.metrics import METRICS
from rscap.records import ScoreSheet
from rscap.scoring.meteor import MeteorUnavailable
from rscap.scoring.resampling import intervals, resampled_sums
from rscap.scoring.sheet import statistics_of

CANDIDATES = {
    "1": "two planes on the runway",
    "2": "a river",
    "3": "Many houses near a road .",
    "4": "caption caption caption caption",
    "5": "",
}
REFERENCES = {
    "1": ["two planes on the runway", "two planes are parked"],
    "2": ["a river in a forest", "a river in a forest"],
    "3": ["many houses near a road", "houses and a road"],
    "4": ["a green meadow", "grass"],
    "5": ["a beach and the sea", "white waves"],
}


def sheet(**options: object) -> ScoreSheet:
    return scoring.score_captions(CANDIDATES, REFERENCES, **{"draws": 200, **options})


def test_the_file_holds_the_sheet(tmp_path: Path) -> None:
    """Writing and reading gives the same sheet, figure for figure."""
    written = sheet(sources=dict.fromkeys(CANDIDATES, "made up"), decode="greedy-64")
    scoring.write_sheet(tmp_path / "scores" / "test.json", written)
    assert scoring.read_sheet(tmp_path / "scores" / "test.json") == written


def test_the_file_has_the_documented_form(tmp_path: Path) -> None:
    """signature, n, corpus, intervals as pairs, items by id and metric, unscored, with the seven metric names."""
    scoring.write_sheet(tmp_path / "s.json", sheet(metrics=["BLEU-1", "CIDEr"]))
    content = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    assert isinstance(content["signature"], str)
    assert content["n"] == 5
    assert content["unscored"] == 0
    assert set(content["corpus"]) == {"BLEU-1", "CIDEr"} < set(METRICS)
    assert all(len(bounds) == 2 and bounds[0] <= bounds[1] for bounds in content["intervals"].values())
    assert content["items"].keys() == CANDIDATES.keys()
    assert all(set(scores) == {"BLEU-1", "CIDEr"} for scores in content["items"].values())


def test_signature() -> None:
    """The signature names protocol, tokenizer, references, duplicates, pool, n, decoding, data and version."""
    parts = dict(part.split(":", 1) for part in sheet(decode="greedy-64").signature.split("|"))
    assert parts["protocol"] == "coco"
    assert parts["tok"].startswith("ptb-3.4.1/")
    assert parts["refs"] == "2,distinct:1.8"
    assert parts["dup"] == "keep"
    assert parts["idf"].startswith("self:")
    assert parts["idf"].endswith("/5")
    assert parts["n"] == "5"
    assert parts["decode"] == "greedy-64"
    assert parts["rscap"] == rscap.__version__
    assert len(parts["data"]) == 8


def test_what_changes_the_signature() -> None:
    """Other references, protocols, policies and pools have other signatures; the candidates have no part in it."""
    base = sheet().signature
    changed = scoring.score_captions(CANDIDATES, {**REFERENCES, "5": ["a beach"]}, draws=0).signature
    others = [sheet(protocol="raw").signature, sheet(reference_duplicates="distinct").signature, changed]
    assert len({base, *others}) == 4
    assert scoring.score_captions({**CANDIDATES, "5": "the sea"}, REFERENCES, draws=0).signature == base


def test_a_score_as_it_is_quoted() -> None:
    """`CIDEr-D 1.51 [1.46, 1.56]  signature`; without draws, no brackets."""
    own = replace(
        sheet(), corpus={"CIDEr": 1.5104}, intervals={"CIDEr": (1.461, 1.558)}, signature="protocol:coco", extra={}
    )
    assert scoring.score_line(own) == "CIDEr-D 1.51 [1.46, 1.56]  protocol:coco"
    assert scoring.score_line(replace(own, intervals={})) == "CIDEr-D 1.51  protocol:coco"


@pytest.mark.parametrize("protocol", ["coco", "raw", "sentence"])
def test_kept_statistics_give_scores_and_intervals_again(tmp_path: Path, protocol: str) -> None:
    """From the file alone: the corpus scores, every item score and, with the same seed, the intervals."""
    own = sheet(protocol=protocol)
    scoring.write_sheet(tmp_path / "s.json", own)
    again = statistics_of(scoring.read_sheet(tmp_path / "s.json"))
    assert again.corpus_scores() == own.corpus
    assert intervals(again, draws=200, seed=0) == own.intervals
    for metric, values in again.item_scores().items():
        assert values.tolist() == [item[metric] for item in own.items.values()]


def test_intervals_follow_seed_and_draws() -> None:
    """The same seed gives the same intervals, another seed others, no draws none."""
    assert sheet(seed=1).intervals == sheet(seed=1).intervals
    assert sheet(seed=1).intervals != sheet(seed=2).intervals
    assert sheet(draws=0).intervals == {}


def test_resamples_are_of_n_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every resample holds n images; drawing them in pieces of another size gives the same resamples."""
    sums = resampled_sums(np.column_stack([np.ones(37), np.arange(37)]), 300, seed=3)
    assert (sums[:, 0] == 37).all()
    assert 37 * 36 / 2 * 0.98 < sums[:, 1].mean() < 37 * 36 / 2 * 1.02
    monkeypatch.setattr("rscap.scoring.resampling.CELLS", 37 * 20)
    assert (resampled_sums(np.column_stack([np.ones(37), np.arange(37)]), 300, seed=3) == sums).all()


def test_missing_and_extra_ids() -> None:
    """Ids on one side only are errors that count and list them, ten at most."""
    few = {i: text for i, text in CANDIDATES.items() if i not in {"2", "4"}}
    with pytest.raises(ScoreError, match=r"2 of 5 references have no candidate: '2', '4'"):
        scoring.score_captions(few, REFERENCES)
    many = {**CANDIDATES, **{f"x{i:02}": "a" for i in range(12)}}
    with pytest.raises(ScoreError, match=r"12 of 17 candidates have no reference: 'x00', .*'x09', …"):
        scoring.score_captions(many, REFERENCES)


def test_without_meteor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where METEOR's tables are missing it is absent from the sheet, with a note; the other scores are there."""

    def missing(self: object) -> None:
        raise MeteorUnavailable("no tables", hint="install rscap[meteor]")

    monkeypatch.setattr("rscap.scoring.meteor.Meteor.__init__", missing)
    own = sheet()
    assert "METEOR" not in own.corpus
    assert set(METRICS) - set(own.corpus) == {"METEOR"}
    assert own.extra["notes"] == ["METEOR is not scored: no tables (install rscap[meteor])"]


def test_unscored() -> None:
    """With allow_missing the rest is scored, the missing are counted, and the pool is still that of all references."""
    few = {"1": CANDIDATES["1"], "3": CANDIDATES["3"]}
    own = scoring.score_captions(few, REFERENCES, draws=0, allow_missing=True)
    assert (own.n, own.unscored) == (2, 3)
    assert own.extra["pool"] == sheet().extra["pool"]
    assert own.items["1"] == sheet().items["1"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"protocol": "bleu"}, "unknown protocol 'bleu'"),
        ({"reference_duplicates": "drop"}, "unknown reference_duplicates 'drop'"),
        ({"metrics": ["SPICE"]}, "does not define"),
        ({"protocol": "sentence", "metrics": ["CIDEr"]}, "does not define"),
        ({"draws": -1}, "draws must be"),
    ],
)
def test_unknown_options(options: dict, words: str) -> None:
    """An option that has no such value is an error, never a default."""
    with pytest.raises(ScoreError, match=words):
        sheet(**options)


def test_captions_that_are_no_strings() -> None:
    """A caption that is no string, and an image without references, are errors that name the id."""
    with pytest.raises(ScoreError, match="candidate of '2' is a NoneType"):
        scoring.score_captions({**CANDIDATES, "2": None}, REFERENCES)
    with pytest.raises(ScoreError, match="the references of '2' are one string"):
        scoring.score_captions(CANDIDATES, {**REFERENCES, "2": "a river"})
    with pytest.raises(ScoreError, match="a reference of '2' is a int"):
        scoring.score_captions(CANDIDATES, {**REFERENCES, "2": [5]})
    with pytest.raises(ScoreError, match=r"an id is a string, found 1 \(int\)"):
        scoring.score_captions({1: "a"}, {1: ["a"]})
    with pytest.raises(ScoreError, match="1 images have no reference: '3'"):
        scoring.score_captions(CANDIDATES, {**REFERENCES, "3": []})
    with pytest.raises(ScoreError, match="no candidates to score"):
        scoring.score_captions({}, {})


def test_damaged_sheets(tmp_path: Path) -> None:
    """A file that is missing, no JSON, or lacks a field is named; a figure that is not finite is refused."""
    file = tmp_path / "s.json"
    with pytest.raises(StoreError, match=r"s\.json does not exist"):
        scoring.read_sheet(file)
    file.write_text("[1", encoding="utf-8")
    with pytest.raises(StoreError, match=r"s\.json is damaged: not JSON"):
        scoring.read_sheet(file)
    file.write_text('{"n": 3}', encoding="utf-8")
    with pytest.raises(StoreError, match="'signature', 'corpus', 'intervals', 'items', 'unscored' are missing"):
        scoring.read_sheet(file)
    scoring.write_sheet(file, sheet())
    content = json.loads(file.read_text(encoding="utf-8"))
    for key in ("items", "intervals", "corpus"):
        file.write_text(json.dumps({**content, key: [5]}), encoding="utf-8")
        with pytest.raises(StoreError, match=f"'{key}' should be"):
            scoring.read_sheet(file)
    file.write_text(json.dumps({**content, "statistics": {"BLEU": [[1, 2], [3]]}}), encoding="utf-8")
    with pytest.raises(ScoreError, match="statistics of the score sheet are damaged"):
        statistics_of(scoring.read_sheet(file))
    file.write_text(json.dumps({**content, "rscap": "9.9", "statistics": {"SPIDEr": [[1], [3]]}}), encoding="utf-8")
    with pytest.raises(ScoreError, match=r"written by rscap 9\.9 with statistics of 'SPIDEr', a metric that this"):
        statistics_of(scoring.read_sheet(file))
    with pytest.raises(StoreError, match="not a finite number"):
        scoring.write_sheet(tmp_path / "t.json", replace(sheet(), corpus={"CIDEr": float("nan")}))
    assert not (tmp_path / "t.json").exists()


def test_diagnostics() -> None:
    """Lengths, variety, degenerate outputs, groups, and scores after shuffling are where the documentation says."""
    found = sheet(
        sources={"1": "UCM", "2": "UCM", "3": "RSICD", "4": "RSICD", "5": "RSICD"},
        scene_classes={"1": "airport", "2": None},
        training_captions=["Many houses near a road", "a river ."],
        prefix="caption caption",
    ).extra["diagnostics"]
    assert found["distinct_captions"] == 5
    assert found["vocabulary"] == len({word for text in CANDIDATES.values() for word in text.lower().split()} - {"."})
    assert found["degenerate"]["loop"] == {"count": 1, "ids": ["4"]}
    assert found["degenerate"]["empty"] == {"count": 1, "ids": ["5"]}
    assert found["degenerate"]["prompt-echo"]["ids"] == ["4"]
    assert found["verbatim_training"] == {"count": 2, "share": 0.4}
    assert [found["by_source"][name]["n"] for name in ("RSICD", "UCM")] == [3, 2]
    assert set(found["by_scene_class"]) == {"airport"}
    assert sum(group["n"] for group in found["by_length"].values()) == 5
    assert found["shuffled"]["ROUGE-L"] < sheet().corpus["ROUGE-L"]
    assert found["length_ratio"] == pytest.approx(16 / (5 + 5 + 5 + 3 + 2))


def test_scores_of_a_group_are_those_of_its_images_alone() -> None:
    """A group's BLEU, ROUGE-L and CIDEr equal the scores of its images with the same pool."""
    ids = ("1", "3")
    group = sheet(sources=dict.fromkeys(ids, "mine")).extra["diagnostics"]["by_source"]["mine"]
    pool = scoring.IdfPool.build(REFERENCES)
    alone = scoring.score_captions(
        {i: CANDIDATES[i] for i in ids}, {i: REFERENCES[i] for i in ids}, pool=pool, draws=0
    ).corpus
    assert {metric: group[metric] for metric in alone} == pytest.approx(dict(alone))
