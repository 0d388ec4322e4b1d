"""docs/library.md and the README's lines of Python: every block runs as printed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rscap
from checkout import ROOT
from rscap.records import ScoreSheet

PAGE = ROOT / "docs" / "library.md"

RECIPE = """
data = { source = "mine" }
model = { base = "nano", dtype = "float32" }
adapter = { rank = 4 }
train = { max_steps = 1, micro_batch = 2 }
generate = { max_new_tokens = 4 }
"""


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Every block runs in the namespace of those before it, its assertions hold, and the files it names are there."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) > 12
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)  # our own page
    print(names["comparison"])
    assert "after is better than before at n = 24 (CIDEr +" in capfd.readouterr().out
    assert (tmp_path / "runs" / "report.html").is_file()


def test_the_lines_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As printed, with a small recipe and a few small images."""
    scenes = rscap.open_data("sample").subset("val", 8, 0)
    (tmp_path / "mine").mkdir()
    rows = ["split,image,caption_1"]
    for number, (scene, split) in enumerate(zip(scenes, ["train"] * 4 + ["val"] * 2 + ["test"] * 2, strict=True)):
        scene.image.load().save(tmp_path / "mine" / f"{number}.jpg")
        rows.append(f"{split},{number}.jpg,{scene.captions[0]}")
    (tmp_path / "mine" / "captions.csv").write_text("\n".join(rows), encoding="utf-8")
    (tmp_path / "photos.toml").write_text(RECIPE, encoding="utf-8")
    for name in ("photo1.jpg", "photo2.jpg"):
        shutil.copy(tmp_path / "mine" / "0.jpg", tmp_path / name)
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), flags=re.M | re.DOTALL)
    names: dict[str, Any] = {"photo": scenes[0].image.load(), "array": np.asarray(scenes[1].image.load())}
    exec(compile(block, "README.md", "exec"), names)
    assert isinstance(names["sheet"], ScoreSheet)
    assert len(names["captions"]) == 4


def test_the_page_names_every_function() -> None:
    """Nothing that `import rscap` offers is missing from the page."""
    text = PAGE.read_text(encoding="utf-8")
    for name in dir(rscap):
        if not name.startswith("_"):
            assert re.search(rf"rscap\.{name}\(", text), name
