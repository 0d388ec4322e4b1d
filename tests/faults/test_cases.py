"""Small inputs made after public bug reports: every one comes out as its README says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from checkout import shared
from command_line import rscap
from rscap.data import FileImage, open_source
from rscap.data.images import TellingImage
from rscap.errors import RscapError
from rscap.scoring import read_sheet


@pytest.fixture(scope="module")
def cases() -> Path:
    return shared("cases")


def case(cases: Path, number: str) -> Path:
    [folder] = cases.glob(f"{number}-*")
    return folder


SOURCES = {
    "01/parq_splits": ({"train": 4, "val": 1, "test": 1}, None),
    "01/pqsame": ({"train": 2, "test": 2}, None),
    "02/zero_based": (None, 2),
    "02/cap01": (None, 3),
    "02/cap_and_caps": (None, 2),
    "02/meta0": (None, 2),
    "02/pqcap_train.parquet": (None, 2),
    "07/splitcase": ({"train": 4, "val": 1, "test": 1}, None),
    "08/nwpu": (None, 5),
    "09/parq_list": (None, 2),
    "09/parq_text": (None, 1),
    "09/metacap": (None, 2),
    "13/flickr": ({"all": 6}, 2),
    "13/flickr_csv": ({"all": 6}, 2),
    "13/flickr_csv1": ({"all": 6}, 2),
    "13/metarep": ({"all": 6}, 2),
    "14/blip": (None, 2),
    "14/llava": (None, 1),
    "14/jsonl_llava": (None, 1),
    "14/swift": (None, 1),
    "14/jsonl_cap": (None, 1),
    "16/multiline": ({"all": 6}, None),
    "17/rsicd": (None, None),
    "19/rsicd_plus": (None, None),
    "19/hidpq": (None, None),
    "19/macjson": (None, None),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_opens(cases: Path, name: str) -> None:
    """Splits, images and captions are those that people meant."""
    number, _, inside = name.partition("/")
    splits, captions = SOURCES[name]
    source = open_source(case(cases, number) / inside, check="none")
    assert source.examples
    assert not source.rejected
    if splits is not None:
        assert source.splits == splits
    if captions is not None:
        assert {len(example.captions) for example in source.examples} == {captions}


TOLD = {
    "06/cp1252": "windows-1252",
    "06/utf16": "UTF-16",
}


@pytest.mark.parametrize("name", TOLD)
def test_a_source_that_cannot_be_read_says_what_it_is(cases: Path, name: str) -> None:
    """The encoding that the bytes show, or the companion file that is no data."""
    number, _, inside = name.partition("/")
    with pytest.raises(RscapError) as caught:
        open_source(case(cases, number) / inside, check="none")
    assert TOLD[name] in caught.value.in_one_line


IMAGES = {
    "04/s2_band_0_3000.tif": "",
    "04/wv_11bit.tif": "",
    "04/u32.tif": "",
    "04/rgb16_dark.png": "",
    "05/f32_rgb.tif": "TIFF",
    "05/heic.heic": "HEIC",
    "05/lfs.jpg": "git lfs pull",
    "05/rgb16_minisblack.tif": "TIFF",
    "05/s2_12band_16.tif": "12 bands",
}


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_that_would_mislead_is_refused_or_told(cases: Path, name: str) -> None:
    """What it is and the way out; no image that decodes to nothing visible is captioned in silence."""
    number, _, inside = name.partition("/")
    said: list[str] = []
    try:
        TellingImage(FileImage(case(cases, number) / inside), said.append).load()
    except RscapError as error:
        said.append(error.in_one_line)
    assert said or name == "04/u32.tif"  # 0 to 255 in 32 bits is told apart and decoded as 8 bits
    assert any(IMAGES[name] in line for line in said) or not IMAGES[name]


@pytest.mark.parametrize(
    ("out", "references"),
    [("sub", "sub/captions.csv"), ("coco", "coco/captions_test.json"), ("karp", "karp/dataset.json")],
)
def test_own_predictions_are_scored_against_their_source(
    cases: Path, tmp_path: Path, out: str, references: str
) -> None:
    """Through both doors an image has one id, and the scores are those of the evaluation."""
    folder = case(cases, "03")
    words = [
        "--candidates",
        str(folder / f"out_{out}/predictions/test.jsonl"),
        "--references",
        str(folder / references),
    ]
    split = [] if out == "coco" else ["--split", "test"]
    done = rscap("score", *words, *split, "--no-meteor", "--draws", "0", "--out", "sheet.json", cwd=tmp_path)
    assert done.code == 0, done.stderr
    expected = read_sheet(folder / f"out_{out}/scores/test.json").corpus
    found = read_sheet(tmp_path / "sheet.json").corpus
    assert found == pytest.approx({name: expected[name] for name in found})


CANDIDATES = ["maestro.jsonl", "pred_hf.jsonl", "res.csv", "res.txt", "res_llava.jsonl"]


@pytest.mark.parametrize("name", CANDIDATES)
def test_candidates_are_read_or_told(cases: Path, tmp_path: Path, name: str) -> None:
    """Under the names that trainers write; otherwise the message says what is wanted."""
    folder = case(cases, "11")
    words = (
        "--candidates",
        str(folder / name),
        "--references",
        str(folder / "gts.json"),
        "--no-meteor",
        "--draws",
        "0",
    )
    done = rscap("score", *words, cwd=tmp_path)
    assert done.code == 0 or "hint:" in done.stderr


def test_nwpu_is_scored(cases: Path, tmp_path: Path) -> None:
    """As published, keyed by class."""
    folder = case(cases, "08")
    words = ("--candidates", str(folder / "res_nwpu.json"), "--references", str(folder / "nwpu/dataset_nwpu.json"))
    assert rscap("score", *words, "--allow-missing", "--no-meteor", "--draws", "0", cwd=tmp_path).code == 0


def test_cider_of_one_image_has_a_note(cases: Path, tmp_path: Path) -> None:
    """It is 0 for any caption."""
    folder = case(cases, "21")
    words = ("--candidates", str(folder / "one_c.json"), "--references", str(folder / "one_r.json"), "--no-meteor")
    done = rscap("score", *words, cwd=tmp_path)
    assert "one image" in done.stdout + done.stderr


def test_special_tokens_are_told_before_training(cases: Path, tmp_path: Path) -> None:
    """The audit names the captions that training would reject at its first step."""
    done = rscap("data", "audit", str(case(cases, "23") / "tok"), "--no-images", "--json", cwd=tmp_path)
    found = {one["kind"] for one in json.loads(done.stdout)["findings"]}
    assert "special-token" in found


@pytest.mark.torch
def test_special_tokens_are_told_by_the_doctor(cases: Path, tmp_path: Path) -> None:
    """Of a recipe, before anything is trained."""
    folder = case(cases, "23")
    words = ("--set", f"data.source={folder / 'tok'}", "--set", "train.epochs=1")
    done = rscap("doctor", str(folder / "r.toml"), *words, cwd=tmp_path)
    assert "[special-tokens]" in done.stdout
    assert all(token in done.stdout for token in ("<image>", "<eos>", "<pad>"))


@pytest.fixture
def adapters(cases: Path, tmp_path: Path) -> Path:
    """The adapters of case 20 on the built-in base, as its README asks."""
    from rscap.model.load import NANO

    shutil.copytree(case(cases, "20"), tmp_path, dirs_exist_ok=True)
    for file in tmp_path.glob("*/adapter_config.json"):
        config = {**json.loads(file.read_text(encoding="utf-8")), "base_model_name_or_path": str(NANO)}
        file.write_text(json.dumps(config), encoding="utf-8")
    return tmp_path


@pytest.mark.torch
def test_adapters_of_others(adapters: Path) -> None:
    """One that fits is asked; pickled weights and keys that fit nothing are told with the way out."""
    few = ("--set", "generate.max_new_tokens=2")
    done = rscap("caption", "plain.jpg", "--model", "peft_new", *few, cwd=adapters)
    assert done.code == 0 or "adapter" in done.stderr
    assert "safetensors" in rscap("doctor", "peft_bin", "--no-probe", cwd=adapters).stdout
    assert "blocks" in rscap("doctor", "peft_misfit", cwd=adapters).stdout


@pytest.mark.torch
def test_a_folder_of_images_is_captioned(cases: Path, tmp_path: Path) -> None:
    """The first thing that people try."""
    shutil.copytree(case(cases, "25") / "folder", tmp_path / "folder")
    few = ("--set", "generate.max_new_tokens=2")
    done = rscap("caption", "folder", "--model", "nano", *few, cwd=tmp_path)
    assert (done.code, done.stdout.startswith("folder/a.jpg\t")) == (0, True)
