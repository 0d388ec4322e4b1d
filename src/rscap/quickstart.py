"""The main job on the built-in sample and nano model: zero-shot baseline, training, evaluation, report."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

from rscap.errors import StoreError
from rscap.evaluation.request import Request, evaluate, prepare
from rscap.progress import Say, reporting
from rscap.recipe import Recipe, read_recipe
from rscap.records import ScoreSheet
from rscap.reports import write_report
from rscap.store import RunFolder
from rscap.training.session import train


def quickstart_recipe() -> Recipe:
    """The recipe that ships with the package."""
    with as_file(files("rscap") / "recipes" / "quickstart.toml") as path:
        return read_recipe(path)


def quickstart(out: Path, *, say: Say, progress: bool = True) -> tuple[dict[str, ScoreSheet], list[Path]]:
    """Run everything below `out`; returns the score sheets by name and the report's files.

    `say` receives messages; `progress` shows progress bars.

    Raises:
        StoreError: there is something at `out` already.
    """
    if out.exists() and any(out.iterdir()):
        raise StoreError(f"{out} exists and is not empty", hint="give --out another folder, or remove the old one")
    recipe = quickstart_recipe()
    dtype = None if recipe.model.dtype == "auto" else recipe.model.dtype
    say("1/4  zero-shot: the nano model as it is")
    zero_shot = _evaluate(
        Request(model=recipe.model.base, source=recipe.data.source, dtype=dtype, out=out / "zero-shot"),
        say,
        progress,
    )
    say("2/4  training: five captions of each of 480 images")
    train(recipe, out / "adapted", say=say, progress=progress)
    say("3/4  adapted: the same images again")
    adapted = _evaluate(Request(model=str(out / "adapted")), say, progress)
    say("4/4  report")
    written = write_report([out / "zero-shot", out / "adapted"], RunFolder(out).report_file)
    return {**zero_shot, **adapted}, written


def _evaluate(request: Request, say: Say, progress: bool) -> dict[str, ScoreSheet]:
    with reporting(progress, "captions") as done:
        _, sheets = evaluate(prepare(request), progress=done, say=say)
    return sheets
