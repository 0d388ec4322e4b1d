"""Inspection: RISC's figures come out as published, and every column counts what it says."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rscap.cli.data import app
from rscap.data import MissingImage, Source, open_source
from rscap.data.inspection import Histogram, inspect
from rscap.data.source import digest
from rscap.data.text import sibling_similarity, tokens, words
from rscap.records import Example


def made(*captions: tuple[str, ...]) -> Source:
    examples = [
        Example(id=f"{i}", captions=one, image=MissingImage("x"), split="train", source="s")
        for i, one in enumerate(captions)
    ]
    return Source(name="made", examples=examples, digest=digest(examples))


@pytest.mark.parametrize(
    ("split", "expected"),
    [("test", (4454, 11.754, 5, 40, 330, 1089)), ("val", (4453, 12.306, 6, 47, 2, 1140))],
)
def test_the_figures_of_risc(real_data: Path, split: str, expected: tuple) -> None:
    """RISC's val and test: images, mean words (the final " ." counts), least, most, all identical, some repeated."""
    found = inspect(open_source(real_data / "annotations" / f"risc_{split}_captions.jsonl", check="none"))
    row = found.tables[-1]
    assert (row.source, row.split) == ("all", split)
    figures = (row.images, round(row.words_mean, 3), row.words_min, row.words_max, row.one_caption, row.repeated)
    assert figures == expected


def test_the_command_prints_the_figures(real_data: Path) -> None:
    """`rscap data inspect risc_test_captions.jsonl` prints them, whatever the width of the terminal."""
    result = CliRunner().invoke(app, ["inspect", str(real_data / "annotations" / "risc_test_captions.jsonl")])
    line = next(line for line in result.output.splitlines() if line.split()[:2] == ["all", "test"])
    assert line.split()[2:6] == ["4,454", "22,270", "11.754", "5–40"]
    assert {"330", "1,089"} <= set(line.split())


def test_every_column_on_a_small_case() -> None:
    """Four images by hand: counts, words, vocabulary, distinct captions, one caption only, repeated."""
    found = inspect(made(("a plane .", "A plane ."), ("a b c d .", "a b c d ."), ("x .", "y ."), ("one only .",)))
    (row,) = found.tables
    assert (row.images, row.captions, row.words_min, row.words_max) == (4, 7, 2, 5)
    assert row.words_mean == pytest.approx((3 + 3 + 5 + 5 + 2 + 2 + 3) / 7)
    assert (row.vocabulary, row.distinct_captions, row.one_caption, row.repeated) == (9, 6, 1, 1)
    assert row.similarity == pytest.approx((1 + 1 + 0) / 3)
    assert found.distinct_per_image == ((1, 2), (2, 2))
    assert found.images is None


def test_histograms_lose_nothing() -> None:
    """Values beyond the range count in the outer bins."""
    bins = Histogram.of([-5, 0, 0.5, 1, 9.9, 99], start=0, width=1, bins=3)
    assert (bins.edges, bins.counts) == ((0, 1, 2, 3), (3, 1, 2))


def test_tokens_words_and_similarity() -> None:
    """A full stop alone is a token and no word; hyphens and apostrophes stay inside; equal captions are 1 alike."""
    assert tokens("A plane's open-air hangar .") == ["A", "plane's", "open-air", "hangar", "."]
    assert words("A plane's open-air hangar .") == ["a", "plane's", "open-air", "hangar"]
    assert sibling_similarity(["a b .", "A B"]) == 1.0
    assert sibling_similarity(["a b", "b c"]) == pytest.approx(1 / 3)
    assert sibling_similarity(["alone"]) is None


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.pictures = 0
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in {"src", "href"} and not (value or "").startswith(("data:", "#")):
                self.outside.append(f"{tag} {value}")
        self.pictures += tag == "img"

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(path: Path) -> _Links:
    page = _Links()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def test_pages_are_self_contained(real_data: Path, tmp_path: Path) -> None:
    """Both pages fetch nothing from anywhere, hold pictures, and escape what captions say."""
    folder = tmp_path / "mini"
    (folder / "resized").mkdir(parents=True)
    lines = (real_data / "risc-mini" / "captions.csv").read_text().splitlines()
    kept = [lines[0], *[lines[i] for i in range(1, 40)]]
    (folder / "captions.csv").write_text("\n".join(kept).replace("industrial", "<script>alert(1)</script>") + "\n")
    for line in kept[1:]:
        name = line.split(",")[2]
        (folder / "resized" / name).write_bytes((real_data / "risc-mini" / "resized" / name).read_bytes())
    for command in ("inspect", "audit"):
        out = tmp_path / f"{command}.html"
        result = CliRunner().invoke(app, [command, str(folder), "--html", str(out), "--out", str(tmp_path / "x.json")])
        assert result.exit_code == 0, result.output
        page = read(out)
        assert page.outside == []
        assert page.pictures > 0 or command == "audit"
        assert out.read_text().lower().count("<script") == 1  # the program that the policy in its head allows
        assert json.loads((tmp_path / "x.json").read_text())["name"] == "mini"


def test_the_exit_code_of_an_audit(real_data: Path) -> None:
    """Sydney-Captions leaks between its splits: exit code 1, or 0 on `never`; an unknown level is refused."""
    annotations = str(real_data / "annotations" / "sydney_dataset.json")
    assert CliRunner().invoke(app, ["audit", annotations]).exit_code == 1
    assert CliRunner().invoke(app, ["audit", annotations, "--fail-on", "never"]).exit_code == 0
    assert "error, warning or never" in str(CliRunner().invoke(app, ["audit", annotations, "--fail-on", "x"]).exception)


def test_convert_and_split_commands(real_data: Path, tmp_path: Path) -> None:
    """`convert` writes another format, `split` freezes ids that `--splits` takes back."""
    annotations = str(real_data / "annotations" / "sydney_dataset.json")
    result = CliRunner().invoke(app, ["convert", annotations, str(tmp_path / "out"), "--to", "coco"])
    assert result.exit_code == 0
    assert open_source(tmp_path / "out", check="none").splits == {"test": 58, "train": 497, "val": 58}
    frozen = tmp_path / "split.json"
    assert CliRunner().invoke(app, ["split", annotations, "--splits", "seed42", "--out", str(frozen)]).exit_code == 0
    again = open_source(annotations, split_scheme=str(frozen), check="none")
    assert again.splits == open_source(annotations, split_scheme="seed42", check="none").splits
