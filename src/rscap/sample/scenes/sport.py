"""Tennis courts, baseball fields and playgrounds."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin
from typing import Self

import numpy as np

from rscap.sample.canvas import Canvas, Colour, Point, Texture, polygon, stroke
from rscap.sample.captions import AND, NEAR, ON, WITHIN, Counted, Phrase, Remark
from rscap.sample.scenes.base import Claim, way_claim
from rscap.sample.things import (
    FOLIAGE,
    GRASS,
    MEADOW,
    ROOFS,
    WAYS,
    Frame,
    Land,
    Plot,
    choose,
    fresh,
    hall,
    lands,
    road,
    way,
)

COURTS: dict[str, Colour] = {"green": (62, 118, 78), "blue": (58, 96, 158), "red": (166, 78, 60)}
LINE: Colour = (232, 232, 226)


@dataclass(frozen=True, slots=True, kw_only=True)
class TennisCourt:
    """One to six courts in one or two rows."""

    courts: int
    colour: str
    beside: str
    land: Land
    turn: float

    @classmethod
    def plan(cls, rng: np.random.Generator) -> Self:
        colour = choose(rng, tuple(COURTS))
        return cls(
            courts=int(rng.integers(1, 7)),
            colour=colour,
            beside=choose(rng, ("some green trees", "a gray road", "a blue stream")),
            land=lands(rng, but=colour),
            turn=float(rng.uniform(0, pi)),
        )

    def paint(self, canvas: Canvas) -> None:
        rng, frame = canvas.rng, Frame(self.turn)
        canvas.cover(fresh(self.land.texture, rng))
        if self.beside in WAYS:
            side = choose(rng, (-1, 1))
            way(canvas, self.beside, [frame.at(-200, side * 86), frame.at(200, side * 86)], 18)
        for x, y in self._spots():
            canvas.paint(
                polygon(frame.rectangle(x, y, 45, 65)), (112, 122, 116) if self.colour != "green" else (120, 112, 96)
            )
            canvas.paint(polygon(frame.rectangle(x, y, 38, 58)), COURTS[self.colour], "court", grain=3)
            self._lines(canvas, frame, x, y)
        canvas.scatter(90 if self.beside == "some green trees" else 8, (7, 11), FOLIAGE)

    def _spots(self) -> list[Point]:
        columns = self.courts if self.courts < 4 else (self.courts + 1) // 2
        rows = 1 if self.courts < 4 else 2
        spots = [(48 * (c - (columns - 1) / 2), 68 * (r - (rows - 1) / 2)) for r in range(rows) for c in range(columns)]
        return spots[: self.courts]

    def _lines(self, canvas: Canvas, frame: Frame, x: float, y: float) -> None:
        outer = [(x - 12, y - 24), (x + 12, y - 24), (x + 12, y + 24), (x - 12, y + 24), (x - 12, y - 24)]
        lines = [
            outer,
            [(x - 9, y - 24), (x - 9, y + 24)],
            [(x + 9, y - 24), (x + 9, y + 24)],
            [(x - 9, y - 13), (x + 9, y - 13)],
            [(x - 9, y + 13), (x + 9, y + 13)],
            [(x, y - 13), (x, y + 13)],
        ]
        canvas.paint(stroke(1.1, *(frame(line) for line in lines)), LINE, grain=0)
        canvas.shade(stroke(1.4, frame([(x - 15, y), (x + 15, y)])), 0.6)

    def remarks(self) -> tuple[Remark, ...]:
        courts = Counted(self.courts, "tennis court", self.colour)
        beside, land = Phrase(self.beside, "trees" in self.beside), Phrase(self.land.phrase)
        rows = Phrase("two rows" if self.courts > 3 else "one row")
        return (
            Remark(NEAR, courts.full, beside),
            Remark(("{a} {be} arranged in {b} .", "{there} {a} in {b} ."), courts.full, rows),
            Remark(AND, courts.plain, beside),
            Remark(ON, courts.full, land),
            Remark(ON, Phrase(f"{beside.text} and {courts.plain.text}", plural=True), land),
        )

    def claims(self) -> tuple[Claim, ...]:
        beside = way_claim(self.beside) if self.beside in WAYS else Claim(label="tree", colour="green")
        ground = Claim(label="ground", colour=self.land.colour)
        rows = Claim(label="rows", count=2 if self.courts > 3 else 1)
        return (Claim(label="court", count=self.courts, colour=self.colour), ground, beside, rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseballField:
    """One to four diamonds in grass."""

    fields: int
    soil: str
    beside: str
    turn: float

    @classmethod
    def plan(cls, rng: np.random.Generator) -> Self:
        return cls(
            fields=int(rng.integers(1, 5)),
            soil=choose(rng, ("brown", "red")),
            beside=choose(rng, ("some green trees", "a gray road", "a white building")),
            turn=float(rng.uniform(0, 2 * pi)),
        )

    def paint(self, canvas: Canvas) -> None:
        frame = Frame(self.turn)
        canvas.cover(fresh(MEADOW, canvas.rng))
        canvas.furrows(polygon([(0, 0), (224, 0), (224, 224), (0, 224)]), self.turn, 14, 0.04)
        size = {1: 92.0, 2: 66.0, 3: 56.0, 4: 56.0}[self.fields]
        turns = [pi / 4 + k * pi / 2 for k in range(4)]
        if self.fields == 1:
            self._diamond(canvas, frame.at(-40, -40), self.turn + pi / 4, size)
        else:
            gap = 14 if self.fields > 2 else 10
            for quarter in turns[: self.fields] if self.fields != 2 else (turns[0], turns[2]):
                home = frame.at(gap * cos(quarter), gap * sin(quarter))
                self._diamond(canvas, home, self.turn + quarter, size)
        self._beside(canvas, frame)
        if self.beside == "some green trees":
            canvas.scatter(60, (7, 10), FOLIAGE, clearance=1)

    def _diamond(self, canvas: Canvas, home: Point, angle: float, size: float) -> None:
        soil = (
            Texture((142, 104, 68), (166, 126, 86), 32, 6)
            if self.soil == "brown"
            else Texture((166, 76, 52), (186, 92, 64), 32, 6)
        )
        frame = Frame(angle, *home)
        arc = [(size * cos(t), size * sin(t)) for t in (pi / 4 * (k / 8 - 1) for k in range(17))]
        canvas.paint(polygon(frame([(-6.0, 0.0), *arc])), (104, 134, 70), "outfield")
        infield = [(0.68 * x, 0.68 * y) for x, y in arc]
        canvas.paint(polygon(frame([(-5.0, 0.0), *infield])), soil, "infield")
        side = 0.4 * size
        canvas.paint(polygon(frame.rectangle(side * 0.62, 0, side * 0.2, side * 0.2)), soil)
        diamond = [(0.1 * size, 0.0), (0.32 * size, -0.2 * size), (0.52 * size, 0.0), (0.32 * size, 0.2 * size)]
        canvas.paint(polygon(frame(diamond)), (98, 130, 68))
        canvas.paint(
            polygon(frame([(0.3 * size + 0.04 * size * cos(k), 0.04 * size * sin(k)) for k in range(6)])), soil
        )
        canvas.paint(stroke(1.2, *(frame([(0.0, 0.0), end]) for end in (arc[0], arc[-1]))), LINE, grain=0)

    def _beside(self, canvas: Canvas, frame: Frame) -> None:
        y = -88 if self.fields != 2 else -84
        if self.beside == "a gray road":
            road(canvas, [frame.at(-200, y), frame.at(200, y)], 18)
        elif self.beside == "a white building":
            x, y = {2: (0, -78)}.get(self.fields, (0, -88))
            hall(canvas, Plot(*frame.at(x, y), 60, 26, self.turn), ROOFS["white"], "building")

    def remarks(self) -> tuple[Remark, ...]:
        fields = Counted(self.fields, "baseball field", self.soil)
        beside, grass = Phrase(self.beside, "trees" in self.beside), Phrase("green grass")
        return (
            Remark(NEAR, fields.full, beside),
            Remark(ON, fields.full, grass),
            Remark(AND, fields.plain, beside),
            Remark(("{a} {be} fan shaped on {b} .", "{a} with the shape of a fan {be} on {b} ."), fields.full, grass),
            Remark(ON, Phrase(f"{fields.plain.text} and {beside.text}", plural=True), grass),
        )

    def claims(self) -> tuple[Claim, ...]:
        beside = {
            "some green trees": Claim(label="tree", colour="green"),
            "a gray road": Claim(label="road", count=1, colour="gray"),
            "a white building": Claim(label="building", count=1, colour="white"),
        }[self.beside]
        return (
            Claim(label="infield", count=self.fields, colour=self.soil),
            Claim(label="outfield", colour="green"),
            Claim(label="ground", colour="green"),
            beside,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Playground:
    """A field inside a running track, with stands and courts."""

    track: str
    field: str
    stands: int
    stand: str
    land: Land
    turn: float

    @classmethod
    def plan(cls, rng: np.random.Generator) -> Self:
        track = choose(rng, ("red", "blue"))
        return cls(
            track=track,
            field=choose(rng, ("green", "brown")),
            stands=int(rng.integers(1, 3)),
            stand=choose(rng, ("white", "blue", "red")),
            land=lands(rng, but=track),
            turn=float(rng.uniform(0, pi)),
        )

    def paint(self, canvas: Canvas) -> None:
        frame = Frame(self.turn)
        canvas.cover(fresh(self.land.texture, canvas.rng))
        track = {"red": (172, 80, 64), "blue": (66, 104, 168)}[self.track]
        canvas.paint(polygon(frame(_oval(44, 58))), track, "track")
        for radius in (54.0, 50.0, 46.0):
            ring = frame(_oval(44, radius))
            canvas.paint(stroke(0.7, [*ring, ring[0]]), (224, 206, 200), grain=0)
        turf = GRASS if self.field == "green" else Texture((138, 112, 78), (164, 136, 98), 32, 6)
        canvas.paint(polygon(frame(_oval(44, 42))), turf, "field")
        if self.field == "green":
            canvas.furrows(polygon(frame.rectangle(0, 0, 108, 62)), self.turn, 18, 0.08)
        self._pitch(canvas, frame)
        for k in range(self.stands):
            y = (76 if k else -76) * (1 if self.turn < pi / 2 else -1)
            hall(canvas, Plot(*frame.at(0, y), 92, 20, self.turn), ROOFS[self.stand], "stand")
        canvas.scatter(50, (6, 9), FOLIAGE)

    def _pitch(self, canvas: Canvas, frame: Frame) -> None:
        box = [(-54.0, -31.0), (54.0, -31.0), (54.0, 31.0), (-54.0, 31.0), (-54.0, -31.0)]
        circle = [(11 * cos(k * pi / 12), 11 * sin(k * pi / 12)) for k in range(25)]
        areas = [[(s * 54.0, -16.0), (s * 40.0, -16.0), (s * 40.0, 16.0), (s * 54.0, 16.0)] for s in (-1, 1)]
        lines = [box, circle, *areas, [(0.0, -31.0), (0.0, 31.0)]]
        canvas.paint(stroke(1.1, *(frame(line) for line in lines)), LINE, grain=0)

    def remarks(self) -> tuple[Remark, ...]:
        stands = Counted(self.stands, "stand", self.stand).full
        land = Phrase(self.land.phrase)
        track, field = Phrase(f"a {self.track} track"), Phrase(f"a {self.field} football field")
        return (
            Remark(WITHIN, field, track),
            Remark(ON, Phrase(f"a playground with {track.text}"), land),
            Remark(NEAR, stands, field),
            Remark(AND, stands, track),
            Remark(ON, Phrase(f"{field.text} and {stands.text}", plural=True), land),
            Remark(WITHIN, Phrase(f"a playground with {stands.text}"), land),
        )

    def claims(self) -> tuple[Claim, ...]:
        return (
            Claim(label="track", count=1, colour=self.track),
            Claim(label="field", count=1, colour=self.field),
            Claim(label="stand", count=self.stands, colour=self.stand),
            Claim(label="ground", colour=self.land.colour),
        )


def _oval(half: float, radius: float) -> list[Point]:
    """A running track's outline: two straights of 2 x half, two half circles."""
    right = [(half + radius * cos(t), radius * sin(t)) for t in (pi * (k / 16 - 0.5) for k in range(17))]
    left = [(-half + radius * cos(t), radius * sin(t)) for t in (pi * (k / 16 + 0.5) for k in range(17))]
    return [*right, *left]
