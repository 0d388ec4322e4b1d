"""A run folder to do harm to: one that rscap 0.1 wrote, so that nothing has to be trained."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

FROZEN = Path(__file__).parents[1] / "frozen" / "v01"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the finished run `run`, and with `secret.txt` beside it, which no command may read or write."""
    shutil.copytree(FROZEN / "run", tmp_path / "run")
    (tmp_path / "secret.txt").write_text("s3cret\n", encoding="utf-8")
    return tmp_path


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    """A folder with candidates and references that `rscap score` takes."""
    (tmp_path / "hyp.json").write_text('{"a": "a red car", "b": "two planes"}', encoding="utf-8")
    (tmp_path / "refs.json").write_text('{"a": ["a red car"], "b": ["two planes on grass"]}', encoding="utf-8")
    return tmp_path
