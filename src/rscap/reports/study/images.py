"""The image browser of a study's page: its finished runs, its base models and its baselines on the same images."""

from __future__ import annotations

from typing import Any

from rscap.errors import StoreError
from rscap.reports.browser import ImageSet, Pictures, System, browser_data, panel_pictures, pictures_of
from rscap.reports.load import LoadedRun, Scored
from rscap.reports.study.load import LoadedStudy, Untrained
from rscap.reports.study.summary import Summary


def browser_of_study(summary: Summary) -> dict[str, Any] | None:
    """The content of the browser as JSON values, see `browser_data`; None if no run finished."""
    several = any(len(one.row.replicates) > 1 for one in summary.rows)
    runs = [(one.row, each.seed, each.run) for one in summary.rows for each in one.row.finished if each.run is not None]
    systems = [
        System(
            name=f"{row.name} · seed {seed}" if several else row.name,
            kind="run",
            scored=run.scored,
            colour=row.colour,
        )
        for row, seed, run in runs
    ]
    references = next((run.references for _, _, run in runs if run.references), {})
    of_reference = [row.name == summary.study.reference for row, _, _ in runs]
    reference = next((one.name for one, own in zip(systems, of_reference, strict=True) if own), "")
    images = ImageSet(
        references=references,
        systems=[*systems, *map(_untrained, summary.study.untrained)],
        pictures=study_pictures(summary.study, [run for _, _, run in runs]),
    )
    subject = next((one.name for one in systems if one.name != reference), reference)
    return browser_data([images], metric=summary.metric, subject=subject, against=reference)


def _untrained(one: Untrained) -> System:
    return System(
        name=one.name,
        kind="baseline" if one.kind == "baseline" else "untrained",
        scored=Scored(name=one.name, sheet=one.sheet, predictions=one.predictions),
        colour=None if one.kind == "baseline" else 0,
    )


def study_pictures(study: LoadedStudy, runs: list[LoadedRun]) -> Pictures:
    """The pictures that the study keeps, else those that its runs keep.

    A study of rscap 0.1 keeps none, and its runs keep those of their panels.
    """
    try:
        kept = study.folder.thumbnails()
    except StoreError as error:
        return Pictures(_of_panels(runs), f"Only the images of the runs' panels are shown: {error.message}.")
    if kept:
        return Pictures(kept)
    if any(run.folder.thumbnails(study.split).exists() for run in runs):
        return pictures_of(runs)
    return Pictures(
        _of_panels(runs),
        "This study keeps no pictures of its images, so only those of the runs' panels are shown. "
        f"`rscap ablate {study.folder.path}` adds the others where the data are at hand.",
    )


def _of_panels(runs: list[LoadedRun]) -> dict[str, str]:
    return {name: picture for run in reversed(runs) for name, picture in panel_pictures(run).items()}
