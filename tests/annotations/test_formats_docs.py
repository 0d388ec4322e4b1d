"""docs/formats.md: every example on the page opens, for training and for scoring, with the same captions."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from checkout import ROOT
from rscap import scoring
from rscap.annotations import fields
from rscap.data import open_source

PAGE = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
SOURCES, CANDIDATES = PAGE.split("## Candidates")


def examples(text: str) -> dict[str, str]:
    """The files printed on the page, by name."""
    return dict(re.findall(r"`([\w.]+)`\n```\w+\n(.*?)```", text, flags=re.DOTALL))


REFERENCES = {"a.jpg": ("two planes", "planes are parked"), "b.jpg": ("a river, green", "a green river")}


@pytest.mark.parametrize("name", examples(SOURCES))
def test_a_data_set_on_the_page_opens_through_both_doors(tmp_path: Path, name: str) -> None:
    """Two images, two captions each, as a file and (with its images) as a folder; a split in the name is heard."""
    (tmp_path / name).write_text(examples(SOURCES)[name], encoding="utf-8")
    home = tmp_path / "images" if "images/" in examples(SOURCES)[name] else tmp_path
    home.mkdir(exist_ok=True)
    for image in REFERENCES:
        Image.new("RGB", (8, 8)).save(home / image)
    for spec in (tmp_path / name, tmp_path):
        source = open_source(spec)
        assert {one.id: one.captions for one in source.examples} == REFERENCES
        assert dict(scoring.load_references(spec)) == REFERENCES
        assert source.rejected == ()
    told = re.search(r"(?<![a-z])(train|val|test)(?![a-z])", Path(name).stem)
    if told:
        assert set(source.splits) == {told[1]}


def test_the_shard_on_the_page_opens_through_both_doors(tmp_path: Path) -> None:
    """The members that the page lists, as an archive and in a folder."""
    name, listed = re.findall(r"`([\w.-]+\.tar)`, as these files:\n```members\n(.*?)```", SOURCES, flags=re.DOTALL)[0]
    members: dict[str, bytes] = {}
    for line in listed.splitlines():
        member, _, text = line.partition(" ")
        member = member or list(members)[-1]
        members[member] = members.get(member, b"") + text.strip().encode() + b"\n"
    image = io.BytesIO()
    Image.new("RGB", (8, 8)).save(image, format="JPEG")
    with tarfile.open(tmp_path / name, "w") as archive:
        for member, content in members.items():
            entry = tarfile.TarInfo(member)
            data = image.getvalue() if member.endswith(".jpg") else content
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    for spec in (tmp_path / name, tmp_path):
        source = open_source(spec, check="decode")
        captions = dict(zip(("000000.jpg", "000001.jpg"), REFERENCES.values(), strict=True))
        assert {one.id: one.captions for one in source.examples} == captions
        assert dict(scoring.load_references(spec)) == captions
        assert source.splits == {"train": 2}


@pytest.mark.parametrize("name", examples(CANDIDATES))
def test_candidates_on_the_page_are_read(tmp_path: Path, name: str) -> None:
    """Each file of candidates holds the same two captions."""
    (tmp_path / name).write_text(examples(CANDIDATES)[name], encoding="utf-8")
    assert dict(scoring.load_candidates(tmp_path / name)) == {"a.jpg": "two planes", "b.jpg": "a river"}


def test_the_page_names_every_key_that_is_read() -> None:
    """No name of an image or of a caption is read and not documented."""
    for name in (*fields._IMAGES, *fields._STEMS):
        assert f"`{name}`" in SOURCES, name
    assert len(examples(SOURCES)) >= 13
    assert len(examples(CANDIDATES)) == 5
