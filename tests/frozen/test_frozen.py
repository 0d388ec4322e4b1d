"""Folders that rscap 0.1 wrote are reported, judged, evaluated and resumed as they were then: tests/frozen/v01."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rscap.cli import app

FROZEN = Path(__file__).parent / "v01"
EXPECTED = FROZEN / "expected"
FIGURE = re.compile(r"\d+(?:\.\d+)?")
REPORTS = {"run": ("--split", "val"), "evaluation": (), "study": ()}


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of all folders, for the tests of this module to go on with."""
    return shutil.copytree(FROZEN, tmp_path_factory.mktemp("v01"), dirs_exist_ok=True)


def rscap(*words: Path | str, ends: tuple[int, ...] = (0,)) -> str:
    """Run a command; returns its standard output."""
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code in ends, result.output
    return result.stdout


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def state(run: Path) -> str:
    return json.loads((run / "status.json").read_text(encoding="utf-8"))["state"]


def check_figures(old: Any, new: Any, where: str) -> None:
    """Everything in the old table has its place and its numbers in the new one.

    Words and what is new beside the old are free; the last digits of a float may be another processor's. A sentence
    about a difference is free: its interval is now corrected as its p-value is, and what 0.1 printed is `interval`.
    """
    if isinstance(old, dict):
        assert isinstance(new, dict), where
        assert old.keys() <= new.keys(), where
        for key, value in old.items():
            check_figures(value, new[key], f"{where}.{key}")
    elif isinstance(old, list):
        assert isinstance(new, list), where
        assert len(old) == len(new), where
        for number, value in enumerate(old):
            check_figures(value, new[number], f"{where}[{number}]")
    elif isinstance(old, str):
        if (figures := FIGURE.findall(old)) and not where.endswith(".sentence"):
            assert [float(one) for one in FIGURE.findall(new)] == pytest.approx([float(one) for one in figures]), where
    elif isinstance(old, float):
        assert new == pytest.approx(old, rel=1e-9, abs=1e-12), where
    else:
        assert (type(new), new) == (type(old), old), where


@pytest.mark.parametrize("name", REPORTS)
def test_reports_give_the_figures_of_0_1(name: str, frozen: Path, tmp_path: Path) -> None:
    """Scores, intervals, differences, verdicts and costs of `rscap report` are those that 0.1 itself reported."""
    rscap("report", frozen / name, *REPORTS[name], "--out", tmp_path / f"of-{name}.html")
    reported = json.loads((tmp_path / f"of-{name}.json").read_bytes())
    promised = json.loads((EXPECTED / f"{name}.json").read_bytes())
    check_figures(promised, reported, name)
    tables = []
    for file in (EXPECTED / f"{name}.csv", tmp_path / f"of-{name}.csv"):
        with file.open(encoding="utf-8", newline="") as stream:
            tables.append(list(csv.DictReader(stream)))
    check_figures(*tables, where=f"{name}.csv")


def test_a_row_that_0_1_refused_is_still_refused(frozen: Path, tmp_path: Path) -> None:
    """status.json of 0.1 names the class of the error, which tells a refusal from a failure."""
    folder = frozen / "study" / "runs" / "no-such-layer" / "seed-0"
    assert json.loads((folder / "status.json").read_bytes())["error"].startswith("AdapterError: ")
    rscap("report", frozen / "study", "--out", tmp_path / "study.html")
    found = {row["name"]: row["status"] for row in json.loads((tmp_path / "study.json").read_bytes())["rows"]}
    assert (found["rank-2"], found["no-such-layer"], found["left-out"]) == ("finished", "refused", "excluded")


@pytest.mark.parametrize(
    ("name", "found"),
    [("run", {"no-better-than-constant"}), ("interrupted", set()), ("study/runs/no-such-layer/seed-0", set())],
)
def test_doctor_reads_runs_of_0_1(name: str, found: set[str], frozen: Path) -> None:
    """A finished, an interrupted and a refused run are diagnosed: 0.1's finding is found, no file is unreadable."""
    said = json.loads(rscap("doctor", frozen / name, "--no-probe", "--json", ends=(0, 1)))
    codes = {finding["code"] for finding in said["findings"]}
    assert found <= codes
    assert "unreadable" not in codes


def test_an_adapter_of_0_1_says_what_it_said(frozen: Path, tmp_path: Path) -> None:
    """`rscap evaluate` loads the adapter and gives 0.1's captions again, word for word."""
    words = ("--limit", "6", "--set", "generate.beams=2", "--no-baselines", "--out", tmp_path / "again")
    rscap("evaluate", frozen / "run", *words)
    before, now = (
        rows(folder / "predictions" / "test.jsonl") for folder in (frozen / "evaluation", tmp_path / "again")
    )
    assert [(one["id"], one["caption"]) for one in now] == [(one["id"], one["caption"]) for one in before]


def test_an_interrupted_run_of_0_1_is_resumed(frozen: Path) -> None:
    """It goes on after its step 3 and ends as the run of 0.1 that nobody interrupted."""
    run = frozen / "interrupted"
    before = (run / "train.jsonl").read_bytes()
    assert state(run) == "interrupted"
    rscap("train", run, "--resume")
    assert state(run) == "finished"
    assert (run / "train.jsonl").read_bytes().startswith(before)
    promised, learned = rows(EXPECTED / "train.jsonl"), rows(run / "train.jsonl")
    assert [(row["event"], row["step"]) for row in learned] == [(row["event"], row["step"]) for row in promised]
    assert [row["loss"] for row in learned] == pytest.approx([row["loss"] for row in promised], rel=1e-3)
    assert (run / "adapter" / "adapter_model.safetensors").is_file()


def test_an_unfinished_study_of_0_1_is_finished(frozen: Path, tmp_path: Path) -> None:
    """`rscap ablate` keeps its finished run byte for byte, resumes the one that was cut off, and both are reported."""
    study = frozen / "unfinished"
    done, cut_off = (study / "runs" / "rank-2" / f"seed-{seed}" for seed in (0, 1))
    before = {path: path.read_bytes() for path in done.rglob("*") if path.is_file()}
    log = (cut_off / "train.jsonl").read_bytes()
    assert (state(done), state(cut_off)) == ("finished", "interrupted")
    rscap("ablate", study, "--jobs", "1", "--threads", "1")
    assert {path: path.read_bytes() for path in before} == before
    assert state(cut_off) == "finished"
    assert (cut_off / "train.jsonl").read_bytes().startswith(log)
    rscap("report", study, "--out", tmp_path / "study.html")
    [row] = json.loads((tmp_path / "study.json").read_bytes())["rows"]
    assert [run["scores"]["CIDEr"] > 0 for run in row["runs"]] == [True, True]
