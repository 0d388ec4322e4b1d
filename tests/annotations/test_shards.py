"""Tar files of WebDataset: captions and images of one name, read in their place, and nothing in them believed."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from command_line import rscap
from rscap import scoring
from rscap.data import open_source
from rscap.errors import RscapError

Members = dict[str, bytes | str | tarfile.TarInfo]


def picture(red: int = 90) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (red, 90, 30)).save(stream, format="PNG")
    return stream.getvalue()


def write_tar(path: Path, members: Members) -> Path:
    """An archive of files by name; a `TarInfo` is put in as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pax = any(isinstance(content, tarfile.TarInfo) and content.pax_headers for content in members.values())
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT) as archive:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                archive.addfile(content)
            else:
                data = content.encode() if isinstance(content, str) else content
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    return path


def special(kind: bytes, target: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo()
    entry.type, entry.linkname = kind, target
    return entry


READ: dict[str, tuple[Members, dict[str, tuple[str, ...]]]] = {
    "text": ({"1.png": picture(), "1.txt": "two planes\n"}, {"1.png": ("two planes",)}),
    "JSON": ({"1.png": picture(), "1.json": '{"caption": "two planes"}'}, {"1.png": ("two planes",)}),
    "a list in JSON": ({"1.png": picture(), "1.json": '{"captions": ["x", "y"]}'}, {"1.png": ("x", "y")}),
    "numbered in JSON": ({"1.png": picture(), "1.json": '{"caption_0": "x", "caption_1": "y"}'}, {"1.png": ("x", "y")}),
    ".caption": ({"1.PNG": picture(), "1.caption": "\ufefftwo planes"}, {"1.PNG": ("two planes",)}),
    "folders": (
        {"a/1.png": picture(), "a/1.txt": "x", "b/1.png": picture(), "b/1.txt": "y"},
        {"a/1.png": ("x",), "b/1.png": ("y",)},
    ),
    "text before images": (
        {"1.txt": "x", "2.txt": "y", "1.png": picture(), "2.png": picture()},
        {"1.png": ("x",), "2.png": ("y",)},
    ),
    "a mask": ({"1.png": picture(), "1.seg.png": picture(), "1.txt": "x"}, {"1.png": ("x",)}),
    "img2dataset": (
        {"1.png": picture(), "1.txt": "x", "1.json": '{"caption": "x", "key": "1", "url": "u"}'},
        {"1.png": ("x",)},
    ),
    "U+2028 in a caption": ({"1.png": picture(), "1.txt": "two\u2028planes"}, {"1.png": ("two\u2028planes",)}),
    "hidden": ({"._1.png": b"\0", "__MACOSX/1.txt": "?", "1.png": picture(), "1.txt": "x"}, {"1.png": ("x",)}),
}


@pytest.mark.parametrize("kind", READ)
def test_a_shard_opens_alike_for_training_and_scoring(tmp_path: Path, kind: str) -> None:
    """Captions and images of one name, as a file and as a folder; pixels come from the archive."""
    members, expected = READ[kind]
    write_tar(tmp_path / "d" / "val-000000.tar", members)
    for spec in (tmp_path / "d" / "val-000000.tar", tmp_path / "d"):
        source = open_source(spec, check="decode")
        assert {one.id: one.captions for one in source.examples} == expected
        assert source.splits == {"val": len(expected)}
        assert source.rejected == ()
        assert dict(scoring.load_references(spec)) == expected
        assert all(one.image.load().getpixel((0, 0)) == (90, 90, 30) for one in source.examples)


NOTED = {
    "several lines": ({"1.png": picture(), "1.txt": "x\n\ny"}, "1 texts have several lines; each line is read"),
    "JSON that differs": (
        {"1.png": picture(), "1.txt": "x", "1.json": '{"caption": "other"}'},
        "1 captions in .json differ from those of the text and are not read",
    ),
    "other members": ({"1.png": picture(), "1.txt": "x", "1.cls": "3"}, "members that are not read: .cls (1)"),
    "a pickle": ({"1.png": picture(), "1.txt": "x", "1.pyd": b"\x80\x04"}, "members that are not read: .pyd (1)"),
    "two texts": (
        {"1.png": picture(), "1.txt": "x", "1.caption": "y"},
        "members that are not read: .caption (1)",
    ),
    "a mask": ({"1.png": picture(), "1.seg.png": picture(), "1.txt": "x"}, "members that are not read: .seg.png (1)"),
}


@pytest.mark.parametrize("kind", NOTED)
def test_what_is_not_read_of_a_shard_is_named(tmp_path: Path, kind: str) -> None:
    """With its number."""
    members, line = NOTED[kind]
    source = open_source(write_tar(tmp_path / "train.tar", members))
    assert [note.text[: len(line)] for note in source.notes] == [line]


def test_an_archive_without_an_end_is_noted(tmp_path: Path) -> None:
    """Cut off between two members, it lacks nothing but the mark of its end and what came later."""
    path = write_tar(
        tmp_path / "train.tar", {f"{n}.{end}": picture() for n in "12" for end in ("png",)} | {"1.txt": "x"}
    )
    path.write_bytes(path.read_bytes()[: 6 * 512])
    source = open_source(path, max_rejected_share=1.0)
    assert [one.id for one in source.examples] == ["1.png"]
    assert "the archive has no mark at its end: it may be cut off" in [note.text for note in source.notes]


def cut(at: int) -> Callable[[bytes], bytes]:
    return lambda content: content[:at]


def claims(size: int) -> tarfile.TarInfo:
    """A header of a long name that claims to have so many bytes."""
    entry = special(tarfile.GNUTYPE_LONGNAME)
    entry.size = size
    return entry


def below_zero() -> tarfile.TarInfo:
    entry = special(tarfile.REGTYPE)
    entry.size = -600
    return entry


def sparse() -> tarfile.TarInfo:
    """As `tar --format=pax --sparse` writes it: a usual member whose headers say that parts of it are left out."""
    entry = special(tarfile.REGTYPE)
    entry.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.map": "0,0",
        "GNU.sparse.size": "9",
    }
    return entry


FINE: Members = {name: content for n in range(200) for name, content in ((f"{n}.png", picture()), (f"{n}.txt", "x"))}
REFUSED: dict[str, tuple[Members, Callable[[bytes], bytes], str]] = {
    "cut off in a member": (FINE, cut(1024 * 100 + 522), "cannot be read as a tar archive: unexpected end of data"),
    "cut off in a header": (FINE, cut(1024 * 100 + 100), "is cut off at byte 102,500"),
    "cut off in the first file": (FINE, cut(600), "cannot be read as a tar archive"),
    "one byte": (FINE, cut(1), "cannot be read as a tar archive"),
    "nothing": (FINE, cut(0), "cannot be read as a tar archive: empty file"),
    "damaged in the middle": (FINE, lambda c: c[:153600] + b"\xff" * 512 + c[154112:], "is damaged at byte 153,600"),
    "compressed": (FINE, lambda c: b"\x1f\x8b\x08" + c, "is a gzip archive"),
    "a pointer": (FINE, lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
    "a page": (FINE, lambda _: b"<!DOCTYPE html><html>404</html>", "is an HTML page"),
    "a long name of a terabyte": ({"x": claims(2**40)}, cut(9999), "a header of 1,099,511,627,776 bytes"),
    "a header of negative size": ({"x": claims(-5000)}, bytes, "cannot be read as a tar archive"),
    "a member of negative size": ({"1.png": below_zero()}, bytes, "has a size below 0"),
    "two archives in a row": (FINE, lambda c: c + c, "holds more behind the end of an archive, at byte 409,600"),
    "zeros in the middle": (
        FINE,
        lambda c: c[:2048] + bytes(1024) + c[3072:],
        "holds more behind the end of an archive",
    ),
    "images alone": ({"1.png": picture()}, bytes, "an archive without captions, which is not unpacked"),
    "text alone": ({"1.txt": "x"}, bytes, "an archive without captions, which is not unpacked"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_an_archive_that_is_no_shard_is_refused(tmp_path: Path, kind: str) -> None:
    """Damage, compression and other files under such a name, each called by its name, with a way out."""
    members, harm, line = REFUSED[kind]
    path = write_tar(tmp_path / "train.tar", members)
    path.write_bytes(harm(path.read_bytes()))
    for opening in (open_source, scoring.load_references):
        with pytest.raises(RscapError) as caught:
            opening(path)
        assert line in caught.value.message
        assert caught.value.hint


HOSTILE: dict[str, tuple[Members, str]] = {
    "a symbolic link": (
        {"1.png": special(tarfile.SYMTYPE, "/etc/passwd")},
        "1.png is a link, a device or a sparse file",
    ),
    "a hard link": ({"1.png": special(tarfile.LNKTYPE, "0.png")}, "1.png is a link, a device or a sparse file"),
    "a link for a text": ({"1.png": picture(), "1.txt": special(tarfile.SYMTYPE, "../secret")}, "1.txt is a link"),
    "a device": ({"1.png": special(tarfile.CHRTYPE)}, "1.png is a link, a device or a sparse file"),
    "a pipe": ({"1.png": special(tarfile.FIFOTYPE)}, "1.png is a link, a device or a sparse file"),
    "a path that climbs": ({"../../1.png": picture(), "../../1.txt": "x"}, "leads out of the archive"),
    "an absolute path": ({"/tmp/1.png": picture(), "/tmp/1.txt": "x"}, "leads out of the archive"),
    "twice": ({"1.png": picture(), "./1.png": picture(), "1.txt": "x"}, "1.png occurs twice in the archive"),
    "JSON twice": ({"1.png": picture(), "1.json": "{}", "./1.json": "{}"}, "1.json occurs twice in the archive"),
    "a key twice": (
        {"1.png": picture(), "1.json": '{"caption": "x", "caption": "y"}'},
        "the key 'caption' occurs twice",
    ),
    "a sparse file": ({"1.png": picture(), "1.txt": sparse()}, "1.txt is a link, a device or a sparse file"),
    "a large text": ({"1.png": picture(), "1.txt": "x" * (2**20 + 1)}, "1.txt has 1,048,577 bytes of text"),
    "no UTF-8": ({"1.png": picture(), "1.txt": b"caf\xe9"}, "1.txt is not UTF-8 (byte 0xe9)"),
    "deep JSON": ({"1.png": picture(), "1.json": "[" * 100_000}, "not JSON"),
    "a list in JSON": ({"1.png": picture(), "1.json": "[1]"}, "expected a JSON object, found a list"),
    "no caption in JSON": ({"1.png": picture(), "1.json": '{"a": 1}'}, "no column or key holds captions"),
    "an empty text": ({"1.png": picture(), "1.txt": " \n"}, "caption 1 of 1 is empty"),
    "no text": ({"1.png": picture()}, "no caption of this name: expected .txt, .caption or .json"),
    "no image": ({"1.txt": "x"}, "no image of this name"),
    "two images": ({"1.png": picture(), "1.jpg": picture(), "1.txt": "x"}, "several images: jpg, png"),
    "no bytes": ({"1.png": b"", "1.txt": "x"}, "the image cell holds no bytes"),
    "no image in it": ({"1.png": b"GIF89a", "1.txt": "x"}, "1.png"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_sample_that_cannot_be_used_is_named(tmp_path: Path, kind: str) -> None:
    """The sample beside it is read; nothing is written, followed or unpacked."""
    members, line = HOSTILE[kind]
    write_tar(tmp_path / "d" / "train.tar", {"0.png": picture(), "0.txt": "two planes", **members})
    source = open_source(tmp_path / "d", max_rejected_share=0.9)
    assert [one.id for one in source.examples] == ["0.png"]
    assert [line in one.reason for one in source.rejected] == [True], source.rejected
    assert os.listdir(tmp_path) == ["d"]
    assert os.listdir(tmp_path / "d") == ["train.tar"]


def test_shards_of_a_folder_are_one_data_set(tmp_path: Path) -> None:
    """Splits by file or folder; equal names are kept apart; an archive of images beside them is passed over, noted."""
    sample: Members = {"0.png": picture(), "0.json": json.dumps({"text": "a field"})}
    for name in ("train/000.tar", "train/001.tar", "Valid/000.tar"):
        write_tar(tmp_path / "d" / name, sample)
    write_tar(tmp_path / "d" / "more.tar", {"0.png": picture()})
    source = open_source(tmp_path / "d")
    assert source.splits == {"val": 1, "train": 2}
    assert {one.id for one in source.examples} == {"train/000/0.png", "train/001/0.png", "Valid/000/0.png"}
    assert [note.row for note in source.notes] == ["more.tar"]


def test_an_archive_beside_annotations_is_no_second_data_set(tmp_path: Path) -> None:
    """Images that nobody unpacked yet are named in a note."""
    write_tar(tmp_path / "d" / "images.tar", {"1.png": picture()})
    (tmp_path / "d" / "train.jsonl").write_text('{"image": "1.png", "caption": "x"}', encoding="utf-8")
    done = rscap("data", "inspect", "d", cwd=tmp_path)
    assert done.code == 0
    assert "images.tar: passed over: an archive without captions" in done.stderr
