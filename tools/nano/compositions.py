"""The pictures of the nano model's corpus: what is on them, how it is painted, and the words that hold for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import cos, pi, sin

import numpy as np
from layout import along, centre, layout

from rscap.sample.canvas import (
    SIZE,
    Canvas,
    Colour,
    Point,
    Points,
    Texture,
    blob,
    ellipse,
    polygon,
    rectangle,
    stroke,
    turned,
    winding,
)
from rscap.sample.things import (
    ASPHALT,
    CONCRETE,
    DRY,
    FOLIAGE,
    GRASS,
    MEADOW,
    PALE_SAND,
    SAND,
    SOIL,
    WATERS,
    Plot,
    cars,
    choose,
    houses,
    road,
    varied,
)

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")

COLOURS: dict[str, Colour] = {
    "white": (230, 230, 227),
    "gray": (136, 138, 141),
    "red": (168, 70, 54),
    "blue": (58, 98, 164),
    "green": (70, 122, 66),
    "brown": (134, 100, 68),
    "yellow": (208, 180, 82),
    "dark": (40, 43, 50),
}


@dataclass(frozen=True, slots=True)
class Ground:
    """A surface, its names and the object colours that would not stand out on it."""

    names: tuple[str, ...]
    texture: Texture | None
    hides: tuple[str, ...]
    wood: Colour = FOLIAGE


GROUNDS: tuple[Ground, ...] = (
    Ground(("green land", "a lawn", "grassy ground"), GRASS, ("green",)),
    Ground(("green land", "pale green ground"), MEADOW, ("green",)),
    Ground(("bare ground", "brown soil", "bare earth"), SOIL, ("brown", "red")),
    Ground(("yellow ground", "withered grass"), DRY, ("yellow", "brown")),
    Ground(("gray pavement", "paved gray ground"), CONCRETE, ("gray", "white")),
    Ground(("dark pavement", "dark gray ground"), ASPHALT, ("dark", "gray")),
    Ground(("light sand", "sandy ground"), SAND, ("yellow", "white", "brown")),
    Ground(("white sand", "very pale ground"), PALE_SAND, ("white", "gray", "yellow")),
    Ground(("open blue water", "a blue water surface"), WATERS["blue"], ("blue", "dark")),
    Ground(("open green water", "a green water surface"), WATERS["green"], ("green", "blue", "dark")),
    Ground(("dark water", "a dark water surface"), WATERS["dark"], ("dark", "blue")),
    Ground(("muddy water", "a brown water surface"), WATERS["brown"], ("brown", "red", "yellow")),
    Ground(("thick woodland", "a closed green canopy"), None, ("green", "dark"), FOLIAGE),
    Ground(("dark woodland", "a closed dark canopy"), None, ("green", "dark"), (46, 70, 44)),
    Ground(("autumn woodland", "a closed brown canopy"), None, ("brown", "red"), (128, 98, 64)),
)

SHAPES: dict[str, tuple[tuple[str, str], ...]] = {
    "rectangle": (("rectangle", "rectangles"), ("rectangular shape", "rectangular shapes")),
    "circle": (("circle", "circles"), ("round shape", "round shapes"), ("disc", "discs")),
    "oval": (("oval", "ovals"), ("elongated round shape", "elongated round shapes")),
    "ring": (("ring", "rings"), ("hollow circle", "hollow circles")),
    "triangle": (("triangle", "triangles"), ("three-cornered shape", "three-cornered shapes")),
    "cross": (("cross", "crosses"), ("cross shape", "cross shapes")),
    "wedge": (("wedge", "wedges"), ("slice of a circle", "slices of a circle")),
    "bar": (("bar", "bars"), ("narrow strip", "narrow strips")),
    "arrow": (("pointed shape", "pointed shapes"), ("arrow shape", "arrow shapes")),
    "striped": (("striped rectangle", "striped rectangles"), ("panel with stripes", "panels with stripes")),
    "marked": (
        ("rectangle with white lines", "rectangles with white lines"),
        ("marked rectangle", "marked rectangles"),
    ),
    "patch": (("irregular patch", "irregular patches"), ("uneven patch", "uneven patches")),
    "roof": (("roof", "roofs"), ("small building", "small buildings")),
}


@dataclass(frozen=True, slots=True)
class Composition:
    """One picture: how to paint it, and for each kind of sentence the words that hold for it."""

    paint: Callable[[Canvas], None]
    words: Mapping[str, str]
    kinds: tuple[str, ...]


# --- Grounds and bands ---------------------------------------------------------------------------------------------


def _cover(canvas: Canvas, ground: Ground) -> None:
    canvas.cover(ground.texture or GRASS)
    if ground.texture is None:
        canvas.wood(polygon([(0, 0), (SIZE, 0), (SIZE, SIZE), (0, SIZE)]), ground.wood, "ground")


def _lay(canvas: Canvas, kind: str, line: Points, width: float) -> None:
    """One band: a road, a stream or a strip of trees."""
    if kind == "road":
        road(canvas, line, width)
    elif kind == "trees":
        canvas.wood(stroke(width, line), FOLIAGE, "band")
    else:
        canvas.paint(stroke(width + 6, line), (146, 132, 102), "band")
        canvas.paint(stroke(width, line), WATERS[kind], "band")


BANDS: dict[str, tuple[str, str]] = {
    "road": ("a paved road", "paved roads"),
    "blue": ("a band of blue water", "bands of blue water"),
    "green": ("a band of green water", "bands of green water"),
    "brown": ("a band of muddy water", "bands of muddy water"),
    "trees": ("a strip of trees", "strips of trees"),
}


def _band_for(rng: np.random.Generator, ground: Ground) -> str:
    """A band that can be told from the ground."""
    if ground.texture is None:
        return choose(rng, ("road", "blue", "brown"))
    if ground.texture in WATERS.values():
        return "road"
    if ground.texture in (CONCRETE, ASPHALT):
        return choose(rng, ("blue", "green", "trees"))
    return choose(rng, ("road", "road", "blue", "green", "trees"))


OTHERS = ("nothing else", "a few trees", "plenty of trees", "a few vehicles")


def _others(rng: np.random.Generator, ground: Ground) -> str:
    """What stands about; nothing on water and in woodland."""
    wet = ground.texture is None or ground.texture in WATERS.values()
    return OTHERS[0] if wet else choose(rng, OTHERS)


def _scatter(canvas: Canvas, others: str) -> None:
    """Paint what stands about, clear of everything that is there."""
    if others == "a few vehicles":
        places: list[tuple[float, float, float]] = []
        for x, y in canvas.rng.integers(14, SIZE - 14, (60, 2)).tolist():
            free = (canvas.labels[y - 12 : y + 13, x - 12 : x + 13] == canvas.label("ground")).all()
            if free and all(abs(x - a) + abs(y - b) > 34 for a, b, _ in places) and len(places) < 6:
                places.append((x, y, float(canvas.rng.uniform(0, pi))))
        cars(canvas, places, length=19, width=9)
    elif others.endswith("trees"):
        canvas.scatter(10 if others == "a few trees" else 55, (5, 11), FOLIAGE)


# --- Pictures of countable shapes ----------------------------------------------------------------------------------


def _counted(count: int) -> str:
    return NUMBERS[count] if count < len(NUMBERS) else "many"


def _things(rng: np.random.Generator) -> Composition:
    """Equal shapes in some order somewhere on a ground, perhaps beside a band."""
    ground = choose(rng, GROUNDS)
    shape = choose(rng, SHAPES)
    colour = choose(rng, [name for name in COLOURS if name not in ground.hides])
    count = int(rng.integers(1, 7)) if rng.random() < 0.72 else int(rng.integers(7, 19))
    band = _band_for(rng, ground) if rng.random() < 0.4 else None
    order = layout(rng, count, room=150.0 if band else 200.0)
    side = choose(rng, ("top", "bottom", "left", "right"))
    where, middle = centre(rng, order.reach, side if band else None)
    spots = [(middle[0] + x, middle[1] + y) for x, y in order.spots]
    turn = (
        float(rng.uniform(0, 2 * pi))
        if rng.random() < 0.5
        else choose(rng, (0.0, pi / 2)) + float(rng.uniform(-0.1, 0.1))
    )
    forms = choose(rng, SHAPES[shape])
    nouns = forms[0] if count == 1 else forms[1]
    others = _others(rng, ground)

    def paint(canvas: Canvas) -> None:
        _cover(canvas, ground)
        if band:
            _lay(canvas, band, along(side, canvas.rng), float(canvas.rng.uniform(14, 30)))
        _draw(canvas, shape, spots, order.size, turn, COLOURS[colour])
        _scatter(canvas, others)

    words = {
        "ground": choose(rng, ground.names),
        "n": _counted(count),
        "nouns": nouns,
        "colour": colour,
        "things": f"{_counted(count)} {colour} {nouns}",
        "tinted": f"a {colour} {nouns}" if count == 1 else f"{colour} {nouns}",
        "be": "is" if count == 1 else "are",
        "s": "s" if count == 1 else "",
        "place": where,
        "order": order.name,
        "size": "large" if order.size > 21 else "small" if order.size < 12 else "middling",
        "band": BANDS[band][0] if band else "",
        "side": side,
        "others": others,
    }
    kinds = ["whole", "colour", "size", "place"]
    kinds += ["order"] if count > 2 else []
    kinds += ["band"] if band else []
    kinds += ["others"] if others != OTHERS[0] else []
    return Composition(paint, words, tuple(kinds))


def _outline(shape: str, rng: np.random.Generator, x: float, y: float, size: float, turn: float) -> list[Point]:
    """The outline of one shape of half size `size` pixels."""
    if shape in ("circle", "ring"):
        return ellipse(x, y, size, size)
    if shape == "oval":
        return ellipse(x, y, size, size * 0.55, turn)
    if shape == "patch":
        return blob(x, y, size * 0.85, rng, wobble=0.14)
    unit = _units()[shape]
    return turned(unit, x, y, turn, size)


@lru_cache(maxsize=1)
def _units() -> dict[str, list[Point]]:
    a = 0.3
    cross = [(1, a), (a, a), (a, 1), (-a, 1), (-a, a), (-1, a), (-1, -a), (-a, -a), (-a, -1), (a, -1), (a, -a), (1, -a)]
    return {
        "rectangle": rectangle(0, 0, 1.8, 1.15),
        "striped": rectangle(0, 0, 1.8, 1.4),
        "marked": rectangle(0, 0, 1.8, 1.15),
        "roof": rectangle(0, 0, 1.7, 1.25),
        "bar": rectangle(0, 0, 2.0, 0.45),
        "triangle": [(1.0, 0.0), (-0.7, 0.85), (-0.7, -0.85)],
        "cross": [(float(px), float(py)) for px, py in cross],
        "wedge": [
            (-0.7, 0.0),
            *((-0.7 + 1.6 * cos(t), 1.6 * sin(t)) for t in (pi / 4 * (k / 6 - 1) for k in range(13))),
        ],
        "arrow": [(1.0, 0.0), (0.5, 0.3), (-0.95, 0.34), (-0.95, -0.34), (0.5, -0.3)],
    }


def _draw(canvas: Canvas, shape: str, spots: list[Point], size: float, turn: float, colour: Colour) -> None:
    """All shapes of a picture, with shadows and the marks of their kind."""
    if shape == "roof":
        houses(canvas, [Plot(x, y, 1.7 * size, 1.25 * size, turn) for x, y in spots], colour, "thing", tall=size / 4)
        return
    outlines = [_outline(shape, canvas.rng, x, y, size, turn) for x, y in spots]
    if shape == "ring":
        canvas.paint(
            stroke(max(3.0, size * 0.42), *([*outline, outline[0], outline[1]] for outline in outlines)),
            colour,
            "thing",
        )
        return
    if shape not in ("cross", "patch", "marked"):
        canvas.cast(outlines, min(6.0, size / 3))
    mask = polygon(*outlines)
    canvas.paint(mask, varied(colour, canvas.rng), "thing")
    if shape == "striped":
        canvas.furrows(mask, turn, max(3.5, size / 3), 0.28)
    elif shape == "marked":
        for x, y in spots:
            inner = turned(rectangle(0, 0, 1.4, 0.8), x, y, turn, size)
            middle = turned([(0.0, -0.4), (0.0, 0.4)], x, y, turn, size)
            canvas.paint(
                stroke(1.2, [*inner, inner[0]], middle), (232, 232, 226) if colour[0] < 200 else (70, 74, 80), grain=0
            )


# --- Pictures of bands, halves and plain grounds -------------------------------------------------------------------


def _lines(rng: np.random.Generator) -> Composition:
    """One to three bands across a ground."""
    ground = choose(rng, GROUNDS)
    kind = _band_for(rng, ground)
    count = int(rng.integers(1, 4))
    angle = choose(rng, (0.0, pi / 2, pi / 4, -pi / 4)) + float(rng.uniform(-0.12, 0.12))
    direction = {0: "from side to side", 2: "from top to bottom", 1: "at a slant", -1: "at a slant"}[
        round(angle / (pi / 4))
    ]
    others = _others(rng, ground)
    crossing = count == 2 and rng.random() < 0.4
    direction = "in a cross" if crossing else direction
    shifts = [66.0 * (k - (count - 1) / 2) + float(rng.uniform(-8, 8)) for k in range(count)]

    def paint(canvas: Canvas) -> None:
        _cover(canvas, ground)
        width = float(canvas.rng.uniform(13, 38))
        for k, shift in enumerate(shifts):
            way = angle + pi / 2 * (crossing and k == 1)
            ends = turned([(-200, shift), (200, shift)], 112, 112, way)
            line = winding(ends[0], ends[1], canvas.rng, sway=4 if count > 1 else 14)
            _lay(canvas, kind, line, width)
            if kind == "road":
                places = [(*line[int(spot)], way) for spot in canvas.rng.integers(5, 20, 3)]
                cars(canvas, places, length=min(12.0, width * 0.7), width=min(6.0, width * 0.35))
        _scatter(canvas, others)

    bands = BANDS[kind][0] if count == 1 else f"{NUMBERS[count]} {BANDS[kind][1]}"
    words = {"ground": choose(rng, ground.names), "bands": bands, "direction": direction, "others": others}
    return Composition(paint, {**words, "s": "s" if count == 1 else ""}, ("lines",))


def _halves(rng: np.random.Generator) -> Composition:
    """Two grounds on the two sides of a border."""
    ground, second = (choose(rng, GROUNDS) for _ in range(2))
    while second.hides[0] == ground.hides[0]:
        second = choose(rng, GROUNDS)
    sides = {"left": (pi, "right"), "right": (0.0, "left"), "top": (-pi / 2, "bottom"), "bottom": (pi / 2, "top")}
    side = choose(rng, sides)
    angle, other = sides[side]

    def paint(canvas: Canvas) -> None:
        _cover(canvas, second)
        edge = winding((float(canvas.rng.uniform(-14, 14)), -190.0), (0.0, 190.0), canvas.rng, sway=12)
        mask = polygon(turned([*edge, (300, 190), (300, -190)], 112, 112, angle))
        if ground.texture is None:
            canvas.wood(mask, ground.wood, "half")
        else:
            canvas.paint(mask, ground.texture, "half")
        if canvas.rng.random() < 0.4:
            canvas.paint(
                stroke(4, turned(edge, 112, 112, angle)), choose(canvas.rng, ((232, 234, 232), (120, 112, 92)))
            )

    words = {"ground": choose(rng, ground.names), "second": choose(rng, second.names), "side": side, "other": other}
    return Composition(paint, words, ("halves",))


def _plain(rng: np.random.Generator) -> Composition:
    """A ground with trees or nothing on it, perhaps ploughed."""
    ground = choose(rng, [each for each in GROUNDS if each.texture not in WATERS.values()])
    others = _others(rng, ground)
    lined = ground.texture is not None and rng.random() < 0.4
    words = {"ground": choose(rng, ground.names), "others": "parallel furrows" if lined else others}

    def paint(canvas: Canvas) -> None:
        _cover(canvas, ground)
        if lined:
            whole = polygon([(0, 0), (SIZE, 0), (SIZE, SIZE), (0, SIZE)])
            canvas.furrows(whole, float(canvas.rng.uniform(0, pi)), float(canvas.rng.uniform(5, 11)), 0.1)
        else:
            _scatter(canvas, others)

    return Composition(paint, words, ("plain",))


def compose(rng: np.random.Generator) -> Composition:
    """Draw one picture's facts."""
    kind = rng.random()
    if kind < 0.68:
        return _things(rng)
    return _lines(rng) if kind < 0.82 else _halves(rng) if kind < 0.93 else _plain(rng)
