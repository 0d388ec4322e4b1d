"""A corpus of broken inputs: each gives clear findings or a DataError; never another exception, never a silent drop."""

from __future__ import annotations

import csv
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rscap.data import Source, decode, open_source
from rscap.data.audit import audit
from rscap.data.inspection import inspect
from rscap.errors import DataError, ImageError
from rscap.quality import disagreements

MUTATIONS = 40
"""Broken variants of each of the seven annotation files."""
IMAGE_MUTATIONS = 30
"""Broken variants of each of the nine image files."""
IMAGES = 6


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8))


def encoded(format: str, mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    picture(1).convert(mode).save(stream, format=format)
    return stream.getvalue()


def broken(data: bytes, rng: np.random.Generator) -> bytes:
    """One to three wounds: cut short, bytes changed, a stretch lost, doubled, or replaced by something nasty."""
    nasty = [
        b"\x00",
        b"\xff\xfe",
        b'"',
        b"\n",
        b"\r\n",
        b",",
        b"../",
        b"\xe2\x80\xae",
        b"[" * 300,
        b"{",
        b"9" * 400,
        b"null",
    ]
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        at, length = int(rng.integers(0, len(out) + 1)), int(rng.integers(1, 60))
        match int(rng.integers(0, 5)):
            case 0:
                del out[at:]
            case 1:
                out[at : at + length] = rng.integers(0, 256, len(out[at : at + length]), dtype=np.uint8).tobytes()
            case 2:
                del out[at : at + length]
            case 3:
                out[at:at] = out[at : at + length]
            case 4:
                out[at:at] = nasty[int(rng.integers(0, len(nasty)))]
    return bytes(out)


def captions(number: int) -> list[str]:
    return [f"caption {k} of image {number}, with words ." for k in range(5)]


def csv_file() -> bytes:
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(["source", "split", "image", *(f"caption_{k}" for k in range(1, 6))])
    writer.writerows(["S", "train", f"{i}.png", *captions(i)] for i in range(IMAGES))
    return stream.getvalue().encode()


def karpathy_file() -> bytes:
    images = [
        {"filename": f"{i}.png", "split": "test", "sentences": [{"raw": text} for text in captions(i)]}
        for i in range(IMAGES)
    ]
    return json.dumps({"images": images, "dataset": "S"}).encode()


def coco_file() -> bytes:
    images = [{"id": i, "file_name": f"{i}.png"} for i in range(IMAGES)]
    annotations = [{"id": 9 * i, "image_id": i, "caption": text} for i in range(IMAGES) for text in captions(i)]
    return json.dumps({"images": images, "annotations": annotations}).encode()


def paligemma_file() -> bytes:
    rows = [{"prefix": "", "image": f"{i}.png", "suffix": text} for i in range(IMAGES) for text in captions(i)]
    return "\n".join(map(json.dumps, rows)).encode()


def metadata_file() -> bytes:
    return "\n".join(json.dumps({"file_name": f"{i}.png", "captions": captions(i)}) for i in range(IMAGES)).encode()


def split_file() -> bytes:
    value = {"format": "rscap-split/1", "digest": "0", "splits": {"train": [f"{i}.png" for i in range(IMAGES)]}}
    return json.dumps(value).encode()


def parquet_file() -> bytes:
    import pyarrow
    import pyarrow.parquet

    stream = io.BytesIO()
    image = [{"bytes": encoded("PNG"), "path": f"{i}.png"} for i in range(IMAGES)]
    texts = {f"caption_{k + 1}": [captions(i)[k] for i in range(IMAGES)] for k in range(5)}
    pyarrow.parquet.write_table(pyarrow.table({"image": image, **texts}), stream)
    return stream.getvalue()


FILES: dict[str, Callable[[], bytes]] = {
    "captions.csv": csv_file,
    "dataset.json": karpathy_file,
    "captions_val.json": coco_file,
    "captions_train.jsonl": paligemma_file,
    "metadata.jsonl": metadata_file,
    "split.json": split_file,
    "data.parquet": parquet_file,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fuzz")
    for number in range(IMAGES):
        picture(number).save(root / f"{number}.png")
    return root


@pytest.fixture(autouse=True)
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def opened(path: Path) -> Source | None:
    """The source, or None for a clear refusal; any other exception fails the test."""
    scheme = str(path) if path.name == "split.json" else "official"
    spec = path.parent / "captions.csv" if path.name == "split.json" else path
    try:
        return open_source(spec, split_scheme=scheme, max_rejected_share=1.0, check="decode")
    except DataError:
        return None


def usable(source: Source) -> bool:
    """Whatever came out can be used, printed, audited and inspected: captions, splits, images, digests, reasons."""
    for example in source.examples:
        assert all(caption.strip() and caption.encode("utf-8") for caption in example.captions)
        assert example.captions
        assert example.split
        assert example.image.load().mode == "RGB"
    assert len({example.id for example in source.examples}) == len(source.examples)
    assert all(bad.row and bad.reason and f"{bad.row}{bad.reason}".encode() for bad in source.rejected)
    audited = audit(source, more=disagreements(source))
    assert audited.images == len(source.examples)
    assert audited.counts.get("rejected-row", 0) == len(source.rejected)
    assert json.dumps([asdict(audited), asdict(inspect(source))], allow_nan=False).encode()
    return True


@pytest.mark.parametrize("name", FILES)
def test_broken_annotation_files(folder: Path, name: str) -> None:
    """Of 40 broken variants of each format every one opens to usable examples and listed rejections, or is refused."""
    (folder / "captions.csv").write_bytes(csv_file())
    rng = np.random.default_rng(list(FILES).index(name))
    path = folder / name
    whole = FILES[name]()
    outcomes = []
    for _ in range(MUTATIONS):
        path.write_bytes(broken(whole, rng))
        source = opened(path)
        outcomes.append(source is not None and usable(source))
    path.unlink()
    assert len(outcomes) == MUTATIONS
    assert not all(outcomes)  # the corpus does hold files that must be refused


def test_no_line_of_a_broken_csv_is_lost(folder: Path) -> None:
    """In 60 more broken files each line behind the header is an example, a rejection, or a line of a caption."""
    rng = np.random.default_rng(99)
    path = folder / "captions.csv"
    counted = 0
    for _ in range(60):
        head, body = csv_file().split(b"\n", 1)
        path.write_bytes(head + b"\n" + broken(body, rng))
        if (source := opened(path)) is None:
            continue
        text = path.read_bytes().decode("utf-8-sig")
        lines = list(io.StringIO(text, newline=""))[1:]
        blank = sum(not line.strip("\r\n, \t") for line in lines)
        captions_broken = sum(
            len(list(io.StringIO(text, newline=""))) - 1 for one in source.examples for text in one.captions
        )
        judged = len(source.examples) + len(source.rejected)
        assert len(lines) - blank <= judged + captions_broken <= len(lines)
        counted += 1
    assert counted > 20


def tried(data: bytes, name: str) -> tuple[Image.Image | None, str]:
    """The decoded picture, or None and what the ImageError says."""
    try:
        return decode(data, name=name, max_pixels=2**20), ""
    except ImageError as error:
        return None, error.message


PICTURES = [("PNG", "RGB"), ("PNG", "P"), ("PNG", "LA"), ("JPEG", "RGB"), ("JPEG", "CMYK"), ("TIFF", "RGB")]
PICTURES += [("WEBP", "RGB"), ("GIF", "P"), ("JPEG2000", "RGB")]


@pytest.mark.parametrize(("format", "mode"), PICTURES)
def test_broken_images(format: str, mode: str) -> None:
    """Of 30 broken variants of each image every one decodes to RGB of sane size or is an ImageError with its name."""
    rng = np.random.default_rng(PICTURES.index((format, mode)))
    whole = encoded(format, mode)
    refused = 0
    for number in range(IMAGE_MUTATIONS):
        result, message = tried(broken(whole, rng), f"image-{number}")
        if result is None:
            assert f"image-{number}" in message
            refused += 1
        else:
            assert result.mode == "RGB"
            assert result.width * result.height <= 2**20
    assert refused > 0


def archives() -> Iterator[tuple[str, bytes]]:
    """A zip bomb's shape, a zip that climbs, a tar with a link, and archives that call themselves something else."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("captions.csv", b"0" * 10_000_000)
        archive.writestr("../../escape.txt", b"x")
    for name in ("data.zip", "captions.csv", "data.parquet", "dataset.json", "captions_val.jsonl", "image.png"):
        yield name, stream.getvalue()
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        link = tarfile.TarInfo("images")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(link)
    for name in ("data.tar.gz", "captions.csv", "data.parquet", "dataset.json"):
        yield name, stream.getvalue()


def test_archives_are_not_unpacked(tmp_path: Path) -> None:
    """An archive, whatever it calls itself, is refused by name; nothing is unpacked anywhere."""
    for name, content in archives():
        path = tmp_path / "in" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        with pytest.raises(DataError, match=name.replace(".", r"\.")):
            open_source(path)
        path.unlink()
    assert not list(tmp_path.glob("**/escape*"))


def test_an_image_row_of_every_broken_kind(folder: Path) -> None:
    """Rows whose image is broken in each of 30 ways are rejected one by one; the whole rows around them are kept."""
    rng = np.random.default_rng(5)
    home = folder / "rows"
    home.mkdir()
    rows, bad = [], set()
    for number in range(60):
        name = f"{number}.png"
        data = encoded("PNG")
        if number % 2:
            data = data[: int(rng.integers(0, len(data) - 20))]
            bad.add(name)
        (home / name).write_bytes(data)
        rows.append(["S", "train", name, *captions(number)])
    with (home / "captions.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["source", "split", "image", *(f"caption_{k}" for k in range(1, 6))], *rows])
    source = open_source(home, check="decode", max_rejected_share=0.6)
    assert {example.id for example in source.examples} == {row[2] for row in rows} - bad
    assert [one.row for one in source.rejected] == [f"captions.csv line {n + 2}" for n in range(60) if n % 2]


def test_the_corpus_is_large_enough() -> None:
    """At least 300 broken inputs are tried: annotation files, CSV bodies, images, archives, rows."""
    assert len(FILES) * MUTATIONS + 60 + len(PICTURES) * IMAGE_MUTATIONS + len(list(archives())) + 30 >= 300
