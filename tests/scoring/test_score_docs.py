"""The documentation of scores says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from checkout import ROOT
from rscap import scoring

PAGE = ROOT / "docs" / "scoring.md"


def test_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python blocks of docs/scoring.md run one after another, their assertions hold."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) >= 2
    exec("\n".join(blocks), {})  # our own page
    assert (tmp_path / "scores.json").is_file()


def test_every_part_of_a_sheet_is_described() -> None:
    """Every key that a sheet holds, and every diagnostic, stands on the page."""
    text = PAGE.read_text(encoding="utf-8")
    sheet = scoring.score_captions({"1": "a plane"}, {"1": ["a plane"]}, draws=0, training_captions=["a plane"])
    for name in (*sheet.extra, *sheet.extra["diagnostics"], *sheet.extra["diagnostics"]["degenerate"]):
        assert f"`{name}`" in text
    for part in sheet.signature.split("|"):
        assert f"`{part.split(':')[0]}`" in text
