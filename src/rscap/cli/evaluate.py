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
    from rscap.cli.screen import print_sheets, progress, say
    from rscap.evaluation.request import Request, plan
    from rscap.evaluation.request import evaluate as carry_out

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


# `rscap caption`.


def caption(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE…", help="Image files.")],
    model: Annotated[str, typer.Option(help="A run folder or a base model.")],
    prefix: Annotated[str | None, typer.Option(help="The words before the caption; by default as in training.")] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"], typer.Option(help="Precision of a base model.")
    ] = "bfloat16",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="GENERATE.B=C", help="Decode differently: generate.beams=3; may be repeated."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line in place of text.")] = False,
) -> None:
    """Caption image files; captions go to standard output, one image a line."""
    import json as encode

    from rscap.captioner.loading import Subject, caption_files
    from rscap.cli.screen import say
    from rscap.data import Rejected
    from rscap.store import prediction_row

    failed = False
    subject = Subject.of(model, prefix=prefix, dtype=dtype, changes=set_ or ())
    for item in caption_files(subject, images, say=say):
        if isinstance(item, Rejected):
            failed = True
            say(f"error: {item.reason}")
        elif json:
            typer.echo(encode.dumps(prediction_row(item), ensure_ascii=False))
        else:
            typer.echo(f"{item.example_id}\t{' '.join(item.caption.split())}")
    if failed:
        raise typer.Exit(1)
