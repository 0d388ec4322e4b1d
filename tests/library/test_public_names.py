"""A public name is what it says, whatever was imported before it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LOOK = """
import importlib, pkgutil, types
import rscap
names = [found.name for found in pkgutil.walk_packages(rscap.__path__, "rscap.")]
modules = [importlib.import_module(name) for name in names if not name.endswith("__main__")]
for module in [rscap, *modules]:
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        if f"{module.__name__}.{name}" in names:
            print(f"{module.__name__}.{name} has the name of a submodule")
        if isinstance(value, types.ModuleType):
            print(f"{module.__name__}.{name} is a module")
        if isinstance(value, (type, types.FunctionType)) and value.__name__ != name:
            print(f"{module.__name__}.{name} is {value.__name__}")
"""


def test_no_public_name_is_a_module() -> None:
    """After every submodule of rscap was imported, no name in any `__all__` is a module or named like a submodule, and
    classes and functions are found under their own names."""
    looked = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True)
    assert looked.stdout.splitlines() == []


SCORE = """
import json, sys
from pathlib import Path
from rscap.scoring import load_pair, score_captions, write_sheet
Path("c.json").write_text(json.dumps({"1": "a plane"}))
Path("r.json").write_text(json.dumps({"1": ["a plane"]}))
write_sheet("sheet.json", score_captions(*load_pair("c.json", "r.json"), metrics=["CIDEr"], draws=0))
print([name for name in ("pydantic", "torch", "PIL", "rich") if name in sys.modules])
"""


def test_scoring_loads_no_more_than_it_needs(tmp_path: Path) -> None:
    """Files in, sheet out: neither pydantic nor torch nor Pillow nor rich is imported."""
    done = subprocess.run([sys.executable, "-c", SCORE], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_package_names_what_its_stub_lists() -> None:
    """Names that are loaded on first use come from where the stub says; another name is an AttributeError, and a
    submodule is still found by an import statement."""
    from rscap import scoring, store
    from rscap.scoring import captions

    assert scoring.score_captions is captions.score_captions
    assert set(dir(store)) == set(store.__all__)
    with pytest.raises(AttributeError, match=r"module 'rscap\.store' has no attribute 'nothing'"):
        store.nothing  # noqa: B018
