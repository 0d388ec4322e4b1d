"""Every image with its references and what each run said: data for the page's browser, and the thumbnails."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

from rscap.data import open_source
from rscap.errors import RscapError
from rscap.reports.load import LoadedRun
from rscap.reports.study.load import Study
from rscap.reports.study.summary import Summary
from rscap.scoring import degenerate

THUMBNAIL_PX = 112


def browser_data(summary: Summary) -> dict[str, Any]:
    """What the browser shows, as JSON values: runs by name, and one entry an image.

    `captions`, `scores` and `flags` of an image are lists in the order of `runs`.
    """
    runs = _runs(summary)
    references = next((run.references for _, run in runs if run.references), {})
    pictures, note = thumbnails(summary.study, list(references))
    others = summary.study.beside
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
                "picture": pictures.get(example_id, ""),
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
    """Finished runs, the rows from the best to the worst."""
    several = any(len(one.row.runs) > 1 for one in summary.rows)
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


def thumbnails(study: Study, ids: list[str]) -> tuple[dict[str, str], str]:
    """Small pictures of the evaluation images as data URLs, by id, and what to say where there are none.

    They come from the data set that the plan names, or where that is out of reach from the panels of the runs.
    """
    wanted = set(ids)
    try:
        source = open_source(
            str(study.evaluation["source"]), split_scheme=str(study.evaluation["splits"]), check="none"
        )
        found = {one.id: one.image for one in source.split(study.split) if one.id in wanted}
        return {name: _small(image.load()) for name, image in found.items()}, ""
    except (RscapError, KeyError, OSError) as error:
        message = error.message if isinstance(error, RscapError) else str(error)
        return _panel(study), f"Pictures are those of the panel alone, since the data set cannot be read: {message}"


def _panel(study: Study) -> dict[str, str]:
    from PIL import Image

    pictures: dict[str, str] = {}
    for row in study.rows:
        for run in row.finished:
            for one in run.run.panel if run.run else ():
                if one.example_id not in pictures and one.path.is_file():
                    with Image.open(one.path) as image:
                        pictures[one.example_id] = _small(image.convert("RGB"))
    return pictures


def _small(image: Any) -> str:
    image = image.copy()
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=68)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
