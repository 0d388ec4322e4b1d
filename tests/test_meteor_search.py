"""The short cuts of the search change nothing: it finds what the plain beam finds, and bounds are bounds."""

from __future__ import annotations

import random

import pytest

from rscap.scoring.meteor import Meteor, MeteorUnavailable
from rscap.scoring.meteor.counts import count
from rscap.scoring.meteor.formula import segment
from rscap.scoring.meteor.matching import Match, matches, reach
from rscap.scoring.meteor.search import BEAM, CHUNK, align, upper_bound

WORDS = [
    "the",
    "a",
    "of",
    "is",
    "are",
    "plane",
    "planes",
    "house",
    "home",
    "big",
    "large",
    "lot of",
    "lots of",
    "next to",
]


@pytest.fixture(scope="module")
def meteor() -> Meteor:
    try:
        return Meteor()
    except MeteorUnavailable as error:
        pytest.skip(str(error))


def plain_search(rows: list[list[Match]]) -> tuple[list[Match], int]:
    """(the alignment by the beam as it is described, with nothing left out; the most paths there ever were)."""
    touched = [match.mask for row in rows for match in row]
    fixed = {m.start: m for row in rows for m in row if sum(bool(m.mask & other) for other in touched) == 1}
    settled = sum(match.mask for match in fixed.values())
    paths: list[tuple[int, int, int, tuple[Match, ...]]] = [(0, -1, settled, ())]
    most = 1
    for start, row in enumerate(rows):
        paths = sorted(paths, key=lambda path: path[0])[:BEAM]
        following = []
        for rank, at, used, taken in paths:
            if start in fixed:
                broken = at not in (-1, fixed[start].candidate_start)
                following.append((rank + CHUNK * broken, fixed[start].candidate_end, used, taken))
            elif used >> 2 * start & 1:
                following.append((rank, at, used, taken))
            else:
                for m in row:
                    if not used & m.mask:
                        cost = CHUNK * (at not in (-1, m.candidate_start)) - m.gain
                        following.append((rank + cost, m.candidate_end, used | m.mask, (*taken, m)))
                        rank += m.distance
                following.append((rank + CHUNK * (at != -1), -1, used, taken))
        paths = following
        most = max(most, len(paths))
    paths = sorted(paths, key=lambda path: path[0])[:BEAM]
    best = min(paths, key=lambda path: path[0] + CHUNK * (path[1] != -1))
    return sorted([*fixed.values(), *best[3]]), most


def test_search_is_the_plain_beam_and_bounds_hold(meteor: Meteor) -> None:
    """On texts of few words, with and without an overflowing beam, the alignment is the plain beam's and its score is
    below the bound."""
    rng = random.Random(8)
    crowded = 0
    for _ in range(400):
        vocabulary = rng.sample(WORDS, rng.randint(1, 9))
        candidate, reference = (
            meteor._reader.read(" ".join(rng.choices(vocabulary, k=rng.randint(0, 13)))) for _ in range(2)
        )
        rows = matches(candidate, reference, reach(candidate, meteor._lexicon), meteor._phrases)
        expected, most = plain_search(rows)
        found = align(rows)
        assert found == expected
        score = segment(count(candidate, reference, found))
        assert score <= upper_bound(candidate, reference, rows) + 1e-12
        crowded += most > BEAM
    assert 40 < crowded < 360


def test_the_best_reference_is_the_first_of_the_best(meteor: Meteor) -> None:
    """Sparing references that cannot win picks the reference that scoring each of them picks."""
    rng = random.Random(9)
    for _ in range(200):
        candidate = " ".join(rng.choices(WORDS, k=rng.randint(0, 10)))
        references = [" ".join(rng.choices(WORDS, k=rng.randint(0, 10))) for _ in range(5)]
        each = [tuple(meteor.statistics([candidate], [[reference]])[0].tolist()) for reference in references]
        best = max(each, key=lambda row: segment([int(number) for number in row]))  # max keeps the first
        assert tuple(meteor.statistics([candidate], [references])[0].tolist()) == best


CROWDED = "been the the the that the european parliament is being"
"""Paraphrases of several words push the plain alignment of this text with itself out of the beam."""


def test_a_text_with_itself_is_not_searched(meteor: Meteor) -> None:
    """Identical words are aligned one to one, as Java does, even where the search would lose that alignment."""
    text = meteor._reader.read(CROWDED)
    searched = align(matches(text, text, reach(text, meteor._lexicon), meteor._phrases))
    assert any(match.start != match.candidate_start for match in searched) or len(searched) < len(text.words)
    assert meteor.item_scores([CROWDED], [["the parliament", CROWDED.title()]])[0] == 1
