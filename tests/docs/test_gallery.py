"""docs/gallery.md: its tables are what tools/gallery.py makes of the published files."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from checkout import ROOT

PAGE = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def gallery() -> ModuleType:
    """The program that makes the tables."""
    spec = importlib.util.spec_from_file_location("gallery", ROOT / "tools" / "gallery.py")
    assert spec
    assert spec.loader
    module = sys.modules["gallery"] = importlib.util.module_from_spec(spec)  # dataclasses look it up there
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["UCM-Captions", "Sydney-Captions"])
def test_the_tables_are_those_of_the_files(name: str, gallery: ModuleType, real_data: Path) -> None:
    """Two data sets scored again under every protocol: each line of the page is what comes out."""
    first, last = gallery.marks(name)
    told = PAGE.split(first)[1].split(last)[0].strip().splitlines()
    assert told == list(gallery.table(gallery.read(real_data / "published" / gallery.FILES[name])))


def test_the_page_holds_figures_and_no_caption(gallery: ModuleType, real_data: Path) -> None:
    """No caption of the files stands on the page, and every data set has its table there."""
    for name, file in gallery.FILES.items():
        found = gallery.read(real_data / "published" / file)
        assert f"n = {len(found.captions):,}, " in PAGE.split(gallery.marks(name)[0])[1].splitlines()[2]
        assert not [text for text in found.captions.values() if text in PAGE]
