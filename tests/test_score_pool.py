"""The IDF pool: saved, loaded, and used for subsets and rewards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rscap import scoring
from rscap.errors import ScoreError

word = st.sampled_from(["a", "b", "c", "naïve", "飞机", "."])
caption = st.lists(word, max_size=6).map(" ".join)
references = st.dictionaries(st.sampled_from("uvwxyz"), st.lists(caption, min_size=1, max_size=3), min_size=1)


@settings(deadline=None, max_examples=50)
@given(references, st.sampled_from(["coco", "raw"]), st.lists(caption, min_size=1, max_size=4))
def test_document_frequencies(tmp_path_factory: pytest.TempPathFactory, own: dict, protocol: str, texts: list) -> None:
    """Weights equal log N - log max(1, df) counted by hand, for any n-gram, also after a round trip."""
    from rscap.scoring.corpus import Corpus
    from rscap.scoring.protocol import prepare

    built = scoring.IdfPool.build(own, protocol=protocol)
    file = tmp_path_factory.mktemp("pool") / "pool.npz"
    built.save(file)
    pool = scoring.IdfPool.load(file)
    assert pool.digest == built.digest
    documents = [{gram for text in prepare(protocol, texts) for gram in grams(text)} for texts in own.values()]
    corpus = Corpus.build(texts, [["a b"]] * len(texts))
    weights = pool.weights(corpus.table)
    for text, number in zip(corpus.texts, range(len(corpus.texts)), strict=True):
        rows = slice(corpus.bags.starts[number], corpus.bags.starts[number + 1])
        expected = sorted(
            np.log(len(own)) - np.log(max(1, sum(gram in document for document in documents))) for gram in grams(text)
        )
        assert sorted(weights[corpus.bags.grams[rows]]) == pytest.approx(expected)


def grams(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[i : i + n]) for n in range(1, 5) for i in range(len(words) - n + 1)}


def test_a_pool_of_the_references_changes_nothing() -> None:
    """A pool built from the evaluated references gives the scores of the default, and the same digest."""
    candidates = {"1": "two planes", "2": "a river bank"}
    own = {"1": ["two planes here", "planes"], "2": ["a river", "the river bank"]}
    pool = scoring.IdfPool.build(own)
    plain, pooled = (scoring.score_captions(candidates, own, pool=given_, draws=0) for given_ in (None, pool))
    assert plain.items == pooled.items
    assert plain.extra["pool"] == f"self:{pool.digest}/2"
    assert pooled.extra["pool"] == f"file:{pool.digest}/2"
    assert scoring.IdfPool.build(dict(reversed(own.items()))).digest == pool.digest
    assert scoring.IdfPool.build({**own, "3": ["more"]}).digest != pool.digest


def test_subsets_are_comparable_with_a_saved_pool() -> None:
    """With the pool of all images, an image has the same CIDEr alone as among all."""
    candidates = {"1": "two planes", "2": "a river bank", "3": "many houses here"}
    own = {"1": ["two planes here"], "2": ["a river"], "3": ["many houses"]}
    pool = scoring.IdfPool.build(own)
    everything = scoring.score_captions(candidates, own, draws=0)
    for i in own:
        alone = scoring.score_captions({i: candidates[i]}, {i: own[i]}, pool=pool, draws=0)
        assert alone.items[i]["CIDEr"] == pytest.approx(everything.items[i]["CIDEr"])


def test_rewards_are_item_scores(real_data: Path) -> None:
    """Rewards of a batch of 64 x 5 equal the item scores of score_captions with the same pool."""
    own = dict(list(scoring.load_references(real_data / "annotations" / "risc_val_captions.jsonl").items())[:600])
    pool = scoring.IdfPool.build(own)
    batch = list(own)[:64]
    texts = [own[list(own)[-1 - place]][0] for place in range(64)]
    rewards = scoring.cider_rewards(texts, [own[i] for i in batch], pool)
    sheet = scoring.score_captions(dict(zip(batch, texts, strict=True)), {i: own[i] for i in batch}, pool=pool, draws=0)
    assert rewards == pytest.approx(np.array([sheet.items[i]["CIDEr"] for i in batch]))
    assert scoring.cider_rewards([], [], pool).shape == (0,)


def test_refusals(tmp_path: Path) -> None:
    """A pool of another protocol, a file that is no pool, and a batch that does not fit are errors."""
    own = {"1": ["a plane"]}
    pool = scoring.IdfPool.build(own, protocol="raw")
    with pytest.raises(ScoreError, match="built under protocol raw"):
        scoring.score_captions({"1": "a plane"}, own, pool=pool)
    with pytest.raises(ScoreError, match="does not exist"):
        scoring.IdfPool.load(tmp_path / "none.npz")
    for content in (b"", b"{}", b"PK\x03\x04broken"):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(ScoreError, match="is not an IDF pool"):
            scoring.IdfPool.load(tmp_path / "bad.npz")
    np.savez(tmp_path / "other.npz", words=np.zeros(3))
    with pytest.raises(ScoreError, match="is not an IDF pool"):
        scoring.IdfPool.load(tmp_path / "other.npz")
    with pytest.raises(ScoreError, match="at least one image"):
        scoring.IdfPool.build({})
    with pytest.raises(ScoreError, match="1 candidates but 2"):
        scoring.cider_rewards(["a"], [["a"], ["b"]], pool)
    with pytest.raises(ScoreError, match="no reference"):
        scoring.cider_rewards(["a"], [[]], pool)
    with pytest.raises(ScoreError, match="of 0 are one string"):
        scoring.cider_rewards(["a"], ["a plane"], pool)
    with pytest.raises(ScoreError, match="of 'x' are one string"):
        scoring.IdfPool.build({"x": "a plane"})
    with pytest.raises(ScoreError, match="sentence has no CIDEr"):
        scoring.score_captions({"1": "a plane"}, own, pool=pool, protocol="sentence")
