"""`rscap train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe in TOML, such as recipes/risc-qlora.toml.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override a key of the recipe; may be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder; runs/<recipe> by default.")] = None,
) -> None:
    """Train as a recipe says; the result is a run folder with an adapter in PEFT's format."""
    from rscap.cli.screen import default_run_folder, say
    from rscap.recipe import read_recipe

    checked = read_recipe(recipe, set_ or [])  # before torch is imported: a typo should not cost seconds

    from rscap.train.run import train as run_recipe

    run = run_recipe(checked, out or default_run_folder(recipe.stem), say=say)
    say(f"finished: {run.path}\nnext:     rscap evaluate {run.path}")
