"""The checkout that is tested."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def tracked(*folders: str) -> list[Path]:
    """Files of the checkout that git tracks, relative to its root: what a clone would hold."""
    done = subprocess.run(["git", "ls-files", "-z", *folders], cwd=ROOT, capture_output=True, check=True)
    return [Path(os.fsdecode(name)) for name in done.stdout.split(b"\0") if name]


def shared(name: str) -> Path:
    """A folder of files that are not part of the repository; the test that asks for it skips where it is absent.

    It lies in `../shared`, or in the folder that RSCAP_SHARED names.
    """
    folder = Path(os.environ.get("RSCAP_SHARED", ROOT.parent / "shared")) / name
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist; set RSCAP_SHARED to the folder that holds `{name}`")
    return folder
