"""`rscap report RUN…`: one page about run folders, with its table as CSV and JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Run folders, in the order of the table.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="The page to write; by default report.html in the run folder, or in the folder of all the runs.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="The split whose scores are shown.")] = "test",
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table as Markdown and write nothing.")
    ] = False,
) -> None:
    """Compare runs and their baselines in one HTML page, with the table as CSV and JSON beside it."""
    from rscap.report import build_table, tables_markdown, write_report

    if markdown:
        typer.echo(tables_markdown(build_table(runs, split)), nl=False)
        return
    for path in write_report(runs, out or _beside(runs), split=split):
        typer.echo(path)


def _beside(runs: list[Path]) -> Path:
    parents = {run.resolve().parent for run in runs}
    folder = runs[0] if len(runs) == 1 else parents.pop() if len(parents) == 1 else Path()
    return folder / "report.html"
