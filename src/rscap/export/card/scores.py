"""The scores of a card: every metric with its interval, baselines beside, n and signature below."""

from __future__ import annotations

from collections.abc import Sequence

from rscap.export.card.subject import CardSubject, Scores
from rscap.records import METRICS, ScoreSheet


def scores_section(subject: CardSubject) -> str:
    """A table a split, or the plain statement that nothing was measured."""
    if not subject.scores:
        return "## Scores\n\nThis run was not evaluated: nothing is known of how good its captions are.\n"
    notes = "\n\n".join(filter(None, [_whose(subject)]))
    tables = "\n\n".join(_split(scores) for scores in subject.scores)
    return f"## Scores\n\n{notes}\n\n{tables}\n"


def _whose(subject: CardSubject) -> str:
    """Which weights were scored: never silently others than those that are exported."""
    model = subject.recipe.model
    if subject.form != "adapter" and subject.quantised:
        return (
            f"**Measured on the run as it was trained, with a base model quantised to {model.quantisation}. The "
            "weights here are merged into the unquantised base model: captions, and so scores, can differ.** "
            "How many do is said below."
        )
    if subject.form == "adapter" and subject.quantised:
        return (
            f"Measured with the base model quantised to {model.quantisation}, as the adapter was trained; on an "
            "unquantised base captions, and so scores, can differ."
        )
    if subject.form == "adapter":
        return "Measured on the run, with this adapter on the same base model."
    what = "its adapter was merged" if subject.form == "merged" else "its weights were written here"
    held = model.dtype if subject.form == "merged" else "float32"  # whole towers learn in float32
    rounded = f" and rounded to {subject.dtype}" if subject.dtype not in (held, "float32") else ""
    return f"Measured on the run before {what}{rounded}; how far both agree is said below."


def _split(scores: Scores) -> str:
    sheets = [scores.sheet, *scores.baselines.values()]
    lines = [
        f"**{scores.split}**, n = {scores.sheet.n:,} images{_unscored(scores.sheet)}; in brackets 95 % bootstrap "
        "intervals over images",
        "",
        "| | " + " | ".join(["this model", *scores.baselines]) + " |",
        "|---|" + "---:|" * len(sheets),
        *(_row(metric, sheets) for metric in METRICS if metric in scores.sheet.corpus),
        "",
        f"`{scores.sheet.signature}`",
    ]
    return "\n".join([*lines, *_warning(scores)])


def _row(metric: str, sheets: Sequence[ScoreSheet]) -> str:
    name = "CIDEr-D" if metric == "CIDEr" else metric
    return f"| {name} | " + " | ".join(_cell(sheet, metric) for sheet in sheets) + " |"


def _cell(sheet: ScoreSheet, metric: str) -> str:
    if metric not in sheet.corpus:
        return "—"
    interval = sheet.intervals.get(metric)
    bounds = f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""
    return f"{sheet.corpus[metric]:.3f}{bounds}"


def _unscored(sheet: ScoreSheet) -> str:
    return f", {sheet.unscored} of them without a caption" if sheet.unscored else ""


def _warning(scores: Scores) -> list[str]:
    """Say it where a model is no better than a baseline that understands nothing."""
    ours = scores.sheet.corpus.get("CIDEr")
    above = [name for name, sheet in scores.baselines.items() if ours is not None and sheet.corpus["CIDEr"] >= ours]
    return ["", f"**Its CIDEr-D is not above that of: {', '.join(above)}.**"] if above else []
