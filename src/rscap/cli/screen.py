"""What commands share on the screen: messages and progress on standard error, data on standard output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rscap.escape import for_json, visible
from rscap.progress import ProgressBar, screen, to_stderr

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

    from rscap.records import ScoreSheet

say, progress = to_stderr, ProgressBar


def print_json(value: Any) -> None:
    """One JSON object on standard output."""
    from json import dumps

    print(for_json(dumps(value, indent=2, ensure_ascii=False, allow_nan=False)))


def print_text(text: str, *, end: str = "\n") -> None:
    """Text on standard output; control characters in it are shown and do nothing."""
    print(visible(text), end=end)


def print_path(path: Path) -> None:
    """The path of a file that was written, on one line of standard output."""
    print(visible(str(path), one_line=True))


# Score sheets as tables on standard output.

_ANY_WIDTH = 1_000


def print_sheets(sheets: Mapping[str, ScoreSheet]) -> None:
    """One row a sheet: corpus scores, 95 % interval of CIDEr; then the signatures.

    No cell is ever cut. A terminal too narrow for every metric leaves out BLEU-2 and BLEU-3, with a note; a file or a
    pipe gets them all.
    """
    from rscap.metrics import TABLE

    console = screen(soft_wrap=True, width=_ANY_WIDTH, height=_ANY_WIDTH)  # both, or neither holds
    shown = [line.name for line in TABLE if any(line.name in sheet.corpus for sheet in sheets.values())]
    kept = shown
    if console.is_terminal and console.measure(_table(sheets, shown)).maximum > screen().width:
        kept = [line.name for line in TABLE if line.name in shown and line.place != "wide"]
    console.print(_table(sheets, kept))
    if left_out := [metric for metric in shown if metric not in kept]:
        note = f"{' and '.join(left_out)} do not fit here; they are in the score sheets and in a wider terminal"
        console.print(note, style="dim")
    for name, sheet in sheets.items():
        console.print(f"{name}: {sheet.signature}", style="dim")
    cautions = [text for sheet in sheets.values() for text in sheet.extra.get("cautions", {}).values()]
    for caution in dict.fromkeys(cautions):
        console.print(f"note: {caution}")


def _table(sheets: Mapping[str, ScoreSheet], metrics: Sequence[str]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    for heading in (*metrics, "CIDEr, 95 %", "n"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, sheet in sheets.items():
        low, high = sheet.intervals.get("CIDEr", (float("nan"), float("nan")))
        scores = [f"{sheet.corpus[metric]:.3f}" if metric in sheet.corpus else "–" for metric in metrics]
        table.add_row(name, *scores, f"{low:.3f} to {high:.3f}", f"{sheet.n:,}")
    return table
