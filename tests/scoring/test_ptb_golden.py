"""The tokenizer against the strings that coco-caption's own tokenizer left in the golden files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rscap.scoring.ptb import tokenize_all


@pytest.mark.parametrize("name", ["nwpu_1500.json", "risc_test_neighbour.json"])
def test_golden_strings(real_data: Path, name: str) -> None:
    """All candidates and references of the golden files are tokenised to the very strings written there."""
    golden = json.loads((real_data / "metrics-golden" / name).read_text(encoding="utf-8"))
    candidates = [" ".join(tokens) for tokens in tokenize_all(golden["candidates"].values())]
    assert candidates == [golden["tokenized_candidates"][key] for key in golden["candidates"]]
    references = [caption for captions in golden["references"].values() for caption in captions]
    strings = [string for key in golden["references"] for string in golden["tokenized_references"][key]]
    assert [" ".join(tokens) for tokens in tokenize_all(references)] == strings
