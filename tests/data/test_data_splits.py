"""Splits by name: official (restored too), prior work's, grouped and frozen."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rscap.data import MissingImage, Source, open_source
from rscap.data.rows import Judged
from rscap.data.source import digest
from rscap.data.splits import (
    AMBIGUOUS,
    apply_frozen,
    assign_splits,
    caption_hash,
    freeze,
    shipped,
    split_digest,
)
from rscap.errors import DataError
from rscap.records import Example


def judged(n: int, *, lost: frozenset[int] = frozenset()) -> Judged:
    """`n` unsplit rows, of which those in `lost` were rejected."""
    kept = [position for position in range(n) if position not in lost]
    examples = [
        Example(id=f"{position}", captions=(f"c {position}",), image=MissingImage("x"), split="all", source="s")
        for position in kept
    ]
    return Judged(examples=examples, positions=kept, total=n)


@pytest.fixture(scope="module")
def risc(real_data: Path) -> list[Example]:
    """RISC's val and test annotations."""
    files = [real_data / "annotations" / f"risc_{split}_captions.jsonl" for split in ("val", "test")]
    return [example for file in files for example in open_source(file, check="none").examples]


def test_the_shipped_hashes_are_those_of_the_annotations(risc: list[Example]) -> None:
    """The 8,907 hashes are rebuilt from the annotations; every line stands for one image of its split."""
    found: dict[str, Counter[str]] = {}
    for example in risc:
        found.setdefault(caption_hash(example.captions), Counter())[example.split] += 1
    assert shipped() == found
    assert sum(counts.total() for counts in found.values()) == 4453 + 4454


def test_distinct_caption_lists_have_distinct_hashes(risc: list[Example]) -> None:
    """48 bits suffice: 8,501 distinct caption lists, as many hashes."""
    assert len({caption_hash(e.captions) for e in risc}) == len({e.captions for e in risc}) == 8501


def test_official_is_restored_on_a_hub_shaped_table(
    tmp_path: Path, risc: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Annotations as parquet without a split column: every unambiguous row gets its split, the others are named."""
    import datasets
    import pyarrow
    import pyarrow.parquet

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    rows = [risc[i] for i in np.random.default_rng(0).permutation(len(risc))]
    image = [{"bytes": b"\xff", "path": None}] * len(rows)
    columns = {f"caption_{k + 1}": [row.captions[k] for row in rows] for k in range(5)}
    pyarrow.parquet.write_table(pyarrow.table({"image": image, **columns}), tmp_path / "hub.parquet")
    source = open_source(tmp_path / "hub.parquet", check="none")

    lists = Counter((row.captions, row.split) for row in rows)
    both = {row.captions for row in rows if lists[row.captions, "val"] and lists[row.captions, "test"]}
    expected = [AMBIGUOUS if row.captions in both else row.split for row in rows]
    assert [example.split for example in source.examples] == expected
    assert source.splits[AMBIGUOUS] == sum(row.captions in both for row in rows) == 137
    noted = {note.row for note in source.notes if "ambiguous" in note.text}
    assert noted == {example.id for example in source.examples if example.split == AMBIGUOUS}


def test_train_rows_with_a_test_caption_list_are_ambiguous(risc: list[Example]) -> None:
    """A row too many with a test image's captions makes all rows of that list ambiguous; other rows are train."""
    twin = next(e for e in risc if e.split == "test" and shipped()[caption_hash(e.captions)] == Counter(test=1))
    train = [replace(e, id=f"t{i}", captions=tuple(c + "!" for c in e.captions)) for i, e in enumerate(risc[:500])]
    rows = [replace(e, split="all") for e in [*risc, *train, replace(twin, id="twin")]]
    examples, notes = assign_splits(
        Judged(examples=rows, positions=list(range(len(rows))), total=len(rows)), "official"
    )
    split = {example.id: example.split for example in examples}
    assert split["twin"] == split[twin.id] == AMBIGUOUS
    assert {split[f"t{i}"] for i in range(500)} == {"train"}
    assert any(note.row == "twin" and "2 rows share these captions" in note.text for note in notes)


def test_official_beside_real_train_rows(real_data: Path, risc: list[Example]) -> None:
    """With 2,900 real train rows mixed in, every row is told rightly or ambiguous, and each ambiguous one is named."""
    train = open_source(real_data / "risc-mini", check="none").split("train")
    mixed = [[*risc, *train][i] for i in np.random.default_rng(1).permutation(len(risc) + len(train))]
    rows = [replace(one, id=f"row-{i:05d}", split="all") for i, one in enumerate(mixed)]
    examples, notes = assign_splits(
        Judged(examples=rows, positions=list(range(len(rows))), total=len(rows)), "official"
    )
    told = Counter((true.split, given.split) for true, given in zip(mixed, examples, strict=True))
    assert {true for true, given in told if given == true} == {"train", "val", "test"}
    assert {given for true, given in told if given != true} == {AMBIGUOUS}
    ambiguous = {one.id for one in examples if one.split == AMBIGUOUS}
    assert {note.row for note in notes} == {"all rows", *ambiguous}
    assert len(ambiguous) == 606


def test_other_data_are_not_taken_for_risc() -> None:
    """Data that share no caption list with RISC stay unsplit, without a note."""
    examples, notes = assign_splits(judged(50), "official")
    assert {example.split for example in examples} == {"all"}
    assert notes == []


def test_a_split_that_the_source_names_is_kept(real_data: Path) -> None:
    """risc-mini names its splits; `official` is what it names."""
    assert open_source(real_data / "risc-mini", check="none").splits == {"test": 900, "val": 580, "train": 2900}


@pytest.mark.parametrize("n", [44_521, 100, 7, 1])
def test_seed42_is_the_shuffle_of_datasets(n: int) -> None:
    """The first 85 %, next 5 % and last 10 % of `Dataset.shuffle(seed=42)`: 37,843 / 2,226 / 4,452 of 44,521 rows."""
    import datasets

    shuffled = datasets.Dataset.from_dict({"i": list(range(n))}).shuffle(seed=42)["i"][:]
    val, test = n * 5 // 100, n // 10
    expected = {
        "train": shuffled[: n - val - test],
        "val": shuffled[n - val - test : n - test],
        "test": shuffled[n - test :],
    }
    examples, notes = assign_splits(judged(n), "seed42")
    for split, positions in expected.items():
        assert {int(e.id) for e in examples if e.split == split} == set(positions)
    assert bool(notes) == (n != 44_521)
    if n == 44_521:
        assert Counter(e.split for e in examples) == {"train": 37_843, "val": 2_226, "test": 4_452}


def test_prior_works_subsets() -> None:
    """B's 50 and 500 are the first of its test; A's 100 and 20 the first of the whole; what is left out is `unused`."""
    order = np.random.default_rng(42).permutation(44_521)
    rows = judged(44_521)
    for scheme, split, expected in [
        ("seed42-test-50", "test", order[-4452:][:50]),
        ("seed42-test-500", "test", order[-4452:][:500]),
        ("seed42-100-20", "train", order[:100]),
        ("seed42-100-20", "val", order[100:120]),
    ]:
        examples, _ = assign_splits(rows, scheme)
        assert {int(e.id) for e in examples if e.split == split} == set(expected.tolist()), scheme
        assert Counter(e.split for e in examples).total() == 44_521


SEED42_DIGESTS = {
    "seed42": "72dcd7c1478686dd",
    "seed42-test-50": "a3031f7e43449233",
    "seed42-test-500": "13cc5a98112ad2c8",
    "seed42-100-20": "7609ce5521e4f363",
}


@pytest.mark.parametrize("scheme", SEED42_DIGESTS)
def test_seeded_splits_are_frozen_by_digest(scheme: str) -> None:
    """The id lists on 44,521 rows are pinned: no version of NumPy may change them in silence."""
    examples, _ = assign_splits(judged(44_521), scheme)
    assert split_digest(examples)[:16] == SEED42_DIGESTS[scheme]


def test_a_rejected_row_does_not_move_the_others() -> None:
    """Positions count rejected rows: losing three rows leaves every other row in its split."""
    whole = {e.id: e.split for e in assign_splits(judged(1000), "seed42")[0]}
    part = {e.id: e.split for e in assign_splits(judged(1000, lost=frozenset({3, 500, 999})), "seed42")[0]}
    assert part == {name: split for name, split in whole.items() if name not in {"3", "500", "999"}}


def made(n: int) -> Source:
    examples, _ = assign_splits(judged(n), "seed42")
    return Source(name="made", examples=examples, digest=digest(examples), split_scheme="seed42")


def test_a_frozen_split_comes_back(tmp_path: Path) -> None:
    """Frozen and applied, in another order of rows, every id has the split it had."""
    source = made(60)
    freeze(source, tmp_path / "split.json")
    examples, _ = apply_frozen(judged(60).examples[::-1], tmp_path / "split.json")
    assert {e.id: e.split for e in examples} == {e.id: e.split for e in source.examples}
    with pytest.raises(DataError, match="exists"):
        freeze(source, tmp_path / "split.json")


def test_a_frozen_split_must_fit_exactly(tmp_path: Path) -> None:
    """An id too many, an id too few, an edited list or another file is refused by name."""
    path = tmp_path / "split.json"
    freeze(made(20), path)
    with pytest.raises(DataError, match=r"1 ids of the source that it does not list: 20"):
        apply_frozen(judged(21).examples, path)
    with pytest.raises(DataError, match=r"1 ids that the source lacks: 19"):
        apply_frozen(judged(19).examples, path)
    value = json.loads(path.read_text())
    value["splits"]["train"].append(value["splits"]["test"].pop())
    path.write_text(json.dumps(value))
    with pytest.raises(DataError, match="digest"):
        apply_frozen(judged(20).examples, path)
    path.write_text("{}")
    with pytest.raises(DataError, match="not a frozen split"):
        apply_frozen(judged(20).examples, path)


def test_an_unknown_scheme_lists_the_known() -> None:
    """The error says which schemes there are."""
    with pytest.raises(DataError, match="official, seed42, seed42-test-50, seed42-test-500, seed42-100-20, grouped"):
        assign_splits(judged(3), "random")
