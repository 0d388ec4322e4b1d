"""The benchmark of a training step compares like with like, counts bytes right, and records what it should."""

from __future__ import annotations

import importlib
import json
import os
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
def common(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("common")


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("ways")


@pytest.fixture
def train_step(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark with one more geometry, of toy size and with a sliding window: one image a step."""
    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module("train_step")
    monkeypatch.setitem(module.IMAGES_A_STEP, "nano2", 1)
    return module


def test_the_whole_benchmark_leaves_a_record(
    train_step: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One turn at toy size: equal losses, every time that was taken, rates that follow from them, and where it ran."""
    out, threads = tmp_path / "train_step.json", torch.get_num_threads()
    try:
        train_step.main(
            f"--geometry nano2 --repetitions 1 --steps 1 --threads 1 --micro-batch 2 --busy-ok --out {out}".split()
        )
    finally:
        torch.set_num_threads(threads)
    record = json.loads(out.read_text(encoding="utf-8"))
    assert record["environment"]["threads"] == 1
    assert {"date", "cpu", "cores", "commit", "dirty", "packages"} <= set(record["environment"])
    assert len(record["load"]["before"]) == len(record["load"]["after"]) == 3

    result = record["geometries"]["nano2"]
    assert (result["images_a_step"], result["captions_a_step"], result["trainer_micro_batch"]) == (1, 5, 2)
    assert result["loss"]["relative_difference"] <= 1e-4
    assert result["sequences"]["rscap"][0] == 1
    assert result["sequences"]["trainer"][0] == 5
    for way in ("rscap", "cached", "trainer", "notebook"):
        ((step,),) = (turn["wall"] for turn in result[way]["steps"])
        ((collation,),) = (turn["wall"] for turn in result[way]["collations"])
        assert result[way]["captions_per_s"] == pytest.approx(5 / step)
        assert result[way]["images_per_s"] == pytest.approx(1 / step)
        assert result[way]["captions_per_s_with_collation"] == pytest.approx(5 / (step + collation))
        assert result[way]["bytes_kept"] > 0
    assert result["loss"]["cached"] == result["loss"]["rscap"]
    assert result["cached"]["bytes_kept"] == result["rscap"]["bytes_kept"]
    shown = capsys.readouterr().out
    for way, ratio in result["ratios"].items():
        assert ratio["captions_per_s"] == pytest.approx(
            result[way]["captions_per_s"] / result["trainer"]["captions_per_s"]
        )
        assert f"nano2 {way}: {ratio['captions_per_s']:.2f} times the captions/s of the Trainer" in shown
        assert f"{ratio['bytes_kept']:.2f} times fewer bytes" in shown


def test_different_weights_are_not_compared(train_step: ModuleType, ways: ModuleType) -> None:
    """If two ways that should compute the same loss do not, nothing is timed."""
    bench = ways.build("nano2", ways.load_examples(1))
    model = bench.rivals["trainer"].model
    with torch.no_grad():
        next(parameter for name, parameter in model.named_parameters() if ".lora_B." in name).add_(1.0)
    with pytest.raises(SystemExit, match="rscap and the Trainer do not compute the same: loss"):
        train_step.compare(bench, bench)


def test_both_ways_learn_the_same_parameters(ways: ModuleType) -> None:
    """The Trainer is not handicapped: adapters on the language model alone, as many and of the same names as ours. The
    notebook's bare list of names adapts the vision tower as well, as it did in prior work B."""
    bench = ways.build("nano2", ways.load_examples(1))
    ours, theirs, notebook = (
        {name for name, parameter in net.named_parameters() if parameter.requires_grad}
        for net in (bench.packed.net, *(rival.model for rival in bench.rivals.values()))
    )
    assert ours == theirs
    assert all(".language_model.layers." in name and ".lora_" in name for name in ours)
    assert len(ours) == 2 * 7 * bench.packed.bare.config.text_config.num_hidden_layers
    assert notebook > ours
    assert all(".vision_tower." in name for name in notebook - ours)


def test_kept_bytes_are_those_of_a_known_graph(train_step: ModuleType) -> None:
    """x @ W keeps x, relu keeps its result, views and a second use count once, W and what is let go count nothing."""
    linear = torch.nn.Linear(8, 16, bias=False)
    x = torch.randn(4, 8, requires_grad=True)

    def forward() -> torch.Tensor:
        (torch.randn(1000, requires_grad=True) ** 2).sum()  # a graph that is gone when the forward ends
        hidden = linear(x).relu()
        return (hidden * hidden).sum() + linear(x.view(4, 8)).sum()

    assert train_step.kept_bytes(forward, linear) == 4 * (4 * 8 + 4 * 16)


def test_variants_take_turns(common: ModuleType) -> None:
    """A B A B …, and each result is kept under its variant in the order of the turns."""
    seen: list[str] = []

    def variant(name: str) -> int:
        seen.append(name)
        return len(seen)

    results = common.alternate({"a": lambda: variant("a"), "b": lambda: variant("b")}, repetitions=3)
    assert seen == ["a", "b"] * 3
    assert results == {"a": [1, 3, 5], "b": [2, 4, 6]}


def test_a_busy_machine_is_refused_unless_allowed(common: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above 0.75 of the cores nothing is measured; with --busy-ok it is, and the record says so."""
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    waited: list[float] = []
    monkeypatch.setattr(common.time, "sleep", waited.append)
    monkeypatch.setattr(os, "getloadavg", lambda: (3.01 - 0.004 * sum(waited), 0.0, 0.0))
    assert not common.check_load(busy_ok=False).busy  # what the benchmark before left behind
    assert 0 < sum(waited) < common.PATIENCE_S
    monkeypatch.setattr(os, "getloadavg", lambda: (3.01, 0.0, 0.0))
    with pytest.raises(SystemExit, match=r"load 3\.01, at most 3\.00 for 4 cores"):
        common.check_load(busy_ok=False)
    assert common.check_load(busy_ok=True).busy
    monkeypatch.setattr(os, "getloadavg", lambda: (3.0, 9.0, 9.0))
    assert not common.check_load(busy_ok=False).busy


def test_a_stopwatch_measures_from_its_first_start(common: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second start changes nothing, so that several micro batches make one step; a stop alone is refused."""
    clock = iter([1.0, 4.0])
    monkeypatch.setattr(common.time, "perf_counter", lambda: next(clock))
    watch = common.Stopwatch()
    watch.start()
    watch.start()
    watch.stop()
    assert watch.times.wall == [3.0]
    assert watch.times.after(1).wall == []
    monkeypatch.undo()
    with pytest.raises(RuntimeError, match="before it was started"):
        watch.stop()
