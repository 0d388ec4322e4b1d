"""BLEU, ROUGE-L and CIDEr-D against the published program: its recorded scores and its own code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rscap import scoring
from rscap.scoring import bleu, cider, rouge
from rscap.scoring.corpus import Corpus
from rscap.scoring.pool import IdfPool

NAMES = {
    "BLEU-1": "Bleu_1",
    "BLEU-2": "Bleu_2",
    "BLEU-3": "Bleu_3",
    "BLEU-4": "Bleu_4",
    "ROUGE-L": "ROUGE_L",
    "CIDEr": "CIDEr",
}
FILES = ("nwpu_1500.json", "risc_test_neighbour.json")

words = st.sampled_from(["a", "b", "c", "plane", "A", "."])
sentences = st.lists(words, max_size=12).map(" ".join)
sets = st.lists(st.tuples(sentences, st.lists(sentences, min_size=1, max_size=4)), min_size=2, max_size=6)


def golden(real_data: Path, name: str) -> dict:
    return json.loads((real_data / "metrics-golden" / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("protocol", ["coco", "raw"])
def test_golden_scores(real_data: Path, name: str, protocol: str) -> None:
    """Corpus and every per-image score equal pycocoevalcap's to 1e-6 on real files, given its tokenised strings."""
    content = golden(real_data, name)
    prefix = "tokenized_" if protocol == "coco" else ""
    sheet = scoring.score_captions(
        content[f"{prefix}candidates"], content[f"{prefix}references"], protocol="raw", draws=0, metrics=tuple(NAMES)
    )
    expected = content[f"protocol_{protocol}"]
    assert sheet.items.keys() == expected["per_image"].keys()
    for ours, theirs in NAMES.items():
        assert sheet.corpus[ours] == pytest.approx(expected["corpus"][theirs], abs=1e-6)
        item = np.array([sheet.items[i][ours] for i in sheet.items])
        assert item == pytest.approx(np.array([expected["per_image"][i][theirs] for i in sheet.items]), abs=1e-6)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("protocol", ["coco", "raw"])
def test_golden_scores_from_the_captions_themselves(real_data: Path, name: str, protocol: str) -> None:
    """From published captions to scores, tokenizer and METEOR included, the figures are pycocoevalcap's."""
    pytest.importorskip("pycocoevalcap.meteor")
    content = golden(real_data, name)
    sheet = scoring.score_captions(content["candidates"], content["references"], protocol=protocol, draws=0)
    expected = content[f"protocol_{protocol}"]
    for ours, theirs in {**NAMES, "METEOR": "METEOR"}.items():
        assert sheet.corpus[ours] == pytest.approx(expected["corpus"][theirs], abs=1e-6)
        item = np.array([sheet.items[i][ours] for i in sheet.items])
        assert item == pytest.approx(np.array([expected["per_image"][i][theirs] for i in sheet.items]), abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(sets)
def test_published_code_agrees_on_generated_captions(rows: list[tuple[str, list[str]]]) -> None:
    """BLEU, ROUGE-L and CIDEr-D equal pycocoevalcap's own Python on short, repetitive, and empty captions."""
    cider_module = pytest.importorskip("pycocoevalcap.cider.cider")
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.rouge.rouge import Rouge

    candidates = {i: [candidate] for i, (candidate, _) in enumerate(rows)}
    references = {i: own for i, (_, own) in enumerate(rows)}
    corpus = Corpus.build([candidate for candidate, _ in rows], [own for _, own in rows])
    statistics = bleu.statistics(corpus)
    total, items = Bleu(4).compute_score(references, candidates, verbose=0)
    assert bleu.scores(statistics.sum(axis=0)) == pytest.approx(np.array(total), abs=1e-12)
    assert bleu.scores(statistics) == pytest.approx(np.array(items).T, abs=1e-12)
    _, items = Rouge().compute_score(references, candidates)
    assert rouge.item_scores(corpus) == pytest.approx(items, abs=1e-12)
    if any(text.strip() for own in references.values() for text in own):
        _, items = cider_module.Cider().compute_score(references, candidates)
        assert cider.item_scores(corpus, IdfPool.of(corpus, len(rows), "raw")) == pytest.approx(items, abs=1e-9)


def test_a_hand_computed_bleu() -> None:
    """`a b c d` against `a b x d`: 3 of 4 words, 1 of 3 bigrams, no trigram; the closest length counts."""
    corpus = Corpus.build(["a b c d"], [["a b x d", "a"]])
    assert bleu.statistics(corpus).tolist() == [[3, 1, 0, 0, 4, 3, 2, 1, 4]]
    assert bleu.scores(bleu.statistics(corpus))[0, :2] == pytest.approx([3 / 4, (3 / 4 / 3) ** 0.5], abs=1e-8)
    short = Corpus.build(["a b"], [["a b x", "a b x d e"]])
    assert bleu.scores(bleu.statistics(short))[0, 0] == pytest.approx(np.exp(1 - 3 / 2), abs=1e-8)


def test_closest_length_takes_the_shorter_of_two() -> None:
    """References of 3 and 5 words are equally close to 4 words; 3 counts, whatever their order."""
    for own in (["a b c", "a b c d e"], ["a b c d e", "a b c"]):
        assert bleu.closest_length(Corpus.build(["w x y z"], [own])).tolist() == [3]


@settings(deadline=None)
@given(st.lists(st.sampled_from("abcd"), max_size=90), st.lists(st.sampled_from("abcd"), max_size=90))
def test_longest_common_subsequence(first: list[str], second: list[str]) -> None:
    """The bit-parallel length equals the textbook dynamic programme, beyond 64 words as well."""
    row = [0] * (len(second) + 1)
    for word in first:
        above = row[:]
        for place, other in enumerate(second):
            row[place + 1] = above[place] + 1 if word == other else max(above[place + 1], row[place])
    assert rouge.lcs_length(rouge.positions(first), len(first), second) == row[-1]


def test_cider_depends_on_its_pool() -> None:
    """The same caption gets another CIDEr in a pool of fewer images, and 0 in a pool of one."""
    references = {"1": ["two planes on the runway"], "2": ["a river in a forest"], "3": ["many houses near a road"]}
    scores = []
    for ids in (("1", "2", "3"), ("1", "2"), ("1",)):
        own = {i: references[i] for i in ids}
        given_ = {**dict.fromkeys(ids, "a dense forest"), "1": "two planes on a road"}
        scores.append(scoring.score_captions(given_, own, draws=0, metrics=["CIDEr"]).items["1"]["CIDEr"])
    assert scores[0] > 0
    assert scores[0] != pytest.approx(scores[1])
    assert scores[2] == 0
