"""What both pages share: the frame, thumbnails, plain tables."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from PIL import Image

import rscap
from rscap.errors import ImageError
from rscap.records import Example
from rscap.reports.html import Child, Html, element, join

THUMBNAIL_PX = 192


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a page."""

    address: str
    heading: str
    content: Html
    link: str | None = None
    """What the list of sections calls it, where the heading is long."""


def frame(*, kicker: str, title: str, facts: str, lede: str, sections: Sequence[Section]) -> str:
    """A whole page as HTML text; style and pictures inside, nothing fetched from anywhere."""
    styles = [
        files("rscap.reports").joinpath("style.css").read_text(encoding="utf-8"),
        files("rscap.reports.dataset").joinpath("dataset.css").read_text(encoding="utf-8"),
    ]
    head = join(
        Html('<meta charset="utf-8">'),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{title} · {kicker}"),
        Html(f"<style>{''.join(styles)}</style>"),
    )
    links = [element("a", section.link or section.heading, href=f"#{section.address}") for section in sections]
    body = join(
        element(
            "header",
            element("p", kicker, class_="kicker"),
            element("h1", title),
            element("p", facts, class_="facts"),
            element("p", lede, class_="lede"),
            element("nav", *links, aria_label="sections"),
        ),
        element(
            "main",
            *[element("section", element("h2", one.heading), one.content, id=one.address) for one in sections],
        ),
        element("footer", f"Written by rscap {rscap.__version__}."),
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'


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


def thumbnail(example: Example) -> Html:
    """The example's picture, shrunk and embedded; a grey box that says why where there is none."""
    try:
        picture = example.image.load()
    except ImageError:
        return element("div", "no image", class_="missing")
    picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, format="JPEG", quality=82)
    address = f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
    return element("img", src=address, alt=f"image {example.id}", loading="lazy")


def bullets(lines: Sequence[Child]) -> Html:
    """A plain list."""
    return element("ul", *[element("li", line) for line in lines])
