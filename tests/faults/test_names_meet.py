"""Names that will not meet are told before anything is trained or scored, with the nearest reading."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from command_line import rscap
from rscap.data import open_source
from rscap.errors import DataError

APART: dict[str, tuple[list[str], list[str], str]] = {
    "case": (["a_1.jpg", "a_2.jpg"], ["A_1.JPG", "A_2.JPG"], "by their case: 'a_1.jpg' and 'A_1.JPG'"),
    "suffix": (["1.jpg", "2.jpg"], ["1.png", "2.png"], "by their suffix: '1.jpg' and '1.png'"),
    "no suffix": (["1", "2"], ["1.tif", "2.tif"], "by their suffix: '1' and '1.tif'"),
    "two suffixes": (
        ["1.jpg", "2.jpg"],
        ["1.tif", "1.png", "2.tif"],
        "by their suffix: '2.jpg' and '2.tif'; for 1 of the",
    ),
    "folders of classes": (["1.jpg", "2.jpg"], ["river/1.jpg", "city/2.jpg"], "by their folder: '1.jpg' and 'river/1"),
    "one name in two": (
        ["1.jpg", "2.jpg"],
        ["b/1.jpg", "a/1.jpg", "a/2.jpg"],
        "by their folder: '2.jpg' and 'a/2.jpg'; for 1",
    ),
    "zeros": (
        ["1.jpg", "20.jpg"],
        ["00001.jpg", "00020.jpg"],
        "by zeros before their numbers: '1.jpg' and '00001.jpg'",
    ),
    "hyphens": (
        ["a-1.jpg", "a-2.jpg"],
        ["a_1.jpg", "a_2.jpg"],
        "by spaces, hyphens or underscores: 'a-1.jpg' and 'a_1",
    ),
    "a prefix": (
        ["UCM_1.jpg", "UCM_2.jpg"],
        ["1.jpg", "2.jpg"],
        "written around their numbers: 'UCM_1.jpg' and '1.jpg'",
    ),
    "accents": (["caf\u00e9.jpg"], ["cafe\u0301.jpg"], "form of their accents: 'caf\u00e9.jpg' and 'cafe\u0301.jpg'"),
    "half of them": (
        ["1.jpg", "2.jpg", "x.jpg"],
        ["01.jpg", "02.jpg", "x.jpg"],
        "2 of 3 images are not found: annotations",
    ),
    "each in two": (
        ["1.jpg", "2.jpg"],
        ["a/1.jpg", "b/1.jpg", "a/2.jpg", "b/2.jpg"],
        "by their folder, but for none of 2 names is it clear which one is meant: here such as '1.jpg', there such as",
    ),
    "one that is taken": (["1.jpg", "01.jpg"], ["1.jpg", "z.jpg"], "1 of 2 images are not found, such as '01.jpg'"),
    "another data set": (
        ["1.jpg", "2.jpg"],
        ["zebra.jpg"],
        "such as '1.jpg'; data holds other images, such as 'zebra.jpg'",
    ),
}


@pytest.mark.parametrize("kind", APART)
def test_images_of_other_names_are_told_before_training(tmp_path: Path, kind: str) -> None:
    """`inspect` notes it, `audit` fails, and `open_data`, through which doctor and training go, refuses with it."""
    names, files, line = APART[kind]
    (tmp_path / "data").mkdir()
    with (tmp_path / "data" / "captions.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("image", "caption_1"), *((name, "a field") for name in names)])
    for number, file in enumerate(files):
        path = tmp_path / "data" / "images" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (20 * number, 90, 30)).save(path, format="PNG")
    inspected = rscap("data", "inspect", "data", cwd=tmp_path)
    assert (inspected.code, line in inspected.stderr) == (0, True), inspected.stderr
    audited = rscap("data", "audit", "data", cwd=tmp_path)
    assert (audited.code, line in audited.stderr) == (1, True), audited.stderr
    assert "missing-image" in audited.stdout
    with pytest.raises(DataError) as refused:
        open_source(tmp_path / "data", check="exists")
    assert line in str(refused.value.hint).replace(str(tmp_path / "data"), "data")


def test_captions_without_any_image_are_a_data_set(tmp_path: Path) -> None:
    """Nothing is said of images where there is none: published annotations come so."""
    (tmp_path / "captions.csv").write_text("image,caption_1\na.jpg,a field\nb.jpg,a river\n", encoding="utf-8")
    done = rscap("data", "audit", "captions.csv", cwd=tmp_path)
    assert (done.code, done.stderr) == (0, "")


IDS: dict[str, tuple[list[str], list[str], str]] = {
    "folder": (
        ["1.jpg", "2.jpg"],
        ["river/1.jpg", "city/2.jpg"],
        "no candidate has the id of a reference; they differ by their folder",
    ),
    "suffix": (["1", "2"], ["1.jpg", "2.jpg"], "differ by their suffix: '1' and '1.jpg'"),
    "case": (["a.JPG", "b.JPG"], ["a.jpg", "b.jpg"], "differ by their case: 'a.JPG' and 'a.jpg'"),
    "all of these": (
        ["A.PNG", "B.PNG"],
        ["x/a.jpg", "x/b.jpg"],
        "differ by their folder, suffix or case: 'A.PNG' and 'x/a.jpg'",
    ),
    "Windows": (
        ["x\\1.jpg", "x\\2.jpg"],
        ["x/1.jpg", "x/2.jpg"],
        "differ by backslashes, spaces, % signs or the form of",
    ),
    "zeros": (
        ["000001.jpg", "000002.jpg"],
        ["1.jpg", "2.jpg"],
        "differ by zeros before their numbers: '000001.jpg' and '1.jpg'",
    ),
    "COCO": (
        ["COCO_val2014_000000000042.jpg", "COCO_val2014_000000000073.jpg"],
        ["42.jpg", "73.jpg"],
        "written around their numbers",
    ),
    "a space": ([" 1.jpg", " 2.jpg"], ["1.jpg", "2.jpg"], "differ by backslashes, spaces"),
    "some": (
        ["1.jpg", "2.JPG"],
        ["1.jpg", "2.jpg"],
        "1 of 2 candidates lack the id of a reference; they differ by their case",
    ),
    "two that share one": (
        ["a/1.jpg", "b/1.jpg"],
        ["1.jpg"],
        "by their folder, but for none of 2 names is it clear which one is meant: here such as 'a/1.jpg', there such",
    ),
    "one in several": (["1.jpg"], ["a/1.jpg", "b/1.jpg"], "find out which belong together, then write the ids"),
    "nothing": (["x.jpg", "y.jpg"], ["a.jpg", "b.jpg"], "2 of 2 references have no candidate: 'a.jpg', 'b.jpg'"),
}


@pytest.mark.parametrize("kind", IDS)
def test_candidates_of_other_names_are_told(tmp_path: Path, kind: str) -> None:
    """The first pair of ids shows what differs; nothing is matched in silence."""
    mine, theirs, line = IDS[kind]
    (tmp_path / "hyp.json").write_text(json.dumps(dict.fromkeys(mine, "a field")), encoding="utf-8")
    (tmp_path / "refs.json").write_text(json.dumps({name: ["a field"] for name in theirs}), encoding="utf-8")
    done = rscap("score", "--candidates", "hyp.json", "--references", "refs.json", "--no-meteor", cwd=tmp_path)
    assert (done.code, line in done.stderr) == (2, True), done.stderr
