"""Fresh random text, tokenised here and by the original Java program."""

from __future__ import annotations

import random
import runpy
from pathlib import Path

import pytest

from rscap.scoring.ptb import tokenize, tokenize_all

ORACLE = runpy.run_path(str(Path(__file__).parent / "java_oracle" / "ptb_oracle.py"))
pytestmark = pytest.mark.java


@pytest.mark.parametrize("level", range(len(ORACLE["LEVELS"])), ids=ORACLE["LEVELS"])
def test_fresh_text(level: int) -> None:
    """At most one in a thousand fresh lines differs at any level of nastiness, none at the level of captions."""
    rng = random.Random()
    texts = [ORACLE["random_text"](rng, level) for _ in range(4000)]
    wrong = [
        (text, string, found)
        for text, string in zip(texts, ORACLE["observed"](texts), strict=True)
        if (found := " ".join(tokenize(text))) != string
    ]
    assert len(wrong) <= (4 if level else 0), wrong


def test_whole_file() -> None:
    """A file of captions gives the same lines, the influence of each line on the one before it included."""
    rng = random.Random()
    for _ in range(5):
        texts = [ORACLE["random_text"](rng, 0) for _ in range(300)]
        printed = [ORACLE["coco_string"](line) for line in ORACLE["java_lines"](texts)]
        assert [" ".join(tokens) for tokens in tokenize_all(texts)] == printed[: len(texts)]
