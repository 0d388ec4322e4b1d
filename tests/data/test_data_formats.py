"""Every format opens to the same records, and conversion between any two of them loses nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rscap.data import FileImage, Source, open_source
from rscap.data.convert import FORMATS, convert, require_same
from rscap.data.source import digest
from rscap.errors import DataError
from rscap.records import Example


@pytest.fixture(autouse=True)
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` writes its Arrow files under the test's own folder, without a progress bar."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """Twelve images in two sub-folders, three splits, odd texts: quotes, commas, umlauts, outer spaces, U+2028."""
    texts = ['a "quoted" plane, here', "grüne Wiese", " outer space ", "line\u2028separator", "a plane . "]
    examples = []
    for number in range(12):
        path = tmp_path / "pixels" / f"sub{number % 2}" / f"img_{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (9, 7, 3), dtype=np.uint8)).save(path)
        captions = tuple(f"{text} {number}" if number % 3 else text for text in texts)
        examples.append(
            Example(
                id=f"sub{number % 2}/img_{number}.jpg",
                captions=captions,
                image=FileImage(path),
                split=["train", "val", "test"][number % 3],
                source="Own data",
                scene_class="airport" if number % 2 else None,
            )
        )
    return Source(name="made", examples=examples, digest=digest(examples))


@pytest.mark.parametrize("first", FORMATS)
@pytest.mark.parametrize("second", ["csv", "parquet", "jsonl"])
def test_conversion_there_and_on_loses_nothing(tmp_path: Path, source: Source, first: str, second: str) -> None:
    """Through any format and on into another: ids, captions, splits, sources, classes and image bytes are the same."""
    convert(source, tmp_path / "one", to=first)
    convert(open_source(tmp_path / "one"), tmp_path / "two", to=second)
    copy = open_source(tmp_path / "two")
    require_same(source, copy)
    assert copy.rejected == ()


@pytest.mark.parametrize("to", ["karpathy", "coco", "jsonl", "imagefolder"])
def test_formats_of_lists_take_ragged_captions_and_tables_refuse_them(tmp_path: Path, source: Source, to: str) -> None:
    """Images with different numbers of captions fit into lists; a table names the one that does not fit."""
    ragged = [replace(one, captions=one.captions[: 1 + i % 5]) for i, one in enumerate(source.examples)]
    convert(source.with_examples(ragged), tmp_path / to, to=to)
    require_same(source.with_examples(ragged), open_source(tmp_path / to))
    with pytest.raises(DataError, match=r"img_0\.jpg has 1, sub1/img_1\.jpg has 2"):
        convert(source.with_examples(ragged), tmp_path / "table", to="csv")
    assert not [path for path in tmp_path.iterdir() if "table" in path.name]


def test_unsplit_data_stay_unsplit(tmp_path: Path, source: Source) -> None:
    """No format invents a split for data that have none."""
    unsplit = source.with_examples([replace(one, split="all") for one in source.examples])
    for to in FORMATS:
        convert(unsplit, tmp_path / to, to=to)
        assert open_source(tmp_path / to).splits == {"all": 12}, to


def test_annotations_without_images_convert_as_such(tmp_path: Path, real_data: Path) -> None:
    """Sydney-Captions has no images here: its captions convert all the same; parquet, which holds images, refuses."""
    sydney = open_source(real_data / "annotations" / "sydney_dataset.json", check="none")
    for to in ("csv", "coco", "jsonl", "karpathy"):
        convert(sydney, tmp_path / to, to=to)
        require_same(sydney, open_source(tmp_path / to, check="none"))
    with pytest.raises(DataError, match="613 images are missing"):
        convert(sydney, tmp_path / "parquet", to="parquet")


def test_nothing_is_overwritten_and_unknown_formats_are_named(tmp_path: Path, source: Source) -> None:
    """An existing target and an unknown format are refused."""
    with pytest.raises(DataError, match="exists"):
        convert(source, tmp_path, to="csv")
    with pytest.raises(DataError, match="csv, parquet, karpathy, coco, jsonl, imagefolder"):
        convert(source, tmp_path / "x", to="tfrecord")


@pytest.mark.parametrize(
    "damage",
    [
        {"captions": ("other",) * 5},
        {"split": "val"},
        {"source": "x"},
        {"scene_class": "farm"},
        {"id": "z.jpg"},
    ],
)
def test_the_check_sees_every_kind_of_loss(source: Source, damage: dict) -> None:
    """A changed caption, split, source, class or id, a lost example and a changed image byte are all noticed."""
    first, *rest = source.examples
    changed = source.with_examples([replace(first, **damage), *rest])
    with pytest.raises(DataError, match="differs from made"):
        require_same(source, changed)
    with pytest.raises(DataError, match="is in one of them only"):
        require_same(source, source.with_examples(rest))


def test_the_check_sees_a_changed_image(tmp_path: Path, source: Source) -> None:
    """One other byte in one image is a difference."""
    first, *rest = source.examples
    path = tmp_path / "other.jpg"
    path.write_bytes(source.examples[1].image.path.read_bytes())  # type: ignore[attr-defined]
    with pytest.raises(DataError, match=r"the image of sub0/img_0\.jpg"):
        require_same(source, source.with_examples([replace(first, image=FileImage(path)), *rest]))


def test_ids_without_a_file_name_convert_to_parquet_only(tmp_path: Path, source: Source) -> None:
    """Rows of a table without file names keep their row ids in parquet; other formats say why they cannot."""
    rows = [replace(one, id=f"row-{i:05d}") for i, one in enumerate(source.examples)]
    convert(source.with_examples(rows), tmp_path / "p", to="parquet")
    with pytest.raises(DataError, match="'row-00000' is not a file name"):
        convert(source.with_examples(rows), tmp_path / "c", to="csv")


def test_published_annotation_files_open_whole(real_data: Path) -> None:
    """The four annotation files: counts by split, five captions each, sources as published, nothing rejected."""
    expected = {
        "ucm_dataset.json": ({"train": 1680, "val": 210, "test": 210}, {"UCM"}),
        "sydney_dataset.json": ({"train": 497, "val": 58, "test": 58}, {"Sydney"}),
        "risc_val_captions.jsonl": ({"val": 4453}, {"NWPU", "RSICD", "UCM"}),
        "risc_test_captions.jsonl": ({"test": 4454}, {"NWPU", "RSICD", "UCM"}),
    }
    for name, (splits, sources) in expected.items():
        source = open_source(real_data / "annotations" / name, check="none")
        assert (source.splits, source.rejected, source.notes) == (splits, (), ())
        assert {example.source for example in source.examples} == sources
        assert {len(example.captions) for example in source.examples} == {5}


def test_the_jsonl_and_the_csv_of_risc_agree(real_data: Path) -> None:
    """Every val and test image of risc-mini has the same five captions, in the same order, in the JSON Lines."""
    mini = {example.id: example.captions for example in open_source(real_data / "risc-mini", check="none").examples}
    for split, n in (("val", 580), ("test", 900)):
        lines = open_source(real_data / "annotations" / f"risc_{split}_captions.jsonl", check="none")
        shared = [example for example in lines.examples if example.id in mini]
        assert len(shared) == n
        assert all(example.captions == mini[example.id] for example in shared)


def test_a_prefix_is_noted_since_it_is_not_kept(tmp_path: Path) -> None:
    """PaliGemma's prefix belongs to the prompt; a file that has one says so in a note."""
    line = {"prefix": "caption en", "image": "a.jpg", "suffix": "a plane ."}
    (tmp_path / "train.jsonl").write_text(json.dumps(line) + "\n")
    source = open_source(tmp_path / "train.jsonl", check="none")
    assert "caption en" in source.notes[0].text


def test_lines_of_one_image_need_not_stand_together(tmp_path: Path) -> None:
    """Captions of one image are gathered from wherever they stand, in order."""
    lines = [{"image": name, "suffix": f"{name} {k}"} for k in range(3) for name in ("a.jpg", "b.jpg")]
    (tmp_path / "val.jsonl").write_text("\n".join(map(json.dumps, lines)))
    source = open_source(tmp_path / "val.jsonl", check="none")
    assert [example.captions for example in source.examples] == [
        tuple(f"{name} {k}" for k in range(3)) for name in ("a.jpg", "b.jpg")
    ]


def test_two_splits_may_use_one_file_name(tmp_path: Path) -> None:
    """In an image folder `train/1.jpg` and `test/1.jpg` are two images; names used once stay short."""
    for names in ({"train": "1.jpg", "test": "1.jpg"}, {"train": "1.jpg", "test": "2.jpg"}):
        root = tmp_path / "-".join(names.values())
        for split, name in names.items():
            (root / split).mkdir(parents=True)
            (root / split / "metadata.jsonl").write_text(json.dumps({"file_name": name, "text": "a plane"}))
            Image.new("RGB", (4, 4)).save(root / split / name)
        source = open_source(root)
        short = len(set(names.values())) == 2
        assert {one.id for one in source.examples} == {n if short else f"{s}/{n}" for s, n in names.items()}
        assert source.splits == {"test": 1, "train": 1}


def test_two_kinds_in_one_folder_are_not_chosen_between(tmp_path: Path) -> None:
    """A folder that holds two data sets wants a file to be named."""
    (tmp_path / "train.jsonl").write_text(json.dumps({"image": "a.jpg", "suffix": "x"}))
    (tmp_path / "dataset.json").write_text(json.dumps({"images": [], "annotations": []}))
    with pytest.raises(DataError, match="JSON Lines, JSON"):
        open_source(tmp_path)


Change = Callable[[dict], object]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 2, "caption": "x"}]}, "no image 2"),
        ({"images": [{"id": 1}, {"id": 1}], "annotations": []}, "occurs twice"),
        ({"images": [{"file_name": "a.jpg"}], "annotations": []}, "without an id"),
        ({"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"caption": "x"}]}, "without an image_id"),
        ({"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": []}, "no caption"),
        ({"images": [{"filename": 7, "sentences": [{"raw": "x"}]}]}, "the image is 7, not a path"),
        (
            {"images": [{"filename": "a.jpg", "sentences": [{"tokens": ["x"]}]}]},
            r"caption 1 is {'tokens': \['x'\]}, not text",
        ),
        ({"images": [{"filename": "a.jpg", "sentences": []}]}, "no caption"),
        ({"images": [{"filename": "a.jpg", "sentences": [{"raw": 7}]}]}, "caption 1 is 7, not text"),
        ({"images": [{"filename": "a.jpg", "sentences": [{"raw": "\ud800"}]}]}, "surrogate"),
        ({"images": [{"filename": "a.jpg", "sentences": [{"raw": "x"}], "split": ["a"]}]}, "invalid split name"),
    ],
)
def test_bad_rows_of_annotation_files_are_listed(tmp_path: Path, value: dict, reason: str) -> None:
    """Each broken image or annotation is rejected with its reason."""
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(value))
    with pytest.raises(DataError, match=reason):
        open_source(path, check="none", max_rejected_share=0)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "[" * 200_000, '{"a": 1}', '{"images": 3}', "9" * 5000, "\x00"]
)
def test_files_that_are_no_annotations_are_refused(tmp_path: Path, text: str) -> None:
    """Broken JSON, another JSON and JSON nested without end are one clear error."""
    path = tmp_path / "dataset.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"dataset\.json"):
        open_source(path, check="none")
