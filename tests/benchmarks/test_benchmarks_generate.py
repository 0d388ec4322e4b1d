"""The benchmark of captioning compares like with like and records what it should."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

from checkout import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # inside the processor
]

FOLDER = ROOT / "benchmarks"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("generate")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_whole_benchmark_leaves_a_record(
    bench: ModuleType, dtype: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One turn at toy size: three ways, rates that follow from their times, ratios that follow from the rates."""
    out, threads = tmp_path / "generate.json", torch.get_num_threads()
    arguments = "--geometry nano2 --tokens 3 --beams 2 --images 3 --batch 2 --repetitions 1 --threads 1 --busy-ok"
    try:
        bench.main([*arguments.split(), "--dtype", dtype, "--out", str(out)])
    finally:
        torch.set_num_threads(threads)
    record = json.loads(out.read_text(encoding="utf-8"))
    assert {"date", "cpu", "cores", "commit", "dirty", "packages"} <= set(record["environment"])
    result = record["cases"]["nano2, 3 tokens, 2 beams"]
    assert (result["images"], result["tokens"]) == (3, 3.0)
    if dtype == "float32":
        assert result["captioned_otherwise"] == {"one": 0, "batched": 0} or result["with_near_ties"]
    for way in ("rscap", "one", "batched"):
        ((wall,),) = (turn["wall"] for turn in result[way]["turns"])
        assert result[way]["images_per_s"] == pytest.approx(3 / wall)
    assert result["ratios"]["one"] == pytest.approx(result["one"]["turn_s"] / result["rscap"]["turn_s"])
    assert result["parts"]["step_s"] > 0
    assert f"{result['ratios']['one']:.2f}" in capsys.readouterr().out


def test_different_captions_are_not_compared(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a way does not say the same, nothing is timed."""
    model, processor = bench.load_model("nano", device="cpu", dtype=torch.float32)
    settings = bench.GenerateSection(max_new_tokens=4, batch_size=2)
    ready = bench.build(model, processor, bench.load_examples(2), settings)
    assert bench.compare(ready)["captioned_otherwise"] == {"one": 0, "batched": 0}
    plain = bench.Bench.plain
    monkeypatch.setattr(bench.Bench, "plain", lambda self, size: [row[:-1] for row in plain(self, size=size)])
    with pytest.raises(SystemExit, match="differently; no speed is reported"):
        bench.compare(ready)


def test_random_geometries_depend_on_the_image(bench: ModuleType) -> None:
    """Captions of the random models are not all one: a comparison of their tokens compares something."""
    model, processor = bench.load_model("bench-7M", device="cpu", dtype=torch.float32)
    settings = bench.GenerateSection(max_new_tokens=4, batch_size=4)
    found = bench.build(model, processor, bench.load_examples(4), settings).tokens()
    assert len({tuple(one.ids) for one in found}) > 1
