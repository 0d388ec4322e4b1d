"""METEOR against what the Java program printed for our own sentences (tests/scoring/java_oracle/meteor_oracle.py)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rscap.scoring.meteor import Meteor, MeteorUnavailable
from rscap.scoring.meteor.formula import meteor as formula
from rscap.scoring.meteor.formula import segment
from rscap.scoring.meteor.index import PREFIXES, MeteorFiles
from rscap.scoring.meteor.normalise import Prefixes, normaliser

TABLE: dict[str, Any] = json.loads((Path(__file__).parent / "meteor_table.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def meteor() -> Meteor:
    try:
        return Meteor()
    except MeteorUnavailable as error:
        pytest.skip(str(error))


def own_counts(java: list[int]) -> list[int]:
    """Java prints the one chunk of a segment that is one chunk from end to end, but leaves it out of all scores."""
    whole = java[20] == 1 and java[21:] == java[:2]
    return [*java[:20], 0 if whole else java[20], *java[21:]]


def test_tokens_are_those_of_norm(meteor: Meteor) -> None:
    """Quotes, dashes, abbreviations, numbers and foreign letters are tokenised as the Java program does."""
    normalise = normaliser(Prefixes.parse("\n".join(MeteorFiles.find().lines(PREFIXES))))
    wrong = [(text, tokens, normalise(text)) for text, tokens in TABLE["tokens"] if normalise(text) != tokens]
    assert not wrong
    assert len(TABLE["tokens"]) > 70


def test_counts_and_scores_are_those_of_java(meteor: Meteor) -> None:
    """All 23 counts of the winning reference, every score and the corpus score equal the Java program's."""
    segments = TABLE["segments"]
    counts = meteor.statistics([s["candidate"] for s in segments], [s["references"] for s in segments])
    expected = np.array([own_counts(s["statistics"]) for s in segments])
    different = [segments[k] for k in np.flatnonzero((counts != expected).any(axis=1))]
    assert not different
    scores = formula(counts)
    np.testing.assert_allclose(scores, [s["score"] for s in segments], rtol=0, atol=1e-12)
    assert Meteor.corpus_score(counts.sum(axis=0)) == pytest.approx(TABLE["corpus"], abs=1e-12)
    assert len({s["score"] for s in segments}) > 150  # the table is not a list of zeros


def test_the_two_forms_of_the_formula_agree() -> None:
    """The formula for one segment and the one for arrays give the same numbers."""
    rows = np.array([own_counts(s["statistics"]) for s in TABLE["segments"]])
    np.testing.assert_allclose(formula(rows), [segment(row.tolist()) for row in rows], rtol=0, atol=1e-14)
