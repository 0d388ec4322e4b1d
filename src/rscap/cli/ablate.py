"""`rscap ablate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from rscap.ablation.plan import PlannedRow
    from rscap.ablation.runner import RowStatus, StudyStatus


def ablate(
    study: Annotated[
        Path,
        typer.Argument(
            metavar="STUDY",
            help="A study: a TOML file, the name of one that ships with rscap, or the folder of a study.",
        ),
    ],
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="A.B=C",
            help="Override a key of the study (budget.steps=30, 'seeds=[0,1]') or, for all rows, of the recipe.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The study folder; runs/<name> by default.")] = None,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="This machine, or a Ray cluster (RAY_ADDRESS, or one started here).")
    ] = "local",
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time; by default one per GPU, or one per core and at most 4.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads per run; by default the cores divided by the runs at a time.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(metavar="ROW", help="Run only this row; may be repeated.")] = None,
    plan_only: Annotated[bool, typer.Option("--plan-only", "--dry-run", help="Print the plan and stop.")] = False,
) -> None:
    """Run or resume an ablation study: one base recipe, what varies, the seeds, a budget, and the same images for all.

    Finished runs are kept and the others are run, also after a stop or a crash. A run that failed or was cut off counts
    nowhere. Exit code 0 if every row is finished, 1 otherwise.
    """
    from rscap.ablation.plan import make_plan
    from rscap.ablation.runner import StudyStatus
    from rscap.ablation.study import read_study
    from rscap.store import StudyFolder

    file, folder = (StudyFolder(study).study_file, study) if study.is_dir() else (study, None)
    checked = read_study(file, set_ or [])
    plan = make_plan(checked)  # before anything heavy is imported: a typo should not cost seconds
    place = StudyStatus(plan, StudyFolder(out or folder or Path("runs") / plan.name))
    _print_plan(place)

    from rscap.ablation.engines import build_engine
    from rscap.ablation.runner import carry_out, duration, estimate
    from rscap.cli.screen import say

    built, width = build_engine(engine, at_once=jobs, threads=threads)
    todo = place.missing(threads=width, only=only or ())
    seconds = estimate(todo, place.folder.attempts(), built.at_once)
    time = f"about {duration(seconds)}" if seconds is not None else "time unknown until a run has finished"
    say(f"{place.folder.path}: {len(todo)} jobs to run, {built.at_once} at a time with {width} threads each; {time}")
    if plan_only:
        return
    say(f"logs of the runs: {place.folder.logs}")
    try:
        carry_out(checked, plan, place.folder, built, todo, say=say)
    except KeyboardInterrupt:
        print_table(place)
        say(f"stopped; continue with: rscap ablate {place.folder.path}")
        raise typer.Exit(130) from None
    lines = print_table(place)
    _print_verdicts(place)
    finished = all(line.progress == "finished" for line in lines)
    say(
        f"next: rscap report {place.folder.path}"
        if finished
        else f"not finished; continue with: rscap ablate {place.folder.path}"
    )
    raise typer.Exit(0 if finished else 1)


def _print_plan(place: StudyStatus) -> None:
    plan = place.plan
    evaluation = plan.evaluation
    table = _table("row", "differs from the base in", "runs", "finished")
    finished = {part.folder for part in place.parts() if part.found.state == "finished"}
    for row in plan.rows:
        done = sum(run.folder in finished for run in row.runs)
        table.add_row(row.name, _differences(row), str(len(row.runs)), "excluded" if row.excluded else str(done))
    _print(table)
    words = evaluation.prefix or "that of each row"
    images = f"{evaluation.limit} images" if evaluation.limit else "all images"
    _print(f"evaluated on {images} of {evaluation.source}, {evaluation.split} ({evaluation.splits}); prompt: {words}")


def _differences(row: PlannedRow) -> str:
    parts = [f"{key} = {value}" if value is not None else f"no {key}" for key, value in row.differences.items()]
    return "; ".join(parts)


def print_table(place: StudyStatus) -> list[RowStatus]:
    """How far every row is, with its score; the baselines in lines of their own."""
    from rscap.store import BASELINES

    lines = place.table()
    table = _table("row", "status", "finished", "CIDEr, mean of seeds", "reason")
    for line in lines:
        scored = (
            {name: (name,) for name in place.plan.baselines} if line.name == BASELINES else {line.name: line.folders}
        )
        for name, folders in scored.items():
            table.add_row(name, line.progress, f"{line.finished}/{line.total}", _cider(place, folders), line.reason)
    for row in place.plan.rows:
        if row.excluded:
            table.add_row(row.name, "excluded", "–", "–", row.excluded)
    _print(table)
    return lines


def _print_verdicts(place: StudyStatus) -> None:
    """Which differences are significant, in the words of the study's report."""
    from rscap.reports.study import load_study, summarise
    from rscap.reports.study.formats import noise_sentence

    summary = summarise(load_study(place.folder.path))
    _print(noise_sentence(summary))
    for row in summary.judgement.rows if summary.judgement else ():
        _print(f"{row.name}: {row.sentence}")


def _cider(place: StudyStatus, folders: Sequence[str]) -> str:
    """The mean over the score sheets that are there."""
    from rscap.store import read_sheet

    sheets = [place.folder.run(folder).scores(place.plan.evaluation.split) for folder in folders]
    scores = [
        score for sheet in sheets if sheet.is_file() if (score := read_sheet(sheet).corpus.get("CIDEr")) is not None
    ]
    return f"{sum(scores) / len(scores):.3f}" if scores else "–"


def _table(*columns: str) -> Any:
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "row")
    return table


def _print(what: Any) -> None:
    from rscap.cli.screen import screen

    screen().print(what)
