"""docs/tutorial.md: every command is run, in order, on images of one's own."""

from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path

from checkout import ROOT
from command_line import rscap
from rscap.data import open_source

TUTORIAL = ROOT / "docs" / "tutorial.md"


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", TUTORIAL.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def own_images(folder: Path) -> None:
    """Twenty-four images with one or two captions, as the page lays them out."""
    (folder / "mine" / "images").mkdir(parents=True)
    (folder / "new").mkdir()
    source = open_source("sample")
    rows = []
    for split, count in (("train", 16), ("val", 4), ("test", 4)):
        for example in source.subset(split, count, 0):
            name = f"{len(rows):04}.jpg"
            example.image.load().save(folder / "mine" / "images" / name)
            rows.append(["mine", split, name, example.captions[0], example.captions[1] if len(rows) % 2 else ""])
    for example, name in zip(source.subset("test", 2, 1), ("a.jpg", "b.jpg"), strict=True):
        example.image.load().save(folder / "new" / name)
    with (folder / "mine" / "captions.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([["source", "split", "image", "caption_1", "caption_2"], *rows])


def test_every_command_of_the_tutorial_runs(tmp_path: Path) -> None:
    """From a folder of images to scores, a report and captions, word for word as the page says."""
    own_images(tmp_path)
    (tmp_path / "mine.toml").write_text(blocks("toml")[0], encoding="utf-8")
    commands = [line for block in blocks("bash") for line in block.splitlines()]
    assert len(commands) == 8
    said = {}
    for command in commands:
        words, _, may_fail = command.partition(" || ")
        program, *arguments = shlex.split(words)
        assert program == "rscap"
        done = rscap(*arguments, cwd=tmp_path)
        assert done.code == 0 or may_fail == "true", f"{command}\n{done.stderr[-3000:]}"
        said[command] = done.stdout
    assert (tmp_path / "runs" / "report.html").is_file()
    assert len(said[commands[-1]].splitlines()) == 2
