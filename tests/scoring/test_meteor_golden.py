"""METEOR against pycocoevalcap's scores of real captions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rscap.scoring.meteor import Meteor, MeteorUnavailable


@pytest.mark.parametrize("protocol", ["coco", "raw"])
@pytest.mark.parametrize("name", ["nwpu_1500", "risc_test_neighbour"])
def test_every_image_and_the_corpus_score_as_with_java(real_data: Path, name: str, protocol: str) -> None:
    """Every per-image score and the corpus score of the golden files, under both protocols, to 1e-12."""
    golden = json.loads((real_data / "metrics-golden" / f"{name}.json").read_text(encoding="utf-8"))
    prefix = "tokenized_" if protocol == "coco" else ""
    candidates, references = golden[f"{prefix}candidates"], golden[f"{prefix}references"]
    expected = golden[f"protocol_{protocol}"]
    ids = list(expected["per_image"])
    try:
        meteor = Meteor()
    except MeteorUnavailable as error:
        pytest.skip(str(error))
    counts = meteor.statistics([candidates[k] for k in ids], [references[k] for k in ids])
    scores = [expected["per_image"][k]["METEOR"] for k in ids]
    np.testing.assert_allclose(Meteor.corpus_score(counts), scores, rtol=0, atol=1e-12)
    assert Meteor.corpus_score(counts.sum(axis=0)) == pytest.approx(expected["corpus"]["METEOR"], abs=1e-12)
