"""The table of a study as text cells, and in CSV, JSON, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rscap.escape import for_cell, for_code_span, for_markdown, visible
from rscap.metrics import METRICS, in_order
from rscap.reports.study.load import Untrained
from rscap.reports.study.summary import Cost, Summary, SummaryRow, minutes
from rscap.scoring.comparison import Difference, disagreement, probability

DASH = "—"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the table as text."""

    name: str
    kind: str
    """`row`, `zero-shot` or `baseline`."""
    status: str
    reason: str
    seeds: str
    """`2/3`: finished and planned."""
    scores: dict[str, str]
    interval: str
    """Of the metric that the study is judged by."""
    against: str
    """Difference from the reference with its interval and p-value."""
    verdict: str
    rank: str
    sentence: str
    cost: dict[str, str]


COSTS: dict[str, Callable[[Cost], str]] = {
    "minutes": lambda cost: _number(cost.minutes, "{:.1f}"),
    "captions/s": lambda cost: _number(cost.captions_per_s, "{:.1f}"),
    "peak GiB": lambda cost: _number(cost.peak_bytes / 2**30, "{:.2f}"),
    "trainable": lambda cost: _number(cost.trainable, "{:,.0f}"),
}


def lines(summary: Summary) -> list[Line]:
    """All lines: rows from best to worst, then untrained systems."""
    return [_judged_row(one, summary) for one in summary.rows] + [
        _untrained(one, summary) for one in summary.study.untrained
    ]


def shown_metrics(summary: Summary) -> Sequence[str]:
    """Metrics that any line has, in the usual order."""
    there = dict.fromkeys(metric for one in summary.rows for metric in one.means)
    there |= dict.fromkeys(metric for one in summary.study.untrained for metric in one.sheet.corpus)
    return in_order(there)


def noise_sentence(summary: Summary) -> str:
    """How much scores vary between seeds and images, in words."""
    if summary.judgement is None:
        return f"Not judged: {summary.not_judged}."
    noise, metric = summary.judgement.noise, summary.metric
    images = (
        f"over images, a score has a standard error of {noise.image_error:.3f} and a paired difference one of "
        f"{noise.paired_image_error:.3f} (n = {summary.n:,})"
    )
    if noise.floor is None:
        return f"One seed a row: how much scores vary between seeds is unknown, so nothing is decided; {images}."
    return (
        f"{metric} varies between seeds by {noise.seed_deviation:.3f} (standard deviation, {noise.seed_freedom} "
        f"degrees of freedom); {images}. A true difference from {summary.study.reference} of {noise.floor:.3f} is "
        "detected in four of five studies of this size; smaller ones often are not."
    )


def baseline_sentence(summary: Summary) -> str:
    """Whether any row beats the baselines and the untrained models; empty where none can be compared."""
    if not summary.beside:
        return f"Rows are not compared with baselines: {summary.not_beside}." if summary.not_beside else ""
    rows = list(dict.fromkeys(one.first for one in summary.beside))
    others = list(dict.fromkeys(one.second for one in summary.beside))
    pairs = {(one.first, one.second): one for one in summary.beside}
    winners = [row for row in rows if all(_is_better(pairs[row, other], summary) for other in others)]
    best, best_other = rows[0], others[0]
    found = pairs[best, best_other]
    low, high = found.corrected
    relation = "does not differ significantly from"
    if found.distinguishable:
        relation = "is better than" if _is_better(found, summary) else "is worse than"
    corrected = f"interval and p after Holm's correction for {len(pairs)} comparisons" if len(pairs) > 1 else ""
    seeds = "" if summary.judgement and summary.judgement.noise.seed_freedom else "one seed a row: over images alone"
    told = "; ".join(filter(None, [corrected, seeds]))
    figures = (
        f"{best}, the best row ({summary.metric} {summary.score(best)}), {relation} {best_other} "
        f"({summary.score(best_other)}), {found.difference:+z.3f} [{low:z.3f}, {high:z.3f}], "
        f"{probability(found.p_holm)}{disagreement(found)}{f' ({told})' if told else ''}"
    )
    every = "every baseline" if len(others) > 1 else others[0]
    if not winners:
        verdict = f"No row is better than {every}"
    elif len(winners) == len(rows):
        verdict = f"All {len(rows)} rows are better than {every}" if len(rows) > 1 else f"{best} is better than {every}"
    else:
        verdict = f"{len(winners)} of {len(rows)} rows are better than {every} ({', '.join(winners)})"
    return f"{verdict}: {figures}."


def _is_better(found: Difference, summary: Summary) -> bool:
    return found.distinguishable and (found.difference > 0) == summary.higher_is_better


def _judged_row(one: SummaryRow, summary: Summary) -> Line:
    judged = one.judged
    against = judged.against if judged else None
    return Line(
        name=one.row.name,
        kind="row",
        status=one.row.status,
        reason=one.row.reason,
        seeds=f"{len(one.row.finished)}/{len(one.row.replicates)}",
        scores={metric: _score(value, one.deviations.get(metric)) for metric, value in one.means.items()},
        interval=f"[{judged.interval[0]:.3f}, {judged.interval[1]:.3f}]" if judged else "",
        against=(
            f"{against.difference:+z.3f} [{against.corrected[0]:z.3f}, {against.corrected[1]:z.3f}], "
            f"{probability(against.p_holm)}"
            if against
            else ""
        ),
        verdict=judged.verdict if judged else "",
        rank=_rank(judged.best_rank, judged.worst_rank) if judged else "",
        sentence=judged.sentence if judged else "",
        cost={name: show(one.cost) for name, show in COSTS.items()},
    )


def _untrained(one: Untrained, summary: Summary) -> Line:
    bounds = one.sheet.intervals.get(summary.metric)
    return Line(
        name=one.name,
        kind=one.kind,
        status="finished",
        reason="",
        seeds="",
        scores={metric: _score(value, None) for metric, value in one.sheet.corpus.items()},
        interval=f"[{bounds[0]:.3f}, {bounds[1]:.3f}]" if bounds else "",
        against="",
        verdict="",
        rank="",
        sentence="" if one.sheet.n == summary.n or not summary.n else f"of other images: n = {one.sheet.n:,}",
        cost=dict.fromkeys(COSTS, ""),
    )


def _score(value: float, deviation: float | None) -> str:
    return f"{value:.3f}" if deviation is None else f"{value:.3f} (sd {deviation:.3f})"


def _rank(best: int, worst: int) -> str:
    return str(best) if best == worst else f"{best}–{worst}"


def _number(value: float, form: str) -> str:
    return form.format(value) if math.isfinite(value) else DASH


# CSV, JSON, Markdown and LaTeX.

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "[": "{[}",
    "]": "{]}",
    "–": "--",
    "—": "--",
}


def study_json(summary: Summary) -> dict[str, Any]:
    """All numbers in full precision, with the signature they carry."""
    study = summary.study
    return {
        "name": study.name,
        "metric": summary.metric,
        "reference": study.reference,
        "split": study.split,
        "n": summary.n,
        "signature": summary.signature,
        "noise": asdict(summary.judgement.noise) if summary.judgement else None,
        "not_judged": summary.not_judged,
        "against_baselines": [
            {
                "row": one.first,
                "baseline": one.second,
                "difference": one.difference,
                "interval_corrected": list(one.corrected),
                "p_holm": one.p_holm,
            }
            for one in summary.beside
        ],
        "front": list(summary.front),
        "rows": [_row(one) for one in summary.rows],
        "beside": [
            {
                "name": one.name,
                "kind": one.kind,
                "n": one.sheet.n,
                "scores": dict(one.sheet.corpus),
                "intervals": {metric: list(bounds) for metric, bounds in one.sheet.intervals.items()},
                "signature": one.sheet.signature,
            }
            for one in study.untrained
        ],
        "missing": list(study.missing),
        **({"seen": seen} if (seen := study.seen()) else {}),
    }


def _row(one: SummaryRow) -> dict[str, Any]:
    judged = one.judged
    return {
        "name": one.row.name,
        "status": one.row.status,
        "reason": one.row.reason,
        "differences": dict(one.row.differences),
        "scores": one.means,
        "deviations": one.deviations,
        "judged": _finite(asdict(judged)) if judged else None,
        "cost": _finite(asdict(one.cost)),
        "runs": [
            {
                "seed": run.seed,
                "state": run.state,
                "reason": run.reason,
                "scores": dict(run.run.scored.sheet.corpus) if run.run and run.run.scored.sheet else {},
                "signature": run.run.scored.sheet.signature if run.run and run.run.scored.sheet else "",
            }
            for run in one.row.replicates
        ],
    }


def _finite(value: Any) -> Any:
    """Replace NaN, which JSON does not have, with null."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def study_csv(summary: Summary) -> str:
    """One line for each run and each untrained system, with its scores; for other programs."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    metrics = in_order(dict.fromkeys([*METRICS, *shown_metrics(summary)]))
    writer.writerow(["row", "seed", "state", "reason", "n", *metrics, "minutes", "signature"])
    for one in summary.rows:
        for run in one.row.replicates:
            sheet = run.run.scored.sheet if run.run else None
            scores = [sheet.corpus.get(metric, "") if sheet else "" for metric in metrics]
            facts = [sheet.n, *scores] if sheet else ["", *scores]
            took = minutes(run.run) if run.run else math.nan
            taken = took if math.isfinite(took) else ""
            cells = [one.row.name, run.seed, run.state, run.reason, *facts, taken, sheet.signature if sheet else ""]
            writer.writerow(map(for_cell, cells))
    for other in summary.study.untrained:
        scores = [other.sheet.corpus.get(metric, "") for metric in metrics]
        cells = [other.name, "", other.kind, "", other.sheet.n, *scores, "", other.sheet.signature]
        writer.writerow(map(for_cell, cells))
    return stream.getvalue()


def study_markdown(summary: Summary) -> str:
    """The table as Markdown, with the noise floor and the signature below."""
    metrics = shown_metrics(summary)
    head = ["", "status", "seeds", *metrics, f"{summary.metric} 95 %", "against the reference", "rank", *COSTS]
    body = [_cells(line, metrics) for line in lines(summary)]
    rule = "|---|---|---|" + "---:|" * len(metrics) + "---|---|---|" + "---:|" * len(COSTS)
    table = [_joined(head), rule, *map(_joined, body)]
    texts = [(for_markdown(line.name), line.sentence or line.reason) for line in lines(summary)]
    said = [f"* **{name}**: {for_markdown(text)}" for name, text in texts if text]
    first = [for_markdown(text) for text in (baseline_sentence(summary), noise_sentence(summary)) if text]
    return "\n".join([*table, "", "\n\n".join(first), "", *said, "", for_code_span(summary.signature), ""])


def _cells(line: Line, metrics: Any) -> list[str]:
    status = line.status if line.kind == "row" else line.kind
    scores = [line.scores.get(metric, DASH) for metric in metrics]
    return [
        for_markdown(line.name),
        status,
        line.seeds,
        *scores,
        line.interval,
        line.against,
        line.rank,
        *line.cost.values(),
    ]


def _joined(cells: list[str]) -> str:
    return "| " + " | ".join(visible(cell, one_line=True) for cell in cells) + " |"


def study_latex(summary: Summary) -> str:
    r"""A `table` with booktabs rules: `\usepackage{booktabs}`. Scores of rows are means over seeds."""
    metrics = shown_metrics(summary)
    body = [
        " & ".join(
            _latex(cell)
            for cell in [
                line.name,
                *(line.scores.get(metric, DASH).partition(" ")[0] for metric in metrics),
                line.interval,
                line.rank,
            ]
        )
        + r" \\"
        for line in lines(summary)
        if line.scores
    ]
    head = " & ".join(["", *metrics, rf"{summary.metric} 95\,\%", "Rank"])
    caption = _latex(
        f"{summary.study.name}: {summary.metric} on {summary.n:,} images of the {summary.study.split} split. "
        f"{noise_sentence(summary)} {summary.signature}"
    )
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption}}}",
            rf"\begin{{tabular}}{{l{'r' * len(metrics)}lr}}",
            r"\toprule",
            head + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in visible(text, one_line=True))
