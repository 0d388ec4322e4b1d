"""Tests lie where they are looked for, and what leaves some of them out is said in one way."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

from checkout import ROOT

BESIDE_THE_ROOMS = {"benchmarks", "docs", "faults", "frozen", "library", "package", "support"}
"""Folders of tests that are about no single room: support holds helpers, frozen what earlier versions wrote,
faults inputs that public reports told of."""


def test_tests_lie_in_the_folder_of_their_room() -> None:
    """No test lies flat, and every folder is a room of the package or one of the few others."""
    assert [path.name for path in (ROOT / "tests").glob("test_*.py")] == []
    rooms = {path.stem for path in (ROOT / "src" / "rscap").iterdir()}
    folders = {path.name for path in (ROOT / "tests").iterdir() if any(path.glob("test_*.py"))}
    assert folders <= rooms | BESIDE_THE_ROOMS


def test_the_ordinary_run_leaves_out_what_make_test_slow_runs() -> None:
    """The Makefile's markers are those that pyproject.toml deselects, and each is declared with what it stands for."""
    options = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
    (left_out,) = re.findall(r"-m 'not \((.*)\)'", options["addopts"])
    (marked,) = re.findall(r"^MARKED := (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert marked == left_out
    declared = {line.partition(":")[0] for line in options["markers"]}
    assert declared == {*left_out.split(" or "), "torch"}


def test_the_fast_tests_are_collected_without_torch() -> None:
    """`pytest --without-torch` imports every test file of its folders while torch cannot be imported."""
    command = [sys.executable, "-m", "pytest", "--without-torch", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "tests/scoring/" in done.stdout
    assert "tests/training/" not in done.stdout
