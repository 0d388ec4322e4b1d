"""Score sheets as tables on standard output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rscap.records import ScoreSheet


def print_sheets(sheets: Mapping[str, ScoreSheet]) -> None:
    """One row a sheet: corpus scores, 95 % interval of CIDEr; then the signatures."""
    from rich.console import Console
    from rich.table import Table

    from rscap.records import METRICS

    shown = [metric for metric in METRICS if any(metric in sheet.corpus for sheet in sheets.values())]
    table = Table(box=None, header_style="bold")
    table.add_column("")
    for metric in shown:
        table.add_column(metric, justify="right")
    table.add_column("CIDEr, 95 %", justify="right")
    table.add_column("n", justify="right")
    for name, sheet in sheets.items():
        low, high = sheet.intervals.get("CIDEr", (float("nan"), float("nan")))
        scores = [f"{sheet.corpus[metric]:.3f}" if metric in sheet.corpus else "–" for metric in shown]
        table.add_row(name, *scores, f"{low:.3f} to {high:.3f}", str(sheet.n))
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    for name, sheet in sheets.items():
        console.print(f"{name}: {sheet.signature}", markup=False, style="dim")
