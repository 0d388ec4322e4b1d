"""`rscap export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
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
) -> None:
    """Export a run for sharing: merged weights or an adapter, compared with the run, with a model card."""
    from rscap.cli.screen import say
    from rscap.exporting.request import Request
    from rscap.exporting.request import export as carry_out

    request = Request(
        run=run,
        out=out,
        form="merged" if merge else "adapter",
        dtype=dtype,
        images=images,
        agree=agree,
        push_to=push_to,
        public=public,
    )
    exported = carry_out(request, say=say)
    for sentence in exported.agreement.sentences():
        say(sentence)
    say(f"written: {exported.path}" + (f"\nonline:  {exported.address}" if exported.address else ""))
