"""Fixtures of the server: the models are loaded once for all of its tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import rscap
from recipes import small_recipe
from rscap.sample import sample_examples
from rscap.serving.models import ServedModels
from rscap.serving.running import open_models
from served import Live


@pytest.fixture(scope="session")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of nano, of one update that changes captions."""
    data = rscap.open_data(sample_examples()[:8])
    train = {"max_steps": 1, "micro_batch": 8, "accumulation": 1, "learning_rate": 0.01}
    folder = tmp_path_factory.mktemp("runs") / "tuned"
    recipe = small_recipe({"train": train, "prompt": {"prefix": "caption en"}})
    return rscap.train(recipe, folder, data=data, progress=False).path


@pytest.fixture(scope="session")
def models(tuned: Path) -> Iterator[ServedModels]:
    """Nano in float32, and the run over it."""
    opened = open_models("nano", {"tuned": str(tuned)}, device="cpu", dtype="float32")
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def live(models: ServedModels) -> Iterator[Live]:
    """A server with its ordinary settings behind a socket."""
    with Live(models) as server:
        yield server
