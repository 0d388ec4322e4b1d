"""The training section: curves of the log, time, memory and parameters."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence

from rscap.reports.cells import Line, table
from rscap.reports.html import Html, element, join
from rscap.reports.load import LoadedRun
from rscap.reports.plots import Series, line_chart, smoothed
from rscap.store import PARAMETERS, TrainEvaluation, TrainStep


def training_section(runs: Sequence[LoadedRun]) -> Html | None:
    """Curves and costs of the runs that were trained; None if none was."""
    trained = [(run.colour, run) for run in runs if run.steps or run.evaluations]
    if not trained:
        return None
    said = _evaluation_note(trained)
    charts = [
        _chart("Loss", _loss(trained), "thin: each step; thick: mean of the steps around it"),
        _chart("Validation CIDEr", _evaluated(trained, lambda one: one.metrics.get("CIDEr")), said),
        _chart("Validation loss", _evaluated(trained, lambda one: one.loss), said),
        _chart("Learning rate", _steps(trained, lambda step: step.learning_rate), ""),
        _chart("Captions per second", _steps(trained, lambda step: step.captions_per_s), "", from_zero=True),
    ]
    names = [element("span", element("span", "", class_=f"swatch c{colour}"), run.label) for colour, run in trained]
    return join(
        element("p", *names, class_="legend"),
        element("div", *charts, class_="charts"),
        element("div", *[_facts(run) for _, run in trained], class_="blocks"),
    )


def _chart(title: str, series: Sequence[Series], note: str, *, from_zero: bool = False) -> Html | None:
    drawing = line_chart(series, title=title, from_zero=from_zero)
    if drawing is None:
        return None
    caption = element("figcaption", title, element("span", note, class_="quiet") if note else None)
    return element("figure", caption, drawing)


def _loss(trained: Sequence[tuple[int, LoadedRun]]) -> list[Series]:
    lines = []
    for colour, run in trained:
        points = tuple((float(step.step), _known(step.loss)) for step in run.steps)
        lines.append(Series(label=run.label, points=points, colour=colour, faint=True))
        lines.append(Series(label=run.label, points=smoothed(points), colour=colour))
    return lines


def _steps(trained: Sequence[tuple[int, LoadedRun]], value: Callable[[TrainStep], float | None]) -> list[Series]:
    return [
        Series(
            label=run.label, points=tuple((float(step.step), _known(value(step))) for step in run.steps), colour=colour
        )
        for colour, run in trained
    ]


def _evaluated(
    trained: Sequence[tuple[int, LoadedRun]], value: Callable[[TrainEvaluation], float | None]
) -> list[Series]:
    return [
        Series(
            label=run.label,
            points=tuple((float(one.step), _known(value(one))) for one in run.evaluations),
            colour=colour,
            marked=True,
        )
        for colour, run in trained
    ]


def _evaluation_note(trained: Sequence[tuple[int, LoadedRun]]) -> str:
    found = sorted({(one.split, one.n) for _, run in trained for one in run.evaluations})
    return "; ".join(f"{split} split, n = {n}" for split, n in found)


def _facts(run: LoadedRun) -> Html:
    facts = [
        ("state", run.state),
        ("steps", f"{run.steps[-1].step:,}" if run.steps else ""),
        ("epochs", _plain(run.steps[-1].epoch, "{:.2f}") if run.steps else ""),
        ("duration", duration(run)),
        ("last loss", _plain(run.steps[-1].loss, "{:.3f}") if run.steps else ""),
        ("captions/s, median", _plain(_median(step.captions_per_s for step in run.steps), "{:.1f}")),
        ("images/s, median", _plain(_median(step.images_per_s for step in run.steps), "{:.1f}")),
        ("memory, highest", _memory(run.steps)),
        ("best CIDEr in training", _best(run)),
    ]
    lines = [line for name, value in facts if value for line in (element("dt", name), element("dd", value))]
    return element("div", element("h3", run.label), element("dl", *lines), _parameters(run), class_="block")


def _parameters(run: LoadedRun) -> Html:
    if not run.parameters:
        return element("p", f"no {PARAMETERS}", class_="note")
    rows = [(tower.replace("_", " "), counts.trainable, counts.total) for tower, counts in run.parameters.items()]
    rows.append(("all", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    lines = [
        Line(
            head=name,
            entries=[
                f"{trainable:,}" if trainable else "frozen",
                f"{total:,}",
                f"{trainable / total:.2%}" if trainable and total else "—",
            ],
        )
        for name, trainable, total in rows
    ]
    return table(("trainable", "total", "share"), lines, label=f"parameters of {run.label}")


def duration(run: LoadedRun) -> str:
    """Time from start to end, `1 h 02 min 10 s`; empty if unknown."""
    if run.status is None or run.status.seconds is None:
        return ""
    minutes, rest = divmod(round(run.status.seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _best(run: LoadedRun) -> str:
    scored = [(score, one.step) for one in run.evaluations if (score := one.metrics.get("CIDEr")) is not None]
    return "{:.3f} at step {:,}".format(*max(scored)) if scored else ""


def _memory(steps: Sequence[TrainStep]) -> str:
    known = [step.memory_bytes for step in steps if step.memory_bytes is not None]
    return f"{max(known) / 2**30:.2f} GiB" if known else ""


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return statistics.median(known) if known else None


def _plain(value: float | None, form: str) -> str:
    return form.format(value) if value is not None and math.isfinite(value) else ""


def _known(value: float | None) -> float:
    return math.nan if value is None else value
