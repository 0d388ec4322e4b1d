"""Cells tile a scene, whatever its size, the window and the stride."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rscap.errors import DataError
from rscap.scene.windows import Grid


@settings(deadline=None)
@given(
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    window=st.integers(4, 64),
    share=st.floats(0.05, 1.0),
    block=st.integers(1, 5) | st.none(),
)
def test_cells_tile_the_scene_and_lie_in_their_windows(
    width: int, height: int, window: int, share: float, block: int | None
) -> None:
    """Every pixel lies in exactly one cell; a cell lies inside its window, a window inside the scene; windows are as
    large as asked where the scene is; each place of the grid comes once, in whatever order."""
    grid = Grid.of(width, height, window=window, stride=max(1, round(window * share)))
    cells = np.zeros((height, width), dtype=int)
    places = set()
    for tile in grid.tiles(block):
        cells[tile.cell.y : tile.cell.bottom, tile.cell.x : tile.cell.right] += 1
        assert tile.window.shared(tile.cell) == tile.cell.area > 0
        assert (tile.window.width, tile.window.height) == (min(window, width), min(window, height))
        assert tile.window.x >= 0
        assert tile.window.y >= 0
        assert tile.window.right <= width
        assert tile.window.bottom <= height
        places.add((tile.row, tile.column))
    assert (cells == 1).all()
    assert len(places) == len(grid)


def test_overlapping_neighbours_are_cut_in_the_middle() -> None:
    """Windows of 100 pixels every 80 over 280 share 20 or, at the end, 80 pixels, and their cells meet half way."""
    across = Grid.of(260, 100, window=100, stride=80).across
    assert across.windows == ((0, 100), (80, 100), (160, 100))
    assert across.cells == ((0, 90), (90, 80), (170, 90))


def test_a_stride_wider_than_a_window_is_refused() -> None:
    """It would leave ground that no window sees."""
    with pytest.raises(DataError, match="leaves ground uncovered"):
        Grid.of(100, 100, window=10, stride=11)
