"""Text normalisation: each step does what its name says, in order, to captions that are learned and to no others."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rscap.data import MissingImage, open_data, open_source
from rscap.data.text import NORMALISATIONS, normalised
from rscap.errors import DataError
from rscap.recipe import DataSection
from rscap.records import Example


def after(caption: str, *steps: str) -> str:
    one = Example(id="x", captions=(caption,), image=MissingImage("x"), split="train", source="s")
    return normalised([one], steps)[0].captions[0]


@pytest.mark.parametrize(
    ("steps", "caption", "expected"),
    [
        (["spaces"], "  two\tplanes \n here .", "two planes here ."),
        (["invisible"], "two\u200b planes\ufeff .", "two planes ."),
        (["nfc"], "cafe\u0301 .", "caf\u00e9 ."),
        (["lower"], "Two PLANES .", "two planes ."),
        (["full-stop"], "two planes", "two planes ."),
        (["full-stop"], "two planes..", "two planes ."),
        (["no-full-stop"], "two planes .", "two planes"),
        (["no-full-stop"], ".", "."),  # nothing would be left
        (["invisible", "spaces"], "\u200b two  planes", "two planes"),
        (["invisible"], "\u200b", "\u200b"),  # a caption is never emptied
        ([], " As it is  ", " As it is  "),
    ],
)
def test_each_step(steps: list[str], caption: str, expected: str) -> None:
    """Each step changes what it names and nothing else; a caption that would become empty stays as it is."""
    assert after(caption, *steps) == expected


@given(st.text(min_size=1, max_size=40), st.sampled_from(sorted(NORMALISATIONS)))
def test_a_step_done_twice_is_done_once(caption: str, step: str) -> None:
    """Every step is idempotent."""
    assert after(after(caption, step), step) == after(caption, step)


def written(folder: Path) -> Path:
    with (folder / "captions.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["split", "image", "caption_1"])
        writer.writerows([[split, f"{split}.jpg", " A  Plane"] for split in ("train", "val", "test")])
    return folder


def test_what_is_measured_on_stays_as_published(tmp_path: Path) -> None:
    """Steps change the captions of train, are recorded in the source and move its digest; val and test stay."""
    plain, changed = (
        open_source(written(tmp_path), check="none", normalise=steps) for steps in ((), ("spaces", "lower"))
    )
    assert {one.split: one.captions for one in changed.examples} == {
        "train": ("a plane",),
        "val": (" A  Plane",),
        "test": (" A  Plane",),
    }
    assert (plain.normalised, changed.normalised) == ((), ("spaces", "lower"))
    assert plain.digest != changed.digest


def test_data_are_opened_as_a_recipe_describes_them(tmp_path: Path) -> None:
    """Every key of [data] that says what the data are reaches the source: splits, steps and the share of bad rows."""
    folder = written(tmp_path)
    section = DataSection(source=str(folder), splits="seed42", normalise=("spaces", "lower"), max_rejected_share=0.0)
    opened = open_data(section, check="none")
    assert opened == open_source(folder, split_scheme="seed42", normalise=("spaces", "lower"), check="none")
    assert opened.normalised == ("spaces", "lower")
    (folder / "train.jpg").write_bytes(b"an image")
    assert len(open_data(section.model_copy(update={"max_rejected_share": 0.9}), check="exists").examples) == 1
    with pytest.raises(DataError, match="2 of 3 rows cannot be used"):
        open_data(section, check="exists")


def test_an_unknown_step_lists_the_known(tmp_path: Path) -> None:
    """A misspelt step is an error, not a step left out."""
    with pytest.raises(DataError, match="unknown normalisation 'spacs'") as caught:
        open_source(written(tmp_path), check="none", normalise=["spacs"])
    assert all(step in str(caught.value) for step in NORMALISATIONS)
