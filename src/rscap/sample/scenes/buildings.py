"""Dense and sparse residential areas, storage tanks and solar farms."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin
from typing import ClassVar, Self

import numpy as np

from rscap.sample.canvas import (
    SUNS,
    Canvas,
    Colour,
    Point,
    Texture,
    ellipse,
    polygon,
    rectangle,
    stroke,
    winding,
)
from rscap.sample.captions import AND, BETWEEN, IN, NEAR, ON, WITHIN, Counted, Phrase, Remark
from rscap.sample.scenes.base import Claim, way_claim
from rscap.sample.things import (
    CONCRETE,
    FOLIAGE,
    GRASS,
    LANDS,
    ROOFS,
    SOIL,
    WAYS,
    Frame,
    Land,
    Plot,
    cars,
    choose,
    fresh,
    houses,
    lands,
    road,
    roads,
    way,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseResidential:
    """Many houses in lines along parallel roads."""

    roads: int
    roof: str
    trees: bool
    turn: float

    @classmethod
    def plan(cls, rng: np.random.Generator) -> Self:
        return cls(
            roads=int(rng.integers(1, 4)),
            roof=choose(rng, ("red", "gray", "brown", "blue")),
            trees=bool(rng.random() < 0.5),
            turn=float(rng.uniform(0, pi)),
        )

    def paint(self, canvas: Canvas) -> None:
        rng, frame = canvas.rng, Frame(self.turn)
        canvas.cover(fresh(GRASS if self.trees else SOIL, rng))
        spacing = 74
        spots = [spacing * (k - (self.roads - 1) / 2) for k in range(self.roads)]
        places = []
        roads(canvas, [[frame.at(-200, spot), frame.at(200, spot)] for spot in spots], 14)
        for spot in spots:
            for _ in range(5):
                x, y = frame.at(float(rng.uniform(-120, 120)), spot + choose(rng, (-4.5, 4.5)))
                places.append((x, y, self.turn))
        cars(canvas, places, length=10, width=5)
        plots = []
        for row in range(-6, 7):
            y = row * 24.7 + (0 if self.roads % 2 else 12.35)
            if min(abs(y - spot) for spot in spots) < 20:
                continue
            for column in range(-7, 8):
                cx, cy = frame.at(column * 25 + float(rng.uniform(-2, 2)), y)
                if -12 < cx < 236 and -12 < cy < 236 and rng.random() < 0.95:
                    plots.append(Plot(cx, cy, float(rng.uniform(17, 20)), float(rng.uniform(15, 17)), self.turn))
        kept = rng.random(len(plots)) < 0.5
        for group in (True, False):
            houses(
                canvas,
                [p for p, its in zip(plots, kept, strict=True) if its == group],
                ROOFS[self.roof],
                "house",
                tall=3.5,
            )
        if self.trees:
            canvas.scatter(300, (3, 5), FOLIAGE, clearance=-1)

    def remarks(self) -> tuple[Remark, ...]:
        roads = Counted(self.roads, "road").plain
        many = Phrase(f"many {self.roof} houses", plural=True)
        trees = "some green trees" if self.trees else "no trees"
        return (
            Remark(NEAR, many, roads),
            Remark(AND, many, Phrase(trees, plural=True)),
            Remark(IN, many, Phrase(f"the dense residential area with {roads.text}")),
            Remark(BETWEEN, Phrase(f"{roads.text} with {trees}", roads.plural), many),
            Remark(IN, Phrase(f"{roads.text} and {trees}", plural=True), Phrase("the dense residential area")),
        )

    def claims(self) -> tuple[Claim, ...]:
        tree = Claim(label="tree", colour="green") if self.trees else Claim(label="tree", count=0)
        return (Claim(label="road", count=self.roads), Claim(label="house", colour=self.roof), tree)


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseResidential:
    """One to four houses on open land with a path, trees and perhaps a pool."""

    houses: int
    roof: str
    land: Land
    pool: bool

    @classmethod
    def plan(cls, rng: np.random.Generator) -> Self:
        return cls(
            houses=int(rng.integers(1, 5)),
            roof=choose(rng, ("red", "gray", "white", "blue")),
            land=lands(rng),
            pool=bool(rng.random() < 0.5),
        )

    def paint(self, canvas: Canvas) -> None:
        rng = canvas.rng
        frame = Frame(choose(rng, (0.0, pi / 2, pi, 3 * pi / 2)) + float(rng.uniform(-0.25, 0.25)))
        canvas.cover(fresh(self.land.texture, rng))
        line = winding(frame.at(-180, 0), frame.at(180, 0), rng, sway=9)
        road(canvas, line, 11, centre=False)
        corners = [(-52.0, -48.0), (44.0, -52.0), (-44.0, 50.0), (52.0, 48.0)]
        rng.shuffle(corners)
        plots = []
        for x, y in corners[: self.houses]:
            cx, cy = frame.at(x + float(rng.uniform(-6, 6)), y)
            plots.append(
                Plot(
                    cx,
                    cy,
                    float(rng.uniform(38, 46)),
                    float(rng.uniform(28, 34)),
                    frame.angle + float(rng.uniform(-0.2, 0.2)),
                )
            )
            drive = [frame.at(x, y * 0.7), frame.at(x, 0)]
            road(canvas, drive, 6, mark=None, centre=False)
        houses(canvas, plots, ROOFS[self.roof], "house", tall=8)
        x, y = corners[0]
        px, py = frame.at(x * 0.98, y + (36 if y > 0 else -36))
        if self.pool:
            shape = (
                rectangle(px, py, 27, 15, frame.angle) if rng.random() < 0.5 else ellipse(px, py, 14, 9, frame.angle)
            )
            canvas.paint(polygon(rectangle(px, py, 34, 22, frame.angle)), (196, 190, 178))
            canvas.paint(polygon(shape), (58, 150, 200), "pool")
        else:
            bed = polygon(rectangle(px, py, 36, 20, frame.angle))
            canvas.paint(polygon(rectangle(px, py, 42, 26, frame.angle)), (96, 116, 66))
            canvas.paint(bed, (112, 78, 52), "garden")
            canvas.furrows(bed, frame.angle, 6, 0.16)
        if self.land.texture is not SOIL:
            canvas.scatter(70, (7, 12), FOLIAGE, clearance=2)
        else:
            canvas.scatter(40, (6, 11), FOLIAGE, clearance=2)

    def remarks(self) -> tuple[Remark, ...]:
        homes = Counted(self.houses, "house", self.roof)
        land, extra = Phrase(self.land.phrase), Phrase("a blue swimming pool" if self.pool else "a brown garden")
        return (
            Remark(ON, homes.full, land),
            Remark(NEAR, homes.plain, extra),
            Remark(AND, homes.full, extra),
            Remark(IN, homes.full, Phrase("the sparse residential area")),
            Remark(ON, Phrase(f"a road and {homes.plain.text}", plural=True), land),
            Remark(NEAR, Phrase("some green trees and a road", plural=True), homes.plain),
        )

    def claims(self) -> tuple[Claim, ...]:
        pool = (
            Claim(label="pool", count=1, colour="blue") if self.pool else Claim(label="garden", count=1, colour="brown")
        )
        return (
            Claim(label="house", count=self.houses, colour=self.roof),
            Claim(label="ground", colour=self.land.colour),
            Claim(label="tree", colour="green"),
            Claim(label="road", count=1),
            pool,
        )


YARD = Land("gray ground", "gray", CONCRETE)


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageTanks:
    """One to six round tanks."""

    tanks: int
    colour: str
    land: Land
    way: str
    turn: float

    PAINTS: ClassVar[dict[str, Colour]] = {"white": (226, 226, 222), "red": (160, 72, 54), "green": (92, 136, 96)}

    @classmethod
    def plan(cls, rng: np.random.Generator) -> Self:
        colour = choose(rng, tuple(cls.PAINTS))
        return cls(
            tanks=int(rng.integers(1, 7)),
            colour=colour,
            land=choose(rng, [YARD, *(land for land in LANDS if land.colour != colour)]),
            way=choose(rng, WAYS),
            turn=float(rng.uniform(0, 2 * pi)),
        )

    def paint(self, canvas: Canvas) -> None:
        rng, frame = canvas.rng, Frame(self.turn)
        canvas.cover(fresh(self.land.texture, canvas.rng))
        way(canvas, self.way, [frame.at(-200, -88), frame.at(200, -88)], 16)
        for x, y in self._spots():
            cx, cy = frame.at(x, y)
            self._tank(canvas, cx, cy, 25 + float(rng.uniform(-1.5, 1.5)) + (12 if self.tanks == 1 else 0))
        pipe = frame([(-66.0, 1.0), (66.0, 1.0)])
        if self.tanks > 3:
            canvas.paint(stroke(1.6, pipe), (176, 172, 164))
        canvas.scatter(10, (5, 8), FOLIAGE)

    def _spots(self) -> list[Point]:
        rows = 2 if self.tanks > 3 else 1
        columns = -(-self.tanks // rows)
        low = 8
        spots = [
            (64 * (c - (columns - 1) / 2), low + 64 * (r - (rows - 1) / 2)) for r in range(rows) for c in range(columns)
        ]
        return spots[: self.tanks]

    def _tank(self, canvas: Canvas, x: float, y: float, radius: float) -> None:
        if self.land is not YARD:
            canvas.paint(polygon(ellipse(x, y, radius + 4, radius + 4)), (150, 142, 126))
        outline = ellipse(x, y, radius, radius)
        canvas.cast([outline], 9)
        canvas.paint(polygon(outline), self.PAINTS[self.colour], "tank", grain=4)
        sun_x, sun_y = SUNS[canvas.sun]
        inner = ellipse(x, y, radius - 3, radius - 3)
        canvas.shade(stroke(1.4, [*outline, outline[0]]), 0.82)
        canvas.shade(polygon([*ellipse(x, y, radius, radius)[:36]]), 0.97)
        canvas.shade(stroke(1.0, [*inner, inner[0]]), 0.9)
        turn = pi / 2 if sun_x > 0 else 0.0
        half = [
            (x + (radius - 3) * cos(turn + k * pi / 18), y + (radius - 3) * sin(turn + k * pi / 18)) for k in range(19)
        ]
        canvas.shade(polygon(half), 1.06)
        canvas.shade(polygon(ellipse(x - sun_x, y - sun_y, 3, 3)), 0.75)

    def remarks(self) -> tuple[Remark, ...]:
        tanks = Counted(self.tanks, "storage tank", self.colour)
        land, way = Phrase(self.land.phrase), Phrase(self.way)
        order = "in two rows" if self.tanks > 3 else "in one row" if self.tanks > 1 else "alone"
        return (
            Remark(NEAR, tanks.full, way),
            Remark(WITHIN, tanks.full, land),
            Remark(AND, tanks.plain, way),
            Remark(
                (f"{{a}} lie{{s}} {order} on {{b}} .", f"{{a}} {{be}} arranged {order} on {{b}} ."), tanks.full, land
            ),
            Remark(ON, Phrase(f"{way.text} and {tanks.plain.text}", plural=True), land),
        )

    def claims(self) -> tuple[Claim, ...]:
        rows = Claim(label="rows", count=2 if self.tanks > 3 else 1)
        return (
            Claim(label="tank", count=self.tanks, colour=self.colour),
            Claim(label="ground", colour=self.land.colour),
            way_claim(self.way),
            rows,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SolarFarm:
    """One to six blocks of panels."""

    blocks: int
    colour: str
    land: Land
    way: str
    turn: float

    PANELS: ClassVar[dict[str, Texture]] = {
        "blue": Texture((46, 70, 122), (56, 82, 136), 64, 4),
        "dark": Texture((30, 34, 46), (38, 43, 56), 64, 4),
    }

    @classmethod
    def plan(cls, rng: np.random.Generator) -> Self:
        return cls(
            blocks=int(rng.integers(1, 7)),
            colour=choose(rng, tuple(cls.PANELS)),
            land=lands(rng),
            way=choose(rng, WAYS),
            turn=choose(rng, (0.0, pi / 2)) + float(rng.uniform(-0.1, 0.1)),
        )

    def paint(self, canvas: Canvas) -> None:
        frame = Frame(self.turn)
        canvas.cover(fresh(self.land.texture, canvas.rng))
        shift = 12.0
        way(canvas, self.way, [frame.at(-200, -90), frame.at(200, -90)], 14)
        rows = 2 if self.blocks > 3 else 1
        columns = -(-self.blocks // rows)
        width = {1: 120.0, 2: 84.0, 3: 58.0}[columns]
        height = 68.0 if rows == 2 else 110.0
        for k in range(self.blocks):
            row, column = divmod(k, columns)
            x = (width + 12) * (column - (columns - 1) / 2)
            y = shift + (height + 14) * (row - (rows - 1) / 2)
            self._block(canvas, frame, x, y, width, height)
        canvas.scatter(14, (4, 7), FOLIAGE)

    def _block(self, canvas: Canvas, frame: Frame, x: float, y: float, width: float, height: float) -> None:
        outline = frame.rectangle(x, y, width, height)
        canvas.cast([outline], 3, depth=0.6)
        canvas.paint(polygon(outline), self.PANELS[self.colour], "panel")
        count = int(height // 9)
        pitch = height / count
        gaps = [frame.rectangle(x, y - height / 2 + pitch * k, width + 1, 2.6) for k in range(1, count)]
        canvas.paint(polygon(*gaps), _middle_colour(self.land))
        lines = [
            [frame.at(x - width / 2 + 8 * k, y - height / 2), frame.at(x - width / 2 + 8 * k, y + height / 2)]
            for k in range(1, int(width / 8))
        ]
        canvas.shade(stroke(0.6, *lines), 1.3)

    def remarks(self) -> tuple[Remark, ...]:
        blocks = Counted(self.blocks, "block").plain
        panels = Phrase(f"{blocks.text} of {self.colour} solar panels", blocks.plural)
        land, way = Phrase(self.land.phrase), Phrase(self.way)
        return (
            Remark(IN, panels, Phrase("the solar farm")),
            Remark(WITHIN, panels, land),
            Remark(NEAR, Phrase(f"{blocks.text} of panels", blocks.plural), way),
            Remark(AND, panels, way),
            Remark(ON, Phrase(f"a solar farm and {way.text}", plural=True), land),
        )

    def claims(self) -> tuple[Claim, ...]:
        return (
            Claim(label="panel", count=self.blocks, colour=self.colour),
            Claim(label="ground", colour=self.land.colour),
            way_claim(self.way),
        )


def _middle_colour(land: Land) -> Colour:
    r, g, b = ((low + high) // 2 for low, high in zip(land.texture.low, land.texture.high, strict=True))
    return r, g, b
