"""What must hold of scores whatever the captions."""

from __future__ import annotations

import random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rscap import scoring
from rscap.scoring import rouge
from rscap.scoring.corpus import Corpus
from rscap.scoring.meteor import Meteor, MeteorUnavailable

METRICS = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr")
word = st.sampled_from(["a", "the", "plane", "planes", "runway", "river", "two", "green", "next", "to"])
caption = st.lists(word, min_size=1, max_size=9).map(" ".join)
groups = st.dictionaries(
    st.integers(0, 99).map(str), st.tuples(caption, st.lists(caption, min_size=1, max_size=4)), min_size=2, max_size=6
)
Groups = dict[str, tuple[str, list[str]]]


def sheet_of(rows: Groups, **options: object) -> scoring.ScoreSheet:
    candidates, references = {i: own[0] for i, own in rows.items()}, {i: own[1] for i, own in rows.items()}
    return scoring.score_captions(candidates, references, metrics=METRICS, draws=50, **options)


@settings(deadline=None, max_examples=30)
@given(groups, st.randoms(use_true_random=False), st.sampled_from(["coco", "raw"]))
def test_order_does_not_matter(rows: Groups, shuffler: random.Random, protocol: str) -> None:
    """The sheet of shuffled images with shuffled references is the same sheet, to the last bit, intervals included."""
    ids = list(rows)
    shuffler.shuffle(ids)
    other = {i: (rows[i][0], shuffler.sample(rows[i][1], len(rows[i][1]))) for i in ids}
    assert sheet_of(rows, protocol=protocol) == sheet_of(other, protocol=protocol)


@settings(deadline=None, max_examples=30)
@given(groups)
def test_identical_captions(rows: Groups) -> None:
    """A caption that equals all its references scores ROUGE-L 1, BLEU-n 1 with n tokens, CIDEr 10 if they weigh."""
    same = {i: (own[0], [own[0]] * len(own[1])) for i, own in rows.items()}
    sheet = sheet_of(same)
    pool = scoring.IdfPool.build({i: own[1] for i, own in same.items()})
    for i, (text, _) in same.items():
        item, tokens = sheet.items[i], text.split()
        assert item["ROUGE-L"] == 1
        for n in range(1, 5):
            if len(tokens) >= n:
                assert item[f"BLEU-{n}"] == pytest.approx(1, abs=1e-6)
        if all(informative(tokens, n, pool) for n in range(1, 5)):
            assert item["CIDEr"] == pytest.approx(10)


def informative(tokens: list[str], n: int, pool: scoring.IdfPool) -> bool:
    """Some n-gram of this order stands in the references of fewer than all images."""
    if len(tokens) < n:
        return False
    corpus = Corpus.build([" ".join(tokens)], [["unseen"]])
    weights = pool.weights(corpus.table)
    offsets = corpus.table.offsets
    mine = [g for g in corpus.bags.grams[corpus.candidate_entries[0]] if offsets[n - 1] <= g < offsets[n]]
    return bool((weights[mine] > 0).any())


@settings(deadline=None, max_examples=30)
@given(groups)
def test_an_empty_caption_is_scored(rows: Groups) -> None:
    """An empty caption, and one of punctuation alone, is an item with scores near 0 and counts in n."""
    for empty in ("", " . ", "\n"):
        first = next(iter(rows))
        sheet = sheet_of({**rows, first: (empty, rows[first][1])})
        assert sheet.n == len(rows)
        assert sheet.unscored == 0
        assert all(0 <= value < 1e-5 for value in sheet.items[first].values())
        assert sheet.extra["diagnostics"]["degenerate"]["empty"]["ids"] == [first]


@settings(deadline=None)
@given(caption, st.lists(caption, min_size=1, max_size=4), caption)
def test_more_references_never_lower_rouge(text: str, own: list[str], another: str) -> None:
    """Per image, adding a reference never lowers ROUGE-L."""
    fewer, more = (rouge.item_scores(Corpus.build([text], [refs]))[0] for refs in (own, [*own, another]))
    assert more >= fewer


@pytest.fixture(scope="module")
def meteor() -> Meteor:
    try:
        return Meteor()
    except MeteorUnavailable as error:
        pytest.skip(error.message)


@settings(deadline=None, max_examples=50)
@given(caption, st.lists(caption, min_size=1, max_size=4), caption)
def test_more_references_never_lower_meteor(meteor: Meteor, text: str, own: list[str], another: str) -> None:
    """Per image, adding a reference never lowers METEOR; a reference that equals the caption makes it 1."""
    fewer, more, same = meteor.item_scores([text] * 3, [own, [*own, another], [*own, text]])
    assert more >= fewer
    assert same == pytest.approx(1)


@settings(deadline=None, max_examples=30)
@given(groups)
def test_scores_stay_in_range(rows: Groups) -> None:
    """BLEU and ROUGE-L lie in [0, 1], CIDEr in [0, 10], and intervals hold their order."""
    sheet = sheet_of(rows)
    for scores in (sheet.corpus, *sheet.items.values()):
        for metric, value in scores.items():
            assert 0 <= value <= (10 if metric == "CIDEr" else 1) + 1e-9
    assert all(low <= high for low, high in sheet.intervals.values())


@settings(deadline=None, max_examples=30)
@given(groups)
def test_repeated_references(rows: Groups) -> None:
    """Repeating every reference changes nothing; `distinct` undoes a repetition of one of them."""
    twice = {i: (own[0], own[1] * 2) for i, own in rows.items()}
    once, both = sheet_of(rows), sheet_of(twice)
    for metric in METRICS:
        assert both.corpus[metric] == pytest.approx(once.corpus[metric])
    lopsided = {i: (own[0], [*own[1], own[1][0]]) for i, own in rows.items()}
    assume(all(len(set(own[1])) == len(own[1]) for own in rows.values()))
    assert sheet_of(lopsided, reference_duplicates="distinct").corpus == once.corpus


def test_case_and_punctuation_count_under_raw_only() -> None:
    """`A plane.` equals `a plane` under coco and shares no word with it under raw."""
    rows = {"1": ("A plane.", ["a plane"]), "2": ("a river", ["a river"])}
    assert sheet_of(rows).items["1"]["ROUGE-L"] == 1
    assert sheet_of(rows, protocol="raw").items["1"]["ROUGE-L"] == 0
