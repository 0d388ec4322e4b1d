"""`rscap recipe`: the recipes that ship with rscap, and every key that one can have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Show the recipes that ship with rscap, and every key of a recipe.", no_args_is_help=True)


@app.command("list")
def listed() -> None:
    """List the recipes that ship with rscap, with what each is for."""
    from rich.table import Table

    from rscap.cli.screen import print_table
    from rscap.shipped import names, shipped

    table = Table.grid("recipe", "purpose", padding=(0, 2, 0, 0))
    table.columns[0].no_wrap = True
    for name in names("recipes"):
        lines = shipped(Path(name), "recipes").read_text(encoding="utf-8").splitlines()
        words = " ".join(
            line.lstrip("# ") for line in lines[: next(n for n, line in enumerate(lines) if line[:1] != "#")]
        )
        first = words.partition(". ")[0].rstrip(".:")
        table.add_row(name, first)
    print_table(table)


@app.command()
def show(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A name that `rscap recipe list` prints, or a file.")],
    full: Annotated[bool, typer.Option("--full", help="Every key, defaults included, without comments.")] = False,
) -> None:
    """Print a recipe as it is written, to copy and change. A recipe that cannot be run is an error."""
    from rscap.recipe import dump_recipe, read_recipe
    from rscap.shipped import shipped

    checked = read_recipe(recipe)
    typer.echo(
        dump_recipe(checked).rstrip() if full else shipped(Path(recipe), "recipes").read_text(encoding="utf-8").rstrip()
    )


@app.command("schema")
def print_schema() -> None:
    """Print the JSON schema of a recipe, with which editors complete keys and mark mistakes."""
    from rscap.cli.screen import print_json
    from rscap.reference import recipe_schema

    print_json(recipe_schema())


@app.command("keys")
def print_keys() -> None:
    """Print every key with its type, default and meaning, as Markdown (docs/recipe.md)."""
    from rscap.reference import recipe_page

    typer.echo(recipe_page().rstrip())
