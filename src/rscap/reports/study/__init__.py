"""The report of a study, from its folder alone: a page, its table in four formats, and a PDF as in a paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rscap import __version__
from rscap.errors import StoreError
from rscap.progress import Say, to_stderr
from rscap.reports.formats import check_page
from rscap.reports.origin import PageOrigin, folders_from
from rscap.reports.study.formats import study_csv, study_json, study_latex, study_markdown
from rscap.reports.study.load import is_study, load_study
from rscap.reports.study.page import study_page
from rscap.reports.study.paper import PDF_HINT, can_write_paper, write_paper
from rscap.reports.study.summary import Summary, summarise
from rscap.store import write_json, write_text

__all__ = [
    "ReportSubject",
    "Summary",
    "is_study",
    "load_study",
    "report_subject",
    "study_markdown",
    "summarise",
    "write_study_report",
]


@dataclass(frozen=True, slots=True)
class ReportSubject:
    """What a report is about: one study and the metric that judges it, or runs and the split that is shown."""

    study: Path | None
    split: str
    metric: str


def report_subject(places: Sequence[Path], split: str | None, metric: str | None) -> ReportSubject:
    """Tell a study from runs; None means the usual split and metric.

    Raises:
        StoreError: a split for a study, which has its own, or a metric for runs, whose page shows all.
    """
    study = places[0] if len(places) == 1 and is_study(places[0]) else None
    if study and split is not None:
        raise StoreError(
            f"{study} is a study, and its runs were evaluated on a split of its own",
            hint=f"leave the split {split!r} out",
        )
    if not study and metric is not None:
        raise StoreError(
            f"a report about runs shows all metrics; {metric!r} can only judge a study",
            hint=f"leave it out; `rscap compare RUN RUN --metric {metric}` tests runs by it",
        )
    return ReportSubject(study, split or "test", metric or "CIDEr")


def write_study_report(
    study: Path, out: Path, *, metric: str = "CIDEr", pdf: bool | None = None, say: Say = to_stderr
) -> list[Path]:
    """Write the report of a study folder: `out` (HTML), and the same name with .csv, .json, .md, .tex and .pdf.

    Args:
        pdf: write the PDF; None writes it where fpdf2 is installed and otherwise says how to install it.

    Raises:
        StoreError: no study folder, `out` is not named `*.html`, or a PDF is demanded and fpdf2 is not installed.
        ScoreError: an unknown metric.
    """
    check_page(out)
    summary = summarise(load_study(study), metric=metric)
    write_json(out.with_suffix(".json"), study_json(summary))
    write_text(out.with_suffix(".csv"), study_csv(summary))
    write_text(out.with_suffix(".md"), study_markdown(summary))
    write_text(out.with_suffix(".tex"), study_latex(summary))
    suffixes = [".csv", ".json", ".md", ".tex"]
    if pdf or (pdf is None and can_write_paper()):
        write_paper(out.with_suffix(".pdf"), summary)
        suffixes.append(".pdf")
    elif pdf is None:
        say(f"no PDF, since fpdf2 is not installed: {PDF_HINT}")
    origin = PageOrigin(kind="study", rscap=__version__, folders=folders_from(out, [study]), metric=metric)
    write_text(out, study_page(summary, origin))
    return [out, *(out.with_suffix(suffix) for suffix in suffixes)]
