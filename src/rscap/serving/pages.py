"""The page, its files and the sample images that it offers; all of it comes with the package."""

from __future__ import annotations

import io
from functools import lru_cache
from importlib.resources import files
from typing import Any

from rscap.sample import sample_examples
from rscap.serving.problems import Problem

_KINDS = {"css": "text/css", "html": "text/html", "js": "text/javascript", "svg": "image/svg+xml"}
_SAMPLES = 12


@lru_cache(maxsize=1)
def _files() -> dict[str, tuple[bytes, str]]:
    """Every file of the page with its kind. What is not in here is not served, whatever a path looks like."""
    folder = files("rscap.serving") / "page"
    kept = [file for file in folder.iterdir() if file.name.rpartition(".")[2] in _KINDS]
    return {file.name: (file.read_bytes(), f"{_KINDS[file.name.rpartition('.')[2]]}; charset=utf-8") for file in kept}


def page_file(name: str) -> tuple[bytes, str]:
    """A file of the page, and its kind.

    Raises:
        Problem: 404, there is none of this name.
    """
    if name not in _files():
        raise Problem(404, "there is nothing at this path")
    return _files()[name]


@lru_cache(maxsize=1)
def samples() -> dict[str, dict[str, Any]]:
    """Scenes of the built-in sample's test split, one of a kind: what it shows and what five people might say."""
    chosen: dict[str, dict[str, Any]] = {}
    seen: set[str | None] = set()
    for example in sample_examples():
        if example.split == "test" and example.scene_class not in seen and len(chosen) < _SAMPLES:
            seen.add(example.scene_class)
            name = f"{example.scene_class}".capitalize()
            chosen[example.id] = {"id": example.id, "name": name, "references": list(example.captions)}
    return chosen


@lru_cache(maxsize=_SAMPLES)
def sample_png(name: str) -> bytes:
    """A sample as a file.

    Raises:
        Problem: 404, there is none of this name.
    """
    if name not in samples():
        raise Problem(404, "there is no such sample")
    image = next(example.image for example in sample_examples() if example.id == name)
    stream = io.BytesIO()
    image.load().save(stream, "PNG")
    return stream.getvalue()
