"""Length bucketing: micro batches of similar length, of the same update as before."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rscap.captioner.batch import Batch, Encoder
from rscap.data import open_source
from rscap.model.load import load_base
from rscap.model.packed import PackedModel
from rscap.recipe import parse_recipe
from rscap.training import updates as order_of_things
from rscap.training.updates import TokenCounts, bucketed, updates


@given(lengths=st.lists(st.integers(1, 99), max_size=40), size=st.integers(1, 9))
def test_an_update_keeps_its_examples(lengths: list[int], size: int) -> None:
    """All examples once, micro batches full but the last, longest first; with full ones, never more padding."""
    places = list(enumerate(lengths))
    cut = bucketed(places, size, lambda place: place[1])
    assert sorted(place for micro in cut for place in micro) == places
    assert [len(micro) for micro in cut[:-1]] == [size] * (len(cut) - 1)
    in_order = [place[1] for micro in cut for place in micro]
    if len(places) > size:
        assert in_order == sorted(in_order, reverse=True)
        if len(places) % size == 0:
            drawn = [lengths[begin : begin + size] for begin in range(0, len(lengths), size)]
            assert sum(micro[0][1] for micro in cut) <= sum(max(micro) for micro in drawn)


def first_update(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> tuple[PackedModel, list[Batch]]:
    recipe = parse_recipe(
        {
            "data": {"source": "sample", "train_limit": 16},
            "model": {"base": "nano", "dtype": "float32"},
            "towers": {"language_model": "trained"},
            "train": {"micro_batch": 2, "accumulation": 4},
        }
    )
    for name, value in changes.items():
        monkeypatch.setattr(order_of_things, name, value)
    base = load_base(recipe.model)
    base.model.model.language_model.requires_grad_(True)
    found = next(updates(open_source("sample").subset("train", 16, 0), recipe, Encoder.of(base)))
    monkeypatch.undo()
    return PackedModel(base.model, compute_dtype=torch.float32), found


def test_bucketed_is_unbucketed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the whole stream: the same examples, fewer padded tokens, and the same summed loss and gradients."""
    packed, sorted_by_length = first_update(monkeypatch)
    _, as_drawn = first_update(
        monkeypatch, bucketed=lambda update, size, *_: list(order_of_things.chunks(update, size))
    )
    results = []
    for micro_batches in (sorted_by_length, as_drawn):
        packed.zero_grad()
        total = sum(packed(batch) for batch in micro_batches)
        assert isinstance(total, torch.Tensor)
        total.backward()
        results.append((total.item(), [p.grad.clone() for p in packed.parameters() if p.grad is not None]))
    ids = [sorted(name for batch in cut for name in batch.example_ids) for cut in (sorted_by_length, as_drawn)]
    assert ids[0] == ids[1]
    padded = [sum(batch.tokens.numel() for batch in cut) for cut in (sorted_by_length, as_drawn)]
    assert padded[0] < padded[1]
    widths = [batch.tokens.shape[1] for batch in sorted_by_length]
    assert widths == sorted(widths, reverse=True)
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
    largest = max(float(gradient.abs().max()) for gradient in results[1][1])
    for ours, theirs in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * largest)


def test_a_text_is_tokenised_once() -> None:
    """The count is that of the tokenizer, and a text that comes again is looked up."""
    calls: list[list[str]] = []

    def tokenizer(texts: list[str], *, add_special_tokens: bool) -> dict[str, list[list[int]]]:
        assert not add_special_tokens
        calls.append(texts)
        return {"input_ids": [[0] * len(text) for text in texts]}

    count = TokenCounts(tokenizer)
    assert count("ab", "c") == 3
    assert count("c", "defg", "ab") == 7
    assert calls == [["ab", "c"], ["defg"]]
