"""HTML that is escaped by construction (whatever is not `Html` already is text), and the frame of every page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

import rscap
from rscap.reports.origin import NAME, PageOrigin

_VOID = frozenset({"img", "input", "meta", "br", "line", "circle", "rect", "path", "polyline", "polygon"})
_SELF_CLOSED = _VOID - {"img", "input", "meta", "br"}  # SVG shapes: `<path/>`


class Html(str):
    """Markup that is safe to print as it is."""

    __slots__ = ()


Child = Html | str | None
Value = str | float | None


def element(tag: str, *children: Child, **attributes: Value) -> Html:
    """`<tag …>children</tag>`; plain strings are escaped, `None` is left out.

    An attribute's trailing underscore is dropped and other underscores become hyphens: `class_`, `stroke_width`.
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(_text(value), quote=True)}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in _VOID:
        return Html(f"<{tag}{written}{'/' if tag in _SELF_CLOSED else ''}>")
    return Html(f"<{tag}{written}>{join(*children)}</{tag}>")


def join(*children: Child) -> Html:
    """Children one after the other, plain strings escaped."""
    return Html(
        "".join(
            child if isinstance(child, Html) else escape(child, quote=False) for child in children if child is not None
        )
    )


def _text(value: str | float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


@dataclass(frozen=True, slots=True)
class PageSection:
    """One part of a page."""

    address: str
    heading: str
    content: Html
    link: str | None = None
    """Its name in the list of sections, if the heading is long."""


def frame(
    sections: Sequence[PageSection],
    *,
    title: str,
    kicker: str,
    heading: str,
    facts: Sequence[str],
    lede: Sequence[str] = (),
    warnings: Sequence[Html] = (),
    written_from: str = "",
    origin: PageOrigin | None = None,
    styles: Sequence[str] = (),
    scripts: Sequence[Html] = (),
) -> str:
    """A whole page as HTML text, which fetches nothing: styles and pictures are inside.

    Args:
        kicker: a line above the heading that says what kind of page it is.
        lede: the main results, as sentences.
        written_from: what the page was made from, for its footer.
        origin: the same for `rscap verify`, in the head.
        styles: files of CSS below rscap/reports, beside the common style.
    """
    css = "".join(files(__package__).joinpath(name).read_text(encoding="utf-8") for name in ("style.css", *styles))
    head = join(
        Html('<meta charset="utf-8">'),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="generator", content=f"rscap {rscap.__version__}"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name=NAME, content=origin.text()) if origin else None,
        element("title", title),
        Html(f"<style>{css}</style>"),
    )
    links = [element("a", one.link or one.heading, href=f"#{one.address}") for one in sections]
    header = element(
        "header",
        element("p", kicker, class_="kicker"),
        element("h1", heading),
        element("p", "  ·  ".join(facts), class_="facts"),
        *[element("p", sentence, class_="lede") for sentence in lede],
        *warnings,
        element("nav", *links, aria_label="sections"),
    )
    parts = [element("section", element("h2", one.heading), one.content, id=one.address) for one in sections]
    source = f" from {written_from}" if written_from else ""
    footer = element("footer", f"Written by rscap {rscap.__version__}{source}.")
    body = join(header, element("main", *parts), footer, *scripts)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def bullets(lines: Sequence[Child]) -> Html:
    """A plain list."""
    return element("ul", *[element("li", line) for line in lines])


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, texts: int = 1) -> Html:
    """A table in a box that scrolls sideways on a narrow screen; the first `texts` columns hold words."""
    cells = [element("th", name, class_="text" if i < texts else None) for i, name in enumerate(head)]
    lines = [
        element(
            "tr",
            *[
                element("th" if i == 0 else "td", cell, class_="text" if i < texts else None)
                for i, cell in enumerate(row)
            ],
        )
        for row in rows
    ]
    inner = element("table", element("thead", element("tr", *cells)), element("tbody", *lines), class_="figures")
    return element("div", inner, class_="scroll")
