"""Harbour, beach and pond."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import Self

import numpy as np

from rscap.sample.canvas import Canvas, Point, blob, polygon, stroke, winding
from rscap.sample.captions import AND, BETWEEN, IN, NEAR, ON, WITHIN, Counted, Phrase, Remark
from rscap.sample.scenes.base import Claim, way_claim
from rscap.sample.things import (
    CONCRETE,
    FOLIAGE,
    LANDS,
    PALE_SAND,
    ROOFS,
    SAND,
    SIDES,
    WATERS,
    WAYS,
    Frame,
    Land,
    Plot,
    boat,
    cars,
    choose,
    fresh,
    hall,
    road,
    way,
)

BOATS = {"white": (236, 236, 234), "red": (184, 52, 44)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Harbour:
    """Boats at piers that leave a quay on one side of the picture."""

    boats: int
    colour: str
    water: str
    side: str

    @classmethod
    def plan(cls, rng: np.random.Generator) -> Self:
        return cls(
            boats=int(rng.integers(1, 7)),
            colour=choose(rng, tuple(BOATS)),
            water=choose(rng, ("blue", "green", "dark")),
            side=choose(rng, tuple(SIDES)),
        )

    def paint(self, canvas: Canvas) -> None:
        rng = canvas.rng
        frame = Frame(SIDES[self.side])
        canvas.cover(fresh(WATERS[self.water], rng), "water")
        canvas.cast([frame.rectangle(-95, 0, 62, 300)], 6, depth=0.6)
        canvas.paint(polygon(frame.rectangle(-95, 0, 62, 300)), CONCRETE, "quay")
        hall(
            canvas,
            Plot(*frame.at(-97, float(rng.uniform(-40, 40))), 34, 90, frame.angle),
            choose(rng, tuple(ROOFS.values())),
            None,
        )
        places = [(*frame.at(-73, y), frame.angle) for y in range(-100, 104, 11) if rng.random() < 0.5]
        cars(canvas, places, length=11, width=6)
        slots = []
        for pier in (-74.0, 0.0, 74.0):
            board = frame.rectangle(-4, pier, 124, 8)
            canvas.cast([board], 3, depth=0.6)
            canvas.paint(polygon(board), (150, 138, 122), "pier")
            slots += [(x, pier + side * 18) for x in (-32.0, 28.0) for side in (-1, 1)]
        order = rng.permutation(len(slots))[: self.boats]
        for index in order.tolist():
            x, y = frame.at(slots[index][0] + float(rng.uniform(-3, 3)), slots[index][1])
            bow = frame.angle + choose(rng, (0.0, pi)) + float(rng.uniform(-0.06, 0.06))
            boat(canvas, x, y, bow, float(rng.uniform(46, 52)), BOATS[self.colour], "boat")

    def remarks(self) -> tuple[Remark, ...]:
        boats = Counted(self.boats, "boat", self.colour)
        water, quay = Phrase(f"{self.water} water"), Phrase(f"a gray quay on the {self.side}")
        return (
            Remark(IN, boats.full, Phrase("the harbour")),
            Remark(ON[:2], boats.full, water),
            Remark(NEAR, boats.full, quay),
            Remark(AND, boats.plain, quay),
            Remark(NEAR, Phrase(f"a harbour with {water.text}"), quay),
        )

    def claims(self) -> tuple[Claim, ...]:
        return (
            Claim(label="boat", count=self.boats, colour=self.colour),
            Claim(label="water", colour=self.water),
            Claim(label="quay", count=1, colour="gray", side=self.side),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Beach:
    """Sea, surf, sand and what lies behind."""

    water: str
    sand: str
    back: str
    side: str

    @classmethod
    def plan(cls, rng: np.random.Generator) -> Self:
        return cls(
            water=choose(rng, ("blue", "green")),
            sand=choose(rng, ("yellow", "white")),
            back=choose(rng, ("green trees", "red buildings", "gray buildings")),
            side=choose(rng, tuple(SIDES)),
        )

    def paint(self, canvas: Canvas) -> None:
        rng = canvas.rng
        frame = Frame(SIDES[self.side] + float(rng.uniform(-0.2, 0.2)))
        canvas.cover(fresh(WATERS[self.water], rng), "water")
        shore = float(rng.uniform(-30, 5))
        edge = winding((shore, -190), (shore, 190), rng, sway=10)
        for shift, colour in ((-16, 0.35), (-9, 0.6)):
            self._surf(canvas, frame, edge, shift, colour)
        self._land(canvas, frame, edge, 0, (170, 146, 104))
        beach = SAND if self.sand == "yellow" else PALE_SAND
        canvas.paint(polygon(frame([*((x + 5, y) for x, y in edge), (300, 190), (300, -190)])), beach, "sand")
        depth = float(rng.uniform(48, 62))
        line = winding((shore + depth, -190), (shore + depth, 190), rng, sway=4)
        canvas.paint(polygon(frame([*line, (300, 190), (300, -190)])), LANDS[0].texture, "ground")
        if self.back == "green trees":
            canvas.wood(polygon(frame([*((x + 5, y) for x, y in line), (300, 190), (300, -190)])), FOLIAGE)
            return
        road(canvas, frame([(shore + depth + 10, -190), (shore + depth + 10, 190)]), 10)
        for y in range(-130, 140, 44):
            for across in (34.0, 78.0):
                plot = Plot(*frame.at(shore + depth + across, y + float(rng.uniform(-3, 3))), 34, 32, frame.angle)
                hall(canvas, plot, ROOFS[self.back.split()[0]], "building")

    def _surf(self, canvas: Canvas, frame: Frame, edge: list[Point], shift: float, strength: float) -> None:
        line = [(x + shift + 2.5 * ((k * 7) % 3 - 1), y) for k, (x, y) in enumerate(edge)]
        mask = stroke(4.0 + 4 * strength, frame(line))
        canvas.paint(type(mask)(mask.x, mask.y, mask.alpha * np.float32(strength + 0.2)), (232, 236, 236), "wave")

    def _land(self, canvas: Canvas, frame: Frame, edge: list[Point], shift: float, wet: tuple[int, int, int]) -> None:
        canvas.paint(stroke(6, frame([(x + shift - 3, y) for x, y in edge])), (240, 242, 240), "wave")
        canvas.paint(polygon(frame([*((x + shift, y) for x, y in edge), (300, 190), (300, -190)])), wet)

    def remarks(self) -> tuple[Remark, ...]:
        beach, sea = Phrase(f"a {self.sand} beach"), Phrase(f"the {self.water} sea")
        back = Phrase(f"some {self.back}", plural=True)
        side = Phrase(f"{sea.text} on the {self.side}")
        return (
            Remark(NEAR, beach, sea),
            Remark(NEAR, side, beach),
            Remark(NEAR, back, beach),
            Remark(BETWEEN, beach, Phrase(f"{back.text} and {sea.text}", plural=True)),
            Remark(AND, back, side),
            Remark(NEAR, Phrase(f"white waves on the {self.side}", plural=True), beach),
        )

    def claims(self) -> tuple[Claim, ...]:
        colour, thing = self.back.split()
        return (
            Claim(label="water", colour=self.water, side=self.side),
            Claim(label="sand", colour=self.sand),
            Claim(label="wave", colour="white"),
            Claim(label=thing.rstrip("s"), colour=colour),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pond:
    """One to three ponds in grass, bare land or wood."""

    ponds: int
    water: str
    around: str
    way: str

    @classmethod
    def plan(cls, rng: np.random.Generator) -> Self:
        return cls(
            ponds=int(rng.integers(1, 4)),
            water=choose(rng, ("blue", "green", "dark", "brown")),
            around=choose(rng, ("dense green trees", *(land.phrase for land in LANDS))),
            way=choose(rng, WAYS),
        )

    @property
    def _land(self) -> Land:
        return next((land for land in LANDS if land.phrase == self.around), LANDS[0])

    def paint(self, canvas: Canvas) -> None:
        rng = canvas.rng
        frame = Frame(float(rng.uniform(0, 2 * pi)))
        canvas.cover(fresh(self._land.texture, rng))
        radius, spots = {1: (56, [(0, 0)]), 2: (37, [(-48, 8), (46, -8)]), 3: (29, [(-50, 26), (52, 24), (0, -52)])}[
            self.ponds
        ]
        outlines = [blob(*frame.at(x, y), radius + float(rng.uniform(-3, 3)), rng, wobble=0.15) for x, y in spots]
        offset = {1: 95, 2: 92, 3: 92}[self.ponds]
        way(canvas, self.way, winding(frame.at(-180, offset), frame.at(180, offset), rng, sway=6), 13)
        if self.around == "dense green trees":
            mask = polygon([(0, 0), (224, 0), (224, 224), (0, 224)])
            alpha = mask.alpha * (canvas.labels[mask.window] == canvas.label("ground"))
            canvas.wood(type(mask)(mask.x, mask.y, alpha.astype(np.float32)), FOLIAGE)
        for outline in outlines:
            canvas.paint(stroke(5, [*outline, outline[0]]), (138, 128, 98), "shore")
            canvas.paint(polygon(outline), WATERS[self.water], "water")
        canvas.scatter(26, (6, 10), FOLIAGE)

    def remarks(self) -> tuple[Remark, ...]:
        ponds = Counted(self.ponds, "pond", self.water)
        around, way = Phrase(self.around, self.around.endswith("trees")), Phrase(self.way)
        return (
            Remark(WITHIN, ponds.full, around),
            Remark(NEAR, ponds.plain, way),
            Remark(AND, ponds.full, way),
            Remark(WITHIN, Phrase(f"{way.text} and {ponds.plain.text}", plural=True), around),
            Remark(
                ("{a} of irregular shape {be} near {b} .", "{a} {be} irregular with {b} around ."), ponds.full, around
            ),
        )

    def claims(self) -> tuple[Claim, ...]:
        wood = self.around.endswith("trees")
        around = Claim(label="tree", colour="green") if wood else Claim(label="ground", colour=self._land.colour)
        return (Claim(label="water", count=self.ponds, colour=self.water), around, way_claim(self.way))
