"""`rscap doctor`: why is this run bad, or why will it be?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rscap.doctor import Diagnosis


def doctor(
    subject: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|RECIPE", help="A run folder, a recipe, or a folder with the files of another program's run."
        ),
    ],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override a key of the recipe; may be repeated.")
    ] = None,
    probe: Annotated[
        bool, typer.Option(help="Load the base model and the data and measure; --no-probe reads files only.")
    ] = True,
    json: Annotated[bool, typer.Option("--json", help="Print the diagnosis as JSON.")] = False,
) -> None:
    """Find out why a run is bad, or why a recipe would be; exit code 1 if there is an error, 0 otherwise."""
    from rscap.doctor import diagnose

    diagnosis = diagnose(subject, overrides=set_ or [], live=probe)
    if json:
        print_json(diagnosis)
    else:
        show(diagnosis)
    if not diagnosis.sound:
        raise typer.Exit(1)


def print_json(diagnosis: Diagnosis) -> None:
    """The diagnosis as one JSON object on standard output."""
    from dataclasses import asdict
    from json import dumps

    typer.echo(dumps({"sound": diagnosis.sound, **asdict(diagnosis)}, indent=2, ensure_ascii=False))


def show(diagnosis: Diagnosis) -> None:
    """Findings as paragraphs, then what was not looked at."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    for finding in diagnosis.findings:
        style = "bold red" if finding.severity == "error" else "bold yellow"
        heading = ((f"{finding.severity}: ", style), (finding.title, "bold"), (f"  [{finding.code}]", "dim"))
        console.print(Text.assemble(*heading))
        lines = Table.grid(padding=(0, 1, 0, 2))
        lines.add_column(style="dim")
        lines.add_column(overflow="fold")  # names of weights are long, and a cut one tells nothing
        for label in ("evidence", "where", "why", "cure"):
            lines.add_row(label, Text(getattr(finding, label)))
        console.print(lines)
        console.print()
    console.print(Text(_summary(diagnosis), style="bold"))
    for name, reason in diagnosis.not_looked_at.items():
        console.print(Text(f"not looked at: {name} ({reason})", style="dim"))


def _summary(diagnosis: Diagnosis) -> str:
    counts = {
        severity: sum(finding.severity == severity for finding in diagnosis.findings)
        for severity in ("error", "warning")
    }
    named = [f"{count} {severity}{'s' * (count > 1)}" for severity, count in counts.items() if count]
    return f"{diagnosis.subject}: {', '.join(named) or 'nothing found'}"
