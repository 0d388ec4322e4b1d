"""HTML that is escaped by construction (whatever is not `Html` already is text), and the frame of every page."""

from __future__ import annotations

import base64
import hashlib
import json
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
    browser: object = None,
) -> str:
    """A whole page as HTML text, which fetches nothing: styles, pictures and programs are inside.

    A content security policy in the head allows these programs alone, by their digest, and no address at all.

    Args:
        kicker: a line above the heading that says what kind of page it is.
        lede: the main results, as sentences.
        written_from: what the page was made from, for its footer.
        origin: the same for `rscap verify`, in the head.
        browser: the data of the image browser, as JSON values; None for a page without one.
    """
    script = _file("page.js") + (_file("browser.js") if browser is not None else "")
    head = join(
        Html('<meta charset="utf-8">'),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(script)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="generator", content=f"rscap {rscap.__version__}"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name=NAME, content=origin.text()) if origin else None,
        element("title", title),
        Html(f"<style>{_file('style.css')}</style>"),
    )
    header = element(
        "header",
        element("p", kicker, class_="kicker"),
        element("h1", heading),
        element("p", "  ·  ".join(facts), class_="facts"),
        *[element("p", sentence, class_="lede") for sentence in lede],
        *warnings,
    )
    links = [element("a", one.link or one.heading, href=f"#{one.address}") for one in sections]
    nav = element("nav", *links, aria_label="sections")
    parts = [element("section", element("h2", one.heading), one.content, id=one.address) for one in sections]
    source = f" from {written_from}" if written_from else ""
    footer = element("footer", f"Written by rscap {rscap.__version__}{source}.")
    data = Html(f'<script type="application/json" id="browser-data">{_embedded(browser)}</script>')
    programs = join(data if browser is not None else None, Html(f"<script>{script}</script>"))
    body = join(header, nav, element("main", *parts), footer, programs)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def _file(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _policy(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _embedded(value: object) -> str:
    """JSON that cannot close the script element around it."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


def bullets(lines: Sequence[Child]) -> Html:
    """A plain list."""
    return element("ul", *[element("li", line) for line in lines])
