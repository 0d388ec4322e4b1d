"""The commands about results: `rscap report` writes pages, `rscap compare` says whether systems differ, `rscap doctor`
says why a run is bad, or will be.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rscap.doctor import Diagnosis
    from rscap.records import ScoreSheet
    from rscap.scoring import Comparison


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
    split: Annotated[
        str | None, typer.Option(help="The split whose scores of runs are shown, by default test; a study has its own.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="The metric by which a study is judged, by default CIDEr; runs show all.")
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table as Markdown and write nothing.")
    ] = False,
    pdf: Annotated[
        bool | None,
        typer.Option(
            "--pdf/--no-pdf",
            help="Write the PDF of a study's report; by default where fpdf2 is installed.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Compare runs and their baselines, or judge a study, on one HTML page; write its table in other formats too."""
    from rscap.cli.screen import print_path, print_text
    from rscap.errors import StoreError
    from rscap.reports import build_table, tables_markdown, write_report
    from rscap.reports.study import load_study, report_subject, study_markdown, summarise, write_study_report
    from rscap.store import StudyFolder

    subject = report_subject(runs, split, metric)
    if study := subject.study:
        if markdown:
            print_text(study_markdown(summarise(load_study(study), metric=subject.metric)), end="")
            return
        for path in write_study_report(study, out or StudyFolder(study).report_file, metric=subject.metric, pdf=pdf):
            print_path(path)
        return
    if pdf:
        raise StoreError("a report about runs has no PDF", hint="leave --pdf out; a study's report has one")
    if markdown:
        print_text(tables_markdown(build_table(runs, subject.split)), end="")
        return
    for path in write_report(runs, out or _beside(runs), split=subject.split):
        print_path(path)


def _beside(runs: list[Path]) -> Path:
    from rscap.store import RunFolder

    parents = {run.resolve().parent for run in runs}
    folder = runs[0] if len(runs) == 1 else parents.pop() if len(parents) == 1 else Path()
    return RunFolder(folder).report_file


def compare(
    systems: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]SHEET[,SHEET…]…",
            help="Score sheets or run folders, one per system; commas join replicates (seeds) of one system.",
        ),
    ],
    metric: Annotated[str, typer.Option(help="A metric that all sheets have: CIDEr, METEOR, BLEU-4 …")] = "CIDEr",
    split: Annotated[str, typer.Option(help="Which score sheet of a run folder.")] = "test",
    draws: Annotated[int, typer.Option(min=100, help="Resamples of the images, and random swaps.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of both.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the comparison as JSON here.")] = None,
) -> None:
    """Paired comparison on the same images: differences, intervals, p-values, and a plain sentence for each pair."""
    from dataclasses import asdict

    from rscap import scoring
    from rscap.cli.screen import print_json
    from rscap.store import check_outputs, write_json

    given = [path for system in systems for path in system.rpartition("=")[2].split(",")]
    check_outputs(out, inputs=given)
    sheets, names = read_systems(systems, split)
    found = scoring.compare(sheets, metric, systems=names, draws=draws, seed=seed)
    if out:
        write_json(out, asdict(found))
    if json:
        print_json(asdict(found))
    else:
        show(found)


def read_systems(systems: list[str], split: str) -> tuple[dict[str, ScoreSheet], dict[str, str]]:
    """The sheets by path, and the system of each."""
    from rscap.errors import ScoreError
    from rscap.scoring import read_sheet

    sheets: dict[str, ScoreSheet] = {}
    names: dict[str, str] = {}
    for system in systems:
        given, _, paths = system.rpartition("=")
        places = [path for path in paths.split(",") if path]
        if not places:
            raise ScoreError(f"{system!r} names no score sheet")
        for place in places:
            if place in sheets:
                raise ScoreError(f"{place} is given twice")
            sheets[place] = read_sheet(_sheet_file(Path(place), split))
            names[place] = given or _name(places)
    if not any("=" in system for system in systems) and len(set(names.values())) < len(systems):
        names = {place: system for system in systems for place in system.split(",") if place}
    return sheets, names


def _sheet_file(path: Path, split: str) -> Path:
    """A sheet, or the sheet of a run folder."""
    from rscap.errors import ScoreError
    from rscap.store import RunFolder

    if not path.is_dir():
        return path
    run = RunFolder(path)
    file = run.scores(split)
    if not file.is_file():
        known = ", ".join(run.splits()) or "none"
        raise ScoreError(
            f"{path} has no scores for split {split!r}; it has {known}", hint="`rscap evaluate` makes them"
        )
    return file


def _name(places: list[str]) -> str:
    """A run folder's or a file's own name."""
    path = Path(places[0])
    own = path.resolve().name if path.is_dir() else path.stem
    return own if len(places) == 1 else f"{own} and {len(places) - 1} more"


def show(found: Comparison) -> None:
    """Print scores, differences and sentences."""
    from rich.table import Column, Table

    from rscap.cli.screen import interval_text, print_prose, print_table
    from rscap.escape import visible
    from rscap.scoring.comparison import probability

    scores = Table("system", "runs", found.metric, "95 %", "decoding", title=f"{found.n:,} images")
    for system in found.systems:
        figures = (str(system.replicates), f"{system.score:.4f}", interval_text(system.interval, 4))
        scores.add_row(system.name, *figures, system.decode or "not stated")
    print_table(scores)
    table = Table(
        "difference",
        Column(found.metric, no_wrap=True),
        Column("95 %", no_wrap=True),
        "bootstrap",
        "random swaps",
        "Holm",
    )
    for row in found.differences:
        table.add_row(
            f"{row.first} − {row.second}",
            f"{row.difference:+z.3f}",
            interval_text(row.interval, sign="z"),
            *(probability(p) for p in (row.p_bootstrap, row.p_randomisation, row.p_holm)),
        )
    print_table(table)
    for sentence in (*(row.sentence for row in found.differences), *found.notes):
        print_prose(visible(sentence, one_line=True))
    print_prose("|".join(f"{key}:{value}" for key, value in found.conditions.items()), style="dim")


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
    from dataclasses import asdict

    from rscap.cli.screen import print_json
    from rscap.doctor import diagnose

    diagnosis = diagnose(subject, overrides=set_ or [], live=probe)
    if json:
        print_json({"sound": diagnosis.sound, **asdict(diagnosis)})
    else:
        show_findings(diagnosis)
    if not diagnosis.sound:
        raise typer.Exit(1)


def show_findings(diagnosis: Diagnosis) -> None:
    """Findings as paragraphs, then what was not looked at."""
    from rich.table import Table
    from rich.text import Text

    from rscap.cli.screen import screen

    console = screen()
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
