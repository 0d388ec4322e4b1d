"""The performance table of docs/benchmarks.md is what the records say."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from checkout import ROOT


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("table")


def gpu_step(captions: float, *, cached: bool = False, variations: Sequence[str] = ()) -> dict[str, Any]:
    """A step on a GPU whose every figure follows from its captions a second."""
    return {
        "kind": "training",
        "geometry": "paligemma-3b",
        "precision": "bf16",
        "cached": cached,
        "case": {"variations": list(variations)},
        "captions_per_s": captions,
        "tflops": 0.8 * captions,
        "share_of_peak": captions / 1000,
        "allocated_bytes": int(captions * 2**25),
    }


def records(folder: Path, *, busy: bool = False) -> Path:
    """A record of each kind, with round figures."""
    folder.mkdir()
    where = {"environment": {"cpu": "Abacus", "cores": 2, "threads": 1, "date": "2026-01-02T03:04:05+00:00"}}
    where |= {"load": {"busy": busy}}  # type: ignore[dict-item]

    def ratio(captions: float, kept: float) -> dict[str, float]:
        return {"captions_per_s": captions, "bytes_kept": kept}

    contents: dict[str, Any] = {
        "train_step": {
            "targets": {
                "times_better_than_the_trainer": {"bench-7M": {"rscap": ratio(5.0, 4.0), "cached": ratio(6.0, 4.0)}}
            },
            "geometries": {
                "bench-7M": {
                    "rscap": {"captions_per_s": 70.0, "bytes_kept": 2**20},
                    "cached": {"captions_per_s": 90.0, "bytes_kept": 2**20},
                    "trainer": {"captions_per_s": 10.0, "bytes_kept": 6 * 2**20},
                    "notebook": {"captions_per_s": 5.0, "bytes_kept": 3 * 2**20},
                    "ratios": {"rscap": ratio(7.0, 6.0), "cached": ratio(9.0, 6.0)},
                    "against_notebook": {"rscap": ratio(14.0, 3.0), "cached": ratio(18.0, 3.0)},
                }
            },
        },
        "generate": {
            "targets": {"images_per_s": 2.0},
            "cases": {
                name: {"rscap": {"images_per_s": 6.0}, "one": {"images_per_s": 2.0}, "ratios": {"one": 3.0}}
                for name in ("bench-49M, 16 tokens, 1 beam", "nano, 64 tokens, 1 beam")
            },
        },
        "first_gpu": {
            "device": {"name": "Big Card", "peak_tflops": 800.0},
            "targets": {"captions_per_s": {"bf16": 400.0, "nf4": 200.0}},
            "cases": {
                "slow": gpu_step(100.0),
                "fast": gpu_step(500.0),
                "faster than rscap can": gpu_step(700.0, variations=["compiled"]),
                "from cached features": gpu_step(600.0, cached=True),
                "broken": {"kind": "training", "precision": "nf4", "failed": "out of memory"},
                "captions": {"kind": "decoding", "geometry": "paligemma-3b", "precision": "bf16"},
            },
        },
    }
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps({**where, **content}), encoding="utf-8")
    return folder


def test_the_page_says_what_the_records_say(table: ModuleType) -> None:
    """The block between the markers is the one that the committed records give."""
    text = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert table.with_table(text, ROOT / "benchmarks" / "results") == text, "run python benchmarks/table.py"


def test_every_record_has_its_rows(table: ModuleType, tmp_path: Path) -> None:
    """Figures are those of the record, targets stand beside them, the fastest GPU step that rscap can make speaks for
    its kind, a case that failed has no row, and a record that is absent has none."""
    lines = table.table(records(tmp_path / "results")).splitlines()
    assert lines[0] == "|  | rscap | against | times | target |"
    assert "| training step, bench-7M | 70.0 captions/s | transformers' Trainer 10.0 | **7.0** | ≥ 5 |" in lines
    assert (
        "| … from cached vision features, bench-7M | 90.0 captions/s | transformers' Trainer 10.0 | **9.0** | ≥ 6 |"
        in lines
    )
    assert "| … against prior work B's settings, bench-7M | 70.0 captions/s | 5.0 | 14.0 |  |" in lines
    assert "| … bytes kept for the backward pass, bench-7M | 1 MiB | Trainer 6 MiB | **6.0** | ≥ 4 |" in lines
    assert sum("captioning" in line for line in lines) == 1
    gpu = [line for line in lines if "Big Card" in line]
    assert gpu == [
        "| training step, paligemma-3b, bf16, Big Card | 500 captions/s, 15.6 GiB | 400 of 800 TFLOP/s | 50 % | ≥ 400 "
        "captions/s |"
    ]
    assert lines[-1] == "Medians; `train_step`, `generate`, `first_gpu`: Abacus, 1 thread, 2026-01-02."


def test_a_busy_machine_is_told(table: ModuleType, tmp_path: Path) -> None:
    """Figures from a busy machine are not passed off as good ones."""
    assert "2026-01-02, **on a busy machine**" in table.table(records(tmp_path / "results", busy=True))


def test_the_block_alone_changes(table: ModuleType, tmp_path: Path) -> None:
    """The words around the markers stay; --check changes nothing and says what to run; a second run changes nothing."""
    page, folder = tmp_path / "page.md", records(tmp_path / "results")
    page.write_text(f"above\n{table.BEGIN}\nold\n{table.END}\nbelow\n", encoding="utf-8")
    options = ["--page", str(page), "--results", str(folder)]
    with pytest.raises(SystemExit, match=r"run python benchmarks/table\.py"):
        table.main(["--check", *options])
    assert "old" in page.read_text(encoding="utf-8")
    table.main(options)
    written = page.read_text(encoding="utf-8")
    assert written.startswith(f"above\n{table.BEGIN}\n|  | rscap |")
    assert written.endswith(f"\n{table.END}\nbelow\n")
    table.main(["--check", *options])


@pytest.mark.parametrize("text", ["no markers", "BEGIN", "END BEGIN", "BEGIN END BEGIN END"])
def test_a_page_without_its_markers_is_refused(table: ModuleType, tmp_path: Path, text: str) -> None:
    """Both markers, once each and in order, or nothing is written."""
    text = text.replace("BEGIN", table.BEGIN).replace("END", table.END)
    with pytest.raises(SystemExit, match="once each"):
        table.with_table(text, tmp_path)
