"""The score tables as CSV, JSON and Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rscap.errors import StoreError
from rscap.escape import for_cell, for_code_span, for_markdown
from rscap.metrics import METRICS
from rscap.reports.table import Cell, ScoreRow, ScoreTable, headline_metric
from rscap.scoring import Difference
from rscap.store import EVALUATION, PARAMETERS, PLAN, PROVENANCE, QUALITY, REPORT, STATUS

_OF_FOLDERS = frozenset({STATUS, PROVENANCE, PARAMETERS, QUALITY, EVALUATION, PLAN})


def check_page(out: Path) -> None:
    """Refuse a page that is not named like one, or whose table would be named as a file of a run or a study.

    Raises:
        StoreError: names the page.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise StoreError(f"a report is an HTML page, and {out.name!r} is not named like one", hint=f"--out {REPORT}")
    if (table := out.with_suffix(".json").name) in _OF_FOLDERS:
        raise StoreError(
            f"{out} cannot be written: the table beside it would be {table}, a file of run folders",
            hint=f"--out {REPORT}",
        )


_STATES = {"finished": "", "started": "not finished", "interrupted": "interrupted", "failed": "failed"}


def state_note(row: ScoreRow) -> str:
    """A note on a run that did not finish; empty for one that did."""
    return _STATES.get(row.state, row.state)


def score_text(cell: Cell | None) -> str:
    """`0.853`, or a dash for a metric that was not scored."""
    return "—" if cell is None else f"{cell.value:.3f}"


def with_interval(value: float, bounds: Sequence[float | None] | None) -> str:
    """`0.853 [0.840, 0.866]`, or the value alone."""
    low, high = bounds or (None, None)
    return f"{value:z.3f}" if low is None or high is None else f"{value:z.3f} [{low:z.3f}, {high:z.3f}]"


def interval_text(cell: Cell | None) -> str:
    """`[0.840, 0.866]`, or nothing."""
    return f"[{cell.low:.3f}, {cell.high:.3f}]" if cell and cell.low is not None and cell.high is not None else ""


def tables_csv(tables: Sequence[ScoreTable]) -> str:
    """One line a row; `table` numbers the sets of comparable scores, missing scores are empty."""
    stream = io.StringIO()
    columns = dict.fromkeys([*METRICS, *(column for table in tables for column in table.columns)])
    names = [name for column in columns for name in (column, f"{column} low", f"{column} high")]
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["table", "split", "label", "kind", "state", "n", "unscored", *names, "signature", "warnings"])
    for number, table in enumerate(tables, start=1):
        for row in table.rows:
            cells = [row.cells.get(column) for column in columns]
            values = [value for cell in cells for value in ((cell.value, cell.low, cell.high) if cell else ("",) * 3)]
            facts = [number, table.split, row.label, row.kind, row.state, row.n, row.unscored]
            writer.writerow(map(for_cell, [*facts, *values, row.signature, "; ".join(row.warnings)]))
    return stream.getvalue()


def tables_json(tables: Sequence[ScoreTable]) -> dict[str, Any]:
    """The tables as JSON values, in full precision."""
    return {"tables": [_table(table) for table in tables]}


def _table(table: ScoreTable) -> dict[str, Any]:
    return {
        "split": table.split,
        "rows": [_row(row) for row in table.rows],
        "differences": [
            _difference(found, comparison.metric)
            for comparison in (table.comparison, *table.foreign)
            if comparison
            for found in comparison.differences
        ],
    }


def _difference(found: Difference, metric: str) -> dict[str, Any]:
    return {
        "first": found.first,
        "second": found.second,
        "metric": metric,
        "difference": found.difference,
        "interval": list(found.interval),
        "interval_corrected": list(found.corrected),
        "p_bootstrap": found.p_bootstrap,
        "p_randomisation": found.p_randomisation,
        "p_holm": found.p_holm,
        "sentence": found.sentence,
    }


def _row(row: ScoreRow) -> dict[str, Any]:
    return {
        "label": row.label,
        "kind": row.kind,
        "state": row.state,
        "n": row.n,
        "unscored": row.unscored,
        "scores": {metric: cell.value for metric, cell in row.cells.items()},
        "intervals": {metric: [cell.low, cell.high] for metric, cell in row.cells.items() if cell.low is not None},
        "signature": row.signature,
        "warnings": list(row.warnings),
    }


def tables_markdown(tables: Sequence[ScoreTable]) -> str:
    """The tables as Markdown: the headline metric with its interval, the others as numbers; signature and warnings."""
    return "\n\n".join(_markdown(table) for table in tables) + "\n"


def _markdown(table: ScoreTable) -> str:
    columns, head = table.columns, headline_metric(table.rows)
    lines = [
        "| | " + " | ".join(map(for_markdown, columns)) + " | n |",
        "|---|" + "---:|" * (len(columns) + 1),
    ]
    for row in table.rows:
        note = f" ({state_note(row)})" if state_note(row) else ""
        scores = [score_text(row.cells.get(column)) for column in columns]
        if head is not None:
            scores[columns.index(head)] += f" {interval_text(row.cells.get(head))}".rstrip()
        lines.append(f"| {for_markdown(row.label)}{note} | " + " | ".join(scores) + f" | {row.n} |")
    own = [
        f"; {for_code_span(part)} for {', '.join(map(for_markdown, labels))}"
        for part, labels in table.own_signatures().items()
    ]
    lines += ["", f"{for_code_span(table.signature())}{''.join(own)}"]
    warnings = [(for_markdown(row.label), for_markdown(text)) for row in table.rows for text in row.warnings]
    lines += [line for label, text in warnings for line in ("", f"**{label}** {text}.")]
    lines += [line for sentence in table.headlines for line in ("", for_markdown(sentence))]
    lines += [line for found in table.foreign for one in found.differences for line in ("", for_markdown(one.sentence))]
    return "\n".join(lines)
