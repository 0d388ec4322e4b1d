"""What names of files, folders and columns say is read, or named: no split, caption or band is lost in silence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command_line import rscap

HEAD = "image,caption_1\n"
RECORD = '{"image": "%s.jpg", "caption": "a field"}'
SPLITS: dict[str, tuple[dict[str, str], dict[str, int]]] = {
    "tables": ({"Train.csv": f"{HEAD}a.jpg,x\n", "VALID.csv": f"{HEAD}b.jpg,y\n"}, {"train": 1, "val": 1}),
    "words in names": (
        {"rsicd_training_captions.csv": f"{HEAD}a.jpg,x\n", "rsicd_testing_captions.csv": f"{HEAD}b.jpg,y\n"},
        {"train": 1, "test": 1},
    ),
    "JSON Lines": ({"train.jsonl": RECORD % "a", "dev.jsonl": RECORD % "b"}, {"train": 1, "val": 1}),
    "shards": (
        {"test-00000-of-00002.jsonl": RECORD % "a", "test-00001-of-00002.jsonl": RECORD % "b"},
        {"test": 2},
    ),
    "JSON lists": (
        {"Training.json": f"[{RECORD % 'a'}]", "Validation.json": f"[{RECORD % 'b'}]"},
        {"train": 1, "val": 1},
    ),
    "folders": (
        {"TRAIN/captions.csv": f"{HEAD}a.jpg,x\n", "Testing/captions.csv": f"{HEAD}b.jpg,y\n"},
        {"train": 1, "test": 1},
    ),
    "folders of image folders": (
        {
            "Train/metadata.jsonl": '{"file_name": "a.jpg", "text": "x"}',
            "Dev/metadata.csv": "file_name,text\nb.jpg,y\n",
        },
        {"train": 1, "val": 1},
    ),
    "a column": (
        {"captions.csv": "image,SPLIT,caption_1\na.jpg,Train,x\nb.jpg,Validation,y\n"},
        {"train": 1, "val": 1},
    ),
    "a column against the file's name": (
        {"train.csv": "image,split,caption_1\na.jpg,test,x\nb.jpg,train,y\n"},
        {"test": 1, "train": 1},
    ),
    "keys of a file": (
        {"all.json": f'{{"train": [{RECORD % "a"}], "VAL": [{RECORD % "b"}]}}'},
        {"train": 1, "val": 1},
    ),
    "an own name": ({"captions.csv": "image,split,caption_1\na.jpg,restval,x\n"}, {"restval": 1}),
    "no name": ({"captions.csv": f"{HEAD}a.jpg,x\n"}, {"all": 1}),
    "two splits in one name": ({"train_val.csv": f"{HEAD}a.jpg,x\n"}, {"all": 1}),
}


@pytest.mark.parametrize("kind", SPLITS)
def test_names_tell_splits(tmp_path: Path, kind: str) -> None:
    """In any case, under all their usual names, of files, folders, columns and keys; and alike for scoring."""
    files, splits = SPLITS[kind]
    for name, text in files.items():
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / name).write_text(text, encoding="utf-8")
    done = rscap("data", "inspect", "d", "--no-images", "--json", cwd=tmp_path)
    assert done.code == 0, done.stderr
    assert json.loads(done.stdout)["splits"] == splits
    (tmp_path / "hyp.json").write_text('{"a.jpg": "x", "b.jpg": "y"}', encoding="utf-8")
    for split, count in splits.items():
        words = ("--candidates", "hyp.json", "--references", "d", "--split", split, "--no-meteor")
        scored = rscap("score", *words, cwd=tmp_path)
        assert (scored.code == 0) == (count == 2), scored.stderr
        assert count == 2 or "1 of 2 candidates have no reference" in scored.stderr


LOST = "looks like captions and would not be read"
SUGGESTS = "not read, though the names suggest captions, splits or images"
COLUMNS: dict[str, tuple[str, int, str]] = {
    "a caption with a word": ("caption_1,caption_final", 2, f"caption_final {LOST}"),
    "a sentence": ("caption,sentence", 2, f"sentence {LOST}"),
    "a raw caption": ("caption_1,raw_2", 2, f"raw_2 {LOST}"),
    "capitals": ("Caption_A,caption_1", 2, f"Caption_A {LOST}"),
    "a suffix": ("caption,suffix", 2, f"suffix {LOST}"),
    "another language": ("caption_1,caption_zh", 2, f"caption_zh {LOST}"),
    "a number left out": ("caption_1,caption_3", 2, "numbers are left out between the captions: caption_2"),
    "a subset": ("caption,subset", 0, f"{SUGGESTS}: subset"),
    "a fold": ("caption,fold", 0, f"{SUGGESTS}: fold"),
    "a second image": ("caption,image_2", 0, f"{SUGGESTS}: image_2"),
    "bands": ("caption,bands", 0, f"{SUGGESTS}: bands"),
    "text beside captions": ("caption,text", 0, f"{SUGGESTS}: text"),
    "a split of another scheme": ("caption,split_2", 0, f"{SUGGESTS}: split_2"),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_column_that_is_not_read_is_named(tmp_path: Path, kind: str) -> None:
    """One that looks like captions stops, one that suggests splits, images or bands is noted."""
    names, code, line = COLUMNS[kind]
    (tmp_path / "captions.csv").write_text(f"image,{names}\na.jpg,a field,a wide field\n", encoding="utf-8")
    done = rscap("data", "inspect", "captions.csv", "--no-images", cwd=tmp_path)
    assert (done.code, line in done.stderr) == (code, True), done.stderr
