"""Reports from run folders alone: one page, and its score table as CSV, JSON and Markdown.

Nothing here loads a model, reads a data source or reaches the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rscap import __version__
from rscap.reports.formats import check_page, tables_csv, tables_json, tables_markdown
from rscap.reports.load import load_runs
from rscap.reports.origin import PageOrigin, folders_from
from rscap.reports.page import page
from rscap.reports.table import Cell, ScoreRow, ScoreTable, build_table, tables_of
from rscap.store import write_json, write_text

__all__ = ["Cell", "ScoreRow", "ScoreTable", "build_table", "tables_markdown", "write_report"]


def write_report(runs: Sequence[Path], out: Path, *, split: str = "test") -> list[Path]:
    """Write the report page of one or several run folders, with its table as CSV and JSON beside it.

    A report is made from the run folders and may be made again: an earlier one at `out` is replaced.

    Returns:
        The files written: `out` (HTML), and the same name with `.csv` and `.json`.

    Raises:
        StoreError: a path is no run folder, or `out` is not named `*.html`.
    """
    check_page(out)
    loaded = load_runs(runs, split)
    tables = tables_of(loaded, split)
    table_csv, table_json = out.with_suffix(".csv"), out.with_suffix(".json")
    write_json(table_json, tables_json(tables))
    write_text(table_csv, tables_csv(tables))
    origin = PageOrigin(
        kind="runs",
        rscap=__version__,
        folders=folders_from(out, [run.folder.path for run in loaded]),
        labels=tuple(run.label for run in loaded),
        split=split,
    )
    write_text(out, page(loaded, tables, split, origin))
    return [out, table_csv, table_json]
