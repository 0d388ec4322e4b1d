"""The page of `rscap data inspect`: tables, distributions, frequent words, and a sheet of examples."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from rscap.data.draw import key
from rscap.data.inspection import CaptionTable, Histogram, ImageTable, Inspection
from rscap.data.source import Source
from rscap.errors import ImageError
from rscap.records import Example
from rscap.reports.cells import Line, table
from rscap.reports.html import Html, PageSection, bullets, element, frame, join
from rscap.reports.plots import labels, ticks
from rscap.store import small_jpeg

_WIDTH, _HEIGHT = 480.0, 240.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 50.0, 12.0, 10.0, 40.0


def histogram(bins: Histogram, *, title: str, x_label: str) -> Html:
    """Bars over a linear axis; the number of each bar is its tooltip."""
    low, high = bins.edges[0], bins.edges[-1]
    most = max([*bins.counts, 1])

    def x_of(value: float) -> float:
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def y_of(count: float) -> float:
        return _HEIGHT - _BOTTOM - count / most * (_HEIGHT - _TOP - _BOTTOM)

    across, up = ticks(low, high, 6), ticks(0, most, 4)
    parts = [_grid(y_of(count), text) for count, text in zip(up, labels(up), strict=True)]
    for left, right, count in zip(bins.edges[:-1], bins.edges[1:], bins.counts, strict=True):
        if count:
            parts.append(_bar(x_of(left), x_of(right), y_of(count), f"{left:.4g} to {right:.4g}: {count:,}"))
    for tick, text in zip(across, labels(across), strict=True):
        parts.append(element("text", text, x=x_of(tick), y=_HEIGHT - _BOTTOM + 17, text_anchor="middle"))
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(element("text", x_label, x=middle, y=_HEIGHT - 5, text_anchor="middle", class_="axis"))
    drawing = element(
        "svg", *parts, viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}", role="img", aria_label=title, class_="chart"
    )
    return element("figure", element("figcaption", title), drawing)


def ranking(items: Sequence[tuple[str, int]], *, title: str) -> Html:
    """Names with bars as long as their counts, in the order given."""
    most = max([count for _, count in items] + [1])
    rows = [
        element(
            "li",
            element("span", name, class_="what"),
            element("span", element("i", "", style=f"width:{count / most:.1%}"), class_="length"),
            element("span", f"{count:,}", class_="number"),
        )
        for name, count in items
    ]
    return element("figure", element("figcaption", title), element("ol", *rows, class_="ranking"))


def _bar(left: float, right: float, top: float, tip: str) -> Html:
    gap = min(1.5, (right - left) / 6)
    height = _HEIGHT - _BOTTOM - top
    bar = element("rect", x=left + gap / 2, y=top, width=right - left - gap, height=height, class_="bar")
    return element("g", element("title", tip), bar)


def _grid(y: float, text: str) -> Html:
    line = element("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y, class_="grid")
    return Html(line + element("text", text, x=_LEFT - 7, y=y + 4, text_anchor="end"))


EXAMPLE_PX = 192
"""Pixels of the longer side of an example's picture."""


def example_picture(example: Example) -> Html:
    """The picture of an example, shrunk and embedded; a grey box if it cannot be decoded."""
    try:
        picture = example.image.load()
    except ImageError:
        return element("div", "no image", class_="missing")
    small = base64.b64encode(small_jpeg(picture, EXAMPLE_PX, quality=82)).decode("ascii")
    return element("img", src=f"data:image/jpeg;base64,{small}", alt=f"image {example.id}", loading="lazy")


SHEET = 12
"""Examples on the sheet."""
ROWS = 50
"""Rejected or noted rows that the page lists."""

COLUMNS: tuple[str, ...] = (
    "source",
    "split",
    "images",
    "captions",
    "words",
    "min–max",
    "vocabulary",
    "distinct",
    "one only",
    "repeated",
    "similarity",
)
"""Columns of the caption table, on the page and on the screen."""


def inspect_page(source: Source, found: Inspection) -> str:
    """The whole page as HTML text."""
    images = sum(found.splits.values())
    sections = [
        PageSection("captions", "Captions by source and split", _captions(found)),
        PageSection("distributions", "Distributions", _distributions(found)),
        PageSection("words", "Frequent words", _words(found)),
    ]
    if found.images is not None:
        sections.append(PageSection("images", "Images", _images(found)))
    if source.rejected or source.notes:
        sections.append(PageSection("rows", "Rows to know about", _rows(source)))
    sections.append(PageSection("examples", "Examples", _sheet(sheet(source.examples))))
    return frame(
        sections,
        title=f"{found.name} · Data set",
        kicker="Data set",
        heading=found.name,
        facts=[f"{images:,} images", f"splits: {found.split_scheme}", f"digest {found.digest[:12]}"],
        lede=[_lede(found)],
    )


def cells(row: CaptionTable) -> list[str]:
    """One line of the caption table as text, in the order of COLUMNS."""
    return [
        row.source,
        row.split,
        f"{row.images:,}",
        f"{row.captions:,}",
        f"{row.words_mean:.3f}",
        f"{row.words_min}–{row.words_max}",
        f"{row.vocabulary:,}",
        f"{row.distinct_captions:,}",
        f"{row.one_caption:,}",
        f"{row.repeated:,}",
        "–" if row.similarity is None else f"{row.similarity:.3f}",
    ]


def sheet(examples: Sequence[Example]) -> list[Example]:
    """Up to SHEET examples, evenly from all sources and splits, always the same ones."""
    groups: dict[tuple[str, str], list[Example]] = {}
    for example in sorted(examples, key=lambda one: key("sheet", one.id)):
        groups.setdefault((example.source, example.split), []).append(example)
    rounds = range(max(map(len, groups.values())))
    chosen = [groups[name][turn] for turn in rounds[:SHEET] for name in sorted(groups) if turn < len(groups[name])]
    return chosen[:SHEET]


def _lede(found: Inspection) -> str:
    total = found.tables[-1]
    share = f"{total.repeated / total.images:.1%} of the images" if total.repeated else "no image"
    verb = "repeat" if total.repeated else "repeats"
    text = f"{total.captions:,} captions of {total.words_mean:.2f} words on average; {share} {verb} a caption."
    rejected = f" {found.rejected:,} rows could not be used." if found.rejected else ""
    return text + rejected


def _captions(found: Inspection) -> Html:
    note = (
        "Words are split at white space, so a final “ .” counts as one; the mean is given. Distinct: captions that "
        "differ. One only: all captions of an image are the same sentence. Repeated: an image has fewer distinct "
        "captions than captions. Similarity: mean Jaccard index of the word sets of an image’s captions."
    )
    rows = [cells(row) for row in found.tables]
    lines = [Line(head=head, entries=entries) for head, *entries in rows]
    first, *columns = COLUMNS
    return join(
        element("p", note, class_="note"),
        table(columns, lines, label="captions by source and split", first=first, texts=1, sortable=True),
    )


def _distributions(found: Inspection) -> Html:
    counts = dict(found.distinct_per_image)
    low, high = 1, max(counts)
    distinct = Histogram(
        edges=tuple(n - 0.5 for n in range(low, high + 2)), counts=tuple(counts.get(n, 0) for n in range(low, high + 1))
    )
    return element(
        "div",
        histogram(found.caption_words, title="Words per caption", x_label="words"),
        histogram(distinct, title="Distinct captions per image", x_label="distinct captions"),
        histogram(found.similarity, title="Similarity among the captions of an image", x_label="Jaccard index"),
        class_="charts",
    )


def _words(found: Inspection) -> Html:
    return element(
        "div",
        ranking(found.top_words, title="Words"),
        ranking(found.top_bigrams, title="Pairs of words"),
        ranking(found.top_trigrams, title="Three words"),
        *([ranking(found.scene_classes[:20], title="Scene classes, images")] if found.scene_classes else []),
        class_="rankings",
    )


def _images(found: Inspection) -> Html:
    assert found.images is not None  # the caller asks only then
    images = found.images
    sizes = bullets([f"{size} pixels: {count:,} images" for size, count in images.sizes])
    charts = element(
        "div",
        histogram(images.brightness, title="Brightness", x_label="mean grey value of an image"),
        histogram(images.contrast, title="Contrast", x_label="standard deviation of grey values"),
        class_="charts",
    )
    text = f"{images.measured:,} images decoded{unusable(images)}. Mean brightness {images.brightness_mean:.1f} of 255."
    return join(element("p", text, class_="note"), sizes, charts)


def unusable(images: ImageTable) -> str:
    """`; 2 could not be decoded; 1 missing`, or nothing if there is no problem."""
    told = [(images.unreadable, "could not be decoded"), (images.missing, "missing")]
    return "".join(f"; {count:,} {what}" for count, what in told if count)


def _rows(source: Source) -> Html:
    """The first rows that cannot be used or have a note, and how many more there are."""
    parts = []
    for what, lines in (
        ("cannot be used", [(bad.row, bad.reason) for bad in source.rejected]),
        ("have a note", [(note.row, note.text) for note in source.notes]),
    ):
        if lines:
            shown = [join(element("b", row), f": {text}") for row, text in lines[:ROWS]]
            more = [f"and {len(lines) - ROWS:,} more: see the JSON file"] if len(lines) > ROWS else []
            parts += [element("p", f"{len(lines):,} {what}.", class_="note"), bullets([*shown, *more])]
    return join(*parts)


def _sheet(examples: Sequence[Example]) -> Html:
    return element("div", *[_card(example) for example in examples], class_="cards-of-examples")


def _card(example: Example) -> Html:
    origin = " · ".join(part for part in (example.source, example.split, example.scene_class) if part)
    words = element(
        "div",
        element("p", element("b", example.id), Html(" "), origin, class_="id"),
        bullets(example.captions),
        class_="words",
    )
    return element("article", example_picture(example), words, class_="card")
