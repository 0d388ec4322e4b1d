"""Candidates and references from files of every supported form, and what is said of files that are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rscap import scoring
from rscap.errors import ScoreError


def write(path: Path, content: object) -> Path:
    """A JSON file, or text as it is."""
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, encoding="utf-8", newline="")
    return path


def lines(*rows: dict) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", {"1": "a plane", "2": ""}),
        ("a.json", {"1": ["a plane"], "2": [""]}),
        ("a.json", [{"image_id": 1, "caption": "a plane"}, {"image_id": 2, "caption": ""}]),
        ("a.jsonl", lines({"id": "1", "caption": "a plane", "tokens": 4}, {"id": "2", "caption": ""})),
        ("a.txt", lines({"id": "1", "caption": "a plane"}, {"id": "2", "caption": ""})),
        ("a.txt", "1\ta plane\n2\t\n"),
        ("a.txt", "id|caption\n1|a plane\n2|\n"),
        ("a.csv", "Image_ID,Prediction\n1,a plane\n2,\n"),
        ("a.json", {"1": [{"caption": "a plane"}], "2": [{"caption": ""}]}),
        ("a.jsonl", lines({"image": "1", "answer": "a plane"}, {"image": "2", "answer": ""})),
        ("a.jsonl", lines({"image": "./images/1", "predict": "a plane"}, {"image": "/x/2", "predict": ""})),
        ("a.jsonl", "\ufeff" + lines({"id": "1", "caption": "a plane"}) + "\n\n" + lines({"id": 2, "caption": ""})),
    ],
)
def test_candidates(tmp_path: Path, name: str, content: object) -> None:
    """`{id: caption}`, COCO results and JSON Lines give the same candidates; an empty caption is one."""
    assert dict(scoring.load_candidates(write(tmp_path / name, content))) == {"1": "a plane", "2": ""}


def test_empty_cells_at_the_end_of_a_row_mean_fewer_captions(tmp_path: Path) -> None:
    """As where the table is trained from; a gap before a caption is still an error."""
    path = tmp_path / "captions.csv"
    path.write_text("image,caption_1,caption_2,caption_3\n1.jpg,a,b,\n2.jpg,c,,\n", encoding="utf-8")
    assert scoring.load_references(path).captions == {"1.jpg": ("a", "b"), "2.jpg": ("c",)}
    path.write_text("image,caption_1,caption_2,caption_3\n1.jpg,a,,b\n", encoding="utf-8")
    with pytest.raises(ScoreError, match="line 2: caption 2 of 3 is empty"):
        scoring.load_references(path)


def test_the_prompt_is_known_where_the_file_names_it(tmp_path: Path) -> None:
    """Predictions that share a prefix bring it along; predictions of several prompts do not."""
    one = lines(
        {"id": "1", "caption": "a", "prefix": "caption en"}, {"id": "2", "caption": "b", "prefix": "caption en"}
    )
    assert scoring.load_candidates(write(tmp_path / "a.jsonl", one)).prefix == "caption en"
    two = lines({"id": "1", "caption": "a", "prefix": "caption en"}, {"id": "2", "caption": "b", "prefix": "describe"})
    assert scoring.load_candidates(write(tmp_path / "b.jsonl", two)).prefix is None


def test_a_line_separator_is_part_of_a_caption(tmp_path: Path) -> None:
    """U+2028 inside a caption does not end a line."""
    content = '{"id": "1", "caption": "a\u2028b"}\n{"id": "2", "caption": "c"}\n'
    assert scoring.load_candidates(write(tmp_path / "a.jsonl", content))["1"] == "a\u2028b"


WANTED = {"1.jpg": ("a plane", "two planes"), "2.jpg": ("a river",)}
KARPATHY = {
    "dataset": "UCM",
    "images": [
        {"filename": "1.jpg", "split": "test", "sentences": [{"raw": "a plane"}, {"raw": "two planes"}]},
        {"filename": "2.jpg", "split": "test", "sentences": [{"raw": "a river"}]},
        {"filename": "3.jpg", "split": "train", "sentences": [{"raw": "a road"}]},
    ],
}
CSV = (
    "source,split,image,caption_1,caption_2\r\n"
    'UCM,test,resized/1.jpg,a plane,"two planes"\r\nUCM,test,2.jpg,"a, river","b\nc"\r\nNWPU,train,3.jpg,x,y\r\n'
)


@pytest.mark.parametrize(
    ("name", "content", "split"),
    [
        ("r.json", {"1.jpg": ["a plane", "two planes"], "2.jpg": ["a river"]}, None),
        (
            "r.jsonl",
            lines({"id": "1.jpg", "captions": ["a plane", "two planes"]}, {"id": "2.jpg", "captions": ["a river"]}),
            None,
        ),
        (
            "r.jsonl",
            lines(
                {"prefix": "", "image": "resized/1.jpg", "suffix": "a plane"},
                {"prefix": "", "image": "resized/2.jpg", "suffix": "a river"},
                {"prefix": "", "image": "resized/1.jpg", "suffix": "two planes"},
            ),
            None,
        ),
        ("r.json", KARPATHY, "test"),
    ],
)
def test_references(tmp_path: Path, name: str, content: object, split: str | None) -> None:
    """The same references from JSON, our JSON Lines, PaliGemma's, and Karpathy's."""
    assert dict(scoring.load_references(write(tmp_path / name, content), split)) == WANTED


def test_coco_annotations(tmp_path: Path) -> None:
    """COCO annotations have the ids of every format, file names; COCO results, which go by number, are matched."""
    annotations = [
        {"id": 1, "image_id": 7, "caption": "a plane"},
        {"id": 2, "image_id": 9, "caption": "a river"},
        {"id": 3, "image_id": 7, "caption": "two planes"},
    ]
    images = [{"id": 7, "file_name": "images/x/p.jpg"}, {"id": 9, "file_name": "q.jpg"}]
    file = write(tmp_path / "r.json", {"images": images, "annotations": annotations})
    captions = {"x/p.jpg": ("a plane", "two planes"), "q.jpg": ("a river",)}
    assert dict(scoring.load_references(file)) == captions
    results = write(tmp_path / "c.json", [{"image_id": 7, "caption": "one"}, {"image_id": 9, "caption": "two"}])
    named = write(tmp_path / "n.json", {"x/p.jpg": "one", "q.jpg": "two"})
    assert (
        dict(scoring.load_pair(results, file)[0])
        == dict(scoring.load_pair(named, file)[0])
        == {
            "x/p.jpg": "one",
            "q.jpg": "two",
        }
    )
    bare = write(tmp_path / "bare.json", {"annotations": annotations})
    assert dict(scoring.load_references(bare)) == {"7": ("a plane", "two planes"), "9": ("a river",)}
    assert dict(scoring.load_pair(results, bare)[0]) == {"7": "one", "9": "two"}
    lost = write(tmp_path / "lost.json", {"images": images[:1], "annotations": annotations})
    with pytest.raises(ScoreError, match=r"lost\.json annotation 1: there is no image 9"):
        scoring.load_references(lost)


def test_references_as_coco_caption_takes_them(tmp_path: Path) -> None:
    """`{id: [{"image_id", "caption"}]}` is the form that coco-caption tokenises."""
    content = {"7": [{"image_id": 7, "id": 1, "caption": "a"}, {"image_id": 7, "id": 2, "caption": "b"}]}
    assert dict(scoring.load_references(write(tmp_path / "gts.json", content))) == {"7": ("a", "b")}


@pytest.mark.parametrize(
    ("candidate", "reference", "difference"),
    [("1.jpg", "1", "suffix"), ("x/1.jpg", "1.jpg", "folder"), ("A.jpg", "a.jpg", "case"), ("x/A", "a.jpg", "or case")],
)
def test_ids_that_nearly_meet_are_told_apart(tmp_path: Path, candidate: str, reference: str, difference: str) -> None:
    """Ids that differ by folder, suffix or case are not bridged: the error names a pair and the difference."""
    given = write(tmp_path / "c.json", {candidate: "a plane"})
    own = write(tmp_path / "r.json", {reference: ["a plane"]})
    with pytest.raises(ScoreError, match=difference) as caught:
        scoring.load_pair(given, own)
    assert repr(candidate) in caught.value.message


def test_captions_csv(tmp_path: Path) -> None:
    """captions.csv gives the images of a split, with their source; quoted commas and line ends are text."""
    references = scoring.load_references(write(tmp_path / "captions.csv", CSV), "test")
    assert dict(references) == {"1.jpg": ("a plane", "two planes"), "2.jpg": ("a, river", "b\nc")}
    assert references.sources == {"1.jpg": "UCM", "2.jpg": "UCM"}
    assert len(scoring.load_references(tmp_path / "captions.csv")) == 3


def test_references_of_a_run(tmp_path: Path) -> None:
    """references/<split>.jsonl of a run folder brings source and scene class along."""
    row = {"id": "1", "captions": ["a plane"], "source": "sample", "scene_class": "airport"}
    references = scoring.load_references(write(tmp_path / "test.jsonl", lines(row)))
    assert (references.sources, references.scene_classes) == ({"1": "sample"}, {"1": "airport"})


def test_real_files(real_data: Path) -> None:
    """The published files of RISC, UCM-Captions and Sydney-Captions are read whole, and agree where they overlap."""
    annotations = real_data / "annotations"
    test = scoring.load_references(annotations / "risc_test_captions.jsonl")
    mini = scoring.load_references(real_data / "risc-mini" / "captions.csv", "test")
    assert (len(test), len(mini)) == (4454, 900)
    assert all(mini[i] == test[i] for i in mini)
    assert set(mini.sources.values()) == {"RSICD", "UCM", "NWPU"}
    assert len(scoring.load_references(annotations / "ucm_dataset.json")) == 2100
    assert len(scoring.load_references(annotations / "sydney_dataset.json", "test")) == 58


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", "", "is empty"),
        ("a.json", "{", "line 1: not JSON"),
        ("a.json", '{"1": "a", "1": "b"}', "1 keys of one object occur more than once: '1'"),
        ("a.json", {"1": 5}, "'1': expected one caption, found 5"),
        ("a.json", {"1": ["a", "b"]}, "expected one caption"),
        ("a.json", "5", "holds 5, not candidates"),
        (
            "a.json",
            [{"image_id": 1, "caption": "a"}, {"image_id": 1, "caption": "b"}],
            "1 ids occur more than once: '1'",
        ),
        ("a.json", [5], "entry 0: expected a JSON object, found 5"),
        ("a.jsonl", '{"id": "1", "caption": "a"}\n{"id": ', "line 2: not JSON"),
        ("a.jsonl", '{"id": "1", "caption": "a"}\n[]', "line 2: expected a JSON object"),
        ("a.jsonl", lines({"caption": "a"}), "line 1: no `id`"),
        ("a.jsonl", lines({"predict": "a", "label": "b"}), "no `id` or `image`; there is: predict, label"),
        ("a.jsonl", lines({"id": "1", "caption": "a", "prediction": "b"}), "`caption` and `prediction`: either may be"),
        ("a.jsonl", lines({"id": "1", "words": "a"}), "no `caption`; there is: id, words"),
        ("a.txt", "two planes\na river\n", "do not say which image they belong to: 'two planes'"),
        ("a.csv", "image,words\n1,a\n", "line 2: no `caption`; there is: image, words"),
        ("a.jsonl", lines({"id": "1", "caption": "a"}, {"id": "2"}), "line 2: no `caption`; there is: id"),
    ],
)
def test_bad_candidates(tmp_path: Path, name: str, content: object, words: str) -> None:
    """A file of candidates that cannot be used is an error that names the file and the place."""
    with pytest.raises(ScoreError, match=words) as caught:
        scoring.load_candidates(write(tmp_path / name, content))
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "split", "words"),
    [
        ("r.csv", "image,words\n1.jpg,a\n", None, "no column or key holds captions; there is: image, words"),
        ("r.csv", "image,caption_1,caption_2\n1.jpg,a,b\n1.jpg,c,d\n", None, "1 ids occur more than once: '1.jpg'"),
        ("r.csv", "image,caption_1\n1.jpg,a\n2.jpg,\n", None, "line 3: caption 1 of 1 is empty"),
        ("r.csv", "image,caption_1\n1.jpg,a,b\n", None, "line 2: 3 cells, the header has 2"),
        ("r.csv", 'image,caption_1\n1.jpg,"a\nb"\n\n2.jpg,\n', None, "line 5: caption 1 of 1 is empty"),
        ("r.csv", "name,caption_1\n1.jpg,a\n", None, "no column or key names the image; there is: name, caption_1"),
        ("r.csv", "image,caption_1\n", None, "holds no references"),
        ("r.csv", 'image,caption_1\n1.jpg,"a\n', None, "line 2: not CSV: unexpected end of data"),
        ("r.csv", CSV, "val", r"no split 'val'; it has test \(2\), train \(1\)"),
        ("r.json", {"1": ["a"]}, "test", "does not say which split"),
        ("r.json", {"1": "a"}, None, "none of the JSON layouts that are read; its keys: 1"),
        ("r.json", {"1": []}, None, "'1': no caption"),
        ("r.json", {"1": ["a", " "]}, None, "'1': caption 2 of 2 is empty"),
        (
            "r.json",
            {"images": [{"filename": "1.jpg"}]},
            None,
            "image 0: no column or key holds captions; there is: filename",
        ),
        ("r.json", {"annotations": {}}, None, "its keys: annotations"),
        ("r.jsonl", lines({"image": "1.jpg", "suffix": "a"}, {"image": "1.jpg", "suffix": 7}), None, "caption 2 is 7"),
        (
            "r.csv",
            "image,split,caption\n1.jpg,train,a\n1.jpg,test,b\n",
            None,
            "line 3: 1.jpg is in split 'train' at r.csv line 2",
        ),
        (
            "r.jsonl",
            lines({"id": "1", "captions": ["a"]}, {"id": "1", "captions": ["b"]}),
            None,
            "ids occur more than once",
        ),
    ],
)
def test_bad_references(tmp_path: Path, name: str, content: object, split: str | None, words: str) -> None:
    """A file of references that cannot be used is an error that names the file and the place."""
    with pytest.raises(ScoreError, match=words) as caught:
        scoring.load_references(write(tmp_path / name, content), split)
    assert name in str(caught.value)


def test_not_utf8(tmp_path: Path) -> None:
    """A Latin-1 file is refused with the line of its first odd byte; a binary or missing file is called so."""
    file = tmp_path / "captions.csv"
    file.write_bytes("image,caption_1\n1.jpg,a\n2.jpg,café\n".encode("latin-1"))
    with pytest.raises(ScoreError, match=r"captions\.csv line 3: not UTF-8 \(byte 0xe9"):
        scoring.load_references(file)
    file.write_bytes(b"PK\x03\x04\x00\xff")
    with pytest.raises(ScoreError, match="zip archive or an Excel workbook"):
        scoring.load_references(file)
    with pytest.raises(ScoreError, match=r"none\.json does not exist"):
        scoring.load_candidates(tmp_path / "none.json")
    with pytest.raises(ScoreError, match="not a regular file"):
        scoring.load_candidates(tmp_path)


def test_candidates_by_path_meet_the_references_of_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path that leads to the file of a reference is that reference's image, and a note says so; a file of the same
    name in another folder is not, nor are two candidates of one file."""
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    write(Path("mine/captions.csv"), "image,caption_1\nx/1.jpg,a plane\n2.jpg,a river\n")
    given = write(Path("out.csv"), "id,caption\nmine/x/1.jpg,one\n./mine/2.jpg,two\n")
    for references in ("mine", "mine/captions.csv"):
        candidates, own = scoring.load_pair(given, references)
        assert dict(candidates) == {"x/1.jpg": "one", "2.jpg": "two"}
        assert "mine/x/1.jpg is the image 'x/1.jpg'" in own.notes[-1].text
    for other in ("yours/x/1.jpg,one\nyours/2.jpg,two\n", "mine/2.jpg,one\nmine/x/../2.jpg,two\n"):
        with pytest.raises(ScoreError, match="no candidate has the id of a reference"):
            scoring.load_pair(write(Path("other.csv"), "id,caption\n" + other), "mine")
