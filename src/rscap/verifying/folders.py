"""The score sheets of a run, of an evaluation and of a study."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rscap.errors import StoreError
from rscap.scoring import read_sheet
from rscap.scoring.protocol import data_digest
from rscap.store import STATUS, RunFolder, StudyFolder, read_references
from rscap.verifying.differences import Protocol
from rscap.verifying.sheets import SheetFiles, check_sheet


def check_run(run: RunFolder, protocol: Protocol, *, split: str | None = None, under: str = "") -> None:
    """Recompute the sheets of a run and of its baselines.

    Args:
        split: one split alone; by default all that have a sheet.
        under: what goes before the names of its files.

    Raises:
        StoreError: there is no score, or a file that it follows from is missing or damaged.
    """
    splits = run.splits() if split is None else [split]
    if not any(run.scores(one).is_file() for one in splits):
        raise StoreError(
            f"{run.path} has no scores" + (f" for the {split} split" if split else ""),
            hint=f"`rscap evaluate {run.path}` makes them",
        )
    if run.exists and (state := run.status().state) != "finished":
        protocol.skip(f"{under}{STATUS} says {state}: these scores are not its last word")
    for one in splits:
        for folder in (run, *run.baselines()):
            if folder.scores(one).is_file():
                inside = folder.path.relative_to(run.path).as_posix().removeprefix(".")
                name = f"{under}{f'{inside}/' if inside else ''}{_short(folder.scores(one))}"
                check_sheet(_files(folder, one, run.references(one)), protocol, name)


def _files(folder: RunFolder, split: str, references: Path) -> SheetFiles:
    own = folder.references(split)
    return SheetFiles(
        sheet=folder.scores(split),
        predictions=folder.predictions(split),
        references=own if own.is_file() else references,
        own_references=own.is_file(),
    )


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def check_study(study: StudyFolder, protocol: Protocol) -> None:
    """Recompute the sheets of all finished runs of a study, of its base model and of its baselines.

    Raises:
        StoreError: the plan is damaged, nothing is finished, or a file that a score follows from is missing or damaged.
    """
    plan, split = study.plan(), study.plan().split
    runs = [study.run(run.folder) for row in plan.rows for run in row.runs]
    runs = [run for run in runs if run.state(split).state == "finished"]
    asked = [study.run(one.folder) for one in plan.zero_shot]
    scored = [folder for folder in [*runs, *asked] if folder.scores(split).is_file()]
    if not scored:
        raise StoreError(f"{study.path} has no finished run", hint=f"`rscap ablate {study.path}` resumes it")
    for folder in scored:
        name = f"{folder.path.relative_to(study.path).as_posix()}/{_short(folder.scores(split))}"
        check_sheet(_files(folder, split, folder.references(split)), protocol, name)
    for folder in (study.run(name) for name in plan.baselines):
        if folder.scores(split).is_file():
            name = f"{folder.path.relative_to(study.path).as_posix()}/{_short(folder.scores(split))}"
            check_sheet(_files(folder, split, _references_of(folder, split, scored)), protocol, name)


def _references_of(baseline: RunFolder, split: str, others: list[RunFolder]) -> Path:
    """The references of a baseline are those of a run of the same images."""
    wanted = read_sheet(baseline.scores(split)).extra.get("data")
    for path in _kept(others, split):
        known = {name: one.captions for name, one in read_references(path).items()}
        if data_digest(known) == wanted:
            return path
    return others[0].references(split)


def _kept(folders: list[RunFolder], split: str) -> Iterator[Path]:
    return (path for folder in folders if (path := folder.references(split)).is_file())
