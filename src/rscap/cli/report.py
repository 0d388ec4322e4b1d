"""`rscap report RUN…`: one page about run folders, or about a study, with its table in other formats."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN|STUDY", help="Run folders, in the order of the table, or the folder of one study."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="The page to write, named .html; by default in the run folder, or in the folder of all the runs.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="The split whose scores are shown; a study has its own.")] = "test",
    metric: Annotated[str, typer.Option(help="The metric by which a study is judged.")] = "CIDEr",
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table as Markdown and write nothing.")
    ] = False,
) -> None:
    """Compare runs and their baselines, or judge a study, on one HTML page; write its table in other formats too."""
    from rscap.reports import build_table, tables_markdown, write_report
    from rscap.reports.study import is_study, load_study, study_markdown, summarise, write_study_report
    from rscap.store import StudyFolder

    if len(runs) == 1 and is_study(runs[0]):
        if markdown:
            typer.echo(study_markdown(summarise(load_study(runs[0]), metric=metric)), nl=False)
            return
        for path in write_study_report(runs[0], out or StudyFolder(runs[0]).report_file, metric=metric):
            typer.echo(path)
        return
    if markdown:
        typer.echo(tables_markdown(build_table(runs, split)), nl=False)
        return
    for path in write_report(runs, out or _beside(runs), split=split):
        typer.echo(path)


def _beside(runs: list[Path]) -> Path:
    from rscap.store import RunFolder

    parents = {run.resolve().parent for run in runs}
    folder = runs[0] if len(runs) == 1 else parents.pop() if len(parents) == 1 else Path()
    return RunFolder(folder).report_file
