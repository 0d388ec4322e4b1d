"""Things are the same by their content; limits hold for what a file becomes."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from rscap.data import FileImage, content_digest, opened
from rscap.data.opening import source_of
from rscap.errors import DataError, ImageError, ScoreError, StoreError
from rscap.records import Example, ImageHeader, Prediction
from rscap.scoring import score_captions
from rscap.store import Journal, RunFolder, Seen, SeenImage, write_seen

SIZE = (16, 16)


def picture(path: Path, red: int) -> Path:
    """A raw image: all of one shape have the same number of bytes."""
    Image.new("RGB", SIZE, (red, 90, 30)).save(path, format="BMP")
    return path


def seen(paths: list[Path]) -> Seen:
    return Seen.of(
        SeenImage(path.name, content_digest(Image.open(path)), bytes(8), trained=True, selected=False) for path in paths
    )


SWAPS = [(0, 1), (0, 9), (4, 5), (1, 8), (2, 3), (3, 7), (6, 9), (7, 8), (0, 5), (5, 6)]


@pytest.mark.torch
@pytest.mark.parametrize("pair", SWAPS)
def test_a_run_notices_images_that_changed_places(tmp_path: Path, pair: tuple[int, int]) -> None:
    """Names and sizes are as before; the pixels are not, and the first that differs is named."""
    from rscap.training.folder import check_same_images

    paths = [picture(tmp_path / f"{number}.bmp", 20 * number) for number in range(10)]
    run = RunFolder.create(tmp_path / "run")
    write_seen(run.seen_file, seen(paths))
    check_same_images(run, seen(paths))
    one, other = (paths[number] for number in pair)
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)
    os.utime(one, (0, 0))
    with pytest.raises(StoreError, match=f"2 images changed since .* such as {one.name}"):
        check_same_images(run, seen(paths))


@pytest.mark.parametrize("place", range(10))
def test_an_evaluation_captions_an_image_that_changed_again(tmp_path: Path, place: int) -> None:
    """Captions of the images before it are kept, in whole batches."""
    paths = [picture(tmp_path / f"{number}.bmp", 20 * number) for number in range(10)]
    one = Example(id="", captions=("a",), image=FileImage(tmp_path), split="test", source="")
    examples = [replace(one, id=path.name, image=FileImage(path)) for path in paths]
    journal = Journal(tmp_path / "journal", {"model": "nano"})
    assert journal.begin(examples, batch_size=2) == []
    for example in examples:
        journal.add(Prediction(example_id=example.id, caption="a", prefix="", tokens=1, stopped="eos"))
    assert len(Journal(tmp_path / "journal", {"model": "nano"}).begin(examples, batch_size=2)) == 10
    picture(paths[place], 255)
    done = Journal(tmp_path / "journal", {"model": "nano"}).begin(examples, batch_size=2)
    assert [one.example_id for one in done] == [path.name for path in paths[: place // 2 * 2]]


BOMBS = list(itertools.product((9_000, 20_000, 40_000), (40_000, 60_000), ("text", "bytes")))


@pytest.mark.parametrize(("rows", "size", "kind"), BOMBS)
def test_a_table_that_becomes_a_thousand_times_as_large(tmp_path: Path, rows: int, size: int, kind: str) -> None:
    """Dictionary-coded, one value of some kilobytes stands in every row; its file has some kilobytes in all."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    from rscap.annotations.parquet import refuse_bombs

    values = pyarrow.array(["x" * size]) if kind == "text" else pyarrow.array([b"\0" * size])
    column = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * rows, pyarrow.int32()), values)
    path = tmp_path / "train.parquet"
    parquet.write_table(pyarrow.table({"caption": column}), path)
    assert path.stat().st_size < 200_000
    with pytest.raises(DataError, match="become more than"):
        refuse_bombs(path, [path])


def test_an_ordinary_table_is_no_bomb(tmp_path: Path) -> None:
    """Captions that occur often, and images that are compressed already."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    from rscap.annotations.parquet import refuse_bombs

    path = tmp_path / "train.parquet"
    captions = [f"there are {number % 50} planes on the grass" for number in range(50_000)]
    parquet.write_table(pyarrow.table({"caption": captions, "image": [os.urandom(200)] * 50_000}), path)
    refuse_bombs(path, [path])


@pytest.mark.parametrize("text", ["a " * 300_000, "x" * 500_001, "\n" * 600_000, "é" * 500_001])
def test_a_candidate_longer_than_any_caption_is_refused(text: str) -> None:
    """It is named with its length, before METEOR takes minutes for it."""
    with pytest.raises(ScoreError, match=r"the candidate of 'a' has .* characters"):
        score_captions({"a": text}, {"a": ["a field"]})


class Own:
    """An image handle of a caller, of which one part breaks the contract."""

    name = "own.png"
    identity = "own.png:1"

    def __init__(self, **broken: object) -> None:
        self.broken = broken

    def load(self) -> object:
        return self.answer("load", Image.new("RGB", SIZE))

    def header(self) -> object:
        return self.answer("header", ImageHeader("PNG", "RGB", *SIZE))

    def data(self) -> object:
        return self.answer("data", b"x")

    def answer(self, method: str, right: object) -> object:
        found = self.broken.get(method, right)
        if isinstance(found, Exception):
            raise found
        return found


BREAKS: list[tuple[str, object, str]] = [
    ("load", None, "its load() returned NoneType, not Image"),
    ("load", b"png", "its load() returned bytes, not Image"),
    ("load", KeyError("x"), "its load() failed: KeyError"),
    ("load", OSError(5, "gone"), "its load() failed: OSError"),
    ("load", ValueError("bad"), "its load() failed: ValueError: bad"),
    ("header", (1, 2), "its header() returned tuple, not ImageHeader"),
    ("header", None, "its header() returned NoneType"),
    ("header", AttributeError("y"), "its header() failed: AttributeError"),
    ("data", "text", "its data() returned str, not bytes"),
    ("data", 7, "its data() returned int, not bytes"),
    ("data", RuntimeError("z"), "its data() failed: RuntimeError"),
]


@pytest.mark.parametrize(("method", "answer", "line"), BREAKS)
def test_a_handle_that_breaks_its_contract_is_named(method: str, answer: object, line: str) -> None:
    """An error of a caller's own code is an ImageError, which captioning and training tell of as of any bad image."""
    handle = opened(Own(**{method: answer}))  # type: ignore[arg-type]
    with pytest.raises(ImageError) as caught:
        getattr(handle, method)()
    assert f"own.png: {line}" in caught.value.message


def test_a_handle_in_grey_is_made_rgb() -> None:
    """The contract says RGB; a grey image is converted rather than refused."""
    assert opened(Own(load=Image.new("L", SIZE))).load().mode == "RGB"  # type: ignore[arg-type]


@pytest.mark.parametrize("part", ["name", "identity"])
def test_a_handle_without_a_name_is_refused(part: str) -> None:
    """Both are words, which messages and digests need."""
    handle = type("Nameless", (Own,), {part: None})()
    with pytest.raises(ImageError, match=f"has no '{part}'"):
        opened(handle)


@pytest.mark.parametrize("split", ["valid", "Validation", "VAL", "dev", "val"])
def test_own_examples_have_the_usual_splits(split: str) -> None:
    """As in a file: every usual name of the validation split is `val`."""
    example = Example(id="a", captions=("a field",), image=Own(), split=split, source="")  # type: ignore[arg-type]
    assert source_of([example], name="own").splits == {"val": 1}
