"""notebooks/hosted_gpu.ipynb: made from code, and its cells run."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from checkout import ROOT
from rscap import open_data
from rscap.store import read_jsonl

SOURCE = ROOT / "notebooks" / "hosted_gpu.py"


def tool() -> Any:
    spec = importlib.util.spec_from_file_location("notebook_tool", ROOT / "tools" / "notebook.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["notebook_tool"] = module
    spec.loader.exec_module(module)
    return module


def test_the_notebook_is_that_of_its_source() -> None:
    """notebooks/hosted_gpu.ipynb is what tools/notebook.py makes, and no cell has an output."""
    text = SOURCE.with_suffix(".ipynb").read_text(encoding="utf-8")
    assert text == tool().notebook(SOURCE.read_text(encoding="utf-8"))
    assert all(not cell.get("outputs") for cell in json.loads(text)["cells"])


def test_every_cell_runs_and_a_second_time_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With nano and the sample in place of the real ones, all cells run from top to bottom, and again after a
    disconnect, when nothing is trained or evaluated twice; the captions that it prints are those of the evaluation."""
    shown: list[Image.Image] = []
    notebook = ModuleType("IPython.display")
    notebook.__dict__["display"] = shown.append
    monkeypatch.setitem(sys.modules, "IPython.display", notebook)
    cells = [
        one for one in tool().cells(SOURCE.read_text(encoding="utf-8")) if not one.markdown and "setup" not in one.tags
    ]
    assert len(cells) > 6
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (64, 64), "green").save(photos / "field.png")
    (photos / "notes.txt").write_text("not an image")
    small = {
        "BASE": "nano",
        "SOURCE": "sample",
        "MINUTES": 0.05,
        "TRAIN_IMAGES": 24,
        "TEST_IMAGES": 6,
        "RUNS": str(tmp_path / "runs"),
        "PHOTOS": str(photos),
    }
    made = []
    for _ in range(2):
        names: dict[str, Any] = {}
        for cell in cells:
            exec(compile(cell.python(), str(SOURCE), "exec"), names)
            if "settings" in cell.tags:
                assert small.keys() <= names.keys()
                names |= small
        made.append({path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.safetensors")})
    assert made[0] == made[1]
    printed, said = capsys.readouterr()
    captions = {
        row["id"]: row["caption"] for row in read_jsonl(tmp_path / "runs" / "test" / "predictions" / "test.jsonl")
    }
    assert len(captions) == 6
    looked = open_data("sample").subset("test", 5, seed=0)
    assert all(f"{captions[example.id]}\nreference: {example.captions[0]}\n" in printed for example in looked)
    assert len(shown) == 10
    assert "field.png" in printed
    assert re.search(r"Rejected\(row='[^']*notes.txt'", printed)
    assert "is finished already" in said
    assert (tmp_path / "runs" / "report.html").stat().st_size > 10_000
    assert (tmp_path / "runs" / "captioner" / "adapter_model.safetensors").is_file()
