"""`rscap evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="RUN|BASE", help="A run folder, or a base model for a zero-shot baseline.")
    ],
    source: Annotated[str | None, typer.Option(help="Data to evaluate on; by default the run's own.")] = None,
    splits: Annotated[str | None, typer.Option(help="How the source is split; by default as in the run.")] = None,
    split: Annotated[str, typer.Option(help="Which split.")] = "test",
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many images, chosen by a hash.")] = None,
    prefix: Annotated[str | None, typer.Option(help="The words before the caption; by default as in training.")] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"], typer.Option(help="Precision of a zero-shot base model.")
    ] = "bfloat16",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="GENERATE.B=C", help="Decode differently: generate.beams=3; may be repeated."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where the result goes; the run folder itself when it is the run's own data.")
    ] = None,
    baselines: Annotated[bool, typer.Option(help="Score the constant caption and the nearest image beside it.")] = True,
) -> None:
    """Caption a split, write the predictions, score them; baselines that need no model are scored beside it."""
    from rscap.cli.screen import progress, say
    from rscap.cli.tables import print_sheets
    from rscap.evaluate.request import Request, plan
    from rscap.evaluate.request import evaluate as carry_out

    request = Request(
        model=model,
        source=source,
        splits=splits,
        split=split,
        limit=limit,
        prefix=prefix,
        dtype=dtype,
        out=out,
        baselines=baselines,
        changes=tuple(set_ or ()),
    )
    planned = plan(request)
    with progress(f"captions ({split})") as bar:
        run, sheets = carry_out(planned, progress=bar, say=say)
    print_sheets(sheets)
    say(f"written: {run.scores(split)}\nnext:    rscap report {run.path}")
