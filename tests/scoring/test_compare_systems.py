"""Comparing systems: what is claimed, what is refused, and how often a claim would be wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rscap import scoring
from rscap.errors import ScoreError
from rscap.records import ScoreSheet
from rscap.scoring.resampling import (
    bootstrap_p,
    holm,
    images_needed,
    randomisation_p,
    resampled_sums,
    swapped_sums,
)
from rscap.scoring.systems import Resampled

WORDS = np.array(
    ["a", "two", "many", "planes", "river", "road", "houses", "trees", "green", "beside", "on", "the", "near", "meadow"]
)


def sheet_of(seed: int, *, noise: float, n: int = 60, references_seed: int = 0) -> ScoreSheet:
    """A system whose captions are copies of a reference with some words replaced."""
    truth, rng = np.random.default_rng(references_seed), np.random.default_rng(seed)
    references, candidates = {}, {}
    for i in range(n):
        own = truth.choice(WORDS, size=(3, 8))
        references[f"{i}"] = [" ".join(sentence) for sentence in own]
        copy = np.where(rng.random(8) < noise, rng.choice(WORDS, size=8), own[0])
        candidates[f"{i}"] = " ".join(copy)
    return scoring.score_captions(
        candidates, references, draws=0, metrics=["BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr"], protocol="raw"
    )


GOOD, ALSO_GOOD, BAD = sheet_of(1, noise=0.3), sheet_of(2, noise=0.3), sheet_of(3, noise=0.7)


@pytest.mark.parametrize("metric", ["BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr"])
def test_a_clear_difference(metric: str) -> None:
    """A system that is better is said to be, whichever comes first, and the interval excludes 0."""
    found = scoring.compare({"good": GOOD, "bad": BAD}, metric, draws=2000).differences[0]
    assert found.difference == pytest.approx(GOOD.corpus[metric] - BAD.corpus[metric])
    assert 0 < found.interval[0] <= found.difference <= found.interval[1]
    assert max(found.p_bootstrap, found.p_randomisation) < 0.01
    assert found.sentence.startswith("good is better than bad at n = 60")
    other = scoring.compare({"bad": BAD, "good": GOOD}, metric, draws=2000).differences[0]
    assert other.difference == -found.difference
    assert other.sentence.startswith("good is better than bad")


def test_meteor_is_compared_from_its_statistics() -> None:
    """METEOR of resamples comes from its own summed counts, not from a mean of item scores."""
    references = {f"{i}": [f"{i} planes on the runway", "many planes are parked"] for i in range(30)}
    good = scoring.score_captions({i: own[0] for i, own in references.items()}, references, draws=0)
    if "METEOR" not in good.corpus:
        pytest.skip(good.extra["notes"][0])
    bad = scoring.score_captions({i: f"a river with {i} boats on it" for i in references}, references, draws=0)
    found = scoring.compare({"good": good, "bad": bad}, "METEOR", draws=500).differences[0]
    assert found.difference == pytest.approx(good.corpus["METEOR"] - bad.corpus["METEOR"])
    assert found.interval[0] <= found.difference <= found.interval[1]
    assert found.distinguishable


def test_noise() -> None:
    """Two systems of equal quality do not differ significantly, and the sentence promises nothing beyond that."""
    found = scoring.compare({"a": GOOD, "b": ALSO_GOOD}, draws=2000).differences[0]
    assert found.interval[0] < 0 < found.interval[1]
    assert not found.distinguishable
    assert found.images_needed is not None
    assert found.sentence.startswith("a and b do not differ significantly at n = 60 (CIDEr")
    assert found.sentence.endswith(f"{found.corrected[1]:.3f}], p = {found.p_holm:.2f}).")


def test_a_system_against_itself() -> None:
    """Equal sheets differ by 0 with p = 1, and no number of images is named."""
    found = scoring.compare({"a": GOOD, "b": GOOD}, draws=200).differences[0]
    assert (found.difference, found.interval, found.images_needed) == (0, (0, 0), None)
    assert (found.p_bootstrap, found.p_randomisation, found.p_holm) == (1, 1, 1)
    assert "a and b do not differ significantly" in found.sentence


def test_three_systems_are_corrected_together() -> None:
    """All three pairs are tested; corrected p-values are at least the uncorrected ones."""
    found = scoring.compare({"a": GOOD, "b": ALSO_GOOD, "c": BAD}, draws=1000)
    assert [(row.first, row.second) for row in found.differences] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert all(row.p_holm >= row.p_randomisation for row in found.differences)
    assert "interval and p after Holm's correction for 3 comparisons" in found.differences[0].sentence
    for row in found.differences:
        low, high = row.corrected
        assert f"[{low:z.3f}, {high:z.3f}]" in row.sentence


def test_the_same_seed_gives_the_same_comparison() -> None:
    """Seed and draws decide everything."""
    first, again = (scoring.compare({"a": GOOD, "b": BAD}, draws=300, seed=5) for _ in range(2))
    assert first == again


def test_replicates_widen_the_interval() -> None:
    """Sheets of one system are averaged; the spread between seeds enters interval and p-value."""
    names = {"a1": "a", "a2": "a", "a3": "a", "b1": "b", "b2": "b", "b3": "b"}
    sheets = {name: sheet_of(10 + seed, noise=0.3 if name[0] == "a" else 0.33) for seed, name in enumerate(names)}
    found = scoring.compare(sheets, "CIDEr", systems=names, draws=2000)
    assert [(system.name, system.replicates) for system in found.systems] == [("a", 3), ("b", 3)]
    means = {
        name: np.mean([sheets[own].corpus["CIDEr"] for own in sheets if names[own] == name]) for name in ("a", "b")
    }
    row = found.differences[0]
    assert row.difference == pytest.approx(means["a"] - means["b"])
    spread = np.mean([np.var([sheets[f"{s}{k}"].corpus["CIDEr"] for k in (1, 2, 3)], ddof=1) for s in "ab"]) ** 0.5
    assert "4 degrees of freedom" in found.notes[0]
    assert row.interval[1] - row.interval[0] > 2 * 2.0 * spread * (2 / 3) ** 0.5


def test_seeds_can_hide_what_images_show() -> None:
    """Where seeds scatter widely, a difference that is clear over images is not claimed; more replicates may help."""
    names = {"a1": "a", "a2": "a", "b1": "b", "b2": "b"}
    sheets = {"a1": sheet_of(20, noise=0.1), "a2": sheet_of(21, noise=0.6), "b1": BAD, "b2": sheet_of(22, noise=0.3)}
    row = scoring.compare(sheets, systems=names, draws=2000).differences[0]
    assert row.p_randomisation < 0.05 < row.p_holm
    assert "do not differ significantly" in row.sentence


def test_what_no_seed_changes_has_no_noise_of_seeds() -> None:
    """A baseline beside replicates brings no error over seeds; a run that was not repeated brings the pooled one."""
    names = {"a1": "a", "a2": "a", "b": "b"}
    sheets = {own: sheet_of(30 + number, noise=0.3) for number, own in enumerate(names)}
    trained = Resampled.of(sheets, "CIDEr", systems=names, draws=500).differences([("a", "b")])[0]
    fixed = Resampled.of(sheets, "CIDEr", systems=names, untrained=["b"], draws=500).differences([("a", "b")])[0]
    assert fixed.error_seeds == pytest.approx(trained.error_seeds / 3**0.5)
    assert fixed.error_images == trained.error_images
    assert fixed.corrected[1] - fixed.corrected[0] < trained.corrected[1] - trained.corrected[0]


def altered(**extra: object) -> ScoreSheet:
    return replace(BAD, extra={**BAD.extra, **extra})


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (sheet_of(3, noise=0.7, n=50), r"a \(n = 60\) and b \(n = 50\) are of different images; only in a: '50', '51'"),
        (sheet_of(3, noise=0.7, references_seed=9), "of different IDF pools|of different references"),
        (altered(protocol="coco"), "of different protocols: raw and coco"),
        (altered(pool="file:00000000/60"), "of different IDF pools"),
        (altered(reference_duplicates="distinct"), "of different reference-duplicate policies"),
        (altered(data="00000000"), "of different references"),
        (altered(tokenizer="ptb-3.4.1/0"), "of different tokenizers"),
        (replace(BAD, corpus={"BLEU-1": 0.5}), "b has no score for CIDEr; it has BLEU-1"),
        (replace(BAD, extra={}), "does not say under which conditions"),
        (replace(BAD, extra={k: v for k, v in BAD.extra.items() if k != "statistics"}), "holds no statistics"),
    ],
)
def test_unlike_sheets_are_refused(other: ScoreSheet, words: str) -> None:
    """Sheets of other images, references, protocols, pools or policies are not compared."""
    with pytest.raises(ScoreError, match=words):
        scoring.compare({"a": GOOD, "b": other})


def test_the_same_pool_from_a_file() -> None:
    """A pool that was saved and one that was built on the spot are the same pool when their digests are."""
    pool = str(BAD.extra["pool"]).replace("self:", "file:")
    assert scoring.compare({"a": GOOD, "b": altered(pool=pool)}, draws=100).n == 60


def test_too_few() -> None:
    """One system, systems that name no sheet, and too few draws are errors."""
    with pytest.raises(ScoreError, match="at least two systems"):
        scoring.compare({"a": GOOD})
    with pytest.raises(ScoreError, match="at least two systems"):
        scoring.compare({"a": GOOD, "b": BAD}, systems={"a": "x", "b": "x"})
    with pytest.raises(ScoreError, match=r"systems names \['c'\]"):
        scoring.compare({"a": GOOD, "b": BAD}, systems={"a": "x", "b": "y", "c": "z"})
    with pytest.raises(ScoreError, match="at least 100 draws"):
        scoring.compare({"a": GOOD, "b": BAD}, draws=10)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm(p_values: list[float]) -> None:
    """Corrected values keep the order, are at least the originals and at most Bonferroni's."""
    corrected = holm(p_values)
    count = len(p_values)
    assert corrected[int(np.argmin(p_values))] == pytest.approx(min(1, count * min(p_values)))
    for p, q in zip(p_values, corrected, strict=True):
        assert p <= q <= min(1, count * p) + 1e-12
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(corrected)[order]) >= 0).all()


def test_holm_by_hand() -> None:
    """0.01, 0.04, 0.03 become 0.03, 0.06, 0.06."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_images_needed_by_hand() -> None:
    """An error of 0.1 at 100 images and a difference of 0.1 need 785 images; seeds may hide it for ever."""
    assert images_needed(0.1, 0.1, 0.0, 100) == 785
    assert images_needed(-0.1, 0.1, 0.0, 100) == 785
    assert images_needed(0.1, 0.1, 0.04, 100) is None
    assert images_needed(0.0, 0.1, 0.0, 100) is None


def test_swaps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Swapping keeps the sum of both systems, moves each image half of the time, and does not depend on the pieces."""
    first, second = np.arange(70.0)[:, None], np.zeros((70, 1))
    mine, theirs = swapped_sums(first, second, 400, seed=1)
    assert (mine + theirs).tolist() == [[first.sum()]] * 400
    assert mine.mean() == pytest.approx(first.sum() / 2, rel=0.02)
    monkeypatch.setattr("rscap.scoring.resampling.CELLS", 700)
    assert (swapped_sums(first, second, 400, seed=1)[0] == mine).all()


def test_intervals_cover_and_tests_do_not_cry_wolf() -> None:
    """At n = 500, 1,500 experiments: 95 % intervals of a skewed mean cover 93-97 %, and 5 % tests alarm in 3.5-6.5 %.

    benchmarks/coverage.py runs 10,000 experiments on BLEU, ROUGE-L and CIDEr with tighter bounds.
    """
    rng, n, experiments, draws = np.random.default_rng(20_260_101), 500, 1500, 1000
    first, second = rng.gamma(2.0, 0.5, size=(2, n, experiments))
    sums = resampled_sums(first, draws, seed=0) / n
    low, high = np.quantile(sums, [0.025, 0.975], axis=0)
    assert 0.93 <= ((low <= 1.0) & (high >= 1.0)).mean() <= 0.97
    observed = (first - second).mean(axis=0)
    resampled = resampled_sums(first - second, draws, seed=0) / n
    mine, theirs = swapped_sums(first, second, draws, seed=0)
    for p_values in (bootstrap_p(resampled, observed), randomisation_p((mine - theirs) / n, observed)):
        assert 0.035 <= (p_values < 0.05).mean() <= 0.065
