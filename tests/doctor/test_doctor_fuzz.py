"""Whatever lies in a folder, the doctor answers: broken files are findings, not crashes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rscap.doctor import diagnose
from rscap.doctor.findings import Finding

FOREIGN = (
    "doctor.toml",
    "model.json",
    "batch.safetensors",
    "checkpoint-10/trainer_state.json",
    "predictions.jsonl",
    "references.json",
    "scores.json",
    "adapter/adapter_config.json",
    "adapter/adapter_model.safetensors",
)
OWN = (
    "status.json",
    "recipe.toml",
    "train.jsonl",
    "parameters.json",
    "rejected.jsonl",
    "predictions/test.jsonl",
    "references/test.jsonl",
    "scores/test.json",
    "baselines/constant/scores/test.json",
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**9) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
CONTENT = st.binary(max_size=60) | ANYTHING.map(lambda value: json.dumps(value).encode())


def with_file(folder: Path, name: str, content: bytes, *, to: Path) -> tuple[Finding, ...]:
    """The findings on a copy of a folder in which one file holds something else."""
    shutil.copytree(folder, to)
    try:
        (to / name).write_bytes(content)
        return diagnose(to, live=False).findings
    finally:
        shutil.rmtree(to)


@pytest.mark.parametrize("name", FOREIGN)
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=CONTENT)
def test_a_foreign_run_with_a_broken_file_is_diagnosed(
    name: str, good_foreign: Path, tmp_path: Path, content: bytes
) -> None:
    """Random bytes, and JSON of other shapes, in any file of a foreign run."""
    findings = with_file(good_foreign, name, content, to=tmp_path / "copy")
    assert all(finding.evidence and finding.where for finding in findings)


@pytest.mark.parametrize("name", OWN)
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=CONTENT)
def test_a_run_with_a_broken_file_is_diagnosed(name: str, good_run: Path, tmp_path: Path, content: bytes) -> None:
    """The same in any file of a run of rscap."""
    findings = with_file(good_run, name, content, to=tmp_path / "copy")
    assert all(finding.evidence and finding.where for finding in findings)


def nearly_right(name: str, folder: Path) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["model.json", "scores.json", "adapter/adapter_config.json"])
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_value_of_another_kind_is_no_crash(
    name: str, good_foreign: Path, tmp_path: Path, data: st.DataObject
) -> None:
    """One key of a right file holds a value of another kind."""
    value = nearly_right(name, good_foreign)
    value[data.draw(st.sampled_from(sorted(value)))] = data.draw(ANYTHING)
    with_file(good_foreign, name, json.dumps(value).encode(), to=tmp_path / "copy")
