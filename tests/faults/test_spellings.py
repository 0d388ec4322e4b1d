"""Data in other spellings than ours are read, or called by their name with the way out."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from command_line import rscap
from rscap import scoring
from rscap.data import open_source
from rscap.errors import RscapError
from rscap.progress import fold

COLUMNS = ",".join(f"caption_{number}" for number in range(1, 10_001))
PARTS = [{"type": "text", "text": "Describe."}]
ANSWER = {"role": "assistant", "content": "two planes"}
READ: dict[str, tuple[str, object]] = {
    "ids as text and as numbers": (
        "captions_train.json",
        {"images": [{"id": "7", "file_name": "a.jpg"}], "annotations": [{"image_id": 7, "caption": "two planes"}]},
    ),
    "numbers and text": (
        "captions_train.json",
        {"images": [{"id": 7, "file_name": "a.jpg"}], "annotations": [{"image_id": "7", "caption": "two planes"}]},
    ),
    "an image among the parts": (
        "train.json",
        [{"messages": [{"role": "user", "content": [{"type": "image", "image": "a.jpg"}, *PARTS]}, ANSWER]}],
    ),
    "an address of an image": (
        "train.json",
        [{"messages": [{"role": "user", "content": [{"image_url": {"url": "a.jpg"}}, *PARTS]}, ANSWER]}],
    ),
    "columns without underscores": ("captions.csv", "Image,Caption1\na.jpg,two planes\n"),
    "lines of an old Mac": ("captions.csv", "image,caption\ra.jpg,two planes\r"),
    "a list under a key": ("data.json", {"data": [{"image": "a.jpg", "caption": "two planes"}]}),
    "a mark and semicolons": ("captions.csv", "\ufeffimage;caption\r\n" + "a.jpg;two planes\r\n"),
    "quoted names": ("captions.tsv", '"image"\t"caption"\n"a.jpg"\t"two planes"\n'),
    "lines under .json": (
        "train.json",
        '{"image": "a.jpg", "caption": "two planes"}\n{"image": "a.jpg", "caption": "x"}\n',
    ),
}


@pytest.mark.parametrize("kind", READ)
def test_another_spelling_is_read(tmp_path: Path, kind: str) -> None:
    """Alike for training and for scoring."""
    name, content = READ[kind]
    (tmp_path / name).write_bytes((content if isinstance(content, str) else json.dumps(content)).encode())
    source = open_source(tmp_path, check="none")
    assert {one.id: one.captions[0] for one in source.examples} == {"a.jpg": "two planes"}
    assert source.rejected == ()
    assert {name: own[0] for name, own in scoring.load_references(tmp_path).items()} == {"a.jpg": "two planes"}


TOLD: dict[str, tuple[str, str | bytes, str]] = {
    "no header": (
        "captions.csv",
        "a.jpg,two planes\nb.jpg,a river\n",
        "has no header: its first line is 'a.jpg, two planes'",
    ),
    "Flickr8k's tokens": ("Flickr8k.token.txt", "a.jpg#0\ttwo planes\n", "has no header: its first line is 'a.jpg#0"),
    "too many columns": ("captions.csv", f"image,{COLUMNS}\na.jpg,x\n", "has 10,001 columns; at most 10,000 are read"),
    "a key twice": (
        "train.jsonl",
        '{"image": "a.jpg", "caption": "x", "caption": "y"}',
        "the key 'caption' occurs twice",
    ),
    "tokens alone": (
        "dataset.json",
        '{"images": [{"filename": "a.jpg", "sentences": [{"tokens": ["x"]}]}]}',
        "caption 1 is {'tokens': ['x']}, not text",
    ),
    "an HTML table": ("captions.csv", "<table><tr><td>image</td></tr></table>", "is an HTML table"),
    "a text document": ("captions.csv", "{\\rtf1 image,caption", "is RTF, a text document"),
    "XML": ("train.json", "<?xml version='1.0'?><Error/>", "is XML"),
    "Arrow": ("train.arrow", b"ARROW1\0\0", "train.arrow: write it as parquet"),
    "TFRecord": ("train.tfrecord", b"\x10\0\0\0", "train.tfrecord: write it as parquet"),
    "YAML": ("captions.yaml", "a.jpg: two planes\n", "captions.yaml: save it as JSON Lines"),
    "an archive beside nothing": (
        "images.tar",
        b"",
        "images.tar: passed over: it cannot be read as a tar archive: empty file",
    ),
    "a data URI": (
        "train.jsonl",
        '{"image": "data:image/png;base64,AAAA", "caption": "x"}',
        "is a data URI: save the image as a file",
    ),
}


@pytest.mark.parametrize("kind", TOLD)
def test_what_is_not_read_is_called_by_its_name(tmp_path: Path, kind: str) -> None:
    """With what to do about it."""
    name, content, line = TOLD[kind]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RscapError) as caught:
        open_source(tmp_path)
    assert line in caught.value.in_one_line


def test_texts_beside_images_have_a_way_in(tmp_path: Path) -> None:
    """As trainers of image generators take them: the command that makes a shard of them, which is read. It can be
    pasted whatever the folder is called and however narrow the screen is."""
    images = tmp_path / "my images; all of them"
    images.mkdir()
    (images / "a.jpg").write_bytes(b"\xff\xd8\xff")
    (images / "a.txt").write_text("two planes", encoding="utf-8")
    with pytest.raises(RscapError) as caught:
        open_source(tmp_path)
    *_, command = fold(str(caught.value.hint), width=40).splitlines()
    assert shlex.split(command) == ["tar", "-cf", "train.tar", "-C", str(images), "."]


CANDIDATES = {
    "lines with tabs": ("hyp.txt", "a.jpg\ttwo planes\nb.jpg\ta river\n"),
    "lines with tabs under .tsv": ("hyp.tsv", "a.jpg\ttwo planes\nb.jpg\ta river\n"),
    "a table under .tsv": ("hyp.tsv", "id\tcaption\na.jpg\ttwo planes\nb.jpg\ta river\n"),
    "lines with bars": ("hyp.txt", "a.jpg|two planes\nb.jpg|a river\n"),
    "results under a key": (
        "hyp.json",
        '{"results": [{"id": "a.jpg", "caption": "two planes"}, {"id": "b.jpg", "caption": "a river"}]}',
    ),
    "a mark": ("hyp.jsonl", '\ufeff{"id": "a.jpg", "caption": "two planes"}\n{"id": "b.jpg", "caption": "a river"}\n'),
}


@pytest.mark.parametrize("kind", CANDIDATES)
def test_candidates_in_another_spelling_are_read(tmp_path: Path, kind: str) -> None:
    """Text needs no header; a list may stand under one key."""
    name, content = CANDIDATES[kind]
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert dict(scoring.load_candidates(tmp_path / name)) == {"a.jpg": "two planes", "b.jpg": "a river"}


def test_candidates_in_a_table_without_a_header_are_told(tmp_path: Path) -> None:
    """Its first line would be lost as names of columns."""
    (tmp_path / "hyp.csv").write_text("a.jpg,two planes\n", encoding="utf-8")
    with pytest.raises(RscapError, match="has no header"):
        scoring.load_candidates(tmp_path / "hyp.csv")


@pytest.mark.parametrize("name", ["hyp.csv", "val.jsonl", "page.html", "recipe.toml", "pool.npz"])
def test_a_file_that_is_no_sheet_is_not_called_damaged(tmp_path: Path, name: str) -> None:
    """Nobody is told to remove a file of theirs because another kind was wanted."""
    (tmp_path / name).write_text("id,caption\n", encoding="utf-8")
    done = rscap("compare", f"a={name}", f"b={name}", cwd=tmp_path)
    assert (done.code, f"{name} is not a score sheet" in done.stderr, "remove" in done.stderr) == (2, True, False)


def test_a_folder_in_place_of_a_status_is_not_called_absent(tmp_path: Path) -> None:
    """What is there and of another kind is told as such."""
    (tmp_path / "run" / "status.json").mkdir(parents=True)
    assert "its status.json is no file" in rscap("report", "run", cwd=tmp_path).stderr


@pytest.mark.parametrize("source", ["", " "])
def test_a_source_without_a_name_is_refused(source: str) -> None:
    """An empty path would be the working folder."""
    with pytest.raises(RscapError, match="no data set is named"):
        open_source(source)
