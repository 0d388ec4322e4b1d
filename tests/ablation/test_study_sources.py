"""`tools/study_sources.py`: a study judged on one source, and on all others."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from checkout import ROOT

WORDS = ("roof", "river", "field", "runway", "harbour", "forest", "bridge", "square")


def write(folder: Path, good: str) -> None:
    """A run whose captions are right on the images of one source, and wrong on those of the other."""
    (folder / "references").mkdir(parents=True)
    (folder / "predictions").mkdir()
    references, predictions = [], []
    for source in ("new", "old"):
        for number, word in enumerate(WORDS):
            text = f"a {source} {word} near a small {WORDS[number - 1]} and a road"
            told = text if source == good else f"many cars stand before a tall tower of {WORDS[number - 3]}"
            name = f"{source}-{number}"
            references.append({"id": name, "captions": [text], "source": source, "scene_class": None})
            predictions.append({"id": name, "caption": told, "prefix": "", "tokens": 9, "stopped": "eos"})
    for kind, rows in (("references", references), ("predictions", predictions)):
        (folder / kind / "test.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def test_gain_on_a_source_and_loss_on_the_others_are_judged_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that is right on the new source alone is better than the start there, and worse everywhere else."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    study_sources = importlib.import_module("study_sources")
    for seed in (0, 1):
        write(tmp_path / "study" / "runs" / "turned" / f"seed-{seed}", "new")
        write(tmp_path / "study" / "runs" / "same" / f"seed-{seed}", "old")
        write(tmp_path / f"start-{seed}", "old")
    start = [tmp_path / "start-0", tmp_path / "start-1"]
    found = study_sources.judged(tmp_path / "study", start, "new", "test", "turned")
    new, old = (found[name]["start"] for name in ("new", "not new"))
    assert (new["images"], old["images"]) == (8, 8)
    assert (new["rows"]["turned"]["verdict"], old["rows"]["turned"]["verdict"]) == ("better", "worse")
    assert new["rows"]["same"]["difference"] == old["rows"]["same"]["difference"] == 0
    assert old["rows"]["turned"]["CIDEr"] < 0.1 < new["rows"]["turned"]["CIDEr"]
