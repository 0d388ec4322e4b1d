"""Farmland and forest."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin
from typing import ClassVar, Self

import numpy as np

from rscap.sample.canvas import (
    Canvas,
    Colour,
    Point,
    Texture,
    blob,
    ellipse,
    polygon,
    stroke,
    winding,
)
from rscap.sample.captions import AND, IN, NEAR, WITHIN, Counted, Phrase, Remark
from rscap.sample.scenes.base import Claim, way_claim
from rscap.sample.things import (
    FOLIAGE,
    GRASS,
    LANDS,
    SOIL,
    WATERS,
    WAYS,
    Frame,
    Land,
    choose,
    fresh,
    lands,
    road,
    way,
)

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
    land: Land
    way: str
    turn: float

    @classmethod
    def plan(cls, rng: np.random.Generator) -> Self:
        crop = choose(rng, tuple(CROPS))
        return cls(
            fields=int(rng.integers(2, 7)),
            round=bool(rng.random() < 0.4),
            crop=crop,
            land=lands(rng, but=crop),
            way=choose(rng, WAYS),
            turn=choose(rng, (0.0, pi / 2)) + float(rng.uniform(-0.08, 0.08)),
        )

    def paint(self, canvas: Canvas) -> None:
        frame = Frame(self.turn)
        canvas.cover(fresh(self.land.texture, canvas.rng))
        shift = 12
        way(canvas, self.way, [frame.at(-200, -90), frame.at(200, -90)], 14)
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

    def remarks(self) -> tuple[Remark, ...]:
        fields = Counted(self.fields, f"{'circular' if self.round else 'rectangular'} field", self.crop)
        way, land = Phrase(self.way), Phrase(self.land.phrase)
        return (
            Remark(IN, fields.full, Phrase("the farmland")),
            Remark(NEAR, fields.plain, way),
            Remark(AND, fields.full, way),
            Remark(WITHIN, fields.full, land),
            Remark(NEAR, Phrase(f"{self.crop} farmland on {land.text}"), way),
        )

    def claims(self) -> tuple[Claim, ...]:
        return (
            Claim(label="field", count=self.fields, colour=self.crop),
            Claim(label="ground", colour=self.land.colour),
            way_claim(self.way),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Forest:
    """Closed wood with a road, a river or clearings in it."""

    tone: str
    feature: str
    clearings: int
    turn: float

    TONES: ClassVar[dict[str, Colour]] = {"dark green": (46, 70, 44), "green": (84, 112, 60), "brown": (128, 98, 64)}

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

    def remarks(self) -> tuple[Remark, ...]:
        clearing = Counted(self.clearings, "bare clearing").plain
        feature = {"road": Phrase("a gray road"), "river": Phrase("a blue river"), "clearing": clearing}[self.feature]
        trees = f"{self.tone} trees"
        return (
            Remark(IN, feature, Phrase(f"the {self.tone} forest")),
            Remark(WITHIN, feature, Phrase(f"dense {trees}", plural=True)),
            Remark(AND, Phrase(f"many {trees}", plural=True), feature),
            Remark(NEAR, Phrase(f"lots of {trees}", plural=True), feature),
            Remark(IN, Phrase(f"many {trees}", plural=True), Phrase(f"the dense forest with {feature.text}")),
        )

    def claims(self) -> tuple[Claim, ...]:
        feature = {
            "road": Claim(label="road", count=1, colour="gray"),
            "river": Claim(label="river", count=1, colour="blue"),
            "clearing": Claim(label="clearing", count=self.clearings),
        }[self.feature]
        return (Claim(label="tree", colour=self.tone), feature)
