"""Tokens are drawn in proportion to their probability, from one number in [0, 1) each."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rscap.captioner.choice import NEAR_TIE, best, drawn

scores = st.lists(st.floats(-8, 8, width=32), min_size=2, max_size=12)


@given(scores)
def test_evenly_spread_numbers_draw_tokens_in_proportion(row: list[float]) -> None:
    """N numbers evenly spread over [0, 1) draw each token N p times, give or take one at its two edges."""
    count = 500
    tokens, _ = drawn(torch.tensor([row] * count), [(number + 0.5) / count for number in range(count)])
    share = torch.tensor(row).double().softmax(0) * count
    times = torch.bincount(tokens, minlength=len(row))
    assert (times - share).abs().max() <= 1.0 + 1e-6


@given(scores, st.floats(0, 1, exclude_max=True), st.sets(st.integers(0, 11)))
def test_what_was_cut_off_is_never_drawn(row: list[float], at: float, cut: set[int]) -> None:
    """A token with a score of -inf is not drawn, wherever in [0, 1) the number lies, its ends included."""
    given = torch.tensor([row])
    banned = [token for token in sorted(cut) if token < len(row)][: len(row) - 1]
    given[0, banned] = -torch.inf
    for number in (at, 0.0, 1.0 - 2**-53):
        assert drawn(given, [number])[0].item() not in banned


@pytest.mark.parametrize(("at", "near"), [(0.25, False), (0.5, True), (0.5 + NEAR_TIE / 2, True), (0.51, False)])
def test_numbers_at_the_edge_of_a_share_are_near_ties(at: float, near: bool) -> None:
    """Two tokens of probability 1/2: a number that close to the middle could have drawn the other."""
    assert (drawn(torch.zeros(1, 2), [at])[1] < NEAR_TIE).tolist() == [near]


def test_the_best_token_and_its_near_ties() -> None:
    """The highest score is taken; a second as high, within rounding, is a near-tie; what is cut off is none."""
    rows = torch.tensor([[0.0, 3.0, 1.0], [2.0, 0.0, 2.0 + NEAR_TIE / 4], [1.0, -torch.inf, -torch.inf]])
    tokens, margins = best(rows)
    assert tokens.tolist() == [1, 2, 0]
    assert (margins < NEAR_TIE).tolist() == [False, True, False]
