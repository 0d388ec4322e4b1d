"""Airport, parking lot, roundabout and bridge."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin
from typing import Self

import numpy as np

from rscap.sample.canvas import Canvas, ellipse, polygon, rectangle, stroke, winding
from rscap.sample.captions import AND, BETWEEN, IN, NEAR, ON, OVER, WITHIN, Counted, Phrase, Remark
from rscap.sample.scenes.base import Claim
from rscap.sample.things import (
    ASPHALT,
    CONCRETE,
    FOLIAGE,
    LANDS,
    ROOFS,
    SIDES,
    WATERS,
    Frame,
    Land,
    Plot,
    cars,
    choose,
    dashes,
    fresh,
    hall,
    houses,
    lands,
    plane,
    roads,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Airport:
    """Planes in a row on an apron, a runway behind, perhaps a terminal."""

    planes: int
    colour: str
    terminal: str
    land: Land
    turn: float

    @classmethod
    def plan(cls, rng: np.random.Generator) -> Self:
        return cls(
            planes=int(rng.integers(1, 6)),
            colour=choose(rng, ("white", "white", "blue")),
            terminal=choose(rng, ("white", "red", "blue")),
            land=lands(rng),
            turn=choose(rng, tuple(SIDES.values())) + float(rng.uniform(-0.1, 0.1)),
        )

    def paint(self, canvas: Canvas) -> None:
        rng, frame = canvas.rng, Frame(self.turn)
        canvas.cover(fresh(self.land.texture, rng))
        shift = float(rng.uniform(-6, 6))
        canvas.paint(polygon(frame.rectangle(0, -46 + shift, 400, 36)), ASPHALT, "runway")
        middle = [frame.at(-200, -46 + shift), frame.at(200, -46 + shift)]
        canvas.paint(stroke(2.0, *dashes(middle, 10)), (222, 222, 216))
        for edge in (-61, -31):
            canvas.paint(stroke(1.2, [frame.at(-200, edge + shift), frame.at(200, edge + shift)]), (214, 214, 208))
        for x in (-60.0, 60.0):
            canvas.paint(polygon(frame.rectangle(x, -16 + shift, 20, 40)), CONCRETE, "apron")
        canvas.paint(polygon(frame.rectangle(0, 42 + shift, 400, 84)), CONCRETE, "apron")
        for x in range(-110, 130, 22):
            canvas.shade(stroke(0.8, [frame.at(x, shift), frame.at(x, 84 + shift)]), 0.88)
        canvas.paint(stroke(1.2, [frame.at(-200, 12 + shift), frame.at(200, 12 + shift)]), (206, 178, 74))
        width = float(rng.uniform(110, 180))
        hall(canvas, Plot(*frame.at(0, 90 + shift), width, 26, self.turn), ROOFS[self.terminal], "building")
        paint = {"white": (236, 237, 238), "blue": (60, 104, 178)}[self.colour]
        start = float(rng.uniform(-88, 88 - 41 * (self.planes - 1)))
        for k in range(self.planes):
            x, y = frame.at(start + 41 * k, 40 + shift + float(rng.uniform(-3, 3)))
            plane(canvas, x, y, self.turn + pi / 2 + float(rng.uniform(-0.08, 0.08)), 19.5, paint, "plane")

    def remarks(self) -> tuple[Remark, ...]:
        planes = Counted(self.planes, "plane", self.colour)
        land, terminal = Phrase(self.land.phrase), Phrase(f"a {self.terminal} terminal building")
        return (
            Remark(IN, planes.full, Phrase("the airport")),
            Remark(NEAR, planes.plain, terminal),
            Remark(ON, Phrase(f"an airport with {terminal.text}"), land),
            Remark(AND, planes.full, terminal),
            Remark(NEAR, Phrase(f"a runway on {land.text}"), planes.plain),
            Remark(("{a} {be} parked near {b} .", "{a} {be} parked beside {b} ."), planes.full, land),
        )

    def claims(self) -> tuple[Claim, ...]:
        return (
            Claim(label="plane", count=self.planes, colour=self.colour),
            Claim(label="ground", colour=self.land.colour),
            Claim(label="runway", colour="gray", count=1),
            Claim(label="apron", colour="gray"),
            Claim(label="building", count=1, colour=self.terminal),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkingLot:
    """Rows of stalls, full or half empty, with trees or a building beside them."""

    rows: int
    full: bool
    beside: str
    turn: float

    @classmethod
    def plan(cls, rng: np.random.Generator) -> Self:
        return cls(
            rows=int(rng.integers(1, 5)),
            full=bool(rng.random() < 0.5),
            beside=choose(rng, ("tree", "red", "white")),
            turn=choose(rng, tuple(SIDES.values())) + float(rng.uniform(-0.06, 0.06)),
        )

    def paint(self, canvas: Canvas) -> None:
        rng, frame = canvas.rng, Frame(self.turn)
        canvas.cover(fresh(ASPHALT, rng), "lot")
        pitch = 42
        top = 22 - pitch * (self.rows - 1) / 2
        places: list[tuple[float, float, float]] = []
        for row in range(self.rows):
            y = top + pitch * row
            canvas.paint(polygon(frame.rectangle(0, y, 204, 22)), (126, 126, 128), "row")
            lines = [[frame.at(x, y - 11), frame.at(x, y + 11)] for x in range(-102, 103, 12)]
            canvas.paint(stroke(1.0, *lines), (214, 214, 210), grain=0)
            share = 0.94 if self.full else 0.36
            for x in range(-96, 100, 12):
                if rng.random() < share:
                    places.append(
                        (*frame.at(x, y + float(rng.uniform(-1.5, 1.5))), self.turn + choose(rng, (pi / 2, -pi / 2)))
                    )
        cars(canvas, places, length=18, width=8.5)
        self._edge(canvas, frame)

    def _edge(self, canvas: Canvas, frame: Frame) -> None:
        canvas.paint(polygon(frame.rectangle(0, -98, 400, 48)), LANDS[0].texture, "verge")
        if self.beside != "tree":
            hall(canvas, Plot(*frame.at(0, -100), 150, 30, self.turn), ROOFS[self.beside], "building")
            return
        for x in range(-100, 110, 21):
            px, py = frame.at(x + float(canvas.rng.uniform(-3, 3)), -93 + float(canvas.rng.uniform(-2, 2)))
            canvas.tree(px, py, int(canvas.rng.integers(9, 13)), FOLIAGE)

    def remarks(self) -> tuple[Remark, ...]:
        rows = Counted(self.rows, "row").plain
        edge = Phrase("some green trees", plural=True) if self.beside == "tree" else Phrase(f"a {self.beside} building")
        fill = "full" if self.full else "half empty"
        cars = Phrase(f"{'many' if self.full else 'a few'} cars in {rows.text}", plural=True)
        lot = Phrase(f"the {fill} parking lot")
        return (
            Remark(IN, Phrase(f"{rows.text} of cars", rows.plural), lot),
            Remark(NEAR, cars, edge),
            Remark(NEAR, lot, edge),
            Remark(AND, cars, edge),
            Remark(("{a} {be} parked near {b} .", "{a} fill{s} {b} .") if self.full else NEAR[:2], cars, lot),
        )

    def claims(self) -> tuple[Claim, ...]:
        trees = self.beside == "tree"
        beside = Claim(label="tree", colour="green") if trees else Claim(label="building", count=1, colour=self.beside)
        return (Claim(label="row", count=self.rows), Claim(label="lot", colour="gray"), beside)


@dataclass(frozen=True, slots=True, kw_only=True)
class Roundabout:
    """A ring with three to five roads and something in its middle."""

    roads: int
    island: str
    land: Land
    homes: str | None
    turn: float

    @classmethod
    def plan(cls, rng: np.random.Generator) -> Self:
        return cls(
            roads=int(rng.integers(3, 6)),
            island=choose(rng, ("tree", "grass", "water")),
            land=lands(rng),
            homes=choose(rng, (None, "red", "gray")),
            turn=float(rng.uniform(0, 2 * pi)),
        )

    def paint(self, canvas: Canvas) -> None:
        rng = canvas.rng
        canvas.cover(fresh(self.land.texture, rng))
        arms = [self.turn + 2 * pi * k / self.roads + float(rng.uniform(-0.12, 0.12)) for k in range(self.roads)]
        ends = [(112 + 180 * cos(arm), 112 + 180 * sin(arm)) for arm in arms]
        roads(canvas, [[(112.0, 112.0), end] for end in ends], 22)
        canvas.paint(polygon(ellipse(112, 112, 55, 55)), (150, 144, 130))
        canvas.paint(polygon(ellipse(112, 112, 52, 52)), ASPHALT, "road")
        ring = ellipse(112, 112, 41, 41)
        canvas.paint(stroke(1.0, *dashes([*ring, ring[0]], 7)), (205, 203, 190), grain=0)
        canvas.paint(polygon(ellipse(112, 112, 30, 30)), (170, 166, 154), "island")
        canvas.paint(polygon(ellipse(112, 112, 28, 28)), LANDS[0].texture, "island grass")
        if self.island == "tree":
            for k in range(9):
                x, y = (0.0, 0.0) if k == 0 else (16 * cos(k * pi / 4), 16 * sin(k * pi / 4))
                canvas.tree(112 + x, 112 + y, int(rng.integers(7, 10)), FOLIAGE, "island tree")
        elif self.island == "water":
            canvas.paint(polygon(ellipse(112, 112, 20, 20)), (186, 184, 176))
            canvas.paint(polygon(ellipse(112, 112, 17.5, 17.5)), WATERS["blue"], "island water")
        places = []
        for arm in arms:
            for lane in (-5.5, 5.5):
                distance = float(rng.uniform(64, 125))
                x, y = Frame(arm).at(distance, lane)
                places.append((x, y, arm))
        cars(canvas, places, length=12, width=6)
        self._quarters(canvas, arms)

    def _quarters(self, canvas: Canvas, arms: list[float]) -> None:
        if self.homes is None:
            canvas.scatter(70, (6, 10), FOLIAGE)
            return
        plots = []
        for k, arm in enumerate(arms):
            half = (arms[(k + 1) % len(arms)] - arm) % (2 * pi) / 2
            for distance, offset in ((84, 0.0), (116, -22.0), (116, 22.0)):
                if (distance - 8) * sin(half) - abs(offset) < 26 and offset:
                    continue
                x, y = Frame(arm + half).at(distance, offset)
                plots.append(Plot(x, y, 27, 21, arm + half))
        houses(canvas, [p for p in plots if 16 < p.x < 208 and 16 < p.y < 208], ROOFS[self.homes], "house")
        canvas.scatter(24, (4, 6), FOLIAGE)

    def remarks(self) -> tuple[Remark, ...]:
        roads = Counted(self.roads, "road").plain
        inside = {
            "tree": Phrase("some green trees", plural=True),
            "grass": Phrase("green grass"),
            "water": Phrase("a blue fountain"),
        }[self.island]
        around = Phrase(f"{self.homes} houses" if self.homes else f"trees on {self.land.phrase}", plural=True)
        ring = Phrase(f"a roundabout with {inside.text}")
        return (
            Remark(IN, inside, Phrase("the middle of the roundabout")),
            Remark(WITHIN, Phrase(f"a roundabout with {roads.text}"), around),
            Remark(NEAR, ring, around),
            Remark(AND, roads, around),
            Remark(("{a} meet at {b} .", "{a} {be} connected to {b} ."), roads, ring),
        )

    def claims(self) -> tuple[Claim, ...]:
        inside = {"tree": "green", "grass": "green", "water": "blue"}[self.island]
        around = (
            Claim(label="house", colour=self.homes) if self.homes else Claim(label="ground", colour=self.land.colour)
        )
        return (
            Claim(label="arms", count=self.roads),
            Claim(label=f"island {self.island}", colour=inside),
            Claim(label="tree", colour="green"),
            around,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge:
    """A river with one to three bridges across it."""

    bridges: int
    water: str
    banks: str
    turn: float

    @classmethod
    def plan(cls, rng: np.random.Generator) -> Self:
        return cls(
            bridges=int(rng.integers(1, 4)),
            water=choose(rng, ("blue", "green", "brown")),
            banks=choose(rng, ("green trees", "red houses", "gray houses")),
            turn=float(rng.uniform(0, pi)),
        )

    def paint(self, canvas: Canvas) -> None:
        rng, frame = canvas.rng, Frame(self.turn)
        canvas.cover(fresh(choose(rng, LANDS[:3]).texture, rng))
        line = winding(frame.at(-180, 0), frame.at(180, 0), rng, sway=12)
        width = float(rng.uniform(54, 70))
        canvas.paint(stroke(width + 8, line), (158, 142, 110), "bank")
        canvas.paint(stroke(width, line), WATERS[self.water], "water")
        gap = 56
        spots = [gap * (k - (self.bridges - 1) / 2) + float(rng.uniform(-6, 6)) for k in range(self.bridges)]
        roads(canvas, [[frame.at(spot, -200), frame.at(spot, 200)] for spot in spots], 15)
        reach = width / 2 + 12
        decks = [frame.rectangle(spot, 0, 20, 2 * reach) for spot in spots]
        canvas.cast(decks, 6, depth=0.6)
        canvas.paint(polygon(*decks), (196, 194, 188), "bridge")
        canvas.paint(polygon(*(frame.rectangle(spot, 0, 13, 2 * reach) for spot in spots)), (128, 129, 131))
        lines = [dash for spot in spots for dash in dashes([frame.at(spot, -reach), frame.at(spot, reach)], 7)]
        canvas.paint(stroke(1.0, *lines), (214, 212, 200), grain=0)
        lanes = [spot + side for spot in spots for side in (-3.6, 3.6)]
        places = [(*frame.at(lane, float(rng.uniform(-70, 70))), self.turn + pi / 2) for lane in lanes]
        cars(canvas, places, length=11, width=5)
        self._banks(canvas, frame, spots, width)

    def _banks(self, canvas: Canvas, frame: Frame, spots: list[float], width: float) -> None:
        if self.banks == "green trees":
            canvas.scatter(150, (6, 10), FOLIAGE, clearance=1)
            return
        plots = []
        for side in (-1, 1):
            for across in (0, 1, 2):
                for along in range(-150, 160, 30):
                    x, y = frame.at(along, side * (width / 2 + 28 + 27 * across))
                    near = min(abs(along - spot) for spot in spots)
                    if near > 26 and 14 < x < 210 and 14 < y < 210:
                        plots.append(Plot(x, y, 21, 17, self.turn))
        plots = [p for p in plots if _clear(canvas, p)]
        houses(canvas, plots, ROOFS[self.banks.split()[0]], "house")

    def remarks(self) -> tuple[Remark, ...]:
        bridges = Counted(self.bridges, "bridge").plain
        river, banks = Phrase(f"a {self.water} river"), Phrase(self.banks, plural=True)
        crossed = Phrase(f"{river.text} with {bridges.text}")
        return (
            Remark(OVER, bridges, river),
            Remark(NEAR, river, banks),
            Remark(AND, bridges, banks),
            Remark(BETWEEN, crossed, banks),
            Remark(OVER, Phrase(f"{bridges.text} near {banks.text}", bridges.plural), Phrase("the river")),
        )

    def claims(self) -> tuple[Claim, ...]:
        colour, thing = self.banks.split()
        return (
            Claim(label="bridge", count=self.bridges),
            Claim(label="water", colour=self.water),
            Claim(label=thing.rstrip("s"), colour=colour),
        )


def _clear(canvas: Canvas, plot: Plot) -> bool:
    """Whether a building would stand on open ground."""
    mask = polygon(rectangle(plot.x, plot.y, plot.width + 6, plot.height + 6, plot.angle))
    return bool((canvas.labels[mask.window][mask.alpha > 0.5] == canvas.label("ground")).all())
