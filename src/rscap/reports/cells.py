"""The one table of all pages: runs, studies and data sets.

A wide table scrolls in a box of its own, with a shadow at the edge behind which it goes on; its first column stays. A
short table becomes a card a row on a narrow screen instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rscap.reports.html import Child, Html, element, join

CARDS = 8
"""Rows up to which a table becomes cards on a narrow screen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One cell."""

    text: Child
    small: str = ""
    """Below it in small type, such as an interval."""
    bold: bool = False
    kind: str = ""
    """Its class: `better` or `worse` in colour, `words` for text that may wrap."""
    tip: str = ""
    """Shown when the pointer rests on it."""
    value: float | str | None = None
    """By which it is sorted, where that is not its text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One row: what it is about, and its cells."""

    head: Child
    entries: Sequence[Entry | str]
    kind: str = ""
    """Its class."""


def table(
    columns: Sequence[str],
    lines: Sequence[Line],
    *,
    label: str,
    first: str = "",
    texts: int = 0,
    sortable: bool = False,
) -> Html:
    """The table; `columns` names what follows the head of each line.

    Args:
        label: what it shows, for screen readers.
        first: the name of the column of heads.
        texts: how many columns after the first hold words, which are aligned to the left.
        sortable: a click on the name of a column sorts by it.
    """
    heads = [
        element("th", _unbroken(name), scope="col", class_="words" if number <= texts else None)
        for number, name in enumerate((first, *columns))
    ]
    kinds = ["figures", *(["sortable"] if sortable else []), *(["cards"] if len(lines) <= CARDS else [])]
    inner = element(
        "table",
        element("thead", element("tr", *heads)),
        element("tbody", *[_line(line, columns, texts) for line in lines]),
        class_=" ".join(kinds),
    )
    return element("div", inner, class_="scroll", tabindex="0", role="region", aria_label=label)


def _unbroken(name: str) -> Html:
    """The name of a column, which may be broken between words alone, not in `BLEU-4`."""
    words = [element("span", word, class_="unbroken") for word in name.split(" ")]
    return join(*[part for word in words for part in (word, " ")][:-1])


def _line(line: Line, columns: Sequence[str], texts: int) -> Html:
    cells = [
        _cell(entry if isinstance(entry, Entry) else Entry(text=entry), name, is_text=number < texts)
        for number, (entry, name) in enumerate(zip(line.entries, columns, strict=True))
    ]
    return element("tr", element("th", line.head, scope="row"), *cells, class_=line.kind or None)


def _cell(entry: Entry, column: str, *, is_text: bool) -> Html:
    kinds = " ".join(filter(None, [entry.kind, "words" if is_text else ""]))
    return element(
        "td",
        element("b" if entry.bold else "span", entry.text, class_="value"),
        element("span", entry.small, class_="interval") if entry.small else None,
        class_=kinds or None,
        title=entry.tip or None,
        data_name=column,
        data_value=entry.value,
    )
