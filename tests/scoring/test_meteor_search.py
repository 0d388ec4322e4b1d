"""The short cuts of the search change nothing: it finds what the plain beam finds, and bounds are bounds."""

from __future__ import annotations

import random
from bisect import bisect_left

import pytest

from rscap.scoring.meteor import Meteor, MeteorUnavailable
from rscap.scoring.meteor.formula import segment
from rscap.scoring.meteor.index import LONGEST_PHRASE, ROOT
from rscap.scoring.meteor.matching import Match, matches, reach
from rscap.scoring.meteor.scorer import count
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
        candidate, reference = meteor._texts.read(
            [" ".join(rng.choices(vocabulary, k=rng.randint(0, 13))) for _ in range(2)]
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


def plain_phrases(meteor: Meteor, words: list[int]) -> tuple[dict[int, int], list[tuple[int, int, int]]]:
    """What `Phrases.find` finds in one text, by going down the trie from each word in turn."""
    index = meteor._phrases._index
    places: dict[int, int] = {}
    spans = []
    for start in range(len(words)):
        node = ROOT
        for length, word in enumerate(words[start : start + LONGEST_PHRASE], start=1):
            key = node * len(index.phrase_words) + word
            at = bisect_left(index.phrase_keys, key)
            if word < 0 or at == len(index.phrase_keys) or index.phrase_keys[at] != key:
                break
            node = at + 1
            places[node] = places.get(node, 0) | 1 << start
            if index.paraphrase_bounds[node] < index.paraphrase_bounds[node + 1]:
                spans.append((start, length, node))
    return places, spans


MANY_WORDS = [*WORDS, "in front of", "as well as", "the european parliament", "it's", ".", ",", "café", "日本", "\x00"]


@pytest.mark.parametrize("segments", [40, pytest.param(1500, marks=pytest.mark.slow)])
def test_crowded_texts(meteor: Meteor, segments: int) -> None:
    """Texts of up to 90 words that repeat a few: phrases, alignment and bound are those of the plain walk down the trie
    and of the plain beam, and a text that is read among many others has the counts that it has alone."""
    rng = random.Random(segments)
    pairs = []
    for _ in range(segments):
        vocabulary, most = rng.sample(MANY_WORDS, rng.randint(1, 12)), rng.choice([5, 20, 40, 90])
        candidate, reference = (" ".join(rng.choices(vocabulary, k=rng.randint(0, most))) for _ in range(2))
        pairs.append((candidate, reference))
    together = meteor.statistics([one for one, _ in pairs], [[other] for _, other in pairs])
    for (candidate, reference), counts in zip(pairs, together, strict=True):
        one, other = meteor._texts.read([candidate, reference])
        for text in (one, other):
            words = [meteor._lexicon.phrase_word[word] for word in text.words]
            assert (text.phrase_places, list(text.spans)) == plain_phrases(meteor, words)
        rows = matches(one, other, reach(one, meteor._lexicon), meteor._phrases)
        expected, _ = plain_search(rows)
        if one is not other:
            assert count(one, other, expected) == tuple(counts)
            assert segment([int(number) for number in counts]) <= upper_bound(one, other, rows) + 1e-12
    for place in range(0, segments, max(1, segments // 20)):
        alone = Meteor().statistics([pairs[place][0]], [[pairs[place][1]]])
        assert tuple(alone[0]) == tuple(together[place])


CROWDED = "been the the the that the european parliament is being"
"""Paraphrases of several words push the plain alignment of this text with itself out of the beam."""


def test_a_text_with_itself_is_not_searched(meteor: Meteor) -> None:
    """Identical words are aligned one to one, as Java does, even where the search would lose that alignment."""
    (text,) = meteor._texts.read([CROWDED])
    searched = align(matches(text, text, reach(text, meteor._lexicon), meteor._phrases))
    assert any(match.start != match.candidate_start for match in searched) or len(searched) < len(text.words)
    assert meteor.item_scores([CROWDED], [["the parliament", CROWDED.title()]])[0] == 1
