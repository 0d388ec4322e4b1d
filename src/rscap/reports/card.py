"""The scores of a model card: a table for each split, with intervals, baselines, n, signature and warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rscap.escape import for_code_span, for_markdown
from rscap.metrics import in_order, known
from rscap.records import ScoreSheet
from rscap.scoring import SEEN, column_of, seen_sentences
from rscap.store import BASELINE_LABELS, RunFolder, read_sheet


@dataclass(frozen=True, slots=True, kw_only=True)
class CardScores:
    """The scores of one split: of the run, and of the baselines beside it by the name a table prints."""

    split: str
    sheet: ScoreSheet
    baselines: Mapping[str, ScoreSheet]


def read_card_scores(run: RunFolder, split: str) -> CardScores:
    """The sheets of a split.

    Raises:
        StoreError: one of them is missing or damaged; names it.
    """
    beside = {
        BASELINE_LABELS.get(folder.name, folder.name): read_sheet(folder.scores(split))
        for folder in run.baselines()
        if folder.scores(split).is_file()
    }
    return CardScores(split=split, sheet=read_sheet(run.scores(split)), baselines=beside)


def score_lines(scores: CardScores) -> list[str]:
    """The lines of one table, of Markdown."""
    sheets = [scores.sheet, *scores.baselines.values()]
    return [
        f"**{scores.split}**, n = {scores.sheet.n:,} images{_unscored(scores.sheet)}; in brackets 95 % bootstrap "
        "intervals over images",
        "",
        "| | " + " | ".join(["this model", *map(for_markdown, scores.baselines)]) + " |",
        "|---|" + "---:|" * len(sheets),
        *(_row(metric, sheets) for metric in in_order(scores.sheet.corpus)),
        "",
        for_code_span(scores.sheet.signature),
        *_warnings(scores),
    ]


def _row(metric: str, sheets: Sequence[ScoreSheet]) -> str:
    line = known(metric)
    name = (line and line.quoted_as) or column_of(sheets[0], metric)
    return f"| {for_markdown(name)} | " + " | ".join(_cell(sheet, metric) for sheet in sheets) + " |"


def _cell(sheet: ScoreSheet, metric: str) -> str:
    if metric not in sheet.corpus:
        return "—"
    interval = sheet.intervals.get(metric)
    bounds = f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""
    return f"{sheet.corpus[metric]:.3f}{bounds}"


def _unscored(sheet: ScoreSheet) -> str:
    return f", {sheet.unscored} of them without a caption" if sheet.unscored else ""


def _warnings(scores: CardScores) -> list[str]:
    """Warnings if the model has seen images that it is scored on, or is not above a baseline."""
    seen = seen_sentences(scores.sheet.extra.get(SEEN))
    lines = [line for text in seen for line in ("", f"**This model {text}.**")]
    ours = scores.sheet.corpus.get("CIDEr")
    above = [name for name, sheet in scores.baselines.items() if ours is not None and sheet.corpus["CIDEr"] >= ours]
    return [*lines, *(["", f"**Its CIDEr-D is not above that of: {', '.join(above)}.**"] if above else [])]
