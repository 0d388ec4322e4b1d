"""The grid: windows that cover a scene, and the cell of each, its share of the ground.

Along an axis the windows begin at multiples of the stride; the last one moves inwards, so that it ends with the scene
and overlaps its neighbour. Where two neighbours overlap, their cells meet in the middle of the overlap. Cells tile the
scene exactly, and each lies inside its window.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from rscap.errors import DataError


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """A rectangle of pixels: its left and upper edge, its width and height."""

    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> int:
        return self.x + self.width

    @property
    def bottom(self) -> int:
        return self.y + self.height

    @property
    def area(self) -> int:
        return self.width * self.height

    @property
    def numbers(self) -> list[int]:
        """`[x, y, width, height]`, as records hold it."""
        return [self.x, self.y, self.width, self.height]

    def shared(self, other: Box) -> int:
        """How many pixels both cover."""
        width = min(self.right, other.right) - max(self.x, other.x)
        height = min(self.bottom, other.bottom) - max(self.y, other.y)
        return max(width, 0) * max(height, 0)


@dataclass(frozen=True, slots=True)
class Tile:
    """One place of the grid: its row and column, the window that the model sees, and its cell."""

    row: int
    column: int
    window: Box
    cell: Box


@dataclass(frozen=True, slots=True)
class Axis:
    """Windows and cells along one side of a scene, each as (start, length)."""

    windows: tuple[tuple[int, int], ...]
    cells: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, length: int, window: int, stride: int) -> Axis:
        """The axis of `length` pixels; a scene shorter than a window has one window of its own length."""
        size = min(window, length)
        starts = [*range(0, length - size, stride), length - size]
        edges = [0, *((first + second + size) // 2 for first, second in pairwise(starts)), length]
        cells = tuple((start, end - start) for start, end in pairwise(edges))
        return cls(tuple((start, size) for start in starts), cells)


@dataclass(frozen=True, slots=True)
class Grid:
    """All tiles of a scene of `width` x `height` pixels."""

    width: int
    height: int
    window: int
    stride: int
    across: Axis
    down: Axis

    @classmethod
    def of(cls, width: int, height: int, *, window: int, stride: int) -> Grid:
        """The grid of windows of `window` pixels, one every `stride` pixels.

        Raises:
            DataError: a window or stride below one pixel, or strides that would leave ground between windows.
        """
        if window < 1 or stride < 1:
            raise DataError(f"a window of {window} and a stride of {stride} pixels", hint="both are at least 1")
        if stride > window:
            raise DataError(
                f"a stride of {stride} pixels leaves ground uncovered between windows of {window}",
                hint="the stride is at most the window",
            )
        return cls(width, height, window, stride, Axis.of(width, window, stride), Axis.of(height, window, stride))

    def __len__(self) -> int:
        return len(self.across.windows) * len(self.down.windows)

    @property
    def overlaps(self) -> bool:
        """Whether windows other than the last of a row or column overlap."""
        return self.stride < self.window

    def tile(self, row: int, column: int) -> Tile:
        """The tile at a place."""
        (x, width), (y, height) = self.across.windows[column], self.down.windows[row]
        (left, wide), (upper, high) = self.across.cells[column], self.down.cells[row]
        return Tile(row, column, Box(x, y, width, height), Box(left, upper, wide, high))

    def tiles(self, block: int | None = None) -> Iterator[Tile]:
        """Every tile once: row by row, or in squares of `block` tiles, so that blocks of a file are read once."""
        rows, columns = len(self.down.windows), len(self.across.windows)
        tall, wide = (1, columns) if block is None else (block, block)
        for top in range(0, rows, tall):
            for left in range(0, columns, wide):
                for row in range(top, min(top + tall, rows)):
                    for column in range(left, min(left + wide, columns)):
                        yield self.tile(row, column)
