"""benchmarks/data.py and duplicates.py: made data sets open whole, what is timed is the command's audit, and planted
copies are counted as what they are."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from checkout import ROOT
from rscap.data import Source, open_source
from rscap.data.audit import audit
from rscap.quality import disagreements

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the benchmark pins itself, as Linux can"),
]
BENCHMARKS = ROOT / "benchmarks"


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location(f"bench_{name}", BENCHMARKS / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, f"bench_{name}", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load("data", monkeypatch)


@pytest.fixture
def few() -> Source:
    source = open_source("sample")
    return source.with_examples(source.subset("train", 4, seed=0))


def test_made_images_are_as_many_as_asked_and_unlike(bench: ModuleType, few: Source, tmp_path: Path) -> None:
    """Three images made of each of four pictures are twelve readable ones with five captions, no two the same."""
    bench.write_made(few, tmp_path / "made", 3)
    made = open_source(tmp_path / "made", check="decode", max_rejected_share=0.0)
    assert len(made.examples) == 12
    assert {len(example.captions) for example in made.examples} == {5}
    assert not {"exact-duplicate", "unreadable-image", "same-captions"} & set(audit(made).counts)


def test_what_is_timed_is_the_whole_audit(bench: ModuleType, few: Source, tmp_path: Path) -> None:
    """The figures name images, seconds, memory and the same findings as an audit of the folder has."""
    bench.write_made(few, tmp_path / "made", 1)
    figures = bench.one_audit(tmp_path / "made")
    source = open_source(tmp_path / "made", check="none")
    assert figures["images"] == 4
    assert figures["findings"] == audit(source, more=disagreements(source)).counts
    assert figures["seconds"] > 0
    assert figures["peak_mb"] >= figures["imports_mb"] > 0


def test_planted_copies_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies that are turned are found, others that are painted black are not, and a pair nobody planted is false."""
    duplicates = load("duplicates", monkeypatch)
    examples = open_source("sample").subset("train", 12, seed=0)
    alone = duplicates.find_duplicates(examples)
    found = duplicates.recall(examples, alone, duplicates.turned, 6, 0)
    assert (found["copies"], found["found"], found["false_pairs"]) == (6, 6, 0)

    blank = duplicates.Image.new("RGB", (224, 224))
    monkeypatch.setattr(duplicates, "KINDS", (lambda picture, rng: blank,))
    found = duplicates.recall(examples, alone, duplicates.KINDS[0], 6, 0)
    assert found["share"] == 0.0
    assert found["false_pairs"] == 5  # equal black pictures are duplicates of one another
