"""The benchmarks of cost per image, of loading and of a GPU's step do what they say, at toy size."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from checkout import ROOT
from rscap.data import open_source

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]
FOLDER = ROOT / "benchmarks"


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
    assert features.spec.row_bytes == 589_824
    for one in (encoder, loading.replace(encoder, features=features)):
        assert loading.load_once(one, examples, workers=0) > 0


@pytest.fixture
def first_gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark of a GPU, with as few steps as there can be."""
    training = importlib.import_module("on_gpu.training")
    monkeypatch.setattr(training, "WARM", 1)
    monkeypatch.setattr(training, "TIMED", 1)
    return benchmark("first_gpu")


def on_cpu(out: Path, *more: str) -> list[str]:
    """Arguments that try the benchmark of a GPU without one."""
    return f"--device cpu --geometry nano2 --threads 1 --busy-ok --out {out}".split() + list(more)


def test_a_gpu_benchmark_leaves_what_it_has(
    tmp_path: Path, first_gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cases follow each other, one that fails says why and costs no other its figure; what was not run is there."""
    plain = first_gpu.Training(geometry="nano2", micro_batch=1)
    wanted = [
        first_gpu.replace(plain, attention="flex"),
        plain,
        first_gpu.replace(plain, cached=True, precision="nf4"),
        first_gpu.replace(plain, variations=("PEFT's forward pass",)),
    ]
    monkeypatch.setattr(first_gpu, "cases", lambda _: iter(wanted))
    out = tmp_path / "gpu.json"
    first_gpu.main(on_cpu(out))
    record = json.loads(out.read_text(encoding="utf-8"))
    failed, ran, cached, by_peft = record["cases"].values()
    assert "does not support backward on CPU" in failed["failed"]
    for result in (ran, cached, by_peft):
        assert result["captions_per_s"] == pytest.approx(5 / result["step_s"])
        assert result["tflops"] == pytest.approx(result["predicted"]["tflop_an_image"] / result["step_s"])
        assert result["share_of_peak"] == pytest.approx(result["tflops"] / record["device"]["peak_tflops"])
    assert cached["predicted"]["tflop_an_image"] < ran["predicted"]["tflop_an_image"]
    assert by_peft["gradients_repeated_apart"] == 0 < by_peft["gradients_apart"] < 0.05
    assert record["not_run"] == []
    assert "nano2, nf4, micro batch 1, cached features" in capsys.readouterr().out


def test_a_gpu_benchmark_stops_in_time_and_goes_on(
    tmp_path: Path, first_gpu: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No case begins after the seconds are spent; --resume measures what is missing or failed, --only what is named."""
    plain = first_gpu.Training(geometry="nano2")
    monkeypatch.setattr(
        first_gpu, "cases", lambda _: (first_gpu.replace(plain, micro_batch=size) for size in (1, 2, 4))
    )
    clock, begun, out = [0.0], [], tmp_path / "gpu.json"
    monkeypatch.setattr(first_gpu, "time", SimpleNamespace(perf_counter=lambda: clock[0]))

    def attempt(case: Any, *_: Any) -> dict[str, Any]:
        begun.append(case.micro_batch)
        clock[0] += 1000
        failed = {"failed": "x"} if begun == [1, 2] else {"skipped": "y", "precision": "bf16", "captions_per_s": 1.0}
        return {"kind": case.kind, "case": {}, "whole_s": 1000.0, "share_of_peak": 0.1} | failed

    monkeypatch.setattr(first_gpu, "attempt", attempt)
    first_gpu.main(on_cpu(out, "--seconds", "1500"))
    assert begun == [1, 2]
    assert json.loads(out.read_text(encoding="utf-8"))["not_run"] == ["training, nano2, bf16, micro batch 4"]
    first_gpu.main(on_cpu(out, "--resume", "--only", "batch 2"))
    assert begun == [1, 2, 2]
    first_gpu.main(on_cpu(out, "--resume"))
    assert begun == [1, 2, 2, 4]
    record = json.loads(out.read_text(encoding="utf-8"))
    assert record["not_run"] == []
    assert not any("failed" in one for one in record["cases"].values())

    record["device"]["name"] = "Big Card"
    out.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(SystemExit, match="a record of Big Card, not of cpu"):
        first_gpu.main(on_cpu(out, "--resume"))


def test_decoding_measures_every_form_of_an_adapter(tmp_path: Path, first_gpu: ModuleType) -> None:
    """An adapter in 16 bits gives the logits of the same in float32 with fewer operations; merged, it costs none."""
    decoding = importlib.import_module("on_gpu.decoding")
    models = first_gpu.Models(torch.device("cpu"))
    machine = first_gpu.Machine.of(torch.device("cpu"))
    forms = decoding.Decoding(geometry="nano2", images=(2,)).measure(models, machine)["forms"]
    assert list(forms) == [
        f"{form}, 2 images" for form in ("no adapter", "float32 adapter", "16-bit adapter", "merged")
    ]
    bare, wide, narrow, merged = forms.values()
    assert bare["dispatched"] == merged["dispatched"] < narrow["dispatched"] < wide["dispatched"]
    assert wide["logits_apart"] == narrow["logits_apart"] == 0.0
    assert bare["logits_apart"] is None
    assert 0 < merged["logits_apart"] < 0.1


def test_an_overflow_is_planted(first_gpu: ModuleType) -> None:
    """The largest activation of every layer is seen; with one layer's matrix made larger, its output is not finite,
    neither is the loss, and captions are refused."""
    activations = importlib.import_module("on_gpu.activations")
    models = first_gpu.Models(torch.device("cpu"))
    result = activations.Activations(geometry="nano2").measure(models, first_gpu.Machine.of(torch.device("cpu")))
    assert {"attention", "gate x up", "mlp", "norm after attention", "norm after mlp"} <= result["layers"].keys()
    assert all(0 < one < 65504 for found in result["layers"].values() for one in found)
    assert [len(found) for kind, found in result["layers"].items() if kind != "stream"] == [2] * 5
    assert result["planted"]["largest"]["mlp"] == float("inf")
    assert not math.isfinite(result["planted"]["loss"])
    assert result["planted"]["decoding"].startswith(
        "NotFinite: activations overflow in model.language_model.layers.1.mlp"
    )


def test_an_error_is_told_with_its_class(first_gpu: ModuleType) -> None:
    """What a drill keeps of an error: its class, its words, and whether rscap takes it for want of memory."""
    exhaustion = importlib.import_module("on_gpu.exhaustion")

    def fail(error: Exception) -> None:
        raise error

    memory = exhaustion.told(lambda: fail(torch.OutOfMemoryError("CUDA out of memory. Tried …")), torch.device("cpu"))
    assert memory["error"] == "OutOfMemoryError"
    assert memory["recognised"] is True
    other = exhaustion.told(lambda: fail(RuntimeError("size mismatch\nmore")), torch.device("cpu"))
    assert other == {"error": "RuntimeError", "bases": ["Exception"], "message": "size mismatch", "recognised": False}
    assert exhaustion.told(lambda: None, torch.device("cpu")) == {"done": True}


@pytest.mark.parametrize(
    ("name", "card"),
    [
        ("NVIDIA H200", "H200"),
        ("Tesla T4", "T4"),
        ("NVIDIA GeForce RTX 3060 Laptop GPU", "RTX-3060-laptop"),
        ("NVIDIA GeForce RTX 3060", "RTX-3060"),
        ("cpu", None),
    ],
)
def test_a_card_is_known_by_the_name_it_gives_itself(first_gpu: ModuleType, name: str, card: str | None) -> None:
    """The plan's data sheet is taken where the driver's name holds one of its names; the longest, if several do."""
    found = importlib.import_module("on_gpu.machine")._known(name)
    assert (found.name if found else None) == card


def test_the_gpu_record_is_not_overwritten_from_a_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    """Trying the program without a GPU wants another file."""
    with pytest.raises(SystemExit):
        benchmark("first_gpu").main(["--device", "cpu", "--geometry", "nano2", "--busy-ok"])
    assert "name another file with --out" in capsys.readouterr().err


def test_the_cases_stand_for_all_that_is_asked() -> None:
    """At the true geometry: every precision, several micro batches, checkpointing, cached features, what rscap does not
    do yet, PaliGemma 2 in both attentions; and every case names itself differently."""
    first_gpu, variations = benchmark("first_gpu"), importlib.import_module("on_gpu.variations")
    found = list(first_gpu.cases("paligemma-3b"))
    assert len({case.name for case in found}) == len(found)
    assert {case.kind for case in found} == {
        "training", "decoding", "flex", "exhaustion", "lengths", "activations"
    }  # fmt: skip
    steps = [case for case in found if case.kind == "training"]
    assert {case.precision for case in steps} == {"bf16", "nf4", "fp16"}
    assert {1, 4, 8, 16, 32} <= {case.micro_batch for case in steps if case.geometry == "paligemma-3b"}
    assert {case.attention for case in steps if case.geometry == "paligemma2-3b"} == {"plain", "flex"}
    assert {one for case in steps for one in case.variations} == variations.VARIATIONS.keys()
    for key in ("checkpointing", "cached"):
        assert {getattr(case, key) for case in steps} == {True, False}
