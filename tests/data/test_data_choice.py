"""Caption choice and order: pure functions of (seed, epoch, example id)."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rscap.data import SCHEMES, choose, order
from rscap.data.draw import key, pick, uniform
from rscap.errors import DataError

FIVE = ("a plane .", "two big planes .", "a very long runway with planes .", "grass .", "planes are parked .")
captions = st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=7)


@given(captions, st.sampled_from(SCHEMES), st.integers(0, 2**40), st.integers(0, 30), st.text(max_size=10))
def test_a_choice_is_a_pure_function(texts: list[str], scheme: str, seed: int, epoch: int, name: str) -> None:
    """The same arguments give the same choice whatever the global generators did in between, and touch neither."""
    first = choose(texts, scheme, seed=seed, epoch=epoch, example_id=name)
    before, before_numpy = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[union-attr,index]
    assert choose(texts, scheme, seed=seed, epoch=epoch, example_id=name) == first
    assert random.getstate() == before
    assert np.random.get_state()[1].tolist() == before_numpy  # type: ignore[union-attr,index]
    assert set(first) <= {*texts, " ".join(texts)}


def test_fixed_schemes() -> None:
    """`first`, `longest`, `concat` and `all` say what they do, in every epoch."""
    for epoch in range(3):
        chosen = {scheme: choose(FIVE, scheme, seed=1, epoch=epoch, example_id="x") for scheme in SCHEMES}
        assert chosen["first"] == ("a plane .",)
        assert chosen["longest"] == ("a very long runway with planes .",)
        assert chosen["concat"] == (" ".join(FIVE),)
        assert chosen["all"] == FIVE


def test_longest_takes_the_first_of_equals() -> None:
    """Length is counted in words; among equals the first stands."""
    assert choose(["one two", "extraordinarily", "three four"], "longest", seed=0, epoch=0, example_id="x") == (
        "one two",
    )


@given(st.integers(1, 7), st.integers(0, 1000), st.integers(0, 5), st.text(max_size=5))
def test_cycle_shows_each_caption_once_in_k_epochs(k: int, seed: int, block: int, name: str) -> None:
    """Any K epochs from a multiple of K on show each of the K captions exactly once."""
    texts = [str(number) for number in range(k)]
    shown = [choose(texts, "cycle", seed=seed, epoch=block * k + e, example_id=name)[0] for e in range(k)]
    assert sorted(shown) == texts


def test_weighted_cycle_keeps_its_proportions() -> None:
    """With weights 3, 2, 1, 0, 2 the captions are shown 3, 2, 1, 0 and 2 times in eight epochs."""
    shown = Counter(
        choose(FIVE, "cycle", seed=4, epoch=epoch, example_id="x", weights=[3, 2, 1, 0, 2])[0] for epoch in range(8)
    )
    assert [shown[caption] for caption in FIVE] == [3, 2, 1, 0, 2]


def test_random_follows_its_weights() -> None:
    """Over 4,000 images the shares of a weighted draw are within .03 of the weights', or of a fifth."""
    for weights in (None, [4, 3, 2, 1, 0]):
        shown = Counter(
            choose(FIVE, "random", seed=0, epoch=0, example_id=f"{i}", weights=weights)[0] for i in range(4000)
        )
        for caption, weight in zip(FIVE, weights or [2] * 5, strict=True):
            assert abs(shown[caption] / 4000 - weight / 10) < 0.03


def test_random_draws_anew_each_epoch_and_for_each_seed() -> None:
    """Epoch, seed and id each change the draw."""
    base = {"seed": 0, "epoch": 0, "example_id": "x"}
    for change, values in {"seed": range(40), "epoch": range(40), "example_id": map(str, range(40))}.items():
        shown = {choose(FIVE, "random", **{**base, change: value})[0] for value in values}  # type: ignore[arg-type]
        assert shown == set(FIVE), change


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_caption_of_weight_zero_is_never_shown(scheme: str) -> None:
    """No scheme shows a caption that was weighted down to nothing."""
    for epoch in range(20):
        shown = choose(FIVE, scheme, seed=0, epoch=epoch, example_id="x", weights=[0, 1, 0, 0.5, 1])
        assert all("plane ." not in text.split(" .")[0] + " ." or "two" in text or "parked" in text for text in shown)
        assert not any(FIVE[0] in text or FIVE[2] in text for text in shown)


@pytest.mark.parametrize(
    "weights", [[0] * 5, [1] * 4, [1, 1, 1, 1, -1], [1, 1, 1, 1, float("nan")], [1] * 4 + [float("inf")]]
)
def test_impossible_weights_are_refused(weights: list[float]) -> None:
    """No positive weight, a wrong count, a negative, NaN or infinity is an error that names the example."""
    with pytest.raises(DataError, match="img-7"):
        choose(FIVE, "random", seed=0, epoch=0, example_id="img-7", weights=weights)


def test_an_unknown_scheme_lists_the_known() -> None:
    """The error says which schemes there are."""
    with pytest.raises(DataError, match="random, first, longest, concat, cycle, all"):
        choose(FIVE, "shortest", seed=0, epoch=0, example_id="x")


@given(st.lists(st.text(max_size=6), max_size=40, unique=True), st.integers(0, 99), st.integers(0, 9), st.randoms())
def test_order_does_not_depend_on_the_order_of_the_rows(
    ids: list[str], seed: int, epoch: int, shuffler: random.Random
) -> None:
    """`order` is a permutation, and shuffled rows come out in the same order of ids."""
    first = order(ids, seed=seed, epoch=epoch)
    assert sorted(first) == list(range(len(ids)))
    shuffled = list(ids)
    shuffler.shuffle(shuffled)
    assert [shuffled[i] for i in order(shuffled, seed=seed, epoch=epoch)] == [ids[i] for i in first]


def test_order_changes_with_seed_and_epoch() -> None:
    """Two epochs, or two seeds, are two orders."""
    ids = [str(i) for i in range(50)]
    assert len({tuple(order(ids, seed=s, epoch=e)) for s in range(3) for e in range(3)}) == 9


def test_draws_are_pinned() -> None:
    """A resumed run on another version must draw the same: three draws are fixed by value."""
    assert key("a", 1) == 9556941076389638557
    assert order(["a", "b", "c", "d", "e"], seed=0, epoch=0) == [2, 1, 4, 0, 3]
    assert [choose(FIVE, "random", seed=0, epoch=e, example_id="x")[0] for e in range(5)] == [
        FIVE[i] for i in [3, 2, 4, 1, 1]
    ]


def test_draw_parts_are_kept_apart() -> None:
    """Kinds and borders count: ("ab", "c"), ("a", "bc"), ("a", "b", "c"), 1 and "1" are five draws."""
    parts: list[tuple[str | int, ...]] = [("ab", "c"), ("a", "bc"), ("a", "b", "c"), (1,), ("1",)]
    assert len({key(*part) for part in parts}) == 5


def test_uniform_is_uniform() -> None:
    """Ten thousand draws fill ten equal bins to within five standard deviations."""
    counts = Counter(int(uniform("bin", i) * 10) for i in range(10_000))
    assert set(counts) == set(range(10))
    assert all(abs(n - 1000) < 150 for n in counts.values())


def test_pick_never_returns_a_zero_weight() -> None:
    """An option of weight 0 is not drawn, first or last."""
    assert {pick([0, 1, 0, 2, 0], "p", i) for i in range(300)} == {1, 3}
