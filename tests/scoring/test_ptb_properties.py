"""What holds for the tokens of any text."""

from __future__ import annotations

import random
import runpy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rscap.errors import ScoreError
from rscap.scoring.ptb import _plain, tokenize, tokenize_all
from rscap.scoring.ptb.characters import BEFORE_NUMBERS, CLOSERS, TITLES
from rscap.scoring.ptb.lexer import DROPPED, lex

ORACLE = runpy.run_path(str(Path(__file__).parent / "java_oracle" / "ptb_oracle.py"))

words = st.sampled_from(
    [
        *ORACLE["PLAIN"],
        *BEFORE_NUMBERS,
        *CLOSERS,
        *TITLES,
        "gimme",
        "wanna",
        "plane.",
        "no.",
        "x-y",
        "5",
        "12.",
        ",",
        ".",
        "?",
    ]
)
plain_text = st.lists(st.tuples(words, st.sampled_from(["", " ", "  ", ".", ", ", "-"])), max_size=12).map(
    lambda pairs: "".join(word + gap for word, gap in pairs)
)
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(plain_text)
def test_short_cut_equals_lexer(text: str) -> None:
    """Where the short cut for plain captions answers, it answers what the lexer answers."""
    quick = _plain(text)
    assert quick is None or quick == lex(text) == lex(text, "")


def test_short_cut_is_taken() -> None:
    """The short cut answers for ordinary captions, so that the test above compares something."""
    assert _plain("Two white planes , parked near 12 well-known buildings .") is not None
    assert _plain("It is on Main St. now .") is None
    assert _plain("He is J. The x") is None
    assert _plain("It is 5 000 555 .") is None


@given(any_text)
def test_tokens_are_clean(text: str) -> None:
    """No token is empty, holds a plain space or a line break, or is on the punctuation list."""
    for token in tokenize(text):
        assert token
        assert not set(token) & set(" \n\r\u2028\u2029")
        assert token not in DROPPED


@given(any_text)
def test_line_breaks_are_spaces(text: str) -> None:
    """A caption that holds a line break of any kind is the caption with a space there."""
    for line_break in ("\n", "\r\n", "\r", "\u2028", "\x0b"):
        assert tokenize(f"a road{line_break}{text}") == tokenize(f"a road {text}")


@given(st.lists(any_text, max_size=6))
def test_one_result_per_caption(texts: list[str]) -> None:
    """`tokenize_all` keeps the captions apart, whatever they hold."""
    assert len(tokenize_all(texts)) == len(texts)


def test_tokens_of_tokens() -> None:
    """Words of letters and digits are tokens of themselves: tokenising a plain caption twice changes nothing."""
    rng = random.Random(3)
    for _ in range(300):
        once = [
            token for token in tokenize(ORACLE["random_text"](rng, 0)) if token.isalnum() and token not in ("cannot",)
        ]
        assert tokenize(" ".join(once)) == once


@pytest.mark.parametrize("caption", [None, 5, b"a road", ["a road"]])
def test_not_text(caption: object) -> None:
    """What is no string is refused by name."""
    with pytest.raises(ScoreError, match=type(caption).__name__):
        tokenize(caption)  # type: ignore[arg-type]


def test_lone_surrogate() -> None:
    """Half a surrogate pair is refused with its place, since no file can hold it."""
    with pytest.raises(ScoreError, match="U\\+D83D at position 7"):
        tokenize("a plane\ud83d .")


@pytest.mark.parametrize("piece", ["a", "a.", "'", "<a ", ",a", "\u00a0", "a@", "1/", "(", ". ", "-", "www."])
def test_long_input_ends(piece: str) -> None:
    """Long repetitive input is tokenised, however odd."""
    assert isinstance(tokenize(piece * 1000), list)
