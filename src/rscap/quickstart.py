"""The main job on the built-in sample and nano model: zero-shot baseline, training, evaluation, report."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.resources import as_file, files
from pathlib import Path

from rscap.errors import StoreError
from rscap.evaluation.request import Request, evaluate, prepare
from rscap.progress import Progress, Say
from rscap.recipe import Recipe, read_recipe
from rscap.records import ScoreSheet
from rscap.reports import write_report
from rscap.training.session import train

Bar = Callable[[str], AbstractContextManager[Progress]]
"""Opens a progress bar with a title."""


def quickstart_recipe() -> Recipe:
    """The recipe that ships with the package."""
    with as_file(files("rscap") / "quickstart.toml") as path:
        return read_recipe(path)


def quickstart(out: Path, *, say: Say, bar: Bar) -> tuple[dict[str, ScoreSheet], list[Path]]:
    """Run everything below `out`; returns the score sheets by name and the report's files.

    Raises:
        StoreError: there is something at `out` already.
    """
    if out.exists() and any(out.iterdir()):
        raise StoreError(f"{out} exists and is not empty", hint="give --out another folder, or remove the old one")
    recipe = quickstart_recipe()
    say("1/4  zero-shot: the nano model as it is")
    zero_shot = _evaluate(
        Request(model=recipe.model.base, source=recipe.data.source, dtype=recipe.model.dtype, out=out / "zero-shot"),
        say,
        bar,
    )
    say("2/4  training: five captions of each of 480 images")
    train(recipe, out / "adapted", say=say)
    say("3/4  adapted: the same images again")
    adapted = _evaluate(Request(model=str(out / "adapted")), say, bar)
    say("4/4  report")
    written = write_report([out / "zero-shot", out / "adapted"], out / "report.html")
    return {**zero_shot, **adapted}, written


def _evaluate(request: Request, say: Say, bar: Bar) -> dict[str, ScoreSheet]:
    with bar("captions") as progress:
        _, sheets = evaluate(prepare(request), progress=progress, say=say)
    return sheets
