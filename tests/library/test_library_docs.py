"""docs/library.md: its Python blocks run one after another, as printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import rscap

PAGE = Path(__file__).resolve().parents[2] / "docs" / "library.md"


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


def test_the_page_names_every_function() -> None:
    """Nothing that `import rscap` offers is missing from the page."""
    text = PAGE.read_text(encoding="utf-8")
    for name in dir(rscap):
        if not name.startswith("_"):
            assert re.search(rf"rscap\.{name}\(", text), name
