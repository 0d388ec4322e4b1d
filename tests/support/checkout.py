"""The checkout that is tested."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def tracked(*folders: str) -> list[Path]:
    """Files of the checkout that git tracks, relative to its root: what a clone would hold."""
    done = subprocess.run(["git", "ls-files", "-z", *folders], cwd=ROOT, capture_output=True, check=True)
    return [Path(os.fsdecode(name)) for name in done.stdout.split(b"\0") if name]
