"""Things that several scenes share: lands, roads, houses, vehicles, planes, boats."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import atan2, pi
from typing import TypeVar

import numpy as np

from rscap.sample.canvas import (
    SUNS,
    Canvas,
    Colour,
    Point,
    Points,
    Texture,
    polygon,
    rectangle,
    stroke,
    turned,
)

T = TypeVar("T")

GRASS = Texture((76, 102, 56), (110, 132, 76), 32, 8, (138, 132, 92))
MEADOW = Texture((90, 118, 62), (124, 144, 84), 64, 8, (146, 146, 98))
DRY = Texture((172, 154, 92), (200, 178, 112), 32, 8, (150, 138, 88))
SOIL = Texture((126, 98, 68), (160, 128, 92), 32, 9, (106, 100, 66))
SAND = Texture((204, 180, 128), (222, 200, 150), 64, 6)
PALE_SAND = Texture((214, 208, 194), (230, 226, 214), 64, 6)
CONCRETE = Texture((142, 142, 139), (164, 164, 160), 64, 6)
ASPHALT = Texture((92, 94, 97), (112, 113, 115), 64, 6)
FOLIAGE: Colour = (66, 92, 52)


@dataclass(frozen=True, slots=True)
class Land:
    """A ground with the words that name it."""

    phrase: str
    colour: str
    texture: Texture


RED_SOIL = Texture((146, 84, 60), (174, 106, 78), 32, 9)
LANDS: tuple[Land, ...] = (
    Land("green grass", "green", GRASS),
    Land("bare brown land", "brown", SOIL),
    Land("dry yellow grass", "yellow", DRY),
    Land("red soil", "red", RED_SOIL),
)
WATERS: dict[str, Texture] = {
    "blue": Texture((44, 88, 134), (58, 106, 150), 64, 4),
    "green": Texture((50, 98, 80), (66, 116, 92), 64, 4),
    "brown": Texture((128, 104, 72), (144, 120, 86), 64, 4),
    "dark": Texture((26, 36, 42), (38, 48, 54), 64, 4),
}
ROOFS: dict[str, Colour] = {
    "red": (172, 76, 58),
    "gray": (134, 136, 140),
    "brown": (128, 98, 70),
    "blue": (66, 108, 172),
    "white": (226, 226, 222),
}
CARS: tuple[Colour, ...] = (
    (232, 232, 230),
    (196, 198, 200),
    (46, 48, 54),
    (150, 40, 38),
    (48, 76, 134),
    (118, 120, 124),
)


def choose(rng: np.random.Generator, values: Iterable[T]) -> T:
    """One of some values."""
    options = list(values)
    return options[int(rng.integers(len(options)))]


def lands(rng: np.random.Generator, *, but: str = "") -> Land:
    """A ground whose colour is not that of the things on it."""
    return choose(rng, [land for land in LANDS if land.colour != but])


def fresh(texture: Texture, rng: np.random.Generator) -> Texture:
    """A texture a little lighter or darker, as on another day."""
    factor = float(rng.uniform(0.86, 1.1))
    return replace(
        texture,
        low=_scaled(texture.low, factor),
        high=_scaled(texture.high, factor),
        worn=None if texture.worn is None else _scaled(texture.worn, factor),
    )


def _scaled(colour: Colour, factor: float) -> Colour:
    r, g, b = (min(255, round(channel * factor)) for channel in colour)
    return r, g, b


def varied(colour: Colour, rng: np.random.Generator, spread: int = 8) -> Colour:
    """A colour a little lighter or darker."""
    shift = int(rng.integers(-spread, spread + 1))
    r, g, b = (min(255, max(0, channel + shift)) for channel in colour)
    return r, g, b


@dataclass(frozen=True, slots=True)
class Frame:
    """A turned drawing board whose origin is the middle of the canvas."""

    angle: float
    x: float = 112.0
    y: float = 112.0

    def __call__(self, points: Iterable[Point]) -> list[Point]:
        return turned(points, self.x, self.y, self.angle)

    def at(self, x: float, y: float) -> Point:
        return turned([(x, y)], self.x, self.y, self.angle)[0]

    def rectangle(self, x: float, y: float, width: float, height: float) -> list[Point]:
        return self(rectangle(x, y, width, height))


SIDES: dict[str, float] = {"left": 0.0, "top": pi / 2, "right": pi, "bottom": 3 * pi / 2}
"""Turn of a frame that brings its left side to a side of the picture."""


def road(canvas: Canvas, line: Points, width: float, *, mark: str | None = "road", centre: bool = True) -> None:
    """A road with pale edges and a broken centre line."""
    roads(canvas, [line], width, mark=mark, centre=centre)


def roads(
    canvas: Canvas, lines: Sequence[Points], width: float, *, mark: str | None = "road", centre: bool = True
) -> None:
    """Several roads of one width, laid at once."""
    canvas.paint(stroke(width + 5, *lines), (150, 144, 130))
    canvas.paint(stroke(width, *lines), ASPHALT, mark)
    if centre:
        canvas.paint(stroke(1.0, *(dash for line in lines for dash in dashes(line, 7))), (205, 203, 190), grain=0)


WAYS: tuple[str, ...] = ("a gray road", "a blue stream")


def way(canvas: Canvas, kind: str, line: Points, width: float) -> None:
    """A road or a stream, as the words say; its label is the last word."""
    if kind == "a gray road":
        road(canvas, line, width)
    else:
        canvas.paint(stroke(width + 5, line), (128, 118, 88))
        canvas.paint(stroke(width, line), WATERS["blue"], "stream")


def dashes(line: Points, length: float) -> list[list[Point]]:
    """Every second piece of a line, pieces `length` long."""
    pieces: list[list[Point]] = []
    for (x0, y0), (x1, y1) in pairwise(line):
        distance = max(1e-6, ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5)
        steps = max(1, int(distance / length))
        for k in range(0, steps, 2):
            a, b = k / steps, (k + 1) / steps
            pieces.append([(x0 + (x1 - x0) * a, y0 + (y1 - y0) * a), (x0 + (x1 - x0) * b, y0 + (y1 - y0) * b)])
    return pieces


@dataclass(frozen=True, slots=True)
class Plot:
    """The place of a building: centre, size and turn."""

    x: float
    y: float
    width: float
    height: float
    angle: float = 0.0


def houses(canvas: Canvas, plots: Sequence[Plot], colour: Colour, mark: str | None, *, tall: float = 5.0) -> None:
    """Gabled houses: shadows first, then the two halves of each roof, one of them in shade."""
    if not plots:
        return
    outlines = [rectangle(p.x, p.y, p.width, p.height, p.angle) for p in plots]
    canvas.cast(outlines, tall)
    canvas.paint(polygon(*outlines), varied(colour, canvas.rng), mark, grain=9)
    sun_x, sun_y = SUNS[canvas.sun]
    dark, light = [], []
    for plot in plots:
        halves = [
            turned(
                [(-w, min(0, s * h)), (w, min(0, s * h)), (w, max(0, s * h)), (-w, max(0, s * h))],
                plot.x,
                plot.y,
                plot.angle,
            )
            for w, h, s in ((plot.width / 2, plot.height / 2, 1), (plot.width / 2, plot.height / 2, -1))
        ]
        (ax, ay), (bx, by) = _middle(halves[0]), _middle(halves[1])
        first_is_dark = (ax - bx) * sun_x + (ay - by) * sun_y > 0
        dark.append(halves[0] if first_is_dark else halves[1])
        light.append(halves[1] if first_is_dark else halves[0])
    canvas.shade(polygon(*dark), 0.76)
    canvas.shade(polygon(*light), 1.08)


def _middle(points: Points) -> Point:
    return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)


def hall(canvas: Canvas, plot: Plot, colour: Colour, mark: str | None, *, tall: float = 9.0) -> None:
    """A flat-roofed building with a rim and roof machinery."""
    outline = rectangle(plot.x, plot.y, plot.width, plot.height, plot.angle)
    canvas.cast([outline], tall)
    canvas.paint(polygon(outline), varied(colour, canvas.rng), mark, grain=6)
    canvas.furrows(polygon(outline), plot.angle, 7, 0.05)
    inner = rectangle(plot.x, plot.y, plot.width - 5, plot.height - 5, plot.angle)
    canvas.shade(stroke(1.2, [*inner, inner[0]]), 0.8)
    boxes = []
    for _ in range(4):
        dx, dy = (canvas.rng.random(2) - 0.5) * (plot.width - 16, plot.height - 12)
        boxes.append(turned(rectangle(dx, dy, 5, 4), plot.x, plot.y, plot.angle))
    canvas.cast(boxes, 2.5)
    canvas.shade(polygon(*boxes), 1.12)


def cars(
    canvas: Canvas, places: Sequence[tuple[float, float, float]], *, length: float = 15, width: float = 7.5
) -> None:
    """Parked or driving cars at (x, y, angle) in mixed colours; labels stay as they are."""
    if not places:
        return
    outlines = [rectangle(x, y, length, width, angle) for x, y, angle in places]
    canvas.cast(outlines, 2.5)
    kinds = canvas.rng.integers(0, len(CARS), len(outlines)).tolist()
    for kind, colour in enumerate(CARS):
        if group := [outline for outline, its in zip(outlines, kinds, strict=True) if its == kind]:
            canvas.paint(polygon(*group), colour, grain=0)
    panes = [
        turned(rectangle(side * length, 0, length * 0.13, width * 0.8), x, y, angle)
        for x, y, angle in places
        for side in (-0.22, 0.2)
    ]
    canvas.shade(polygon(*panes), 0.45)


PLANE: tuple[Point, ...] = (
    (1.0, 0.0), (0.93, 0.06), (0.8, 0.09), (0.3, 0.1), (-0.12, 0.92), (-0.3, 0.95), (-0.12, 0.1), (-0.7, 0.07),
    (-0.88, 0.36), (-1.0, 0.37), (-0.92, 0.0),
)  # fmt: skip
"""Half of an airliner, nose to the right, half length 1."""


def plane(canvas: Canvas, x: float, y: float, angle: float, half: float, colour: Colour, mark: str | None) -> None:
    """An airliner of half length `half` pixels."""
    outline = turned([*PLANE, *((px, -py) for px, py in reversed(PLANE[1:-1]))], x, y, angle, half)
    dx, dy = (component * 4 for component in SUNS[canvas.sun])
    canvas.shade(polygon([(px + dx, py + dy) for px, py in outline]), 0.5)
    canvas.paint(polygon(outline), colour, mark, grain=2)
    canvas.shade(stroke(1.2, turned([(0.75, 0.0), (-0.85, 0.0)], x, y, angle, half)), 0.88)
    engines = [turned(rectangle(0.12, side * 0.36, 0.22, 0.1), x, y, angle, half) for side in (-1, 1)]
    canvas.shade(polygon(*engines), 0.7)


def boat(canvas: Canvas, x: float, y: float, angle: float, length: float, colour: Colour, mark: str | None) -> None:
    """A boat with its bow at the end of its heading."""
    hull = [(0.5, 0.0), (0.3, 0.13), (-0.42, 0.14), (-0.5, 0.1), (-0.5, -0.1), (-0.42, -0.14), (0.3, -0.13)]
    outline = turned(hull, x, y, angle, length)
    canvas.cast([outline], 4, depth=0.6)
    canvas.paint(polygon(outline), colour, mark, grain=3)
    cabin = turned(rectangle(-0.12, 0, 0.3, 0.16), x, y, angle, length)
    canvas.cast([cabin], 2, depth=0.7)
    canvas.paint(polygon(cabin), (236, 236, 232), grain=0)
    canvas.shade(polygon(turned(rectangle(0.06, 0, 0.05, 0.16), x, y, angle, length)), 0.4)


def heading(start: Point, end: Point) -> float:
    """Angle of the way from one point to another, radians."""
    return atan2(end[1] - start[1], end[0] - start[0])
