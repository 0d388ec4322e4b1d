"""Dense and sparse residential areas."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import Self

import numpy as np

from rscap.data.sample.canvas import Canvas, ellipse, polygon, rectangle, winding
from rscap.data.sample.captions import (
    AND,
    BETWEEN,
    IN,
    NEAR,
    ON,
    Counted,
    Phrase,
    Remark,
)
from rscap.data.sample.scenes.base import Claim
from rscap.data.sample.things import (
    FOLIAGE,
    GRASS,
    ROOFS,
    SOIL,
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
