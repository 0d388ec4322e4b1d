"""A study's table as CSV, JSON, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import asdict
from typing import Any

from rscap.records import METRICS
from rscap.report.study.cells import COSTS, DASH, Line, lines, noise_sentence, shown_metrics
from rscap.report.study.summary import Summary, SummaryRow, minutes

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
            for one in study.beside
        ],
        "missing": list(study.missing),
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
            for run in one.row.runs
        ],
    }


def _finite(value: Any) -> Any:
    """NaN, which JSON has not, as null."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def study_csv(summary: Summary) -> str:
    """One line a run, with the scores of that run, and one for everything beside; for other programs."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["row", "seed", "state", "reason", "n", *METRICS, "minutes", "signature"])
    for one in summary.rows:
        for run in one.row.runs:
            sheet = run.run.scored.sheet if run.run else None
            scores = [sheet.corpus.get(metric, "") if sheet else "" for metric in METRICS]
            facts = [sheet.n, *scores] if sheet else ["", *scores]
            took = minutes(run.run) if run.run else math.nan
            taken = took if math.isfinite(took) else ""
            writer.writerow(
                [one.row.name, run.seed, run.state, run.reason, *facts, taken, sheet.signature if sheet else ""]
            )
    for other in summary.study.beside:
        scores = [other.sheet.corpus.get(metric, "") for metric in METRICS]
        writer.writerow([other.name, "", other.kind, "", other.sheet.n, *scores, "", other.sheet.signature])
    return stream.getvalue()


def study_markdown(summary: Summary) -> str:
    """The table as Markdown, with the noise floor and the signature below."""
    metrics = shown_metrics(summary)
    head = ["", "status", "seeds", *metrics, f"{summary.metric} 95 %", "against the reference", "rank", *COSTS]
    body = [_cells(line, metrics) for line in lines(summary)]
    rule = "|---|---|---|" + "---:|" * len(metrics) + "---|---|---|" + "---:|" * len(COSTS)
    table = [_joined(head), rule, *map(_joined, body)]
    said = [
        f"* **{line.name}**: {line.sentence or line.reason}" for line in lines(summary) if line.sentence or line.reason
    ]
    return "\n".join([*table, "", noise_sentence(summary), "", *said, "", f"`{summary.signature}`", ""])


def _cells(line: Line, metrics: Any) -> list[str]:
    status = line.status if line.kind == "row" else line.kind
    scores = [line.scores.get(metric, DASH) for metric in metrics]
    return [line.name, status, line.seeds, *scores, line.interval, line.against, line.rank, *line.cost.values()]


def _joined(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


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
    return "".join(_LATEX.get(character, character) for character in text)
