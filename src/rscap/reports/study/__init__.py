"""The report of a study, from its folder alone: a page, its table in four formats, and a PDF as in a paper."""

from __future__ import annotations

from pathlib import Path

from rscap import __version__
from rscap.errors import StoreError
from rscap.reports.origin import PageOrigin, folders_from
from rscap.reports.study.formats import study_csv, study_json, study_latex, study_markdown
from rscap.reports.study.load import is_study, load_study
from rscap.reports.study.page import study_page
from rscap.reports.study.paper import write_paper
from rscap.reports.study.summary import Summary, summarise
from rscap.store import REPORT, write_json, write_text

__all__ = ["Summary", "is_study", "load_study", "study_markdown", "summarise", "write_study_report"]


def write_study_report(study: Path, out: Path, *, metric: str = "CIDEr") -> list[Path]:
    """Write the report of a study folder: `out` (HTML), and the same name with .csv, .json, .md, .tex and .pdf.

    Raises:
        StoreError: no study folder, or `out` is not named `*.html`.
        ScoreError: an unknown metric.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise StoreError(f"a report is an HTML page, and {out.name!r} is not named like one", hint=f"--out {REPORT}")
    summary = summarise(load_study(study), metric=metric)
    write_json(out.with_suffix(".json"), study_json(summary))
    write_text(out.with_suffix(".csv"), study_csv(summary))
    write_text(out.with_suffix(".md"), study_markdown(summary))
    write_text(out.with_suffix(".tex"), study_latex(summary))
    write_paper(out.with_suffix(".pdf"), summary)
    origin = PageOrigin(kind="study", rscap=__version__, folders=folders_from(out, [study]), metric=metric)
    write_text(out, study_page(summary, origin))
    return [out, *(out.with_suffix(suffix) for suffix in (".csv", ".json", ".md", ".tex", ".pdf"))]
