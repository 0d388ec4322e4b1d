"""Where equal shapes stand: rows, grids, rings and loose groups, with the words for order and place."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np

from rscap.sample.canvas import SIZE, Point, winding
from rscap.sample.things import choose

PLACES = (("upper left", "top", "upper right"), ("left", "centre", "right"), ("lower left", "bottom", "lower right"))


@dataclass(frozen=True, slots=True)
class Layout:
    """Places of equal shapes about the origin, their half size and the half extent of the whole."""

    name: str
    spots: tuple[Point, ...]
    size: float
    reach: tuple[float, float]


def layout(rng: np.random.Generator, count: int, *, room: float) -> Layout:
    """Places of `count` equal shapes in an order that has a name, within `room` pixels."""
    if count == 1:
        size = float(rng.uniform(14, 0.3 * room))
        return Layout("one", ((0.0, 0.0),), size, (size, size))
    choices = ["row", "column", "slope"] if count < 7 else []
    choices += ["grid"] if count > 3 else []
    choices += ["ring"] if 4 < count < 13 else []
    name = choose(rng, (*choices, "scattered"))
    spots: list[Point]
    if name in ("row", "column", "slope"):
        angle = {"row": 0.0, "column": pi / 2, "slope": choose(rng, (pi / 4, -pi / 4))}[name]
        spots = [(k * cos(angle), k * sin(angle)) for k in range(count)]
    elif name == "grid":
        columns = -(-count // 2) if count < 9 else -(-count // 3)
        spots = [(float(k % columns), float(k // columns)) for k in range(count)]
    elif name == "ring":
        radius = 0.5 / sin(pi / count)
        spots = [(radius * cos(2 * pi * k / count), radius * sin(2 * pi * k / count)) for k in range(count)]
    else:
        spots = _scattered(rng, count)
    xs, ys = zip(*spots, strict=True)
    middle = ((min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2)
    extent = max(max(xs) - min(xs), max(ys) - min(ys)) + 1
    pitch = float(rng.uniform(0.75, 1.0)) * min(room / extent, 72.0)
    placed = tuple(((x - middle[0]) * pitch, (y - middle[1]) * pitch) for x, y in spots)
    reach = (max(abs(x) for x, _ in placed) + pitch / 2, max(abs(y) for _, y in placed) + pitch / 2)
    rows = "two rows" if count < 9 else "three rows"
    title = {
        "row": "a level row",
        "column": "an upright row",
        "slope": "a slanting row",
        "grid": rows,
        "ring": "a circle",
    }
    return Layout(title.get(name, "a loose group"), placed, pitch * 0.44, reach)


def _scattered(rng: np.random.Generator, count: int) -> list[Point]:
    """Points at least 1 apart in a square that grows until they fit."""
    side = 1.5 * count**0.5
    spots: list[Point] = []
    while len(spots) < count:
        x, y = (float(value) for value in rng.random(2) * side)
        side *= 1.003
        if all((x - a) ** 2 + (y - b) ** 2 >= 1.15 for a, b in spots):
            spots.append((x, y))
    return spots


def centre(rng: np.random.Generator, reach: tuple[float, float], side: str | None) -> tuple[str, Point]:
    """Where the whole stands, in words and pixels; the strip along `side` stays free."""
    low, high = [4.0, 4.0], [SIZE - 4.0, SIZE - 4.0]
    if side in ("left", "top"):
        low[side == "top"] += 44
    elif side is not None:
        high[side == "bottom"] -= 44
    steps, middle = [1, 1], [0.0, 0.0]
    for axis in (0, 1):
        first, last = low[axis] + reach[axis], high[axis] - reach[axis]
        middle[axis] = (first + last) / 2 if last <= first else float(rng.uniform(first, last))
        steps[axis] = 0 if middle[axis] < 84 else 2 if middle[axis] > SIZE - 84 else 1
    return PLACES[steps[1]][steps[0]], (middle[0], middle[1])


def along(side: str, rng: np.random.Generator) -> list[Point]:
    """A gently bent line along one side of the picture."""
    offset = float(rng.uniform(18, 26))
    near = offset if side in ("left", "top") else SIZE - offset
    ends: list[Point] = [(-20.0, near), (SIZE + 20.0, near)]
    if side in ("left", "right"):
        ends = [(y, x) for x, y in ends]
    return winding(ends[0], ends[1], rng, sway=4)
