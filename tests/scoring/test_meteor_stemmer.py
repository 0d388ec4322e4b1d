"""The Porter2 stemmer, on words that show its rules."""

from __future__ import annotations

import pytest

from rscap.scoring.meteor.stemmer import stem

STEMS = {
    "caresses": "caress", "ties": "tie", "cries": "cri", "gas": "gas", "kiwis": "kiwi", "agreed": "agre",
    "luxuriating": "luxuri", "hopping": "hop", "hoping": "hope", "sky": "sky", "skies": "sky", "by": "by", "say": "say",
    "happily": "happili", "generously": "generous", "communities": "communiti", "arsenal": "arsenal", "news": "news",
    "dying": "die", "inning": "inning", "proceed": "proceed", "geologist": "geologist", "rationalization": "ration",
    "hopefulness": "hope", "relational": "relat", "adoption": "adopt", "controlled": "control", "beside's": "besid",
    "youth": "youth", "buildings": "build", "universal": "univers", "residential": "residenti", "vegetation": "veget",
}  # fmt: skip


@pytest.mark.parametrize(("word", "expected"), STEMS.items())
def test_stems(word: str, expected: str) -> None:
    """Stems as the Snowball program in the METEOR jar printed them."""
    assert stem(word) == expected
