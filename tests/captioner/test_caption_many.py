"""`rscap caption` of folders, patterns and lists, into a table that goes on where it was stopped."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from command_line import rscap
from rscap.captioner.table import CaptionTable
from rscap.data import FileImage
from rscap.data.listing import image_files
from rscap.errors import DataError
from rscap.records import Picture, Prediction, Rejected
from rscap.store import read_predictions


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """in/ with two images, a page, a hidden file and a folder with a third image."""
    inside = tmp_path / "in"
    (inside / "deep").mkdir(parents=True)
    for number, name in enumerate(("b.JPG", "a.png", "deep/c.tif")):
        Image.new("RGB", (20, 20), (40 + 60 * number, 90, 30)).save(inside / name)
    (inside / "notes.html").write_text("<p>", encoding="utf-8")
    (inside / "._a.png").write_bytes(b"\0\5\x16\7")
    return tmp_path


WORDS: dict[str, tuple[tuple[str, ...], bool, list[str]]] = {
    "a folder": (("in",), False, ["in/a.png", "in/b.JPG"]),
    "a folder and those in it": (("in",), True, ["in/a.png", "in/b.JPG", "in/deep/c.tif"]),
    "a pattern": (("in/*.JPG",), False, ["in/b.JPG"]),
    "a pattern of any depth": (("in/**/*.tif",), False, ["in/deep/c.tif"]),
    "a pattern that matches folders": (("in/d*",), False, ["in/deep/c.tif"]),
    "a file": (("in/b.JPG",), False, ["in/b.JPG"]),
    "one that is missing": (("in/x.png",), False, ["in/x.png"]),
    "a file twice": (("in/b.JPG", "in"), False, ["in/b.JPG", "in/a.png"]),
    "a list": (("list.txt",), False, ["in/b.JPG", "in/a.png"]),
    "a list from elsewhere": (("in/own.lst",), False, ["in/a.png"]),
}


@pytest.mark.parametrize("kind", WORDS)
def test_words_name_files(folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file once, folders and patterns in the order of names; hidden files and other kinds are left out."""
    monkeypatch.chdir(folder)
    Path("list.txt").write_text("in/b.JPG\n\nin/a.png\n", encoding="utf-8")
    Path("in/own.lst").write_text("a.png\n", encoding="utf-8")
    words, recursive, expected = WORDS[kind]
    assert [path.as_posix() for path in image_files(words, recursive=recursive)] == expected


EMPTY = {
    "no image": ("empty", "empty holds no image"),
    "folders only": ("above", "--recursive looks into them"),
    "no match": ("in/*.bmp", "matches nothing"),
    "no folder": ("tiles", "tiles does not exist"),
    "an empty list": ("none.txt", "is empty"),
}


@pytest.mark.parametrize("kind", EMPTY)
def test_words_that_name_nothing_are_refused(folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what was looked for, the hint where else to look."""
    monkeypatch.chdir(folder)
    Path("empty").mkdir()
    Path("above/in").mkdir(parents=True)
    Path("none.txt").write_text("\n", encoding="utf-8")
    word, line = EMPTY[kind]
    with pytest.raises(DataError) as caught:
        image_files([word])
    assert line in caught.value.in_one_line


def said(name: str, caption: str = "a field") -> Prediction:
    return Prediction(example_id=name, caption=caption, prefix="caption en", tokens=3, stopped="eos")


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_a_table_goes_on(folder: Path, ending: str) -> None:
    """What is captioned stays; what was cut off, has other bytes now, or was asked otherwise, is captioned again."""
    names = [str(folder / "in" / name) for name in ("a.png", "b.JPG", "deep/c.tif")]
    pictures = [Picture(id=name, image=FileImage(Path(name))) for name in names]
    out = folder / f"table{ending}"
    table = CaptionTable(out, {"model": "nano"})
    assert table.begin(pictures) == pictures
    for name in names[:2]:
        table.add(said(name))
    with table.so_far.open("a", encoding="utf-8") as stream:
        stream.write('{"id": "cut o')
    Image.new("RGB", (20, 20)).save(names[1])  # another image under the same name

    assert len(CaptionTable(out, {"model": "another"}).begin(pictures)) == 3
    table = CaptionTable(out, {"model": "nano"})
    table.begin(pictures)
    table.add(said(names[0]))
    again = CaptionTable(out, {"model": "nano"})
    assert [picture.id for picture in again.begin(pictures)] == names[1:]
    again.add(said(names[1], "=a lake"))
    again.add(Rejected(names[2], "cannot be decoded"))
    written = again.end()

    assert [path.name for path in written] == [out.name, "table.failed.jsonl"]
    assert json.loads(written[1].read_text(encoding="utf-8")) == {"id": names[2], "reason": "cannot be decoded"}
    assert not again.so_far.exists()
    if ending == ".jsonl":
        assert [one.caption for one in read_predictions(out).values()] == ["a field", "=a lake"]
    elif ending == ".csv":
        rows = csv.DictReader(out.read_text(encoding="utf-8").splitlines())
        assert [row["caption"] for row in rows] == ["a field", "'=a lake"]  # text, no formula
    else:
        parquet = pytest.importorskip("pyarrow.parquet")
        assert parquet.read_table(out).column("caption").to_pylist() == ["a field", "=a lake"]


def test_a_folder_is_captioned(folder: Path) -> None:
    """The command captions all it can, tells the rest and the pages of a file, and exits with 1 for what failed."""
    pages = [Image.new("RGB", (20, 20), (9 * number, 99, 50)) for number in range(3)]
    pages[0].save(folder / "in" / "pages.tif", save_all=True, append_images=pages[1:])
    (folder / "in" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    few = ("--model", "nano", "--dtype", "float32", "--set", "generate.max_new_tokens=3")
    done = rscap("caption", "in", "--recursive", *few, "--out", "out.jsonl", cwd=folder)
    assert done.code == 1
    assert list(read_predictions(folder / "out.jsonl")) == ["in/a.png", "in/b.JPG", "in/deep/c.tif", "in/pages.tif"]
    assert "error: in/broken.png" in done.stderr
    assert "in/pages.tif has 3 pages, of which the first is shown" in done.stderr
    assert "written: out.failed.jsonl" in done.stderr
    refused = rscap("caption", "in", *few, "--out", "out.txt", cwd=folder)
    assert (refused.code, "out.txt is not the name of a table" in refused.stderr) == (2, True)
