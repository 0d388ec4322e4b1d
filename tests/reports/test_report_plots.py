"""The parts that a report page is made of: escaped elements, ticks, charts, tables."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from rscap.reports.cells import Entry, Line, table
from rscap.reports.html import Html, element, join
from rscap.reports.plots import (
    MAX_POINTS,
    Interval,
    Series,
    interval_chart,
    labels,
    line_chart,
    log_ticks,
    smoothed,
    ticks,
)

FINITE = st.floats(-1e12, 1e12, allow_nan=False)


class Reading(HTMLParser):
    """Collects tags, attributes and text as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


@given(text=st.text(st.characters(exclude_characters="\x00\r", exclude_categories=["Cs"])))
def test_text_and_attributes_come_back_as_they_were(text: str) -> None:
    """Whatever a string holds, it is read back as text and as one attribute, and makes no tag."""
    read = Reading(element("p", text, title=text))
    assert read.tags == ["p"]
    assert read.text == text
    assert read.attributes == [("title", text)]


def test_only_html_passes_unescaped() -> None:
    """A plain string is text; `Html` is markup; None is nothing."""
    assert join("<b>", Html("<i>x</i>"), None, "&") == "&lt;b&gt;<i>x</i>&amp;"


@given(low=FINITE, span=st.floats(1e-9, 1e12))
def test_ticks_are_few_and_inside(low: float, span: float) -> None:
    """Ticks lie inside the axis, in ascending order, and there are at most seven."""
    high = low + span
    found = ticks(low, high)
    slack = (high - low) * 1e-6 + abs(low) * 1e-9
    assert len(found) <= 7
    assert all(low - slack <= tick <= high + slack for tick in found)
    assert found == sorted(found)


def test_ticks_are_round_numbers() -> None:
    """The axis of a loss curve has the numbers a person would choose."""
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert ticks(0.9, 5.3) == [1, 2, 3, 4, 5]
    assert ticks(0, 0) == [0]


@given(
    points=st.lists(
        st.tuples(st.integers(0, 10**6).map(float), st.floats(-1e9, 1e9) | st.sampled_from([math.nan, math.inf])),
        max_size=20,
    )
)
def test_charts_are_well_formed_and_draw_inside_their_frame(points: list[tuple[float, float]]) -> None:
    """Any log gives well-formed SVG whose points lie inside the frame; a log without a finite value gives none."""
    drawing = line_chart([Series(label="a & b", points=tuple(points), colour=0, marked=True)], title="<loss> & more")
    if not any(math.isfinite(y) for _, y in points):
        assert drawing is None
        return
    assert drawing is not None
    root = ElementTree.fromstring(drawing)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    [drawn] = root.iter("polyline")
    lines = [drawn.attrib["points"]]
    told = zip(drawn.attrib["data-x"].split(" "), drawn.attrib["data-y"].split(" "), strict=True)
    finite = [(x, y) for x, y in points if math.isfinite(y)]
    assert [(float(x), float(y)) for x, y in told] == [(x, float(f"{y:.4g}")) for x, y in finite], (
        "what the pointer is told are the values"
    )
    for x, y in (map(float, point.split(",")) for line in lines for point in line.split()):
        assert 0 <= x <= width
        assert 0 <= y <= height


def test_a_long_log_stays_a_small_drawing() -> None:
    """A hundred thousand steps are drawn as at most MAX_POINTS points that keep the mean."""
    points = tuple((float(step), 5.0 + math.sin(step)) for step in range(100_000))
    drawing = line_chart([Series(label="loss", points=points, colour=0)], title="loss")
    assert drawing is not None
    [line] = [line.attrib["points"] for line in ElementTree.fromstring(drawing).iter("polyline")]
    assert len(line.split()) == MAX_POINTS


def test_smoothing_lags_behind_on_neither_side() -> None:
    """The mean of a straight line is that line, first and last value stay, values that are not finite are skipped."""
    assert smoothed([(1.0, 4.0), (2.0, math.nan)]) == ((1.0, 4.0),)
    line = [(float(x), 10.0 - 0.1 * x) for x in range(100)]
    assert [round(y, 9) for _, y in smoothed(line)] == [round(y, 9) for _, y in line]
    drop = [(float(x), 5.0 if x < 50 else 1.0) for x in range(100)]
    smooth = dict(smoothed(drop))
    assert (smooth[0.0], smooth[99.0], smooth[30.0], smooth[70.0]) == (5.0, 1.0, 5.0, 1.0)


def test_the_ticks_of_an_axis_have_one_notation() -> None:
    """As many decimals, or all in thousands, or all as powers of ten."""
    assert labels([0, 0.25, 0.5, 1]) == ["0.00", "0.25", "0.50", "1.00"]
    assert labels([0, 0.005, 0.01]) == ["0.000", "0.005", "0.010"]
    assert labels([0, 2e-5, 1e-4]) == ["0", "2e-5", "1e-4"]
    assert labels([0, 5000, 10_000]) == ["0", "5k", "10k"]
    assert labels([-0.0, 1.0]) == ["0", "1"]
    assert log_ticks(0.9, 5.5) == [1, 2, 5]
    assert len(log_ticks(0.09, 0.14)) >= 3


@given(low=st.floats(1e-3, 1e4), factor=st.floats(1.2, 1e4))
def test_a_logarithmic_axis_has_ticks_inside(low: float, factor: float) -> None:
    """At least two of them, in ascending order and inside the axis."""
    found = log_ticks(low, low * factor)
    assert len(found) >= 2
    assert found == sorted(found)
    assert all(low * (1 - 1e-9) <= tick <= low * factor * (1 + 1e-9) for tick in found)


def test_differences_that_are_all_zero_are_drawn_in_the_middle() -> None:
    """Equal runs differ by nothing: a picture of nothing, and no division by zero."""
    rows = [Interval(label=name, value=0.0, low=0.0, high=0.0, colour=0) for name in ("one", "two")]
    assert str(interval_chart(rows, title="x", sign=True)).count('class="dot c0" style="left:50.00%"') == 2


def test_no_zero_is_negative() -> None:
    """What rounds to zero has no minus before it."""
    drawing = str(interval_chart([Interval(label="a", value=-1e-9, low=None, high=1.0, colour=0)], title="x"))
    assert ">0.000<" in drawing
    assert "-0.000" not in drawing


def test_interval_chart_places_dots_in_proportion() -> None:
    """On an axis from 0, a value twice as high stands twice as far right, and a whisker spans its interval."""
    rows = [
        Interval(label="one", value=1.0, low=0.5, high=1.5, colour=0),
        Interval(label="two", value=2.0, low=None, high=None, colour=None),
    ]
    drawing = interval_chart(rows, title="CIDEr")
    assert drawing is not None
    dots = [float(left) for left in re.findall(r'class="dot [^"]*" style="left:([\d.]+)%', drawing)]
    assert len(dots) == 2
    assert math.isclose(dots[1], 2 * dots[0], rel_tol=1e-3)
    [(left, right)] = re.findall(r'class="whisker [^"]*" style="left:([\d.]+)%;right:calc\(100% - ([\d.]+)%', drawing)
    assert math.isclose(float(right), 3 * float(left), rel_tol=1e-2)


def test_a_table_keeps_what_sorting_and_cards_need() -> None:
    """Each cell carries the name of its column, a short table becomes cards on a narrow screen, text stays text."""
    lines = [
        Line(head=f"<{number}>", entries=["1", Entry(text="2.0", small="[1, 3]", value=2.0)]) for number in range(9)
    ]
    short, long = table(["a", "b"], lines[:8], label="x"), table(["a", "b"], lines, label="x", sortable=True)
    assert 'class="figures cards"' in short
    assert 'class="figures sortable"' in long
    assert long.count("<tr>") == 10
    assert '<th scope="row">&lt;0&gt;</th>' in long
    assert 'data-name="b" data-value="2"' in long
    assert Reading(long).tags.count("td") == 18
