"""The captions of the built-in sample are true to its pictures: claims are looked up in labels and pixels."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from math import cos, pi, sin
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rscap.sample import RenderedScene
from rscap.sample.canvas import SIZE, Canvas
from rscap.sample.captions import NUMBERS
from rscap.sample.scenes import SCENES, Claim

NUMBERS_TRIED = range(0, 40, 3)
SLIVER_PX = 30
"""Pieces of a label smaller than this are rims left by something painted over it."""

# What a colour word means, of a median (red, green, blue); written apart from the renderer's palettes.
COLOUR_MEANS: dict[str, Callable[[float, float, float], bool]] = {
    "red": lambda r, g, b: r > 1.4 * g and r > 1.4 * b,
    "green": lambda r, g, b: g > r and g > b and g > 60,
    "dark green": lambda r, g, b: g > r and g > b and g < 75,
    "blue": lambda r, g, b: b > 1.2 * r and b > 1.1 * g and b > 75,
    "brown": lambda r, g, b: r > 1.08 * g > 1.1 * b and r < 195,
    "yellow": lambda r, g, b: r > g > 1.2 * b and g > 0.8 * r and r > 135,
    "gray": lambda r, g, b: max(r, g, b) < 1.12 * min(r, g, b) and 70 < g < 180,
    "white": lambda r, g, b: max(r, g, b) < 1.12 * min(r, g, b) and min(r, g, b) > 160,
    "dark": lambda r, g, b: max(r, g, b) < 75,
}
# Colours that hold for every picture of a class, said of things too thin for a mask of their own.
ALWAYS = {"beach": {"white"}, "sparse residential": {"green"}, "dense residential": {"green"}}


def pieces(mask: NDArray[np.bool_]) -> list[tuple[int, float, float]]:
    """Connected pieces (4 neighbours) of a mask: pixels, mean x, mean y; slivers left out."""
    parent: list[int] = []
    runs: list[tuple[int, int, int]] = []

    def root(index: int) -> int:
        while parent[index] != index:
            index = parent[index]
        return index

    above: list[int] = []
    for y, row in enumerate(mask):
        edges = np.flatnonzero(np.diff(np.concatenate(([0], row.astype(np.int8), [0]))))
        here = []
        for start, stop in edges.reshape(-1, 2).tolist():
            index = len(runs)
            runs.append((y, start, stop))
            parent.append(index)
            for other in above:
                if runs[other][1] < stop and start < runs[other][2]:
                    parent[root(other)] = root(index)
            here.append(index)
        above = here
    found: dict[int, list[tuple[int, int, int]]] = {}
    for index, run in enumerate(runs):
        found.setdefault(root(index), []).append(run)
    summed = []
    for group in found.values():
        area = sum(stop - start for _, start, stop in group)
        x = sum((stop - start) * (start + stop - 1) / 2 for _, start, stop in group) / area
        summed.append((area, x, sum((stop - start) * y for y, start, stop in group) / area))
    return [piece for piece in summed if piece[0] >= SLIVER_PX]


def roads_at_ring(canvas: Canvas) -> int:
    """Roads that a circle of 64 pixels about the middle crosses."""
    ring = [(112 + 64 * cos(k * pi / 360), 112 + 64 * sin(k * pi / 360)) for k in range(720)]
    on = np.array([canvas.mask("road")[round(y), round(x)] for x, y in ring])
    return int(np.sum(on & ~np.roll(on, 1)))


def rows_of(canvas: Canvas, label: str, turn: float) -> int:
    """Distinct rows of things in the direction in which they were laid out."""
    across = sorted(-x * sin(turn) + y * cos(turn) for _, x, y in pieces(canvas.mask(label)))
    return 1 + sum(second - first > 30 for first, second in pairwise(across))


def counted(canvas: Canvas, claim: Claim, scene: Any) -> int:
    """How many there are in the picture, from the label map."""
    if claim.label == "arms":
        return roads_at_ring(canvas)
    if claim.label == "rows":
        return rows_of(canvas, "court" if "court" in canvas.names else "tank", scene.turn)
    return len(pieces(canvas.mask(claim.label)))


def side_of(mask: NDArray[np.bool_]) -> str:
    """The side of the picture that a region leans to."""
    ys, xs = np.nonzero(mask)
    dx, dy = xs.mean() - SIZE / 2, ys.mean() - SIZE / 2
    if abs(dx) > abs(dy):
        return "right" if dx > 0 else "left"
    return "bottom" if dy > 0 else "top"


@pytest.mark.parametrize("scene_class", SCENES)
def test_claims_hold_in_the_picture(scene_class: str) -> None:
    """Counts, colours and sides that captions are made of are those of the label map and the painted pixels."""
    for number in NUMBERS_TRIED:
        handle = RenderedScene(scene_class, number)
        canvas, scene = handle.canvas(), handle.facts()
        for claim in scene.claims():
            where = f"{handle.name}: {claim} of {scene}"
            if claim.count is not None:
                assert counted(canvas, claim, scene) == claim.count, where
            if claim.colour is not None:
                mask = canvas.mask(claim.label)
                assert mask.sum() >= SLIVER_PX, where
                red, green, blue = (float(value) for value in np.median(canvas.rgb[mask], axis=0))
                assert COLOUR_MEANS[claim.colour](red, green, blue), f"{where}: {red, green, blue}"
            if claim.side is not None:
                assert side_of(canvas.mask(claim.label)) == claim.side, where


@pytest.mark.parametrize("scene_class", SCENES)
def test_captions_say_only_what_is_claimed(scene_class: str) -> None:
    """Every number, colour and side in a caption is one that a claim of the same picture makes."""
    for number in range(40):
        handle = RenderedScene(scene_class, number)
        claims = handle.facts().claims()
        numbers = {NUMBERS[claim.count] for claim in claims if claim.count is not None}
        colours = {word for claim in claims if claim.colour for word in claim.colour.split()}
        sides = {claim.side for claim in claims if claim.side}
        for caption in handle.captions():
            words = set(re.findall(r"[a-z]+", caption.lower()))
            assert words & set(NUMBERS) <= numbers, f"{handle.name}: {caption}"
            assert words & set(COLOUR_MEANS) <= colours | ALWAYS.get(scene_class, set()), f"{handle.name}: {caption}"
            assert words & {"left", "right", "top", "bottom"} <= sides, f"{handle.name}: {caption}"


def test_counting_notices_a_missing_thing() -> None:
    """The counter is not blind: erasing one of several pieces lowers the count by one."""
    mask = np.zeros((SIZE, SIZE), np.bool_)
    mask[10:30, 10:30] = mask[60:90, 100:140] = mask[150:170, 20:200] = True
    mask[155:160, 18:20] = True  # touches the third piece
    assert len(pieces(mask)) == 3
    mask[60:90, 100:140] = False
    assert len(pieces(mask)) == 2
