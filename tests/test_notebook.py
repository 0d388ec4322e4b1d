"""The notebook for hosted GPUs is made from code that runs; so is the tutorial."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "notebooks" / "hosted_gpu.py"


def tool() -> Any:
    spec = importlib.util.spec_from_file_location("notebook_tool", ROOT / "tools" / "notebook.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["notebook_tool"] = module
    spec.loader.exec_module(module)
    return module


def shell(command: str) -> None:
    """A shell line of the notebook, with the tested rscap in front."""
    words = shlex.split(command)
    if words[0] == "rscap":
        words[:1] = [sys.executable, "-m", "rscap"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, f"{command}\n{done.stderr[-3000:]}"


def test_the_notebook_is_that_of_its_source() -> None:
    """notebooks/hosted_gpu.ipynb is what tools/notebook.py makes, and no cell has an output."""
    text = SOURCE.with_suffix(".ipynb").read_text(encoding="utf-8")
    assert text == tool().notebook(SOURCE.read_text(encoding="utf-8"))
    assert all(not cell.get("outputs") for cell in json.loads(text)["cells"])


def test_every_cell_runs_and_a_second_time_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With nano and the sample in place of the real ones, all cells run from top to bottom, and again after a
    disconnect; the captions that it prints are those of the run folder."""
    cells = [
        one for one in tool().cells(SOURCE.read_text(encoding="utf-8")) if not one.markdown and "setup" not in one.tags
    ]
    assert len(cells) > 6
    monkeypatch.chdir(ROOT)
    small = {
        "BASE": "nano",
        "SOURCE": "sample",
        "MINUTES": 0.05,
        "TRAIN_IMAGES": 24,
        "TEST_IMAGES": 6,
        "RUNS": str(tmp_path / "runs"),
    }
    for _ in range(2):
        names: dict[str, Any] = {"shell": shell}
        for cell in cells:
            exec(compile(cell.python(), str(SOURCE), "exec"), names)
            if "settings" in cell.tags:
                assert small.keys() <= names.keys()
                names |= small
    predictions = (tmp_path / "runs" / "test" / "predictions" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(predictions) == 6
    printed = capsys.readouterr().out
    assert json.loads(predictions[0])["caption"] in printed
    assert (tmp_path / "runs" / "report.html").stat().st_size > 10_000
