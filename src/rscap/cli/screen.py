"""What commands share on the screen: messages and progress on standard error, data on standard output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rscap.escape import for_json, visible
from rscap.progress import ProgressBar, fold, screen, screen_columns, to_stderr

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


def print_prose(text: str, *, style: str = "", indent: str = "  ") -> None:
    """Sentences on standard output, folded to the width of the screen."""
    screen(soft_wrap=True).print(fold(visible(text), indent=indent), style=style)


def fold_command(words: Sequence[str]) -> str:
    """A command that can be copied whole: where it is wider than the screen, it continues behind a backslash."""
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + len(word) + 3 <= screen_columns():
            lines[-1] += f" {word}"
        else:
            lines.append(f"    {word}")
    return " \\\n".join(lines)


def print_path(path: Path) -> None:
    """The path of a file that was written, on one line of standard output."""
    print(visible(str(path), one_line=True))


# Score sheets as tables on standard output.


def print_sheets(sheets: Mapping[str, ScoreSheet]) -> None:
    """One row a sheet: corpus scores, 95 % interval of CIDEr; then the signatures, and what else is worth knowing.

    No cell is ever cut. A screen too narrow for every metric gets no BLEU-2 and BLEU-3, with a note.
    """
    from rscap.metrics import TABLE

    shown = [line.name for line in TABLE if any(line.name in sheet.corpus for sheet in sheets.values())]
    kept = shown
    if _needed(_table(sheets, shown)) > screen_columns():
        kept = [line.name for line in TABLE if line.name in shown and line.place != "wide"]
    print_table(_table(sheets, kept))
    if left_out := [metric for metric in shown if metric not in kept]:
        note = f"{' and '.join(left_out)} do not fit here; they are in the score sheets and in a wider terminal"
        print_prose(note, style="dim")
    for line in signature_lines({name: sheet.signature for name, sheet in sheets.items()}):
        print_prose(line, style="dim")
    cautions = [text for sheet in sheets.values() for text in sheet.extra.get("cautions", {}).values()]
    for caution in dict.fromkeys(cautions):
        print_prose(f"note: {caution}")


def print_table(table: Table) -> None:
    """A table on standard output: words fold where the screen is narrow, figures never do, and nothing is cut."""
    width = max(screen_columns(), screen(width=_ANY_WIDTH, height=_ANY_WIDTH).measure(table).minimum)
    screen(width=width, height=_ANY_WIDTH).print(table)  # both, or neither holds


_ANY_WIDTH = 1_000


def _needed(table: Table) -> int:
    return screen(width=_ANY_WIDTH, height=_ANY_WIDTH).measure(table).maximum


def signature_lines(signatures: Mapping[str, str]) -> list[str]:
    """What all signatures share, on a line; below it what is each one's own: `constant: decode:baseline-constant`."""
    parts = {name: one.split("|") for name, one in signatures.items()}
    first = next(iter(parts.values()), [])
    shared = [part for part in first if all(part in one for one in parts.values())]
    own = {name: "|".join(part for part in one if part not in shared) for name, one in parts.items()}
    return [f"signature: {'|'.join(shared)}", *(f"{name}: {rest}" for name, rest in own.items() if rest)]


def interval_text(bounds: tuple[float, float] | None, digits: int = 3, *, sign: str = "-") -> str:
    """An interval in the one notation that rscap has: `[1.581, 1.933]`; a dash where there is none."""
    return f"[{bounds[0]:{sign}.{digits}f}, {bounds[1]:{sign}.{digits}f}]" if bounds else "–"


def _table(sheets: Mapping[str, ScoreSheet], metrics: Sequence[str]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", overflow="fold")
    for heading in (*metrics, "CIDEr, 95 %", "n"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, sheet in sheets.items():
        scores = [f"{sheet.corpus[metric]:.3f}" if metric in sheet.corpus else "–" for metric in metrics]
        table.add_row(name, *scores, interval_text(sheet.intervals.get("CIDEr")), f"{sheet.n:,}")
    return table
