"""The tokenizer gives what the Java program was seen to give, without Java."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rscap.scoring.ptb import tokenize, tokenize_all

ROWS: list[tuple[str, str]] = json.loads((Path(__file__).parent / "ptb_table.json").read_text(encoding="utf-8"))["rows"]


def test_observed_table() -> None:
    """Every string of the committed table is tokenised as Java tokenised it."""
    wrong = [(text, string, found) for text, string in ROWS if (found := " ".join(tokenize(text))) != string]
    assert len(ROWS) > 1000
    assert not wrong, wrong[:5]


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("A plane, parked on the runway.", "a plane parked on the runway"),
        ("It can't be John's (or the boats').", "it ca n't be john 's -lrb- or the boats -rrb-"),
        ("You cannot see about 1,000 cars.", "you can not see about 1,000 cars"),
        ("The U.S. airport, at 10 a.m.", "the u.s. airport at 10 a.m."),
        ("“Two” – or ½ – of 3m²…", "two or 1/2 of 3m ²"),
        ("a well-known T-shaped building/tower", "a well-known t-shaped building/tower"),
        ("soft\u00adhyphen zero\u200bwidth 😀 emoji", "softhyphen zero width emoji"),
        ("", ""),
        (" \t . ", ""),
    ],
)
def test_examples(caption: str, tokens: str) -> None:
    """Contractions are split, brackets stay as `-lrb-`, full stops stay with abbreviations only, unknown signs go."""
    assert " ".join(tokenize(caption)) == tokens


def test_next_line_decides_about_an_initial() -> None:
    """An initial at the end loses its full stop before a line that begins a sentence, as in coco-caption's file."""
    assert tokenize_all(["trees and a.", "There is a road .", "x"])[0] == ["trees", "and", "a"]
    assert tokenize_all(["trees and a.", "there is a road .", "x"])[0] == ["trees", "and", "a."]
    assert tokenize_all(["trees and a.", "", "There is a road .", "x"])[0] == ["trees", "and", "a"]
    assert tokenize("trees and a.") == ["trees", "and", "a."]


def test_next_line_decides_about_number_abbreviations() -> None:
    """`no.` keeps its full stop before a line that begins with a digit."""
    assert tokenize_all(["area no.", "5 planes", "x"])[0] == ["area", "no."]
    assert tokenize_all(["area no.", "five planes", "x"])[0] == ["area", "no"]


def test_end_of_file() -> None:
    """An emoticon at the very end of the last line falls apart; on any other line it does not."""
    assert tokenize_all(["a road :)", "a road :)"]) == [["a", "road", ":-rrb-"], ["a", "road", "-rrb-"]]
