"""Farmland and forest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import cos, pi, sin
from typing import ClassVar, Self

import numpy as np

from rscap.data.sample.canvas import Canvas, Point, blob, ellipse, polygon, stroke, winding
from rscap.data.sample.captions import Counted, Templates
from rscap.data.sample.scenes.base import Claim
from rscap.data.sample.texture import Colour, Texture
from rscap.data.sample.things import DRY, FOLIAGE, GRASS, LANDS, SOIL, WATERS, Frame, choose, road

CROPS: dict[str, Texture] = {
    "green": Texture((70, 112, 52), (98, 138, 70), 32, 6),
    "brown": Texture((130, 96, 66), (158, 122, 88), 32, 6),
    "yellow": Texture((190, 168, 88), (214, 192, 112), 32, 6),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Farmland:
    """Fields side by side or in circles."""

    fields: int
    round: bool
    crop: str
    road: bool
    turn: float

    groups: ClassVar[Templates] = (
        ("{field.Some} {field.be} in the farmland .", "There {field.be} {field.some} in the {crop} farmland ."),
        (
            "The farmland is {crop} and divided into {shape} fields .",
            "It is a piece of {crop} farmland with {shape} fields .",
        ),
        ("{road} {road_to} the farmland .", "{road} {road_to} {field.some} ."),
        ("{field.Tinted} {field.be} arranged in the farmland .", "The farmland is made of {field.tinted} ."),
        ("The {crop} fields {where} .", "The {shape} fields in the farmland are {crop} ."),
    )

    @classmethod
    def plan(cls, rng: np.random.Generator) -> Self:
        return cls(
            fields=int(rng.integers(2, 7)),
            round=bool(rng.random() < 0.4),
            crop=choose(rng, tuple(CROPS)),
            road=bool(rng.random() < 0.5),
            turn=choose(rng, (0.0, pi / 2)) + float(rng.uniform(-0.08, 0.08)),
        )

    def paint(self, canvas: Canvas) -> None:
        frame = Frame(self.turn)
        canvas.cover({"green": DRY, "brown": GRASS, "yellow": GRASS}[self.crop])
        shift = 12 if self.road else 0
        if self.road:
            road(canvas, [frame.at(-200, -90), frame.at(200, -90)], 14)
        rows = 2 if self.fields > 3 else 1
        columns = -(-self.fields // rows)
        height = (196.0 - shift) / rows
        for k in range(self.fields):
            row, column = divmod(k, columns)
            here = columns if row < rows - 1 else self.fields - columns * (rows - 1)
            width = 200.0 / here
            x, y = width * (column - (here - 1) / 2), shift + height * (row - (rows - 1) / 2)
            self._field(canvas, frame, x, y, width, height)
        canvas.scatter(14, (4, 6), FOLIAGE)

    def _field(self, canvas: Canvas, frame: Frame, x: float, y: float, width: float, height: float) -> None:
        if self.round:
            radius = min(width, height, 84) / 2 - 3
            outline: list[Point] = ellipse(*frame.at(x, y), radius, radius)
        else:
            outline = frame.rectangle(x, y, width - 7, height - 7)
        mask = polygon(outline)
        canvas.paint(mask, CROPS[self.crop], "field")
        canvas.furrows(mask, self.turn + choose(canvas.rng, (0.0, pi / 2)), choose(canvas.rng, (5.0, 7.0, 9.0)), 0.09)

    def words(self) -> Mapping[str, object]:
        shape = "circular" if self.round else "rectangular"
        return {
            "field": Counted(self.fields, f"{shape} field", self.crop),
            "crop": self.crop,
            "shape": shape,
            "road": "A gray road is" if self.road else "There is no road",
            "road_to": "beside" if self.road else "near",
            "where": "are next to a gray road" if self.road else "have straight lines",
        }

    def claims(self) -> tuple[Claim, ...]:
        way = Claim(label="road", count=1, colour="gray") if self.road else Claim(label="road", count=0)
        return (Claim(label="field", count=self.fields, colour=self.crop), way)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forest:
    """Closed wood with a road, a river or clearings in it."""

    tone: str
    feature: str
    clearings: int
    turn: float

    TONES: ClassVar[dict[str, Colour]] = {"dark green": (46, 70, 44), "green": (84, 112, 60), "brown": (128, 98, 64)}

    groups: ClassVar[Templates] = (
        ("The forest is full of dense {tone} trees .", "Many {tone} trees are in the forest ."),
        ("{inside} the forest .", "{inside} the {tone} forest ."),
        ("The trees in the forest are {tone} .", "It is a dense {tone} forest ."),
        ("A {tone} forest with {feature} .", "There {be} {feature} between the {tone} trees ."),
        ("Dense trees surround {feature} .", "Many {tone} trees are around {feature} ."),
    )

    @classmethod
    def plan(cls, rng: np.random.Generator) -> Self:
        feature = choose(rng, ("road", "river", "clearing", "clearing"))
        return cls(
            tone=choose(rng, tuple(cls.TONES)),
            feature=feature,
            clearings=int(rng.integers(1, 4)) if feature == "clearing" else 0,
            turn=float(rng.uniform(0, 2 * pi)),
        )

    def paint(self, canvas: Canvas) -> None:
        rng, frame = canvas.rng, Frame(self.turn)
        canvas.cover(GRASS, "ground")
        canvas.wood(polygon([(0, 0), (224, 0), (224, 224), (0, 224)]), self.TONES[self.tone])
        offset = float(rng.uniform(-40, 40))
        line = winding(frame.at(-190, offset), frame.at(190, offset), rng, sway=22)
        if self.feature == "road":
            road(canvas, line, 15)
        elif self.feature == "river":
            self._river(canvas, line)
        reach = 0 if self.clearings == 1 else 54
        for k in range(self.clearings):
            angle = self.turn + 2 * pi * k / max(1, self.clearings)
            outline = blob(112 + reach * cos(angle), 112 + reach * sin(angle), 30, rng)
            canvas.cast([outline], 0.5)
            canvas.paint(polygon(outline), SOIL if self.tone != "brown" else LANDS[2].texture, "clearing")

    def _river(self, canvas: Canvas, line: list[Point]) -> None:
        canvas.paint(stroke(32, line), (112, 104, 80))
        canvas.paint(stroke(26, line), WATERS["blue"], "river")

    def words(self) -> Mapping[str, object]:
        clearing = Counted(self.clearings, "bare clearing")
        feature = {"road": "a gray road", "river": "a blue river", "clearing": clearing.some}[self.feature]
        inside = {
            "road": "A gray road goes through",
            "river": "A blue river flows through",
            "clearing": f"There {clearing.be} {clearing.some} in",
        }[self.feature]
        return {"tone": self.tone, "feature": feature, "inside": inside, "be": clearing.be if self.clearings else "is"}

    def claims(self) -> tuple[Claim, ...]:
        feature = {
            "road": Claim(label="road", count=1, colour="gray"),
            "river": Claim(label="river", count=1, colour="blue"),
            "clearing": Claim(label="clearing", count=self.clearings),
        }[self.feature]
        return (Claim(label="tree", colour=self.tone), feature)
