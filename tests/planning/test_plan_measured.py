"""The plan's prediction against every allocation of real training steps, at toy size."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from checkout import ROOT

FOLDER = ROOT / "benchmarks"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("plan")


CASES: list[dict[str, Any]] = [
    {"dtype": "float32", "micro_batch": 4},
    {"dtype": "bfloat16", "micro_batch": 4, "vision": "adapted", "checkpointing": True},
    {"dtype": "float32", "micro_batch": 2, "vision": "trained", "accumulation": 2},
    {"dtype": "bfloat16", "micro_batch": 2, "vision": "trained", "checkpointing": True},
    {"dtype": "bfloat16", "micro_batch": 4, "quantisation": "nf4", "dropout": 0.1},
    {"dtype": "bfloat16", "micro_batch": 4, "quantisation": "int8", "checkpointing": True},
    {"dtype": "float16", "micro_batch": 4, "quantisation": "nf4"},
]


SMOL: list[dict[str, Any]] = [
    {"dtype": "float32", "micro_batch": 4},
    {"dtype": "bfloat16", "micro_batch": 4},
    {"dtype": "bfloat16", "micro_batch": 2, "vision": "trained"},
    {"dtype": "bfloat16", "micro_batch": 4, "quantisation": "nf4", "checkpointing": True},
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(str(value) for value in case.values()))
def test_the_peak_is_within_ten_percent(bench: ModuleType, nano2: Path, case: dict[str, Any]) -> None:
    """Of every step that is run: weights and states exactly (to 1 %), what autograd keeps and the peak within 10 %."""
    result = bench.compare(bench.Case(geometry="nano2", **case), nano2)
    ratio = result["ratio"]
    assert ratio["fixed"] == pytest.approx(1.0, abs=0.01)
    assert ratio["kept"] == pytest.approx(1.0, abs=bench.TOLERANCE)
    assert ratio["peak"] == pytest.approx(1.0, abs=bench.TOLERANCE)


@pytest.mark.parametrize("case", SMOL, ids=lambda case: "-".join(str(value) for value in case.values()))
def test_the_peak_of_another_family_is_within_ten_percent(
    bench: ModuleType, smolnano: Path, case: dict[str, Any]
) -> None:
    """SmolVLM2's twin: a head of its own, several heads of keys, patches that are merged."""
    ratio = bench.compare(bench.Case(geometry="smolnano", **case), smolnano)["ratio"]
    assert ratio["fixed"] == pytest.approx(1.0, abs=0.02)  # tables of fixed size weigh more in a twin this small
    assert ratio["kept"] == pytest.approx(1.0, abs=bench.TOLERANCE)
    assert ratio["peak"] == pytest.approx(1.0, abs=bench.TOLERANCE)


@pytest.mark.parametrize(("dtype", "beams"), [("float32", 3), ("bfloat16", 1)])
def test_generation_is_within_fifteen_percent(bench: ModuleType, nano2: Path, dtype: str, beams: int) -> None:
    """What decoding allocates at its peak is estimated, not far above and never much below."""
    from rscap.planning.parameters import Setting
    from rscap.planning.shapes import shapes_of_base
    from rscap.planning.timeline import generation_moving

    peaks = importlib.import_module("peaks")
    recipe = bench.Case(geometry="nano2", dtype=dtype).recipe(str(nano2))
    settings = recipe.generate.model_copy(update={"batch_size": 8, "beams": beams, "max_new_tokens": 8})
    recipe = recipe.model_copy(update={"generate": settings})
    measured, prefix = peaks.measure_generation(recipe)
    predicted = generation_moving(shapes_of_base(str(nano2)), Setting(recipe, "cpu"), prefix=prefix)
    assert predicted == pytest.approx(measured, rel=0.15)


@pytest.mark.parametrize(("dtype", "samples"), [("float32", 2), ("bfloat16", 5)])
def test_drawing_is_within_twenty_percent(bench: ModuleType, nano2: Path, dtype: str, samples: int) -> None:
    """What drawing the captions of a micro batch allocates at its peak, as the limit of their tokens allows."""
    from rscap.planning.parameters import Setting
    from rscap.planning.sequence import DrawnCaptions
    from rscap.planning.shapes import shapes_of_base
    from rscap.planning.timeline import generation_moving
    from rscap.recipe import ObjectiveSection

    peaks = importlib.import_module("peaks")
    recipe = bench.Case(geometry="nano2", dtype=dtype, micro_batch=8).recipe(str(nano2))
    recipe = recipe.model_copy(update={"objective": ObjectiveSection(samples=samples, max_new_tokens=8)})
    measured, prefix = peaks.measure_drawing(recipe)
    drawn = DrawnCaptions(captions=samples, limit=8, steps=7)
    predicted = generation_moving(shapes_of_base(str(nano2)), Setting(recipe, "cpu"), prefix=prefix, drawn=drawn)
    assert predicted == pytest.approx(measured, rel=0.2)


def test_the_instrument_sees_what_is_allocated(bench: ModuleType) -> None:
    """Two tensors alive at once count together, one after the other does not; what stays alive is not lost."""
    import torch

    peaks = importlib.import_module("peaks")

    def work() -> None:
        first, second = torch.empty(1000), torch.empty(500)
        del first
        torch.empty(200)
        del second

    assert peaks._most_allocated(work) == 4 * 1500


@pytest.mark.slow
def test_the_benchmark_leaves_a_record(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line and an entry for each case, with sizes, bytes and ratios; exit code 0 where all peaks are within 10 %."""
    out = tmp_path / "plan.json"
    with pytest.raises(SystemExit) as ended:
        bench.main(f"--only grid --geometry nano2 --micro-batch 1 --out {out}".split())
    record = json.loads(out.read_text(encoding="utf-8"))
    assert ended.value.code == (0 if record["met"] else 1)
    assert len(record["cases"]) == 12
    for case in record["cases"]:
        assert case["ratio"]["peak"] == pytest.approx(case["predicted"]["peak"] / case["measured"]["peak"])
        assert case["size"]["images"] == case["micro_batch"] == 1
    assert f"{len(record['cases'])} cases; the worst peak is off by" in capsys.readouterr().out
