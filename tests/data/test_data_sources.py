"""Opening a source: what can be used comes out once, what cannot is listed with its place and reason."""

from __future__ import annotations

import csv
import io
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rscap.annotations.parquet import MAX_ROWS
from rscap.data import ArrowImage, MissingImage, Source, open_source
from rscap.errors import DataError, ImageError, RscapError
from rscap.scoring import load_references

HEADER = ["source", "split", "image", *(f"caption_{n}" for n in range(1, 6))]


def jpeg(seed: int = 0, size: int = 16) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, format="JPEG")
    return stream.getvalue()


def row(number: int, **changes: str) -> dict[str, str]:
    cells = {"source": "RSICD", "split": ["train", "val", "test"][number % 3], "image": f"RSICD_{number}.jpg"}
    return {**cells, **{f"caption_{k}": f"caption {k} of {number} ." for k in range(1, 6)}, **changes}


def write(folder: Path, rows: list[dict[str, str]], header: list[str] | None = None) -> Path:
    """A data set in RISC's layout; every named image that stays inside is written."""
    (folder / "resized").mkdir(parents=True, exist_ok=True)
    with (folder / "captions.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, header or HEADER, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    for number, cells in enumerate(rows):
        name = cells.get("image", "")
        if name and "/" not in name and "\\" not in name and "\0" not in name:
            (folder / "resized" / name).write_bytes(jpeg(number))
    return folder


def rejected(folder: Path) -> dict[str, str]:
    return {bad.row: bad.reason for bad in open_source(folder, max_rejected_share=0.9).rejected}


def test_a_folder_and_its_csv_are_the_same_source(tmp_path: Path) -> None:
    """The folder and the file in it open alike: ids, captions, splits, sources, pixels."""
    folder = write(tmp_path / "risc", [row(n) for n in range(6)])
    source, again = open_source(folder), open_source(str(folder / "captions.csv"))
    assert (source.name, source.digest, source.rejected) == ("risc", again.digest, ())
    example = source.examples[4]
    assert (example.id, example.split, example.source) == ("RSICD_4.jpg", "val", "RSICD")
    assert example.captions == tuple(f"caption {k} of 4 ." for k in range(1, 6))
    assert example.image.load().size == (16, 16)
    assert source.splits == {"train": 2, "val": 2, "test": 2}


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    """A CSV saved by a spreadsheet, with BOM and CRLF, opens as the same source."""
    folder = write(tmp_path, [row(n) for n in range(3)])
    plain = open_source(folder)
    file = folder / "captions.csv"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert open_source(folder).digest == plain.digest


def test_images_may_lie_in_images(tmp_path: Path) -> None:
    """`images/` serves as well as `resized/`."""
    folder = write(tmp_path, [row(n) for n in range(3)])
    expected = open_source(folder).digest
    (folder / "resized").rename(folder / "images")
    assert open_source(folder).digest == expected


def test_the_digest_moves_with_all_it_pins(tmp_path: Path) -> None:
    """A changed caption, split, source, id or file size changes the digest; copying the folder does not."""
    rows = [row(n) for n in range(3)]
    digests = [open_source(write(tmp_path / "a", rows)).digest, open_source(write(tmp_path / "b", rows)).digest]
    assert digests[0] == digests[1]
    for change in ({"caption_3": "other ."}, {"split": "val"}, {"source": "X"}, {"image": "RSICD_9.jpg"}):
        digests.append(open_source(write(tmp_path / "c", [*rows[:2], {**rows[2], **change}])).digest)
    write(tmp_path / "b", rows)
    (tmp_path / "b" / "resized" / "RSICD_1.jpg").write_bytes(jpeg(1, size=32))
    digests.append(open_source(tmp_path / "b").digest)
    assert len(set(digests)) == len(digests) - 1


def test_empty_cells_at_the_end_are_captions_that_there_are_not(tmp_path: Path) -> None:
    """A row with three of five captions is an example with three, and a note says so; a gap before one is refused."""
    rows = [row(number) for number in range(3)]
    source = open_source(write(tmp_path / "a", [{**rows[0], "caption_4": "", "caption_5": " "}, *rows[1:]]))
    assert [len(example.captions) for example in source.split("train")][:1] == [3]
    assert not source.rejected
    assert [note.text for note in source.notes] == ["1 rows have fewer than 5 captions, first captions.csv line 2"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"caption_2": "  "}, "caption 2 of 5 is empty"),
        ({f"caption_{number}": "" for number in range(1, 6)}, "caption 1 of 1 is empty"),
        ({"caption_1": "x" * 10_001}, "10001 characters"),
        ({"caption_1": "a\0b"}, "NUL"),
        ({"image": ""}, "no image is named"),
        ({"image": "../outside.jpg"}, "climbs out of the data folder"),
        ({"image": "a/../../outside.jpg"}, "climbs out of the data folder"),
        ({"image": "/etc/passwd"}, "is absolute"),
        ({"image": "~/x.jpg"}, "is absolute"),
        ({"image": "C:\\x.jpg"}, "is a Windows path"),
        ({"image": "..\\x.jpg"}, "is a Windows path"),
        ({"image": "https://host/x.jpg"}, "is a URL"),
        ({"image": "sub/none.jpg"}, "images are looked for in resized/, images/, imgs/"),
        ({"image": "x" * 300 + "/a.jpg"}, "there is no image"),
        ({"image": "RSICD_0.jpg"}, "is at captions.csv line 2 already"),
        ({"split": "test set!"}, "invalid split name"),
        ({"split": ""}, "invalid split name"),
        ({"caption_1": "two\nx.jpg,lines"}, "spans lines 6 to 7"),
        ({"caption_1": "['two', 'captions']"}, "a list written as text"),
    ],
)
def test_an_unusable_row_is_listed_with_line_and_reason(tmp_path: Path, change: dict[str, str], reason: str) -> None:
    """Each kind of bad row is rejected, named by file and line; the others are kept."""
    folder = write(tmp_path, [*(row(n) for n in range(4)), row(4, **change), row(5)])
    source = open_source(folder, max_rejected_share=0.5)
    assert {bad.row for bad in source.rejected} >= {"captions.csv line 6"}
    assert all(reason in bad.reason for bad in source.rejected)
    assert [example.id for example in source.examples] == [f"RSICD_{n}.jpg" for n in (0, 1, 2, 3, 5)]


def test_ragged_rows_are_rejected(tmp_path: Path) -> None:
    """A row with a cell too many is not guessed at; one with too few has fewer captions; a blank line is no row."""
    folder = write(tmp_path, [row(n) for n in range(4)])
    (folder / "resized" / "RSICD_9.jpg").write_bytes(jpeg())
    with (folder / "captions.csv").open("a") as stream:
        stream.write("RSICD,train,RSICD_9.jpg,one,two,three,four\n\nRSICD,train,x.jpg,1,2,3,4,5,6\n")
    assert rejected(folder) == {"captions.csv line 8": "9 cells, the header has 8"}
    assert open_source(folder, max_rejected_share=0.9).examples[-1].captions == ("one", "two", "three", "four")


def test_links_that_leave_the_folder_are_rejected(tmp_path: Path) -> None:
    """A link to a file outside, and a folder that is one, are refused; a link within is not."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "s.jpg").write_bytes(jpeg())
    rows = [row(0), row(1, image="link.jpg"), row(2, image="out/s.jpg"), row(3, image="within.jpg")]
    folder = write(tmp_path / "data", rows)
    for name, target in {
        "link.jpg": tmp_path / "secret" / "s.jpg",
        "within.jpg": folder / "resized/RSICD_0.jpg",
    }.items():
        (folder / "resized" / name).unlink()
        (folder / "resized" / name).symlink_to(target)
    (folder / "resized" / "out").symlink_to(tmp_path / "secret")
    assert set(rejected(folder)) == {"captions.csv line 3", "captions.csv line 4"}
    assert all("through a link" in reason for reason in rejected(folder).values())


def test_broken_images_are_rejected_as_closely_as_asked(tmp_path: Path) -> None:
    """`exists` sees missing, empty and special files, `header` what is no image, `decode` the truncated too."""
    folder = write(tmp_path, [row(n) for n in range(8)])
    images = folder / "resized"
    (images / "RSICD_1.jpg").unlink()
    (images / "RSICD_2.jpg").write_bytes(b"")
    (images / "RSICD_3.jpg").unlink()
    os.mkfifo(images / "RSICD_3.jpg")
    (images / "RSICD_4.jpg").write_text("<html>404</html>")
    (images / "RSICD_5.jpg").write_bytes(jpeg(5, 64)[:900])
    found = {
        check: {bad.row[-1] for bad in open_source(folder, check=check, max_rejected_share=0.9).rejected}  # type: ignore[arg-type]
        for check in ("exists", "header", "decode")
    }
    assert found == {"exists": set("345"), "header": set("3456"), "decode": set("34567")}


def test_captions_can_be_opened_without_images(tmp_path: Path) -> None:
    """With check `none` images need not be there: captions are, and loading says what is missing."""
    folder = write(tmp_path, [row(n) for n in range(3)])
    (folder / "resized" / "RSICD_1.jpg").unlink()
    source = open_source(folder, check="none")
    assert isinstance(source.examples[1].image, MissingImage)
    with pytest.raises(ImageError, match=r"RSICD_1\.jpg.*captions alone"):
        source.examples[1].image.load()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"image,words\na.jpg,hello\n", "no column or key holds captions; there is: image, words"),
        (b"source,caption_1\nx,y\n", "no column or key names the image; there is: source, caption_1"),
        (b"image,caption_1,caption_3\na,b,c\n", "numbers are left out between the captions: caption_2"),
        (b"image,caption_1,image\na,b,c\n", "columns twice: image"),
        (b"image,caption_1\na.jpg,caf\xe9\n", r"line 2: not UTF-8 \(byte 0xe9 at offset 25\)"),
        ("image,caption_1\na.jpg,b\n".encode("utf-16"), "is UTF-16, not UTF-8"),
        (b'image,caption_1\na.jpg,"open\nb.jpg,c\n', "not CSV"),
        (b"image,caption_1\n", "none of its 0 rows"),
        (b"image,caption_" + b"9" * 6 + b"\n", "numbers are left out"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_clear_error(tmp_path: Path, content: bytes, message: str) -> None:
    """What is wrong with the file as a whole is an error that names file and place."""
    (tmp_path / "captions.csv").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        open_source(tmp_path)
    assert str(tmp_path) in str(caught.value) or tmp_path.name in str(caught.value)


def test_a_quote_left_open_rejects_every_line_it_swallowed(tmp_path: Path) -> None:
    """Rows swallowed by a stray quote count line by line, so the share cannot hide them."""
    folder = write(tmp_path, [row(n) for n in range(30)])
    file = folder / "captions.csv"
    lines = file.read_text().splitlines()
    lines[5] = lines[5].replace("caption 1", '"caption 1', 1)
    lines[15] = lines[15] + '"'
    file.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError) as caught:
        open_source(folder)
    assert "11 of 30" in str(caught.value) or "not CSV" in str(caught.value)


def test_too_many_rejected_rows_stop(tmp_path: Path) -> None:
    """Above the allowed share opening fails, with counts and the first reasons; at the share it does not."""
    folder = write(tmp_path, [row(n, **({"caption_1": ""} if n < 2 else {})) for n in range(20)])
    assert len(open_source(folder, max_rejected_share=0.1).rejected) == 2
    with pytest.raises(
        DataError, match=r"2 of 20 rows cannot be used[\s\S]*captions.csv line 2: caption 1 of 5 is empty"
    ):
        open_source(folder, max_rejected_share=0.09)


def test_an_unknown_split_is_an_error_that_lists_the_known(tmp_path: Path) -> None:
    """Asking for a split that does not exist says which do; asking for a source likewise."""
    source = open_source(write(tmp_path, [row(n) for n in range(4)]))
    with pytest.raises(DataError, match=r"no split 'dev'; there is: train \(2\), val \(1\), test \(1\)"):
        source.split("dev")
    with pytest.raises(DataError, match=r"no 'UCM' in split 'train'; there is: RSICD \(2\)"):
        source.split("train", source="UCM")


def test_training_does_not_see_test(tmp_path: Path) -> None:
    """The training view has no test example, and asking for them is an error."""
    view = open_source(write(tmp_path, [row(n) for n in range(9)])).for_training()
    assert view.splits == {"train": 3, "val": 3}
    with pytest.raises(DataError, match="no split 'test'"):
        view.split("test")


def test_without_a_split_column_nothing_is_called_train(tmp_path: Path) -> None:
    """Unsplit data are one split `all`; asking for `train` says so and what to do."""
    header = [name for name in HEADER if name not in {"split", "source"}]
    source = open_source(write(tmp_path, [row(n) for n in range(3)], header))
    assert source.splits == {"all": 3}
    assert source.examples[0].source == "RSICD"  # told by the file name
    with pytest.raises(DataError, match="split scheme"):
        source.split("train")


def test_subsets_do_not_depend_on_row_order_and_nest(tmp_path: Path) -> None:
    """The same seed chooses the same images from shuffled rows; a smaller subset lies within a larger; seeds differ."""
    rows = [row(3 * n) for n in range(60)]
    one = open_source(write(tmp_path / "a", rows))
    other = open_source(write(tmp_path / "b", rows[::-1]))

    def ids(source: Source, n: int, seed: int) -> set[str]:
        return {example.id for example in source.subset("train", n, seed)}

    assert ids(one, 20, 7) == ids(other, 20, 7)
    assert ids(one, 10, 7) < ids(one, 20, 7)
    assert ids(one, 20, 7) != ids(one, 20, 8)
    with pytest.raises(DataError, match="cannot choose 61 examples of split 'train', which has 60"):
        one.subset("train", 61, 0)


@pytest.mark.parametrize(
    ("spec", "asks"), [("owner/name.v2", True), ("owner/name@v1.0", True), ("a/b.csv", False), ("a/b.txt", False)]
)
def test_a_missing_file_is_not_looked_for_on_the_hub(monkeypatch: pytest.MonkeyPatch, spec: str, asks: bool) -> None:
    """Names and revisions may hold a dot; what ends like a file is a file, and no network is asked for it."""
    asked: list[str] = []
    monkeypatch.setattr("rscap.data.parquet.open_hub", lambda spec: asked.append(spec) or {})
    with pytest.raises(DataError):
        open_source(spec)
    assert asked == ([spec] if asks else [])


@pytest.mark.parametrize("spec", ["nothing-here", "no/such/folder", "missing.csv", "missing.parquet"])
def test_nothing_to_open_is_an_error_that_names_it(spec: str) -> None:
    """A path that is not there is named."""
    with pytest.raises(DataError, match=spec):
        open_source(spec)


def test_a_folder_or_file_of_another_kind(tmp_path: Path) -> None:
    """A folder without data and a file of another kind are errors that say what is wanted."""
    (tmp_path / "notes.dat").write_text("hello")
    for spec in (tmp_path, tmp_path / "notes.dat"):
        with pytest.raises(DataError, match=r"captions\.csv"):
            open_source(spec)


@pytest.mark.parametrize(
    "options",
    [{"check": "closely"}, {"max_rejected_share": 2}, {"max_rejected_share": float("nan")}, {"split_scheme": "x"}],
)
def test_impossible_options_are_refused(tmp_path: Path, options: dict) -> None:
    """An option out of its range is an error, not a default."""
    with pytest.raises(DataError):
        open_source(write(tmp_path, [row(0)]), **options)


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` writes its Arrow files under the test's own folder."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def write_parquet(path: Path, n: int, *, named: bool) -> Path:
    """A table of the Hub's schema."""
    import pyarrow
    import pyarrow.parquet

    cells = [{"bytes": jpeg(i), "path": f"RSICD_{i}.jpg" if named else None} for i in range(n)]
    texts = {f"caption_{k}": [f"caption {k} of {i} ." for i in range(n)] for k in range(1, 6)}
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table({"image": cells, **texts}), path)
    return path


@pytest.mark.parametrize("named", [True, False])
def test_a_parquet_of_the_hub_schema(tmp_path: Path, hub_cache: None, named: bool) -> None:
    """Captions, bytes and (where the table has them) file names come out; handles pickle small and load alike."""
    source = open_source(write_parquet(tmp_path / "risc.parquet", 7, named=named))
    assert [example.id for example in source.examples] == [
        f"RSICD_{i}.jpg" if named else f"row-{i:05d}" for i in range(7)
    ]
    example = source.examples[3]
    assert example.captions == tuple(f"caption {k} of 3 ." for k in range(1, 6))
    assert isinstance(example.image, ArrowImage)
    assert example.image.data() == jpeg(3)
    copy = pickle.loads(pickle.dumps(example.image))
    assert np.array_equal(np.asarray(copy.load()), np.asarray(example.image.load()))


def test_a_folder_of_parquet_files_is_read_in_order_of_name(tmp_path: Path, hub_cache: None) -> None:
    """Two files are one table, the first file's rows first."""
    write_parquet(tmp_path / "p" / "data" / "train-00000-of-00002.parquet", 3, named=False)
    write_parquet(tmp_path / "p" / "data" / "train-00001-of-00002.parquet", 2, named=False)
    source = open_source(tmp_path / "p")
    assert [example.captions[0] for example in source.examples] == [f"caption 1 of {i} ." for i in (0, 1, 2, 0, 1)]


def test_bad_rows_of_a_parquet_are_rejected(tmp_path: Path, hub_cache: None) -> None:
    """A null caption, an empty caption, null bytes and broken bytes are four rejected rows."""
    import pyarrow
    import pyarrow.parquet

    cells = [{"bytes": data, "path": None} for data in (jpeg(0), jpeg(1), None, b"no image", jpeg(4))]
    captions = ["fine", None, "x", "y", " "]
    pyarrow.parquet.write_table(pyarrow.table({"image": cells, "caption_1": captions}), tmp_path / "t.parquet")
    source = open_source(tmp_path / "t.parquet", max_rejected_share=0.9)
    assert [bad.row for bad in source.rejected] == [f"t.parquet row {i}" for i in (1, 2, 3, 4)]


IMAGE_COLUMNS = {
    "img": ({"img": [jpeg(0)]}, "img"),
    "jpg": ({"jpg": [{"bytes": jpeg(0), "path": None}]}, "jpg"),
    "Image": ({"Image": [jpeg(0)]}, "Image"),
    "png": ({"png": [{"bytes": jpeg(0)}], "cls": [1]}, "png"),
    "bytes beside others": ({"image_bytes": [jpeg(0)], "embedding": [b"\x80\x04"]}, "image_bytes"),
    "a mask that is none": ({"pixels": [jpeg(0)], "mask": [{"bytes": b"\0\0", "path": "m"}]}, "pixels"),
}


@pytest.mark.parametrize("kind", IMAGE_COLUMNS)
def test_images_may_be_in_a_column_of_another_name(tmp_path: Path, hub_cache: None, kind: str) -> None:
    """The only one whose cells are images; a note names it, and scoring reads the same captions."""
    import pyarrow
    import pyarrow.parquet

    columns, name = IMAGE_COLUMNS[kind]
    pyarrow.parquet.write_table(pyarrow.table({**columns, "caption": ["a field"]}), tmp_path / "t.parquet")
    source = open_source(tmp_path / "t.parquet")
    assert [one.image.data() for one in source.examples] == [jpeg(0)]
    assert f"images are read from the column {name!r}" in [note.text for note in source.notes]
    assert dict(load_references(tmp_path / "t.parquet")) == {"row-00000": ("a field",)}


@pytest.mark.parametrize("empty", [None, {"bytes": None, "path": None}])
def test_the_first_image_of_a_column_may_be_missing(tmp_path: Path, hub_cache: None, empty: object) -> None:
    """The first cell that holds something decides, alike through both doors; 100 empty ones are no column of images."""
    import pyarrow
    import pyarrow.parquet

    cell = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    for count, name in {5: "few", 100: "many"}.items():
        images = pyarrow.array([*[empty] * count, {"bytes": jpeg(0), "path": None}], cell)
        texts = [f"field {number}" for number in range(count + 1)]
        pyarrow.parquet.write_table(pyarrow.table({"img": images, "caption": texts}), tmp_path / f"{name}.parquet")
    source = open_source(tmp_path / "few.parquet", max_rejected_share=0.9)
    assert ([one.image.data() for one in source.examples], len(source.rejected)) == ([jpeg(0)], 5)
    assert dict(load_references(tmp_path / "few.parquet"))["row-00005"] == ("field 5",)
    for opening in (open_source, load_references):
        with pytest.raises(RscapError, match="has no column 'image'; it has: img, caption"):
            opening(tmp_path / "many.parquet")


def test_files_of_one_table_have_the_same_columns(tmp_path: Path, hub_cache: None) -> None:
    """The file that lacks a column is named, through both doors."""
    import pyarrow
    import pyarrow.parquet

    for name, texts in {"train-0": "caption", "train-1": "text"}.items():
        table = pyarrow.table({"image": [jpeg(0)], texts: ["a field"]})
        pyarrow.parquet.write_table(table, tmp_path / f"{name}.parquet")
    for opening in (open_source, load_references):
        with pytest.raises(RscapError, match=r"train-1\.parquet has no column 'caption', which train-0\.parquet has"):
            opening(tmp_path)


NO_IMAGES = {
    "two": ({"rgb": [jpeg(0)], "nir": [jpeg(1)]}, "images are in 'rgb' and in 'nir'"),
    "pixel values": ({"pixel_values": [[[0.5, 0.1]]]}, "'pixel_values' holds numbers"),
    "arrays": ({"array": [[1, 2, 3]]}, "'array' holds numbers"),
    "paths": ({"img": ["a.jpg"]}, "has no column 'image'; it has: img, caption"),
    "other bytes": ({"img": [b"\x80\x04."]}, "has no column 'image'; it has: img, caption"),
    "no cell": ({"img": [None]}, "has no column 'image'; it has: img, caption"),
}


@pytest.mark.parametrize("kind", NO_IMAGES)
def test_columns_that_hold_no_images_are_named(tmp_path: Path, hub_cache: None, kind: str) -> None:
    """Two that could be meant, pixels that a processor made, paths, other bytes; alike through both doors."""
    import pyarrow
    import pyarrow.parquet

    columns, line = NO_IMAGES[kind]
    pyarrow.parquet.write_table(pyarrow.table({**columns, "caption": ["a field"]}), tmp_path / "t.parquet")
    for opening in (open_source, load_references):
        with pytest.raises(RscapError) as caught:
            opening(tmp_path / "t.parquet")
        assert line in caught.value.in_one_line
        assert "`image`" in str(caught.value.hint)


@pytest.mark.parametrize(
    "columns", [{"image": [1, 2], "caption_1": ["a", "b"]}, {"caption_1": ["a"]}, {"image": [b"x"]}]
)
def test_a_parquet_of_another_schema_is_refused(tmp_path: Path, hub_cache: None, columns: dict) -> None:
    """A table without image bytes or captions is one clear error."""
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"^t\.parquet"):
        open_source(tmp_path / "t.parquet")


def test_a_broken_parquet_is_refused(tmp_path: Path, hub_cache: None) -> None:
    """A file that only calls itself parquet is named."""
    (tmp_path / "t.parquet").write_bytes(b"PAR1 nonsense PAR1")
    with pytest.raises(DataError, match=r"t\.parquet cannot be read as parquet"):
        open_source(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("DatasetNotFoundError: Dataset 'a/b' is a gated dataset on the Hub", "gated or private"),
        ("DatasetNotFoundError: Dataset 'a/b' doesn't exist on the Hub", "there is no Hub data set a/b"),
        ("ConnectionError: Couldn't reach 'a/b' on the Hub", "check the network"),
        ("OfflineModeIsEnabled: offline", "check the network"),
    ],
)
def test_hub_failures_say_what_to_do(monkeypatch: pytest.MonkeyPatch, error: str, message: str) -> None:
    """Missing, gated and unreachable data sets are three different errors, each with its way out."""
    kind, text = error.split(": ", 1)

    def fail(*_args: object, **_options: object) -> None:
        raise type(kind, (Exception,), {})(text)

    monkeypatch.setattr("rscap.data.parquet._load_dataset", lambda: fail)
    with pytest.raises(DataError, match=message):
        open_source("a/b")


@pytest.mark.parametrize("splits", [("train",), ("train", "validation", "test")])
def test_a_hub_data_set_opens_like_its_parquet(
    tmp_path: Path, hub_cache: None, monkeypatch: pytest.MonkeyPatch, splits: tuple[str, ...]
) -> None:
    """The Hub client is asked for id and revision; one table is unsplit, several name the splits; images stay bytes."""
    import datasets

    files = {split: str(write_parquet(tmp_path / f"{split}.parquet", 4, named=False)) for split in splits}
    asked = []

    def load(name: str, revision: str | None) -> datasets.DatasetDict:
        asked.append((name, revision))
        return datasets.load_dataset("parquet", data_files=files).cast_column("image", datasets.Image())

    monkeypatch.setattr("rscap.data.parquet._load_dataset", lambda: load)
    source = open_source("owner/name@v1.0")
    assert asked == [("owner/name", "v1.0")]
    assert source.name == "owner/name@v1.0"
    assert source.splits == ({"all": 4} if len(splits) == 1 else {"train": 4, "val": 4, "test": 4})
    assert {example.source for example in source.examples} == {"name"}
    assert source.examples[2].image.data() == jpeg(2)  # type: ignore[attr-defined]


def test_a_parquet_bomb_is_refused_by_its_footer(tmp_path: Path, hub_cache: None) -> None:
    """A file of some kilobytes that declares millions of rows is refused before a row is read."""
    import pyarrow
    import pyarrow.parquet

    n = MAX_ROWS + 1
    captions = pyarrow.DictionaryArray.from_arrays(np.zeros(n, dtype=np.int8), ["a plane ."])
    image = pyarrow.DictionaryArray.from_arrays(np.zeros(n, dtype=np.int8), [b"x"])
    table = pyarrow.table({"image": image, "caption_1": captions})
    pyarrow.parquet.write_table(table, tmp_path / "bomb.parquet", compression="zstd")
    assert (tmp_path / "bomb.parquet").stat().st_size < 100_000
    with pytest.raises(DataError, match=r"bomb\.parquet declares 10,000,001 rows"):
        open_source(tmp_path / "bomb.parquet")
    assert not (tmp_path / "cache").exists()


def test_opening_files_does_not_import_the_hub_client() -> None:
    """`rscap.data` and a CSV source need neither `datasets` nor torch."""
    import subprocess

    code = "import sys, rscap.data; sys.exit('datasets' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_risc_mini_opens_whole(real_data: Path) -> None:
    """The real images: 2,900 / 580 / 900, nothing rejected even when every image is decoded, sources as published."""
    source = open_source(real_data / "risc-mini", check="decode")
    assert (source.splits, source.rejected) == ({"test": 900, "val": 580, "train": 2900}, ())
    assert len(source.split("test", source="NWPU")) == 400
    assert {len(example.captions) for example in source.examples} == {5}
    assert {example.image.load().size for example in source.examples[:50]} == {(224, 224)}
