"""The data of the page's image browser: every image with its references, captions, scores and thumbnail."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from rscap.errors import ImageError, StoreError
from rscap.records import Example
from rscap.reports.figure import jpeg_address, thumbnail
from rscap.reports.load import LoadedRun
from rscap.reports.study.load import LoadedStudy
from rscap.reports.study.summary import Summary
from rscap.scoring import degenerate
from rscap.store import Thumbnail

THUMBNAIL_PX = 112
THUMBNAIL_QUALITY = 68


def browser_data(summary: Summary) -> dict[str, Any]:
    """The content of the browser as JSON values: names of runs, and one entry for each image.

    `captions`, `scores` and `flags` of an image are lists in the order of `runs`.
    """
    runs = _runs(summary)
    references = next((run.references for _, run in runs if run.references), {})
    shown, note = pictures(summary.study)
    others = summary.study.untrained
    return {
        "metric": summary.metric,
        "reference": summary.study.reference,
        "runs": [name for name, _ in runs] + [one.name for one in others],
        "note": note,
        "images": [
            {
                "id": example_id,
                "source": own.source,
                "class": own.scene_class or "",
                "references": list(own.captions),
                "picture": shown.get(example_id, ""),
                "captions": [_caption(run, example_id) for _, run in runs]
                + [one.captions.get(example_id) for one in others],
                "scores": [_score(run, example_id, summary.metric) for _, run in runs]
                + [_rounded(one.sheet.items.get(example_id, {}).get(summary.metric)) for one in others],
                "flags": [_flags(run, example_id) for _, run in runs] + [[] for _ in others],
            }
            for example_id, own in references.items()
        ],
    }


def _runs(summary: Summary) -> list[tuple[str, LoadedRun]]:
    """Finished runs, by row from best to worst."""
    several = any(len(one.row.replicates) > 1 for one in summary.rows)
    return [
        (f"{one.row.name} · seed {each.seed}" if several else one.row.name, each.run)
        for one in summary.rows
        for each in one.row.finished
        if each.run is not None
    ]


def _caption(run: LoadedRun, example_id: str) -> str | None:
    found = run.scored.predictions.get(example_id)
    return found.caption if found else None


def _score(run: LoadedRun, example_id: str, metric: str) -> float | None:
    items: Mapping[str, Mapping[str, float]] = run.scored.sheet.items if run.scored.sheet else {}
    return _rounded(items.get(example_id, {}).get(metric))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _flags(run: LoadedRun, example_id: str) -> list[str]:
    found = run.scored.predictions.get(example_id)
    if found is None:
        return ["unscored"]
    return [*degenerate(found.caption, found.prefix), *(["cut short"] if found.stopped == "length" else [])]


def thumbnails(examples: Iterable[Example]) -> Iterator[Thumbnail]:
    """Small pictures of evaluation images, for a study to keep; an image that cannot be decoded is omitted."""
    for example in examples:
        with suppress(ImageError):
            small = thumbnail(example.image.load(), THUMBNAIL_PX, quality=THUMBNAIL_QUALITY)
            yield Thumbnail(id=example.id, jpeg=base64.b64encode(small).decode("ascii"))


def pictures(study: LoadedStudy) -> tuple[dict[str, str], str]:
    """Small pictures of the evaluation images as data URLs, by id, and a note if some are missing.

    They are those that the study keeps. A study of rscap 0.1 keeps none; then the panels of its runs are used.
    """
    try:
        kept = study.folder.thumbnails()
    except StoreError as error:
        return _panels(study), f"Only the images of the runs' panels are shown: {error.message}."
    if kept:
        return {name: f"data:image/jpeg;base64,{jpeg}" for name, jpeg in kept.items()}, ""
    return _panels(study), (
        "This study keeps no pictures of its images, so only those of the runs' panels are shown. "
        f"`rscap ablate {study.folder.path}` adds the others where the data are at hand."
    )


def _panels(study: LoadedStudy) -> dict[str, str]:
    from PIL import Image

    found: dict[str, str] = {}
    panels = [replicate.run.panel for row in study.rows for replicate in row.finished if replicate.run]
    for one in (one for panel in panels for one in panel):
        if one.example_id not in found and one.path.is_file():
            with Image.open(one.path) as image:
                found[one.example_id] = jpeg_address(
                    thumbnail(image.convert("RGB"), THUMBNAIL_PX, quality=THUMBNAIL_QUALITY)
                )
    return found
