"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images, captions and golden scores; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("RSCAP_REAL_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}; set RSCAP_REAL_DATA to the folder that holds them")
    return folder
