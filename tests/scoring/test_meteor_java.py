"""METEOR against the Java program itself, on fresh hard text."""

from __future__ import annotations

import random
import runpy
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from rscap.scoring.meteor import Meteor
from rscap.scoring.meteor.index import PREFIXES, MeteorFiles
from rscap.scoring.meteor.normalise import Prefixes, normaliser

ORACLE = runpy.run_path(str(Path(__file__).parent / "java_oracle" / "meteor_oracle.py"))
pytestmark = pytest.mark.java

Segments = list[tuple[str, list[str]]]


def assert_equal_to_java(segments: Segments) -> None:
    java, scores, corpus = ORACLE["java_statistics"](segments)
    counts = Meteor().statistics(*map(list, zip(*segments, strict=True)))
    expected = np.array(java)
    expected[(expected[:, 20] == 1) & (expected[:, 21:] == expected[:, :2]).all(axis=1), 20] = 0
    different = [(segments[k], expected[k], counts[k]) for k in np.flatnonzero((counts != expected).any(axis=1))]
    assert not different
    np.testing.assert_allclose(Meteor.corpus_score(counts), scores, rtol=0, atol=1e-12)
    assert Meteor.corpus_score(counts.sum(axis=0)) == pytest.approx(corpus, abs=1e-12)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_adversarial_segments(seed: int) -> None:
    """Repeated words, near-synonyms, function words only, odd characters and empty texts count and score as in Java."""
    assert_equal_to_java(list(ORACLE["pairs"](seed, 1500)))


def test_identical_words() -> None:
    """Java aligns identical words one to one without a search; one word more on one side, and it searches."""
    crowded = "been the the the that the european parliament is being"
    references = [crowded, crowded.upper(), f"  {crowded}", f"{crowded} x", f"{crowded}."]
    assert_equal_to_java([(crowded, [reference]) for reference in references])


@pytest.mark.parametrize("seed", [4, 5])
def test_paraphrases_of_any_length(seed: int) -> None:
    """Sentences built from the paraphrase table's own entries align as in Java."""
    rng = random.Random(seed)
    table = [
        (phrase.decode(), paraphrase.decode())
        for phrase, paraphrase in islice(MeteorFiles.find().paraphrase_pairs(), 600 * seed, 900_000, 97)
    ]
    segments: Segments = []
    for _ in range(1000):
        chosen = rng.sample(table, rng.randint(1, 6))
        candidate = [rng.choice(entry) for entry in chosen]
        reference = [rng.choice(entry) for entry in chosen]
        if rng.random() < 0.3:
            rng.shuffle(reference)
        reference.insert(rng.randrange(len(reference) + 1), rng.choice(ORACLE["WORDS"]))
        segments.append((" ".join(candidate), [" ".join(reference)]))
    assert_equal_to_java(segments)


def test_normalisation_of_random_characters() -> None:
    """Random strings of letters, digits, punctuation, spaces and foreign characters tokenise as in Java."""
    rng = random.Random(6)
    pieces = [
        *"absSX50 .,'\"-`’‘“”–—…$%()|_\t×²éÉжñ日#@;!?&/",
        "Mr.",
        "No.",
        "e.g",
        "U.S.",
        "&amp;",
        "\u00a0",
        "🙂",
        "'s",
    ]
    texts = ["".join(rng.choices(rng.sample(pieces, 12), k=rng.randint(1, 14))) for _ in range(20000)]
    normalise = normaliser(Prefixes.parse("\n".join(MeteorFiles.find().lines(PREFIXES))))
    found = zip(texts, ORACLE["java_tokens"](texts), strict=True)
    assert not [(text, tokens, normalise(text)) for text, tokens in found if normalise(text) != tokens]
