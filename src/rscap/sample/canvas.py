"""A canvas seen from above: shapes with soft edges, shadows, surfaces of noise, and a label map that says what every
pixel shows.

All arithmetic on pixels is +, -, *, / and comparisons of float32, and all scaling is Pillow's fixed-point resize of
8-bit images: the same seed gives the same pixels on every machine (no transcendental functions, no matrix products).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import cos, pi, sin

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Array = NDArray[np.float32]
Colour = tuple[int, int, int]
Where = tuple[NDArray[np.intp], NDArray[np.intp]]
"""Row and column of each of n pixels."""

BANK = 512
"""Side of the noise fields; every texture is a random crop of them."""

SUNS: tuple[tuple[float, float], ...] = ((0.8, 0.6), (-0.8, 0.6), (0.6, 0.8), (-0.6, 0.8))
"""Unit vectors (x right, y down) along which shadows fall."""


@dataclass(frozen=True, slots=True)
class Texture:
    """A surface: two colours mixed by soft blotches of `blotch` pixels, a luminance grain of amplitude `grain`, and
    perhaps thin spots where a third colour shows through.
    """

    low: Colour
    high: Colour
    blotch: int = 32
    grain: float = 9.0
    worn: Colour | None = None


@lru_cache(maxsize=16)
def noise(scale: int) -> Array:
    """A field of float32[512, 512] in [-1, 1] whose features are `scale` pixels wide (a power of two)."""
    rng = np.random.default_rng([7121, scale])
    side = BANK // scale
    coarse = Image.fromarray(rng.integers(0, 256, (side, side), dtype=np.uint8))
    fine = coarse if scale == 1 else coarse.resize((BANK, BANK), Image.Resampling.BICUBIC)
    return np.asarray(fine).astype(np.float32) / np.float32(127.5) - np.float32(1)


def crop(field: Array, shape: tuple[int, int], rng: np.random.Generator, at: Where | None = None) -> Array:
    """A random window of `shape` (height, width) of a field of float32[512, 512], or its pixels `at` alone."""
    y, x = (int(rng.integers(0, BANK - extent + 1)) for extent in shape)
    window = field[y : y + shape[0], x : x + shape[1]]
    return window if at is None else window[at]


@lru_cache(maxsize=8)
def blotches(scale: int) -> Array:
    """Weights 0..1 with which the two colours of a texture mix, float32[512, 512]."""
    return noise(scale) * np.float32(0.45) + noise(8) * np.float32(0.3) + noise(4) * np.float32(0.2) + np.float32(0.5)


@lru_cache(maxsize=1)
def speckle() -> Array:
    """Fine grain of about +-1, float32[512, 512]."""
    return noise(1) * np.float32(0.5) + noise(2) * np.float32(0.8)


@lru_cache(maxsize=1)
def thin_spots() -> Array:
    """Weights 0..0.75 with which a worn ground shows through, zero over most of it, float32[512, 512]."""
    return np.clip(
        noise(32) + noise(8) * np.float32(0.5) - noise(4) * np.float32(0.6) - np.float32(0.25), 0, np.float32(0.75)
    )


def surface(texture: Texture, shape: tuple[int, int], rng: np.random.Generator, at: Where | None = None) -> Array:
    """Pixels of a texture on the scale 0..255: float32[height, width, 3], or float32[n, 3] of the pixels `at`."""
    low, high = np.array(texture.low, np.float32), np.array(texture.high, np.float32)
    pixels = crop(blotches(texture.blotch), shape, rng, at)[..., None] * (high - low)
    pixels += low
    if texture.worn is not None:
        weight = crop(thin_spots(), shape, rng, at)[..., None]
        pixels += weight * (np.array(texture.worn, np.float32) - pixels)
    pixels += (crop(speckle(), shape, rng, at) * np.float32(texture.grain))[..., None]
    return pixels


@dataclass(frozen=True, slots=True)
class Sprite:
    """A tree crown: coverage and relative light, float32[2r+3, 2r+3]."""

    alpha: Array
    light: Array


VARIANTS = 6


@lru_cache(maxsize=512)
def crown(radius: int, variant: int, sun: int) -> Sprite:
    """One of six crowns of a radius in pixels, lit against `SUNS[sun]`."""
    rng = np.random.default_rng([311, radius, variant])
    side = 2 * radius + 3
    axis = np.arange(side, dtype=np.float32) - np.float32(radius + 1)
    dx, dy = axis[None, :] / radius, axis[:, None] / radius
    squared = dx * dx + dy * dy + crop(noise(4), (side, side), rng) * np.float32(0.35)
    alpha = np.clip((np.float32(1.05) - squared) * np.float32(radius * 0.5), 0, 1)
    lean = dx * np.float32(SUNS[sun][0]) + dy * np.float32(SUNS[sun][1])
    leaves = crop(noise(2), (side, side), rng) * np.float32(0.22) + crop(noise(1), (side, side), rng) * np.float32(0.08)
    return Sprite(alpha.astype(np.float32), (np.float32(1.0) - lean * np.float32(0.34) + leaves).astype(np.float32))


@lru_cache(maxsize=len(SUNS))
def canopy(sun: int) -> Array:
    """Relative light of a closed wood seen from above, float32[512, 512]: crowns over crowns."""
    rng = np.random.default_rng([911, sun])
    field = np.full((BANK, BANK), 0.42, np.float32)
    for _ in range(5200):
        radius = int(rng.integers(4, 9))
        sprite = crown(radius, int(rng.integers(VARIANTS)), sun)
        y, x = (int(value) for value in rng.integers(0, BANK - 2 * radius - 3, 2))
        window = field[y : y + 2 * radius + 3, x : x + 2 * radius + 3]
        tone = np.float32(0.8 + 0.35 * rng.random())
        window += sprite.alpha * (sprite.light * tone - window)
    return field


SIZE = 224
"""Width and height of every scene in pixels."""

Point = tuple[float, float]
Points = Sequence[Point]


@dataclass(frozen=True, slots=True)
class Mask:
    """Coverage 0..1 of a window of the canvas whose top left corner is (x, y); alpha is float32[height, width]."""

    x: int
    y: int
    alpha: Array

    @property
    def window(self) -> tuple[slice, slice]:
        height, width = self.alpha.shape
        return slice(self.y, self.y + height), slice(self.x, self.x + width)

    @property
    def shape(self) -> tuple[int, int]:
        return self.alpha.shape[0], self.alpha.shape[1]

    def thin(self) -> Where | None:
        """The covered pixels, where they are so few in so large a window that it pays to touch them alone."""
        if self.alpha.size < 4096:
            return None
        rows, columns = np.nonzero(self.alpha)
        return (rows, columns) if len(rows) < self.alpha.size // 3 else None


def _window(points: Iterable[Point], margin: float) -> tuple[int, int, int, int]:
    xs, ys = zip(*points, strict=True)
    left, top = max(0, int(min(xs) - margin)), max(0, int(min(ys) - margin))
    right, bottom = min(SIZE, int(max(xs) + margin) + 2), min(SIZE, int(max(ys) + margin) + 2)
    return left, top, max(left, right), max(top, bottom)


def _rasterise(shapes: Sequence[Points], width: float | None) -> Mask:
    """Draw polygons (`width` None) or open strokes, several times larger, and shrink: soft edges."""
    margin = 0.0 if width is None else width / 2
    left, top, right, bottom = _window((point for shape in shapes for point in shape), margin)
    if right == left or bottom == top:
        return Mask(0, 0, np.zeros((0, 0), np.float32))
    scale = 2 if (right - left) * (bottom - top) > 4096 else 4
    image = Image.new("L", ((right - left) * scale, (bottom - top) * scale))
    draw = ImageDraw.Draw(image)
    for shape in shapes:
        scaled = [((x - left) * scale, (y - top) * scale) for x, y in shape]
        if width is None:
            draw.polygon(scaled, fill=255)
        else:
            draw.line(scaled, fill=255, width=max(1, round(width * scale)), joint="curve" if len(shape) > 2 else None)
    return Mask(left, top, np.asarray(image.reduce(scale)).astype(np.float32) / np.float32(255))


def polygon(*shapes: Points) -> Mask:
    """The union of polygons, clipped to the canvas."""
    return _rasterise(shapes, None)


def stroke(width: float, *lines: Points) -> Mask:
    """Open lines of a width in pixels, with round joints."""
    return _rasterise(lines, width)


def rectangle(x: float, y: float, width: float, height: float, angle: float = 0.0) -> list[Point]:
    """Corners of a rectangle about (x, y), turned by `angle` radians."""
    w, h = width / 2, height / 2
    return turned([(-w, -h), (w, -h), (w, h), (-w, h)], x, y, angle)


def turned(points: Iterable[Point], x: float, y: float, angle: float, scale: float = 1.0) -> list[Point]:
    """Points given about the origin, scaled, turned and moved to (x, y)."""
    c, s = cos(angle) * scale, sin(angle) * scale
    return [(x + px * c - py * s, y + px * s + py * c) for px, py in points]


def ellipse(x: float, y: float, rx: float, ry: float, angle: float = 0.0) -> list[Point]:
    """An ellipse as a polygon of 36 corners."""
    return turned([(rx * cos(k * pi / 18), ry * sin(k * pi / 18)) for k in range(36)], x, y, angle)


def blob(x: float, y: float, radius: float, rng: np.random.Generator, *, wobble: float = 0.18) -> list[Point]:
    """A closed, smooth, irregular outline about (x, y)."""
    phases, sizes = rng.random(4) * 2 * pi, rng.random(4) * wobble
    outline = []
    for k in range(48):
        turn = k * pi / 24
        stretch = 1 + sum(
            size * sin((n + 2) * turn + phase) for n, (size, phase) in enumerate(zip(sizes, phases, strict=True))
        )
        outline.append((x + radius * stretch * cos(turn), y + radius * stretch * sin(turn)))
    return outline


def winding(start: Point, end: Point, rng: np.random.Generator, *, sway: float = 14.0) -> list[Point]:
    """A gently bent line between two points."""
    (x0, y0), (x1, y1) = start, end
    phase, bend = rng.random() * 2 * pi, (rng.random() - 0.5) * 2 * sway
    length = max(1.0, ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5)
    nx, ny = -(y1 - y0) / length, (x1 - x0) / length
    line = []
    for k in range(25):
        t = k / 24
        shift = bend * sin(pi * t) + 0.4 * sway * sin(3 * pi * t + phase)
        line.append((x0 + (x1 - x0) * t + nx * shift, y0 + (y1 - y0) * t + ny * shift))
    return line


def hull(points: Iterable[Point]) -> list[Point]:
    """Convex hull (Andrew's monotone chain)."""
    ordered = sorted(set(points))

    def chain(run: Iterable[Point]) -> list[Point]:
        kept: list[Point] = []
        for x, y in run:
            while len(kept) > 1 and (kept[-1][0] - kept[-2][0]) * (y - kept[-2][1]) <= (kept[-1][1] - kept[-2][1]) * (
                x - kept[-2][0]
            ):
                kept.pop()
            kept.append((x, y))
        return kept[:-1]

    return chain(ordered) + chain(reversed(ordered))


class Canvas:
    """The surface of a scene: `rgb` float32[224, 224, 3] and `labels` uint8[224, 224], an index into `names`.

    Every paint that names a label moves its pixels to that label, so the map always shows what is visible.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.sun = int(rng.integers(len(SUNS)))
        self.rgb: Array = np.zeros((SIZE, SIZE, 3), np.float32)
        self.labels: NDArray[np.uint8] = np.zeros((SIZE, SIZE), np.uint8)
        self.names: list[str] = ["other"]

    def label(self, name: str) -> int:
        """The index of a label, made when new."""
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)

    def mask(self, name: str) -> NDArray[np.bool_]:
        """bool[224, 224]: the pixels that show a label."""
        if name not in self.names:
            return np.zeros((SIZE, SIZE), np.bool_)
        return self.labels == self.names.index(name)

    def cover(self, texture: Texture, mark: str = "ground") -> None:
        """Fill the whole canvas."""
        self.rgb = surface(texture, (SIZE, SIZE), self.rng)
        self.labels[:] = self.label(mark)

    def _blend(self, mask: Mask, pixels: Array, mark: str | None, at: Where | None = None) -> None:
        target = self.rgb[mask.window]
        if at is None:
            target += mask.alpha[..., None] * (pixels - target)
        else:
            old = target[at]
            target[at] = old + mask.alpha[at][:, None] * (pixels - old)
        if mark is not None:
            self.labels[mask.window][mask.alpha > 0.5] = self.label(mark)

    def paint(self, mask: Mask, fill: Texture | Colour, mark: str | None = None, *, grain: float = 5.0) -> None:
        """Lay a texture, or one colour with a fine grain, over a shape."""
        if mask.alpha.size == 0:
            return
        at = mask.thin()
        if isinstance(fill, Texture):
            self._blend(mask, surface(fill, mask.shape, self.rng, at), mark, at)
        else:
            light = crop(noise(2), mask.shape, self.rng, at) * np.float32(grain)
            self._blend(mask, light[..., None] + np.array(fill, np.float32), mark, at)

    def shade(self, mask: Mask, factor: float) -> None:
        """Multiply the light under a shape."""
        at = mask.thin()
        if at is not None:
            self.rgb[mask.window][at] *= (np.float32(1) + mask.alpha[at] * np.float32(factor - 1))[:, None]
        elif mask.alpha.size:
            self.rgb[mask.window] *= (np.float32(1) + mask.alpha * np.float32(factor - 1))[..., None]

    def cast(self, shapes: Iterable[Points], height: float, *, depth: float = 0.5) -> None:
        """Shadows of convex shapes of a height in pixels (of shadow length)."""
        dx, dy = (component * height for component in SUNS[self.sun])
        swept: list[Points] = []
        for shape in shapes:
            moved = [(x + dx, y + dy) for x, y in shape]
            # A low thing and its moved copy overlap so far that the hull would add nothing that can be seen.
            swept += [shape, moved] if height < 4 else [hull([*shape, *moved])]
        if swept:
            self.shade(polygon(*swept), depth)

    def wood(self, mask: Mask, colour: Colour, mark: str | None = "tree") -> None:
        """Closed tree cover over a shape."""
        if mask.alpha.size == 0:
            return
        at = mask.thin()
        light = crop(canopy(self.sun), mask.shape, self.rng, at) * (
            1 + np.float32(0.14) * crop(noise(32), mask.shape, self.rng, at)
        )
        self._blend(mask, light[..., None] * np.array(colour, np.float32), mark, at)

    def tree(self, x: float, y: float, radius: int, colour: Colour, mark: str | None = "tree") -> None:
        """One tree with its shadow; left out where it would cross the edge of the canvas."""
        sprite = crown(radius, int(self.rng.integers(VARIANTS)), self.sun)
        side, left, top = 2 * radius + 3, round(x) - radius - 1, round(y) - radius - 1
        if left < 0 or top < 0 or left + side > SIZE or top + side > SIZE:
            return
        dx, dy = (round(component * radius * 0.7) for component in SUNS[self.sun])
        if 0 <= left + dx <= SIZE - side and 0 <= top + dy <= SIZE - side:
            self.shade(Mask(left + dx, top + dy, sprite.alpha), 0.55)
        self._blend(Mask(left, top, sprite.alpha), sprite.light[..., None] * np.array(colour, np.float32), mark)

    def furrows(self, mask: Mask, angle: float, period: float, depth: float) -> None:
        """Parallel light and dark lines over a shape: ploughing, mowing, panels."""
        if mask.alpha.size == 0:
            return
        height, width = mask.alpha.shape
        ys = np.arange(mask.y, mask.y + height, dtype=np.float32)[:, None] * np.float32(sin(angle) / period)
        xs = np.arange(mask.x, mask.x + width, dtype=np.float32)[None, :] * np.float32(cos(angle) / period)
        phase = xs + ys
        wave = np.abs(phase - np.floor(phase) - np.float32(0.5)) * np.float32(4) - np.float32(1)
        self.rgb[mask.window] *= (np.float32(1) + mask.alpha * wave * np.float32(depth))[..., None]

    def scatter(
        self, count: int, radii: tuple[int, int], colour: Colour, *, on: str = "ground", clearance: int = 3
    ) -> None:
        """Up to `count` trees, each wholly on one label."""
        want = self.label(on)
        for _ in range(count):
            radius = int(self.rng.integers(radii[0], radii[1] + 1))
            x, y = (int(value) for value in self.rng.integers(radius + 2, SIZE - radius - 2, 2))
            if self.labels[y, x] != want:
                continue
            reach = radius + clearance
            around = self.labels[max(0, y - reach) : y + reach + 1 : 3, max(0, x - reach) : x + reach + 1 : 3]
            if (around == want).all():
                self.tree(x, y, radius, colour)

    def image(self) -> Image.Image:
        """The photograph: light of the day, haze, a soft lens, sensor noise; RGB of 224x224. Uses up `rgb`."""
        rng = self.rng
        day = np.float32(0.9 + 0.18 * rng.random()) * (np.float32(0.975) + np.float32(0.05) * rng.random(3, np.float32))
        haze = np.float32(0.08 + 0.16 * rng.random())
        gray = self.rgb[..., 0] * np.float32(0.3)
        gray += self.rgb[..., 1] * np.float32(0.6)
        gray += self.rgb[..., 2] * np.float32(0.1)
        gray *= haze
        gray += crop(noise(64), (SIZE, SIZE), rng)
        self.rgb *= day * (1 - haze)
        self.rgb += gray[..., None]
        np.clip(self.rgb, 0, 255, out=self.rgb)
        soft = Image.fromarray(self.rgb.astype(np.uint8)).filter(ImageFilter.BoxBlur(0.4))
        noisy = np.asarray(soft) + (crop(noise(1), (SIZE, SIZE), rng) * np.float32(5))[..., None]
        return Image.fromarray(np.clip(noisy, 0, 255, out=noisy).astype(np.uint8))
