"""Every format is read once: data and scoring see one id, one list of captions, one split for each image."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from checkout import shared
from rscap import scoring
from rscap.cli import app
from rscap.data import Source, open_source
from rscap.data.convert import FORMATS, convert
from rscap.errors import DataError, RscapError, ScoreError
from rscap.records import ScoreSheet


@pytest.fixture(autouse=True)
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` writes its Arrow files under the test's own folder, without a progress bar."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def cases() -> Path:
    """Small inputs after public reports; tests that need them skip where they are absent."""
    return shared("cases")


@pytest.fixture(scope="session")
def few() -> Source:
    """Ten images of the sample, three splits; two of them with a folder in their id."""
    whole = open_source("sample")
    chosen = [example for split in ("train", "val", "test") for example in whole.split(split)[:4]]
    moved = [replace(one, id=f"field/{one.id}") if index % 5 == 0 else one for index, one in enumerate(chosen)]
    return whole.with_examples(moved)


def own_sheet(source: Source, captions: dict[str, str], split: str) -> ScoreSheet:
    """The sheet as an evaluation of this source makes it."""
    test = source.split(split)
    return scoring.score_captions(
        captions,
        {example.id: example.captions for example in test},
        sources={example.id: example.source for example in test},
        scene_classes={example.id: example.scene_class for example in test if example.scene_class},
        draws=50,
    )


def scored(candidates: Path, references: str, split: str, out: Path) -> ScoreSheet:
    """The sheet that `rscap score` writes."""
    options = ["--candidates", str(candidates), "--references", references, "--split", split, "--draws", "50"]
    result = CliRunner().invoke(app, ["score", *options, "--out", str(out)])
    assert result.exit_code == 0, result.output
    return scoring.read_sheet(out)


def same(one: ScoreSheet, other: ScoreSheet) -> bool:
    """Equal in signature, scores, items, intervals and every diagnostic."""
    return (one.signature, one.corpus, one.items, one.intervals, one.extra["diagnostics"]) == (
        other.signature,
        other.corpus,
        other.items,
        other.intervals,
        other.extra["diagnostics"],
    )


def predictions(source: Source, split: str, file: Path) -> dict[str, str]:
    """Candidates of a split, each the first caption of the next image, written as a run writes them."""
    test = source.split(split)
    captions = {one.id: other.captions[0] for one, other in zip(test, [*test[1:], test[0]], strict=True)}
    rows = [{"id": name, "caption": caption, "prefix": ""} for name, caption in captions.items()]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return captions


@pytest.mark.parametrize("to", FORMATS)
def test_predictions_are_scored_against_the_source_they_were_made_from(tmp_path: Path, few: Source, to: str) -> None:
    """`rscap score --references SOURCE --split test` gives the sheet of an evaluation, for every format."""
    convert(few, tmp_path / to, to=to)
    source = open_source(tmp_path / to)
    captions = predictions(source, "test", tmp_path / "test.jsonl")
    sheet = own_sheet(source, captions, "test")
    assert same(scored(tmp_path / "test.jsonl", str(tmp_path / to), "test", tmp_path / "sheet.json"), sheet)
    assert sheet.n == 4


def test_predictions_on_the_sample_are_scored_against_it(tmp_path: Path) -> None:
    """The sample is a source like any other."""
    source = open_source("sample")
    captions = predictions(source, "test", tmp_path / "test.jsonl")
    sheet = scored(tmp_path / "test.jsonl", "sample", "test", tmp_path / "sheet.json")
    assert same(sheet, own_sheet(source, captions, "test"))


@pytest.mark.parametrize("to", FORMATS)
def test_both_doors_read_the_same_of_real_images(tmp_path: Path, real_data: Path, to: str) -> None:
    """risc-mini in every format: ids, captions, sources and classes of the val split are equal through both doors."""
    mini = open_source(real_data / "risc-mini", check="none")
    convert(mini.with_examples(mini.split("val")), tmp_path / to, to=to)
    references = scoring.load_references(tmp_path / to, "val")
    examples = open_source(tmp_path / to, check="none").examples
    assert dict(references) == {example.id: example.captions for example in examples}
    assert references.sources == {example.id: example.source for example in examples}
    assert len(references) == 580


@pytest.mark.parametrize(
    ("run", "spec"),
    [
        ("sub", "sub/captions.csv"),
        ("sub", "sub"),
        ("coco", "coco/captions_test.json"),
        ("coco", "coco"),
        ("karp", "karp/dataset.json"),
        ("karp", "karp"),
    ],
)
def test_published_layouts_score_as_the_evaluation_did(tmp_path: Path, cases: Path, run: str, spec: str) -> None:
    """Sub-folders, COCO and Karpathy's `filepath`: the scores are those that the evaluation wrote."""
    case = cases / "03-own-predictions-unscorable"
    before = json.loads((case / f"out_{run}" / "scores" / "test.json").read_text())
    candidates = case / f"out_{run}" / "predictions" / "test.jsonl"
    sheet = scored(candidates, str(case / spec), "test", tmp_path / "sheet.json")
    assert {name: value for name, value in sheet.corpus.items() if name != "METEOR"} == {
        name: value for name, value in before["corpus"].items() if name != "METEOR"
    }
    assert sheet.extra["data"] == before["data"]
    assert list(sheet.items) == list(before["items"])


PLANES = ("two planes", "planes are parked")
OPENED = {
    "01-parquet-splits-lost/parq_splits": ({"train": 4, "val": 1, "test": 1}, PLANES),
    "01-parquet-splits-lost/pqsame": ({"train": 2, "test": 2}, None),
    "02-caption-columns-dropped/zero_based": ({"all": 6}, PLANES),
    "02-caption-columns-dropped/cap_and_caps": ({"all": 6}, PLANES),
    "02-caption-columns-dropped/cap01": ({"all": 6}, ("two planes", "third 0", "planes are parked")),
    "02-caption-columns-dropped/meta0/images": ({"all": 6}, PLANES),
    "02-caption-columns-dropped/pqcap_train.parquet": ({"all": 2}, ("zero 0 x", "c 0 x")),
    "07-split-names-case/splitcase": ({"train": 4, "val": 1, "test": 1}, PLANES),
    "08-nwpu-as-published/nwpu": ({"train": 4, "val": 1, "test": 1}, (*PLANES, *PLANES, PLANES[0])),
    "09-hub-list-of-captions/parq_list": ({"all": 6}, PLANES),
    "09-hub-list-of-captions/parq_text": ({"all": 6}, PLANES[:1]),
    "09-hub-list-of-captions/metacap/images": ({"all": 6}, PLANES),
    "13-one-caption-a-row/flickr": ({"all": 6}, PLANES),
    "13-one-caption-a-row/flickr_csv": ({"all": 6}, PLANES),
    "13-one-caption-a-row/flickr_csv1": ({"all": 6}, PLANES),
    "13-one-caption-a-row/metarep/images": ({"all": 6}, PLANES),
    "14-json-lists/blip": ({"test": 6}, PLANES),
    "14-json-lists/llava": ({"train": 6}, PLANES[:1]),
    "14-json-lists/jsonl_llava": ({"train": 6}, PLANES[:1]),
    "14-json-lists/swift": ({"train": 6}, PLANES[:1]),
    "14-json-lists/jsonl_cap": ({"train": 6}, PLANES[:1]),
    "16-line-break-in-cell/multiline": ({"all": 6}, ("two planes\nseen from above", PLANES[1])),
    "17-images-folder-of-another-name/rsicd": (
        {"train": 4, "val": 1, "test": 1},
        ("two planes .", "planes are parked ."),
    ),
    "19-other-files-in-the-folder/rsicd_plus": ({"train": 6}, PLANES),
    "19-other-files-in-the-folder/macjson": ({"train": 6}, PLANES),
    "19-other-files-in-the-folder/hidpq": ({"all": 4}, PLANES),
}


@pytest.mark.parametrize("case", OPENED)
def test_files_of_the_field_open_with_their_images_and_alike_for_scoring(cases: Path, case: str) -> None:
    """Splits, captions and images of each, nothing rejected; scoring reads the same captions under the same ids."""
    splits, first = OPENED[case]
    source = open_source(cases / case)
    assert source.splits == splits
    assert source.rejected == ()
    captions = {example.id: example.captions for example in source.examples}
    assert first is None or first in captions.values()
    assert dict(scoring.load_references(cases / case)) == captions


def both_doors(path: Path) -> list[RscapError]:
    """What data and scoring say of a file that neither can read."""
    with pytest.raises(DataError) as data:
        open_source(path, check="none")
    with pytest.raises(ScoreError) as score:
        scoring.load_references(path)
    return [data.value, score.value]


@pytest.mark.parametrize(
    ("header", "row", "lost"),
    [
        ("image,caption_1,caption_final", "a.jpg,x,y", "caption_final"),
        ("image,caption,sentence", "a.jpg,x,y", "sentence"),
        ("image,caption_1,raw_2", "a.jpg,x,y", "raw_2"),
        ("image,captions_human,caption_1", "a.jpg,x,y", "captions_human"),
        ("image,Caption_A,caption_1", "a.jpg,x,y", "Caption_A"),
        ("image,caption_1,caption_3", "a.jpg,x,y", "caption_2"),
    ],
)
def test_captions_that_would_not_be_read_are_named(tmp_path: Path, header: str, row: str, lost: str) -> None:
    """A column that looks like captions and is not read, or a number left out, is an error through both doors."""
    (tmp_path / "captions.csv").write_text(f"{header}\n{row}\n", encoding="utf-8")
    for error in both_doors(tmp_path / "captions.csv"):
        assert lost in error.message
    record = dict(zip(header.split(","), row.split(","), strict=True))
    (tmp_path / "train.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
    for error in both_doors(tmp_path / "train.jsonl"):
        assert lost in error.message


@pytest.mark.parametrize(
    ("content", "captions"),
    [
        ("IMAGE;Split; Caption_0 ;CAPTION_1\na.jpg;Valid;x;y\n", ("x", "y")),
        ("image\tcaption\tsplit\na.jpg\tx\tval\na.jpg\ty\tval\n", ("x", "y")),
        ("image_name| comment_number| comment|split\na.jpg| 0| x|VAL\na.jpg| 1| y|VAL\n", ("x", "y")),
        ("filename,filepath,sentences,split\na.jpg,.,x,validation\n", ("x",)),
        ("image,caption_1,caption_2,caption_3,split\na.jpg,x,y,,dev\n", ("x", "y")),
        ("split,image,caption_1,caption_2,caption_3\nval,a.jpg,x\n", ("x",)),
        ('split,image,caption_1,caption_2\nval,a.jpg,"x\r\ny, ""z""",w\n', ('x\r\ny, "z"', "w")),
    ],
)
def test_what_one_door_accepts_the_other_accepts(tmp_path: Path, content: str, captions: tuple[str, ...]) -> None:
    """Case, separators, missing cells, line breaks, numbers from 0, file and folder apart, names of splits."""
    (tmp_path / "table.csv").write_text(content, encoding="utf-8", newline="")
    source = open_source(tmp_path / "table.csv", check="none")
    assert [(one.id, one.captions, one.split) for one in source.examples] == [("a.jpg", captions, "val")]
    for name in ("val", "validation", "Valid"):
        assert dict(scoring.load_references(tmp_path / "table.csv", name)) == {"a.jpg": captions}


@pytest.mark.parametrize("place", ["filenames", "."])
def test_the_text_files_of_ucm_captions(tmp_path: Path, place: str) -> None:
    """Descriptions by image name and lists by split open with their images; a line of no list is rejected and named."""
    home = tmp_path / place
    home.mkdir(exist_ok=True)
    (home / "descriptions_UCM.txt").write_text("1 two planes .\n1 planes are parked .\n2 a river .\n3 a beach .\n")
    for split, names in {"train": "1.tif\n", "val": "2.tif\n", "test": "3.tif\n"}.items():
        (home / f"filenames_{split}.txt").write_text(names)
    (tmp_path / "imgs").mkdir()
    for number in (1, 2, 3):
        Image.new("RGB", (8, 8), "red").save(tmp_path / "imgs" / f"{number}.tif")
    for spec in (tmp_path, home / "descriptions_UCM.txt"):
        source = open_source(spec)
        assert source.splits == {"train": 1, "val": 1, "test": 1}
        assert source.examples[0].captions == ("two planes .", "planes are parked .")
        assert dict(scoring.load_references(spec, "test")) == {"3.tif": ("a beach .",)}
    with (home / "descriptions_UCM.txt").open("a") as stream:
        stream.write("4 a road .\n")
    for error in both_doors(tmp_path):
        assert "descriptions_UCM.txt line 5: no filenames_*.txt lists an image '4'" in error.message


@pytest.mark.parametrize(
    ("written", "there", "said"),
    [
        ("a.jpg", "A.JPG", "there is 'A.JPG'"),
        ("a.tif", "a.jpg", "there is 'a.jpg'"),
        ("a", "a.jpg", "there is 'a.jpg'"),
        ("caf\u00e9.jpg", "cafe\u0301.jpg", "there is 'cafe\u0301.jpg'"),
        ("b.jpg", "a.jpg", "there is no image"),
        ("folder\\a.jpg", "a.jpg", "is a Windows path"),
        ("https://host/a.jpg", "a.jpg", "is a URL"),
        ("/data/a.jpg", "a.jpg", "is absolute"),
        ("../a.jpg", "a.jpg", "climbs out"),
        ("none/a.jpg", "a.jpg", "images are looked for in resized/, images/, imgs/"),
    ],
)
def test_an_image_that_is_not_found_says_why_and_what_is_near(
    tmp_path: Path, written: str, there: str, said: str
) -> None:
    """Case, suffix, the form of accents, backslashes, URLs, absolute paths: named, and never opened in silence."""
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "fine.jpg")
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / there)
    rows = [{"image": "fine.jpg", "caption": "x y"}, {"image": written, "caption": "a plane"}]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (bad,) = open_source(tmp_path, max_rejected_share=0.5).rejected
    assert said in bad.reason


@pytest.mark.parametrize(
    "asked", ["Captions_val.JSON", "captions_val.jsonl", "capions_val.json", "CAPTIONS_VAL", "captions-val.json"]
)
def test_a_file_that_is_not_found_names_what_is_near(tmp_path: Path, asked: str) -> None:
    """Another case, another suffix, a letter left out: both doors name the file that there is, and open nothing."""
    (tmp_path / "captions_val.json").write_text('{"a.jpg": ["two planes"]}')
    for error in both_doors(tmp_path / asked):
        assert str(tmp_path / "captions_val.json") in str(error.hint)


TEXT = "image,caption_1,caption_2\na.jpg,the city’s “old” planes – wide,a café with 30 °C\n"
CHINESE = "image,caption_1\na.jpg,两架飞机停在跑道上。\n"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (TEXT, "windows-1252"),
        ("image,caption\na.jpg,Straße über die Brücke\n", "windows-1252"),
        (TEXT, "mac_roman"),
        (CHINESE, "gb18030"),
        *((text, wide) for text in (TEXT, CHINESE) for wide in ("utf-16", "utf-32")),
        *((TEXT, wide) for wide in ("utf-16-le", "utf-16-be")),
    ],
)
def test_the_hint_names_an_encoding_that_gives_the_text(tmp_path: Path, text: str, encoding: str) -> None:
    """Who follows the hint for a file in another encoding gets the text that was written, through both doors."""
    path = tmp_path / "captions.csv"
    path.write_bytes(text.encode(encoding))
    hints = {str(error.hint) for error in both_doors(path)}
    named = re.search(r"iconv -f (\S+) -t UTF-8 captions\.csv", hints.pop())
    assert named
    assert not hints
    known = {"macintosh": "mac_roman"}.get(named[1], named[1])
    assert path.read_bytes().decode(known).lstrip("\ufeff") == text


@pytest.mark.parametrize("name", ["captions.csv", "train.json", "train.jsonl", "train.parquet"])
@pytest.mark.parametrize(
    ("content", "said", "way_out"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS pointer", "git lfs pull"),
        (b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X", "AppleDouble", "lacks the ._"),
        (b"<!DOCTYPE html><html>404</html>", "HTML page", "download it again"),
        (b"PK\x03\x04\x14\x00", "zip archive or an Excel workbook", "CSV"),
        (b"\x1f\x8b\x08\x00", "gzip archive", "unpack"),
    ],
)
def test_what_is_no_text_is_called_by_its_name(
    tmp_path: Path, name: str, content: bytes, said: str, way_out: str
) -> None:
    """Pointers, companions, failed downloads and archives under the name of annotations, through both doors."""
    (tmp_path / name).write_bytes(content)
    for error in both_doors(tmp_path / name):
        assert said in error.message
        assert way_out in str(error.hint)


def test_references_on_the_hub_have_a_way_out() -> None:
    """Scoring reads files alone; who names a data set on the Hub is told how to make one of it."""
    with pytest.raises(ScoreError) as caught:
        scoring.load_references("owner/name")
    assert "rscap data convert owner/name FOLDER" in str(caught.value.hint)


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".xlsx", ".pkl", ".npz", ".h5", ".tgz"])
def test_files_of_other_kinds_have_a_way_out(tmp_path: Path, suffix: str) -> None:
    """Archives, workbooks and arrays are refused with what to do."""
    (tmp_path / f"data{suffix}").write_bytes(b"x")
    for error in both_doors(tmp_path / f"data{suffix}"):
        assert any(word in str(error.hint) for word in ("unpack", "export", "save"))


LAYOUTS = {
    "COCO's own": {
        "annotations/captions_train2017.json": {
            "images": [{"id": 1, "file_name": "1.jpg"}],
            "annotations": [{"id": 1, "image_id": 1, "caption": "two planes"}],
        },
        "annotations/captions_val2017.json": {
            "images": [{"id": 2, "file_name": "2.jpg"}],
            "annotations": [{"id": 2, "image_id": 2, "caption": "a river"}],
        },
        "train2017/1.jpg": None,
        "val2017/2.jpg": None,
    },
    "a folder a split": {
        "Train/captions.csv": "image,caption_1\n1.jpg,two planes\n",
        "VALID/captions.csv": "image,caption_1\n2.jpg,a river\n",
        "Train/images/1.jpg": None,
        "VALID/images/2.jpg": None,
    },
    "a folder a split, images beside": {
        "train/a.jsonl": {"image": "1.jpg", "text": "two planes"},
        "val/a.jsonl": {"image": "2.jpg", "text": "a river"},
        "train/1.jpg": None,
        "val/2.jpg": None,
    },
    "the Hub's image folder as CSV": {
        "train/metadata.csv": "file_name,text\n1.jpg,two planes\n",
        "validation/metadata.csv": "file_name,text\n2.jpg,a river\n",
        "train/1.jpg": None,
        "validation/2.jpg": None,
    },
    "images of a split in a folder of its own": {
        "train.json": [{"image": "1.jpg", "caption": "two planes"}],
        "val.json": [{"image": "2.jpg", "caption": "a river"}],
        "train_images/1.jpg": None,
        "val_images/2.jpg": None,
    },
}


APART = [name for name in LAYOUTS if "folder a split" in name or "Hub's" in name]
"""Layouts in which two splits may use one name for two images."""


@pytest.mark.parametrize(("layout", "same"), [*((name, False) for name in LAYOUTS), *((name, True) for name in APART)])
def test_folders_tell_splits_and_hold_images(tmp_path: Path, layout: str, same: bool) -> None:
    """Splits from names of files and folders in any case, images where people put them, equal names kept apart."""
    for name, content in LAYOUTS[layout].items():
        path = tmp_path / (name.replace("2.jpg", "1.jpg") if same else name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            Image.new("RGB", (8, 8), "red" if "rain" in name else "blue").save(path, format="PNG")
        else:
            text = content if isinstance(content, str) else json.dumps(content)
            path.write_text(text.replace("2.jpg", "1.jpg") if same else text)
    source = open_source(tmp_path)
    assert source.splits == {"train": 1, "val": 1}
    assert source.rejected == ()
    colours = {one.captions: one.image.load().getpixel((0, 0)) for one in source.examples}
    assert colours == {("two planes",): (255, 0, 0), ("a river",): (0, 0, 255)}
    assert dict(scoring.load_references(tmp_path)) == {one.id: one.captions for one in source.examples}


@pytest.mark.parametrize("name", ["subset", "fold", "image_2", "image_b", "band_1", "text", "comment"])
def test_data_that_are_not_read_are_noted(tmp_path: Path, name: str) -> None:
    """A column that suggests splits, other images, bands or captions, and is not read, is named in a note."""
    for file, content in {
        "table.csv": f"image,caption,{name}\na.jpg,two planes,train\n",
        "lines.jsonl": json.dumps({"image": "a.jpg", "caption": "two planes", name: "train"}),
    }.items():
        (tmp_path / file).write_text(content)
        notes = open_source(tmp_path / file, check="none").notes
        assert [note.text for note in notes] == [
            f"not read, though the names suggest captions, splits or images: {name}"
        ]
        assert scoring.load_references(tmp_path / file).notes == notes


@pytest.mark.parametrize("name", ["caption_id", "sentids", "imgid", "caption_length", "image_id", "note"])
def test_what_is_no_data_is_not_noted(tmp_path: Path, name: str) -> None:
    """Numbers about captions and images are not captions or images."""
    (tmp_path / "lines.jsonl").write_text(json.dumps({"image": "a.jpg", "caption": "two planes", name: 3}))
    assert open_source(tmp_path / "lines.jsonl", check="none").notes == ()


CONVERSATIONS = [
    ({"image": "a.jpg", "conversations": []}, "without question and answer"),
    ({"image": ["a.jpg", "b.jpg"], "messages": [{"role": "user", "content": "x"}]}, "with several images"),
    ({"conversations": [{"from": "human", "value": "x"}]}, "without an image"),
    (
        {"image": "a.jpg", "conversations": [{"from": "human", "value": "How many?"}, {"from": "gpt", "value": "two"}]},
        "with an answer of fewer than 2 words",
    ),
    (
        {
            "image": "a.jpg",
            "conversations": [{"from": "human", "value": "[refer] a plane"}, {"from": "gpt", "value": "at the top"}],
        },
        "of another task",
    ),
    (
        {
            "image": "a.jpg",
            "conversations": [{"from": who, "value": "two planes"} for who in ("human", "gpt", "human", "gpt")],
        },
        "of several turns",
    ),
]


@pytest.mark.parametrize(("record", "reason"), CONVERSATIONS)
def test_conversations_that_are_no_captions_are_counted(tmp_path: Path, record: dict, reason: str) -> None:
    """They are left out with their reason and number; the captions beside them are read, the prompt is noted."""
    plain = {"images": ["b.jpg"], "messages": [{"role": "system", "content": "You are an expert."}]}
    plain["messages"] += [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Describe."}]},
        {"role": "assistant", "content": [{"type": "text", "text": "two planes"}]},
    ]
    (tmp_path / "train.jsonl").write_text(json.dumps(record) + "\n" + json.dumps(plain) + "\n")
    source = open_source(tmp_path / "train.jsonl", check="none")
    assert [(one.id, one.captions, one.split) for one in source.examples] == [("b.jpg", ("two planes",), "train")]
    assert "1 of 2 conversations are no captions and are left out, first train.jsonl line 1" in source.notes[0].text
    assert reason in source.notes[0].text
    assert "Describe." in source.notes[1].text


def test_reading_annotations_needs_neither_torch_nor_numpy() -> None:
    """`rscap.annotations` is light: who scores captions does not wait for it."""
    code = "import sys, rscap.annotations; sys.exit(bool({'torch', 'numpy', 'PIL', 'pyarrow'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
