"""The benchmarks of cost per image, of loading and of a GPU's step do what they say, at toy size."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from rscap.data import open_source

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def path_and_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Benchmarks import each other by bare names, and set threads."""
    monkeypatch.syspath_prepend(str(FOLDER))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def benchmark(name: str) -> ModuleType:
    return importlib.import_module(name)


def test_ten_times_the_images_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both folders are learned in turn; the ratios are those of medians, and so is whether the targets are met."""
    linear = benchmark("linear")
    seen: list[int] = []

    def learn(folder: Path, out: Path, *, threads: int) -> dict[str, float]:
        images = len(list((folder / "resized").iterdir()))
        seen.append(images)
        return {"seconds": 0.1 * images + len(seen), "peak_bytes": 1e9 + images}

    monkeypatch.setattr(linear, "learn", learn)
    linear.main(f"--images 2 --repetitions 3 --threads 1 --busy-ok --out {tmp_path / 'linear.json'}".split())
    record = json.loads((tmp_path / "linear.json").read_text(encoding="utf-8"))
    assert seen == [2, 20] * 3
    assert record["one"]["seconds"] == pytest.approx(0.2 + 3)
    assert record["ratios"]["seconds"] == pytest.approx((2.0 + 4) / (0.2 + 3))
    assert record["more_bytes_an_image"] == pytest.approx(1.0)
    assert record["targets"]["met"]
    assert "10 times the images: 1.88 times the time, 1.000 times the memory" in capsys.readouterr().out


def test_the_other_process_trains_a_folder(tmp_path: Path) -> None:
    """A folder of the benchmark is a data set that `rscap train` takes: its images differ, its captions are five."""
    linear = benchmark("linear")
    linear.make_folder(tmp_path / "data", 5)
    examples = open_source(str(tmp_path / "data")).split("train")
    assert [len(example.captions) for example in examples] == [5] * 5
    assert len({example.image.load().tobytes() for example in examples}) == 5
    found = linear.train_here(tmp_path / "data", tmp_path / "run", threads=1)
    assert found["seconds"] > 0
    assert found["peak_bytes"] > 100e6
    assert (tmp_path / "run" / "adapter").is_dir()


def test_loading_reads_pixels_and_features(tmp_path: Path) -> None:
    """An epoch of either kind has a rate, and a cached row has PaliGemma-3B's size."""
    loading, linear, ways = benchmark("loading"), benchmark("linear"), benchmark("ways")
    linear.make_folder(tmp_path / "data", 10)
    examples = open_source(str(tmp_path / "data")).split("train")
    encoder = ways.build("nano2", ways.load_examples(1)).encoder()
    features = loading.random_features(examples, tmp_path / "features")
    assert features.kind.row_bytes == 589_824
    for one in (encoder, loading.replace(encoder, features=features)):
        assert loading.load_once(one, examples, workers=0) > 0


def test_a_gpu_benchmark_leaves_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cases follow each other, one that fails says why and costs no other its figure; what was not run is there."""
    gpu = benchmark("gpu_step")
    plain = gpu.Case(geometry="nano2", micro_batch=1)
    wanted = [
        gpu.replace(plain, attention="flex"),
        gpu.replace(plain, profiled=True),
        gpu.replace(plain, cached=True, quantisation="nf4"),
    ]
    monkeypatch.setattr(gpu, "cases", lambda _: iter(wanted))
    monkeypatch.setattr(gpu, "WARM_UP", 1)
    monkeypatch.setattr(gpu, "TIMED", 1)
    out = tmp_path / "gpu.json"
    options = f"--device cpu --geometry nano2 --threads 1 --busy-ok --profile-rows 3 --out {out}".split()
    gpu.main(options)
    record = json.loads(out.read_text(encoding="utf-8"))
    failed, ran, cached = record["cases"].values()
    assert "does not support backward on CPU" in failed["failed"]
    for result in (ran, cached):
        assert result["captions_per_s"] == pytest.approx(5 / result["step_s"])
        assert result["tflops"] == pytest.approx(result["tflop_an_image"] / result["step_s"])
        assert result["share_of_peak"] == pytest.approx(result["tflops"] / record["peak_tflops"])
    assert cached["tflop_an_image"] < ran["tflop_an_image"]
    assert "aten::" in ran["profile"]
    assert record["not_run"] == []
    assert "nano2, nf4, micro batch 1, cached features" in capsys.readouterr().out

    clock = iter(range(0, 10_000, 1000))
    monkeypatch.setattr(gpu.time, "perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr(gpu, "attempt", lambda case, *_, **__: {"case": {"quantisation": "none"}, "failed": "x"})
    monkeypatch.setattr(gpu, "matrix_peak", lambda *_, **__: 1.0)
    gpu.main([*options, "--seconds", "1500"])
    left: Any = json.loads(out.read_text(encoding="utf-8"))["not_run"]
    assert left == [case.name for case in wanted[1:]]


def test_the_gpu_record_is_not_overwritten_from_a_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    """Trying the program without a GPU wants another file."""
    with pytest.raises(SystemExit):
        benchmark("gpu_step").main(["--device", "cpu", "--geometry", "nano2", "--busy-ok"])
    assert "name another file with --out" in capsys.readouterr().err


def test_the_cases_stand_for_all_that_is_asked() -> None:
    """At the true geometry: bf16 and NF4, several micro batches, checkpointing, cached features, PaliGemma 2 in both
    attentions; every case names itself differently."""
    found = list(benchmark("gpu_step").cases("paligemma-3b"))
    assert len({case.name for case in found}) == len(found)
    assert {case.quantisation for case in found} == {"none", "nf4"}
    assert {1, 4, 8, 16, 32} <= {case.micro_batch for case in found if case.geometry == "paligemma-3b"}
    assert {case.attention for case in found if case.geometry == "paligemma2-3b"} == {"plain", "flex"}
    for key in ("checkpointing", "cached", "compiled", "profiled"):
        assert {getattr(case, key) for case in found} == {True, False}
