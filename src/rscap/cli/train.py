"""The commands that make models: `rscap train`, `rscap quickstart` and `rscap export`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer


def train(
    recipe: Annotated[
        Path,
        typer.Argument(
            help="A recipe: a TOML file, or the name of one that ships with rscap; with --resume also a run folder."
        ),
    ],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override a key of the recipe; may be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder; runs/<recipe> by default.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue a run that was cut off; begin it if there is none.")
    ] = False,
) -> None:
    """Train a model by a recipe; the result is a run folder with an adapter (PEFT) or a whole model."""
    from rscap.cli.screen import say
    from rscap.errors import RecipeError
    from rscap.library import free_run_folder
    from rscap.recipe import read_recipe
    from rscap.shipped import shipped
    from rscap.store import RunFolder

    recipe = shipped(recipe, "recipes")
    if recipe.is_dir():
        if not resume:
            raise RecipeError(f"{recipe} is a folder", hint=f"`rscap train {recipe} --resume` continues the run in it")
        if out is not None or set_:
            raise RecipeError(
                f"{recipe} continues by its own recipe in its own folder; --set and --out cannot be given",
                hint="another recipe, or more steps, is another run",
            )
        recipe, out = RunFolder(recipe).recipe_file, recipe
    elif resume and not recipe.exists() and recipe.suffix != ".toml":
        raise RecipeError(f"there is no run folder {recipe}", hint="`rscap train RECIPE --out FOLDER` makes one")
    elif out is None:
        out = Path("runs") / recipe.stem if resume else free_run_folder(recipe.stem)
    checked = read_recipe(recipe, set_ or [])  # before torch is imported: a typo should not cost seconds

    from rscap.training.session import train as run_recipe

    run = run_recipe(checked, out, say=say, resume=resume)
    if os.environ.get("RANK", "0") == "0":  # under a launcher one process speaks
        say(f"finished: {run.path}\nnext:     rscap evaluate {run.path}")


def quickstart(
    out: Annotated[Path, typer.Option(help="The folder of the runs and the report.")] = Path("runs/quickstart"),
) -> None:
    """Train and evaluate the built-in model on the built-in sample, in minutes on a CPU, and write a report."""
    from rscap.cli.screen import print_sheets, say
    from rscap.quickstart import quickstart as run

    sheets, written = run(out, say=say)
    print_sheets(sheets)
    say(f"runs:   {out / 'zero-shot'}, {out / 'adapted'}\nreport: {written[0]}")


def export(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN|ADAPTER", help="The folder of a finished run, or an adapter of another program."),
    ],
    out: Annotated[Path | None, typer.Option(help="The folder of the export; exports/<run> by default.")] = None,
    merge: Annotated[
        bool, typer.Option("--merge/--adapter-only", help="Merge the adapter into the base, or export it alone.")
    ] = True,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option(help="Precision of merged weights; that of the recipe by default."),
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Validation images on which run and export are compared.")] = 8,
    agree: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of captions that must agree; below it nothing is written.")
    ] = 0.9,
    push_to: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Also upload to this new model repository on the Hub.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Make the upload public; it is private by default.")] = False,
    evaluation: Annotated[
        bool | None,
        typer.Option(
            help="Put captions and references into the export, so that `rscap verify` can recompute its scores; by "
            "default yes, but for a public upload.",
            show_default=False,
        ),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="The base model of an adapter of another program, if not the one it names.")
    ] = None,
    evaluation_at: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Where captions and references are published instead.")
    ] = None,
) -> None:
    """Export a run for sharing: merged weights or an adapter, compared with the run, with a model card."""
    from rscap.cli.screen import say
    from rscap.exporting.request import ExportRequest
    from rscap.exporting.request import export as carry_out

    request = ExportRequest(
        run=run,
        out=out,
        form="merged" if merge else "adapter",
        dtype=dtype,
        images=images,
        agree=agree,
        push_to=push_to,
        public=public,
        base=base,
        evaluation=evaluation,
        evaluation_at=evaluation_at,
    )
    exported = carry_out(request, say=say)
    for sentence in exported.agreement.sentences():
        say(sentence)
    say(f"written: {exported.path}" + (f"\nonline:  {exported.address}" if exported.address else ""))
