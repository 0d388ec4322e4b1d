"""The page of `rscap data inspect`: tables, distributions, frequent words, and a sheet of examples."""

from __future__ import annotations

from collections.abc import Sequence

from rscap.data.draw import key
from rscap.data.inspection import CaptionTable, Histogram, ImageTable, Inspection
from rscap.data.source import Source
from rscap.records import Example
from rscap.report.dataset.charts import histogram, ranking
from rscap.report.dataset.frame import Section, bullets, frame, table, thumbnail
from rscap.report.html import Html, element, join

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
        Section("captions", "Captions by source and split", _captions(found)),
        Section("distributions", "Distributions", _distributions(found)),
        Section("words", "Frequent words", _words(found)),
    ]
    if found.images is not None:
        sections.append(Section("images", "Images", _images(found)))
    if source.rejected or source.notes:
        sections.append(Section("rows", "Rows to know about", _rows(source)))
    sections.append(Section("examples", "Examples", _sheet(sheet(source.examples))))
    return frame(
        kicker="Data set",
        title=found.name,
        facts=f"{images:,} images  ·  splits: {found.split_scheme}  ·  digest {found.digest[:12]}",
        lede=_lede(found),
        sections=sections,
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
    """Up to SHEET examples, as many from each source and split as can be, always the same ones."""
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
    return join(element("p", note, class_="note"), table(COLUMNS, rows, texts=2))


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
    """`; 2 could not be decoded; 1 missing`, or nothing where all is well."""
    told = [(images.unreadable, "could not be decoded"), (images.missing, "missing")]
    return "".join(f"; {count:,} {what}" for count, what in told if count)


def _rows(source: Source) -> Html:
    """The first rows that cannot be used or have something to them, and how many more there are."""
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
    return element("div", *[_card(example) for example in examples], class_="cards")


def _card(example: Example) -> Html:
    origin = " · ".join(part for part in (example.source, example.split, example.scene_class) if part)
    words = element(
        "div",
        element("p", element("b", example.id), Html(" "), origin, class_="id"),
        bullets(example.captions),
        class_="words",
    )
    return element("article", thumbnail(example), words, class_="card")
