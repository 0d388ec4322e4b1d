"""`rscap caption`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


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

    from rscap.cli.screen import say
    from rscap.data import Rejected
    from rscap.evaluate.files import caption_files
    from rscap.evaluate.subject import Subject
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
