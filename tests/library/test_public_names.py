"""A public name is what it says, whatever was imported before it."""

from __future__ import annotations

import subprocess
import sys

LOOK = """
import importlib, pkgutil, types
import rscap
names = [found.name for found in pkgutil.walk_packages(rscap.__path__, "rscap.")]
modules = [importlib.import_module(name) for name in names if not name.endswith("__main__")]
for module in [rscap, *modules]:
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        if isinstance(value, types.ModuleType):
            print(f"{module.__name__}.{name} is a module")
        if isinstance(value, (type, types.FunctionType)) and value.__name__ != name:
            print(f"{module.__name__}.{name} is {value.__name__}")
"""


def test_no_public_name_is_a_module() -> None:
    """After every submodule of rscap was imported, no name in any `__all__` is a module, and classes and functions are
    found under their own names."""
    looked = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True)
    assert looked.stdout.splitlines() == []
