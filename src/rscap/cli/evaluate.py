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
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many images; a hash chooses them.")] = None,
    prefix: Annotated[str | None, typer.Option(help="The words before the caption; by default as in training.")] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option(help="Precision of a base model, by default what the card computes best; a run keeps its own."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="GENERATE.B=C", help="Decode differently: generate.beams=3; may be repeated."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder of the result; by default the run folder for the run's own data, else a new one in runs/."
        ),
    ] = None,
    max_rejected_share: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Share of images that may be unreadable; by default as in the run."),
    ] = None,
    baselines: Annotated[
        bool, typer.Option(help="Also score the constant caption and the nearest training image.")
    ] = True,
    allow_seen: Annotated[
        bool, typer.Option("--allow-seen", help="Also score images that the run was trained on; the score is marked.")
    ] = False,
) -> None:
    """Caption a split, write the predictions and score them, and two baselines that need no model."""
    from rscap.cli.screen import print_sheets, progress, say
    from rscap.evaluation.request import Request, prepare
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
        max_rejected_share=max_rejected_share,
        baselines=baselines,
        allow_seen=allow_seen,
        changes=tuple(set_ or ()),
    )
    task = prepare(request)
    with progress(f"captions ({split})") as bar:
        run, sheets = carry_out(task, progress=bar, say=say)
    print_sheets(sheets)
    say(f"written: {run.scores(split)}\nnext:    rscap report {run.path}")


# `rscap caption`.


def caption(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Image files.")],
    model: Annotated[str, typer.Option(help="A run folder or a base model.")],
    prefix: Annotated[str | None, typer.Option(help="The words before the caption; by default as in training.")] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option(help="Precision of products; by default a run's own, and what the card computes best for a base."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="GENERATE.B=C", help="Decode differently: generate.beams=3; may be repeated."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON Lines, one object per image.")] = False,
) -> None:
    """Caption image files; captions go to standard output, one line per image."""
    import json as encode

    from rscap.captioner import ModelRef
    from rscap.cli.screen import say
    from rscap.records import Rejected
    from rscap.store import prediction_row

    failed = False
    captioner = ModelRef.of(model, prefix=prefix, dtype=dtype, changes=set_ or ()).load()
    for item in captioner.stream(images, errors="keep"):
        if isinstance(item, Rejected):
            failed = True
            say(f"error: {item.reason}")
        elif json:
            typer.echo(encode.dumps(prediction_row(item), ensure_ascii=False))
        else:
            typer.echo(f"{item.example_id}\t{' '.join(item.caption.split())}")
    if failed:
        raise typer.Exit(1)
