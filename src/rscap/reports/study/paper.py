"""One page as in a paper, with table, figure and conclusions. Drawn with fpdf2, without TeX."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rscap.errors import StoreError
from rscap.reports.study.formats import Line, baseline_sentence, lines, noise_sentence, shown_metrics
from rscap.reports.study.front import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, FrontPlot, front_plot
from rscap.reports.study.summary import Summary
from rscap.store import atomic_path

_MARGIN, _PAGE = 18.0, 210.0
_TEXT = _PAGE - 2 * _MARGIN
_MAX_LINES = 34
_GREEN, _GREY, _BLACK = (20, 128, 74), (120, 120, 120), (0, 0, 0)


PDF_HINT = "pip install 'rscap[pdf]'"


def can_write_paper() -> bool:
    """Whether the package that draws the PDF is installed; the light installation has none."""
    return find_spec("fpdf") is not None


def write_paper(path: Path, summary: Summary) -> None:
    """Write the page as PDF; rows beyond those that fit are counted below the table.

    Raises:
        StoreError: fpdf2 is not installed.
    """
    if not can_write_paper():
        raise StoreError(f"{path}: a PDF needs the package fpdf2, which is not installed", hint=PDF_HINT)
    from fpdf import FPDF

    pdf = FPDF(format="A4")
    pdf.set_margin(_MARGIN)
    pdf.set_auto_page_break(False)
    pdf.set_title(_latin(summary.study.name))
    pdf.set_creator("rscap")
    pdf.add_page()
    _title(pdf, summary)
    _table(pdf, summary)
    plot = front_plot(summary)
    if plot is not None and pdf.get_y() < 195:
        _figure(pdf, plot)
    _text(pdf, summary)
    with atomic_path(path) as temporary:
        pdf.output(str(temporary))


def _title(pdf: Any, summary: Summary) -> None:
    study = summary.study
    pdf.set_font("Times", "B", 16)
    pdf.multi_cell(_TEXT, 7, _latin(study.name), align="C", new_x="LMARGIN", new_y="NEXT")
    pdf.set_font("Times", "", 9)
    facts = f"{len(study.rows)} rows, {len(study.sheets())} finished runs, {summary.n:,} {study.split} images"
    pdf.multi_cell(_TEXT, 5, _latin(facts), align="C", new_x="LMARGIN", new_y="NEXT")
    pdf.ln(3)


def _table(pdf: Any, summary: Summary) -> None:
    metrics = shown_metrics(summary)
    shown = [line for line in lines(summary) if line.scores]
    pdf.set_font("Times", "I", 8.5)
    caption = f"Table 1. Means over seeds on the same images; 95 % interval of {summary.metric} over images and seeds."
    pdf.multi_cell(_TEXT, 4.2, _latin(caption), new_x="LMARGIN", new_y="NEXT")
    widths = _widths(metrics)
    _rule(pdf, 0.4)
    pdf.set_font("Times", "B", 7)
    _cells(pdf, ["", *metrics, "95 %", "Rank"], widths)
    _rule(pdf, 0.2)
    pdf.set_font("Times", "", 8)
    for line in shown[:_MAX_LINES]:
        _row(pdf, line, metrics, widths)
    _rule(pdf, 0.4)
    if len(shown) > _MAX_LINES:
        pdf.cell(_TEXT, 4, f"and {len(shown) - _MAX_LINES} more, in the CSV file", new_x="LMARGIN", new_y="NEXT")


def _widths(metrics: Sequence[str]) -> list[float]:
    name, interval, rank = 38.0, 26.0, 11.0
    each = (_TEXT - name - interval - rank) / max(1, len(metrics))
    return [name, *[each] * len(metrics), interval, rank]


def _row(pdf: Any, line: Line, metrics: Sequence[str], widths: Sequence[float]) -> None:
    colour = {"better": _GREEN, "row": _BLACK}.get(line.verdict, _BLACK if line.kind == "row" else _GREY)
    pdf.set_text_color(*colour)
    scores = [line.scores.get(metric, "--").partition(" ")[0] for metric in metrics]
    _cells(pdf, [line.name, *scores, line.interval, line.rank], widths)
    pdf.set_text_color(*_BLACK)


def _cells(pdf: Any, texts: Sequence[str], widths: Sequence[float]) -> None:
    for number, (text, width) in enumerate(zip(texts, widths, strict=True)):
        fitted = _latin(text)
        while fitted and pdf.get_string_width(fitted) > width - 1.5:
            fitted = fitted[:-1]
        pdf.cell(width, 4, fitted, align="L" if number == 0 else "R")
    pdf.ln(4)


def _rule(pdf: Any, width: float) -> None:
    pdf.set_line_width(width)
    y = pdf.get_y() + 0.4
    pdf.line(_MARGIN, y, _PAGE - _MARGIN, y)
    pdf.ln(1.0)


def _figure(pdf: Any, plot: FrontPlot) -> None:
    """The plot of the page, scaled to the width of the text."""
    scale = min(_TEXT / WIDTH, (262 - pdf.get_y() - 34) / HEIGHT)
    left, top = _MARGIN + (_TEXT - WIDTH * scale) / 2, pdf.get_y() + 4

    def at(x: float, y: float) -> tuple[float, float]:
        return left + x * scale, top + y * scale

    pdf.set_font("Times", "", 7.5)
    pdf.set_line_width(0.2)
    (x0, y0), (x1, y1) = at(LEFT, TOP), at(WIDTH - RIGHT, HEIGHT - BOTTOM)
    pdf.line(x0, y1, x1, y1)
    pdf.line(x0, y0, x0, y1)
    for x, text in plot.x_ticks:
        pdf.text(at(x, 0)[0] - pdf.get_string_width(text) / 2, y1 + 3.4, text)
    for y, text in plot.y_ticks:
        pdf.text(x0 - 1.5 - pdf.get_string_width(text), at(0, y)[1] + 0.9, text)
    pdf.text((x0 + x1) / 2 - pdf.get_string_width(plot.x_label) / 2, y1 + 7.2, plot.x_label)
    pdf.text(x0 + 1.5, y0 + 1, plot.y_label)
    for point in plot.points:
        x, y = at(point.x, point.y)
        pdf.set_draw_color(*_GREY)
        pdf.line(x, at(0, point.low)[1], x, at(0, point.high)[1])
        pdf.set_fill_color(*(_GREEN if point.best else _GREY))
        pdf.circle(x=x, y=y, radius=0.9, style="F")
        label = _latin(point.label)
        left, base = at(point.label_x, point.label_y)
        pdf.text(left - pdf.get_string_width(label) * point.label_end, base, label)
    pdf.set_draw_color(*_BLACK)
    pdf.set_y(y1 + 9)
    pdf.set_font("Times", "I", 8.5)
    said = "Figure 1. Minutes of a run against its score, with 95 % intervals; green: none is both as fast and as good."
    pdf.multi_cell(_TEXT, 4.2, said, new_x="LMARGIN", new_y="NEXT")


def _text(pdf: Any, summary: Summary) -> None:
    """Noise, decisions and signature, as far as they fit."""
    pdf.ln(2)
    pdf.set_font("Times", "", 9)
    decided = [one for one in lines(summary) if one.verdict in ("better", "worse")]
    said = [
        *filter(None, [baseline_sentence(summary)]),
        noise_sentence(summary),
        *[f"{one.name}: {one.sentence}." for one in decided],
    ]
    if summary.judgement and not decided:
        said.append("No row differs significantly from the reference.")
    for text in said:
        if pdf.get_y() > 268:
            break
        pdf.multi_cell(_TEXT, 4.4, _latin(text), new_x="LMARGIN", new_y="NEXT")
    pdf.set_font("Courier", "", 6.5)
    pdf.set_y(284)
    pdf.multi_cell(_TEXT, 3, _latin(summary.signature), new_x="LMARGIN", new_y="NEXT")


def _latin(text: str) -> str:
    """Text in the characters of the PDF's built-in fonts; dashes are kept, others become question marks."""
    plain = text.replace("–", "-").replace("—", "-").replace("−", "-").replace("“", '"').replace("”", '"')
    return plain.encode("latin-1", "replace").decode("latin-1")
