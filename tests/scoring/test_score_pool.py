"""The IDF pool: saved, loaded, and used for subsets and rewards."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
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


def saved(tmp_path: Path, **changes: object) -> Path:
    """A saved pool of three images with some arrays replaced by other ones, or by what a function makes of them."""
    own = {"1": ["two planes here"], "2": ["a river here"], "3": ["many houses by a river"]}
    scoring.IdfPool.build(own).save(tmp_path / "pool.npz")
    with np.load(tmp_path / "pool.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    for name, change in changes.items():
        arrays[name] = change(arrays[name]) if callable(change) else change
    np.savez_compressed(tmp_path / "pool.npz", **arrays)
    return tmp_path / "pool.npz"


def with_n(n: str) -> Callable[[np.ndarray], np.ndarray]:
    return lambda header: np.frombuffer(header.tobytes().rpartition(b"\n")[0] + b"\n" + n.encode(), dtype=np.uint8)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"header": with_n("0")}, "n is 0"),
        ({"header": with_n("-5")}, "header .*-5"),
        ({"header": with_n("xx")}, "header .*xx"),
        ({"frequency": lambda old: old * 0}, "frequency 0 of an n-gram is not from 1 to n = 3"),
        ({"frequency": lambda old: old + 3}, r"frequency [45] of an n-gram is not from 1 to n = 3"),
        ({"frequency": lambda old: old[:-1]}, "frequency has"),
        ({"frequency": lambda old: old * np.nan}, "frequency is an array float64"),
        ({"frequency": lambda old: old[:, None]}, "frequency is an array"),
        ({"bigrams": lambda old: old.astype(float)}, "bigrams is an array float64"),
        ({"bigrams": lambda old: old[::-1]}, "bigrams are not rising"),
        ({"trigrams": lambda old: old + 10**9}, "trigrams are not rising"),
        ({"fourgrams": lambda old: old - 10**9}, "fourgrams are not rising"),
        ({"words": np.frombuffer(b"b\na", dtype=np.uint8)}, "words are not in order"),
        ({"words": np.array([["a"]], dtype=object)}, "Object arrays|pickle"),
        ({"words": np.zeros(10**5, dtype=np.uint8)}, r"words has 100,128 bytes; at most 10,000"),
    ],
)
def test_damaged_pools_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], problem: str
) -> None:
    """A pool that would score nan, or 0, or never end names the file and the array; nothing large is unpacked."""
    path = saved(tmp_path, **changes)
    monkeypatch.setattr("rscap.scoring.pool._MAX_BYTES", 10_000)
    with pytest.raises(ScoreError, match=problem) as caught:
        scoring.IdfPool.load(path)
    assert str(path) in caught.value.message


def test_an_array_that_claims_more_than_it_has_is_refused(tmp_path: Path) -> None:
    """A header that speaks of 10^12 numbers takes no memory."""
    path = saved(tmp_path)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"shape": (10**12,), "fortran_order": False, "descr": "<i8"})
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**parts, "frequency.npy": header.getvalue() + bytes(64)}.items():
            archive.writestr(name, content)
    with pytest.raises(ScoreError, match=r"pool\.npz is not an IDF pool: frequency claims shape \(1000000000000,\)"):
        scoring.IdfPool.load(path)


@pytest.mark.parametrize(
    ("images", "references", "kinds"),
    [(1, 5, {"one image"}), (1, 1, {"one image", "one reference"}), (29, 5, {"few images"}), (30, 5, set())],
)
def test_a_cider_that_means_little_says_so(images: int, references: int, kinds: set[str]) -> None:
    """One image, fewer than 30, or one reference per image: the sheet has a caution, and the quoted score names it. An
    ordinary sheet has no such key."""
    own = {f"{i}": [f"{i} planes on runway {k}" for k in range(references)] for i in range(images)}
    sheet = scoring.score_captions({i: texts[0] for i, texts in own.items()}, own, metrics=["CIDEr"], draws=0)
    assert set(sheet.extra.get("cautions", {})) == kinds
    assert ("cautions" in sheet.extra) == bool(kinds)
    quoted = scoring.score_line(sheet)
    assert all(kind in quoted for kind in kinds)
    assert sheet.corpus["CIDEr"] > 0 or "one image" in kinds


def test_a_score_of_zero_is_never_bare(tmp_path: Path) -> None:
    """Nothing in common with the references, or references that are all alike, give 0 with a reason; a pool of other
    references makes one image's CIDEr a number."""
    own = {f"{i}": [f"{i} planes", f"planes {i}"] for i in range(40)}
    sheet = scoring.score_captions(dict.fromkeys(own, "x y"), own, metrics=["CIDEr"], draws=0)
    assert sheet.corpus["CIDEr"] == 0
    assert set(sheet.extra["cautions"]) == {"zero"}
    alike = {i: ["two planes", "planes"] for i in own}
    sheet = scoring.score_captions(dict.fromkeys(own, "two planes"), alike, metrics=["CIDEr"], draws=0)
    assert set(sheet.extra["cautions"]) == {"zero"}
    pool = scoring.IdfPool.build(own)
    alone = scoring.score_captions({"7": "7 planes"}, {"7": own["7"]}, pool=pool, metrics=["CIDEr"], draws=0)
    assert alone.corpus["CIDEr"] > 0
    assert set(alone.extra["cautions"]) == {"few images"}
