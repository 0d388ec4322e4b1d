"""Airport, parking lot, roundabout and bridge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import cos, pi, sin
from typing import ClassVar, Self

import numpy as np

from rscap.data.sample.canvas import Canvas, ellipse, polygon, rectangle, stroke, winding
from rscap.data.sample.captions import Counted, Templates
from rscap.data.sample.scenes.base import Claim
from rscap.data.sample.things import (
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
    hall,
    houses,
    plane,
    road,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Airport:
    """Planes in a row on an apron, a runway behind, perhaps a terminal."""

    planes: int
    colour: str
    terminal: str | None
    land: Land
    turn: float

    groups: ClassVar[Templates] = (
        (
            "{plane.Some} {plane.be} parked on the apron of the airport .",
            "{plane.Some} {plane.be} parked at the airport .",
        ),
        ("{plane.Tinted} {plane.be} near a gray runway .", "{plane.Tinted} stand{plane.s} next to the runway ."),
        ("The runway of the airport is next to {land} .", "There is {land} beside the runway of the airport ."),
        ("{house} in the airport with {plane.some} .", "{house} near {plane.some} ."),
        ("An airport with {plane.tinted} and {land} .", "It is an airport with {plane.tinted} on a gray apron ."),
    )

    @classmethod
    def plan(cls, rng: np.random.Generator) -> Self:
        return cls(
            planes=int(rng.integers(1, 6)),
            colour=choose(rng, ("white", "white", "blue")),
            terminal=choose(rng, (None, "white", "red")),
            land=choose(rng, LANDS),
            turn=choose(rng, tuple(SIDES.values())) + float(rng.uniform(-0.1, 0.1)),
        )

    def paint(self, canvas: Canvas) -> None:
        rng, frame = canvas.rng, Frame(self.turn)
        canvas.cover(self.land.texture)
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
        if self.terminal:
            width = float(rng.uniform(110, 180))
            hall(canvas, Plot(*frame.at(0, 90 + shift), width, 26, self.turn), ROOFS[self.terminal], "building")
        paint = {"white": (236, 237, 238), "blue": (60, 104, 178)}[self.colour]
        start = float(rng.uniform(-88, 88 - 41 * (self.planes - 1)))
        for k in range(self.planes):
            x, y = frame.at(start + 41 * k, 40 + shift + float(rng.uniform(-3, 3)))
            plane(canvas, x, y, self.turn + pi / 2 + float(rng.uniform(-0.08, 0.08)), 19.5, paint, "plane")

    def words(self) -> Mapping[str, object]:
        house = f"A {self.terminal} terminal building is" if self.terminal else "There is no terminal building"
        return {"plane": Counted(self.planes, "plane", self.colour), "land": self.land.phrase, "house": house}

    def claims(self) -> tuple[Claim, ...]:
        building = (
            (Claim(label="building", count=1, colour=self.terminal),)
            if self.terminal
            else (Claim(label="building", count=0),)
        )
        return (
            Claim(label="plane", count=self.planes, colour=self.colour),
            Claim(label="ground", colour=self.land.colour),
            Claim(label="runway", colour="gray", count=1),
            Claim(label="apron", colour="gray"),
            *building,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkingLot:
    """Rows of stalls, full or half empty, with trees or a building beside them."""

    rows: int
    full: bool
    beside: str
    turn: float

    groups: ClassVar[Templates] = (
        ("{row.Some} of cars {row.be} in the parking lot .", "Cars are parked in {row.some} in the parking lot ."),
        ("The parking lot is {fill} cars .", "A parking lot {fill} cars is on gray ground ."),
        ("{edge} {edge_be} next to the parking lot .", "There {edge_be} {edge} beside the parking lot ."),
        ("{row.Some} of cars {row.be} near {edge} .", "A parking lot with {row.some} of cars is beside {edge} ."),
        (
            "{many} cars are parked neatly in the parking lot .",
            "{many} cars of different colours are in the parking lot .",
        ),
    )

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
        canvas.cover(ASPHALT, "lot")
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

    def words(self) -> Mapping[str, object]:
        trees = self.beside == "tree"
        return {
            "row": Counted(self.rows, "row"),
            "fill": "full of" if self.full else "half empty with some",
            "edge": "some green trees" if trees else f"a {self.beside} building",
            "edge_be": "are" if trees else "is",
            "many": "many" if self.full else "some",
        }

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

    groups: ClassVar[Templates] = (
        ("{road.Some} {road.be} connected to the roundabout .", "The roundabout connects {road.some} ."),
        (
            "There {inside_be} {inside} in the middle of the roundabout .",
            "A round island with {inside} is in the roundabout .",
        ),
        ("The roundabout is surrounded by {around} .", "{around} {around_be} around the roundabout ."),
        ("{road.Some} meet at a roundabout with {inside} .", "A roundabout with {inside} connects {road.some} ."),
        ("A roundabout with {road.some} is near {around} .", "Some cars are on the {road.n} roads of the roundabout ."),
    )

    @classmethod
    def plan(cls, rng: np.random.Generator) -> Self:
        return cls(
            roads=int(rng.integers(3, 6)),
            island=choose(rng, ("tree", "grass", "water")),
            land=choose(rng, LANDS[:2]),
            homes=choose(rng, (None, "red", "gray")),
            turn=float(rng.uniform(0, 2 * pi)),
        )

    def paint(self, canvas: Canvas) -> None:
        rng = canvas.rng
        canvas.cover(self.land.texture)
        arms = [self.turn + 2 * pi * k / self.roads + float(rng.uniform(-0.12, 0.12)) for k in range(self.roads)]
        ends = [(112 + 180 * cos(arm), 112 + 180 * sin(arm)) for arm in arms]
        for end in ends:
            road(canvas, [(112.0, 112.0), end], 22)
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

    def words(self) -> Mapping[str, object]:
        inside = {"tree": "some green trees", "grass": "green grass", "water": "a blue fountain"}[self.island]
        return {
            "road": Counted(self.roads, "road"),
            "inside": inside,
            "inside_be": "are" if self.island == "tree" else "is",
            "around": f"{self.homes} houses" if self.homes else f"trees and {self.land.phrase}",
            "around_be": "are",
        }

    def claims(self) -> tuple[Claim, ...]:
        inside = {"tree": "green", "grass": "green", "water": "blue"}[self.island]
        around = (
            Claim(label="house", colour=self.homes) if self.homes else Claim(label="ground", colour=self.land.colour)
        )
        return (
            Claim(label="arms", count=self.roads),
            Claim(label=f"island {self.island}", count=1, colour=inside),
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

    groups: ClassVar[Templates] = (
        ("{bridge.Some} {bridge.be} over the river .", "{bridge.Some} cross{es} a {water} river ."),
        ("The river under the {bridge.noun} is {water} .", "A {water} river flows under the {bridge.noun} ."),
        ("There are {banks} on both sides of the river .", "{banks} are on the two banks of the river ."),
        (
            "{bridge.Some} {bridge.be} across the river between {banks} .",
            "A {water} river with {bridge.some} is between {banks} .",
        ),
        (
            "Some cars are on the {bridge.noun} over the {water} water .",
            "Roads lead over {bridge.some} with some cars .",
        ),
    )

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
        canvas.cover(choose(rng, LANDS[:2]).texture)
        line = winding(frame.at(-180, 0), frame.at(180, 0), rng, sway=12)
        width = float(rng.uniform(54, 70))
        canvas.paint(stroke(width + 8, line), (158, 142, 110), "bank")
        canvas.paint(stroke(width, line), WATERS[self.water], "water")
        gap = 56
        spots = [gap * (k - (self.bridges - 1) / 2) + float(rng.uniform(-6, 6)) for k in range(self.bridges)]
        places = []
        for spot in spots:
            road(canvas, [frame.at(spot, -200), frame.at(spot, 200)], 15)
            reach = width / 2 + 12
            canvas.cast([frame.rectangle(spot, 0, 20, 2 * reach)], 6, depth=0.6)
            canvas.paint(polygon(frame.rectangle(spot, 0, 20, 2 * reach)), (196, 194, 188), "bridge")
            canvas.paint(polygon(frame.rectangle(spot, 0, 13, 2 * reach)), (128, 129, 131))
            canvas.paint(
                stroke(1.0, *dashes([frame.at(spot, -reach), frame.at(spot, reach)], 7)), (214, 212, 200), grain=0
            )
            for lane in (-3.6, 3.6):
                places.append((*frame.at(spot + lane, float(rng.uniform(-70, 70))), self.turn + pi / 2))
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

    def words(self) -> Mapping[str, object]:
        return {
            "bridge": Counted(self.bridges, "bridge"),
            "es": "es" if self.bridges == 1 else "",
            "water": self.water,
            "banks": self.banks,
        }

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
