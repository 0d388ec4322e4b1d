"""What METEOR must do whatever the captions are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rscap.errors import ScoreError
from rscap.scoring.meteor import COLUMNS, Meteor, MeteorUnavailable

WORDS = [
    "the",
    "a",
    "of",
    "plane",
    "planes",
    "airport",
    "house",
    "home",
    "is",
    "are",
    "next",
    "to",
    "big",
    "large",
    ".",
]
captions = st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join)
any_text = st.text(max_size=40)
quick = settings(deadline=None, max_examples=60)


@pytest.fixture(scope="module")
def meteor() -> Meteor:
    try:
        return Meteor()
    except MeteorUnavailable as error:
        pytest.skip(str(error))


@quick
@given(text=st.one_of(captions, any_text))
def test_identical_captions_score_one(meteor: Meteor, text: str) -> None:
    """A caption scored against itself gets 1, an empty one 0."""
    counts = meteor.statistics([text], [[text]])
    assert meteor.item_scores([text], [[text]])[0] == (1.0 if counts[0, 0] else 0.0)


@quick
@given(candidate=captions, references=st.lists(captions, min_size=1, max_size=4), extra=captions, data=st.data())
def test_more_references_and_their_order(
    meteor: Meteor, candidate: str, references: list[str], extra: str, data: st.DataObject
) -> None:
    """Another reference never lowers a score; the order of the references does not change it."""
    score = meteor.item_scores([candidate], [references])[0]
    assert meteor.item_scores([candidate], [[*references, extra]])[0] >= score
    assert meteor.item_scores([candidate], [data.draw(st.permutations(references))])[0] == score


@quick
@given(candidate=any_text, reference=any_text)
def test_any_text_is_scored(meteor: Meteor, candidate: str, reference: str) -> None:
    """Whatever the characters, there is a score between 0 and 1."""
    assert 0 <= meteor.item_scores([candidate], [[reference]])[0] <= 1


@quick
@given(candidate=captions, reference=captions, separator=st.sampled_from(["\n", "\r\n", "\t", "   ", "\f"]))
def test_line_breaks_and_tabs_are_space(meteor: Meteor, candidate: str, reference: str, separator: str) -> None:
    """A newline or a tab between words scores as a space does, on either side."""
    expected = meteor.statistics([candidate], [[reference]])
    np.testing.assert_array_equal(meteor.statistics([candidate.replace(" ", separator)], [[reference]]), expected)
    np.testing.assert_array_equal(meteor.statistics([candidate], [[reference.replace(" ", separator)]]), expected)


def test_bars_are_punctuation(meteor: Meteor) -> None:
    """`|||` is three words of punctuation: it neither splits a reference nor vanishes."""
    counts = meteor.statistics(["a plane ||| a house"], [["a plane ||| a house"]])
    assert counts[0, :2].tolist() == [7, 7]


def test_segments_do_not_influence_each_other(meteor: Meteor) -> None:
    """A fresh object scores a segment as one that has seen many others does, and the sum of counts is the corpus's."""
    segments = [("two big planes", ["a large aircraft", "planes"]), ("a home", ["the house"]), ("", ["a"]), ("a", [""])]
    candidates, references = [list(part) for part in zip(*segments, strict=True)]
    together = meteor.statistics(candidates, references)
    alone = [Meteor().statistics([candidate], [own])[0] for candidate, own in segments]
    np.testing.assert_array_equal(together, alone)
    assert together.shape == (4, len(COLUMNS))
    assert 0 < Meteor.corpus_score(together.sum(axis=0)) < 1


def test_nothing_to_score(meteor: Meteor) -> None:
    """No segments give an empty table; missing references are an error that names the candidate."""
    assert meteor.statistics([], []).shape == (0, len(COLUMNS))
    with pytest.raises(ScoreError, match=r"candidate 1 .*'a house'.* has no reference"):
        meteor.statistics(["a plane", "a house"], [["a"], []])
    with pytest.raises(ScoreError, match="2 candidates, but references for 1"):
        meteor.statistics(["a", "b"], [["a"]])
    with pytest.raises(ScoreError, match="are one string, 'a plane'"):
        meteor.statistics(["a"], ["a plane"])
