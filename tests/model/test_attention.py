"""The rule of who sees whom, as pairs and as FlexAttention's blocks, and the two ways to compute attention by it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.attention.flex_attention as torch_flex
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention.flex_attention import BlockMask
from transformers import PaliGemmaForConditionalGeneration

from rscap.captioner.batch import PADDING, Batch, PackedRow, collate, pack
from rscap.errors import ModelError
from rscap.model import attention
from rscap.model.attention import FLEX, Shape, Tokens, blocks, flex_differs, pairs
from rscap.model.families.paligemma import paligemma_config
from rscap.model.packed import PackedModel

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # its reference implementation warns of itself


@pytest.fixture
def flex_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """FlexAttention's reference implementation can do backward on a CPU; a check in front of it says otherwise."""
    monkeypatch.setattr(torch_flex, "_validate_device", lambda *_: None)
    monkeypatch.setattr(torch_flex, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)  # tracing takes seconds a shape


def tokens(rows: list[tuple[int, list[int]]]) -> Tokens:
    """Rows of (prefix, suffix lengths), padded to the longest."""
    laid = [pack([0] * prefix, [[0] * (length + 1) for length in suffixes]) for prefix, suffixes in rows]
    width = max(len(row["tokens"]) for row in laid)

    def padded(name: str, fill: int) -> torch.Tensor:
        return torch.tensor([row[name] + [fill] * (width - len(row[name])) for row in laid])

    return Tokens.of(padded("branch", PADDING), padded("positions", 1))


@given(
    rows=st.lists(st.tuples(st.integers(1, 12), st.lists(st.integers(0, 6), max_size=4)), min_size=1, max_size=3),
    window=st.one_of(st.none(), st.integers(1, 9)),
)
@settings(deadline=None, max_examples=60)
def test_the_rule_is_the_one_in_words(rows: list[tuple[int, list[int]]], window: int | None) -> None:
    """Pair by pair: prefix sees prefix; a branch sees prefix and own past within the window; padding sees itself."""
    laid = tokens(rows)
    seen = pairs(laid, laid, window=window)
    for row in range(len(rows)):
        branch, position = laid.branch[row].tolist(), laid.position[row].tolist()
        for query in range(len(branch)):
            for key in range(len(branch)):
                if branch[query] == 0:
                    expected = branch[key] == 0
                elif branch[query] == PADDING:
                    expected = query == key
                else:
                    past = branch[key] in (0, branch[query]) and position[key] <= position[query]
                    expected = past and (window is None or position[query] - position[key] < window)
                assert bool(seen[row, query, key]) == (expected or query == key)


@pytest.mark.parametrize("window", [None, 40])
def test_blocks_say_what_pairs_say(window: int | None) -> None:
    """The block mask, asked for every pair, gives the mask of all pairs; for all tokens and for a few picked ones."""
    laid = tokens([(130, [9, 20, 3]), (140, [30])])
    picked = torch.tensor([[5, 131, 140, 2], [139, 139, 160, 0]])
    for query in (laid, laid.at(picked)):
        mask = blocks(query, laid, window=window)
        queries, keys = query.branch.shape[1], laid.branch.shape[1]
        rows, at, of = torch.meshgrid(torch.arange(2), torch.arange(queries), torch.arange(keys), indexing="ij")
        assert torch.equal(mask.mask_mod(rows, torch.zeros_like(rows), at, of), pairs(query, laid, window=window))
        assert mask.sparsity() < 100


@pytest.mark.usefixtures("flex_on_cpu")
@pytest.mark.parametrize("softcap", [None, 5.0])
def test_flex_agrees_with_the_plain_way(softcap: float | None) -> None:
    """Outputs and gradients of FlexAttention's reference implementation are those of plain attention; grouped heads,
    soft-capping, windows and picked queries included. Another cap is noticed."""
    shape = Shape(heads=4, groups=2, width=16, scaling=0.25, softcap=softcap, dtype=torch.float32)
    assert flex_differs(shape, torch.device("cpu"), checkpointed=False) is None


@pytest.mark.usefixtures("flex_on_cpu")
def test_what_checkpointing_breaks_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """If gradients are wrong only where activations are computed again, training with checkpointing finds out.
    (They are, in torch 2.13's reference implementation, for scores that are capped.)"""
    shape = Shape(heads=2, groups=1, width=16, scaling=1.0, softcap=1.0, dtype=torch.float32)
    plain_checkpoint = attention.checkpoint

    def spoils(layer: Any, *inputs: torch.Tensor, **options: Any) -> Any:
        out, _ = plain_checkpoint(layer, *inputs, **options)
        if isinstance(layer.keywords["attention_mask"], BlockMask):
            out = out + 0.1 * inputs[0].detach().sum() * inputs[0].sum()
        return out, None

    monkeypatch.setattr(attention, "checkpoint", spoils)
    assert flex_differs(shape, torch.device("cpu"), checkpointed=False) is None
    assert "differ by" in str(flex_differs(shape, torch.device("cpu"), checkpointed=True))


@pytest.mark.usefixtures("flex_on_cpu")
def test_a_wrong_kernel_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that forgets to cap, or that cannot be compiled, is named and not used."""
    shape = Shape(heads=2, groups=1, width=16, scaling=1.0, softcap=1.0, dtype=torch.float32)
    monkeypatch.setattr(attention, "_capped", lambda _: None)
    assert "differ by" in str(flex_differs(shape, torch.device("cpu"), checkpointed=False))

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("out of resource: shared memory\nRequired: 200000")

    monkeypatch.setattr(attention, "flex_attention", fails)
    wrong = flex_differs(shape, torch.device("cpu"), checkpointed=True)
    assert wrong == "RuntimeError: out of resource: shared memory"


def model(geometry: str) -> PaliGemmaForConditionalGeneration:
    torch.manual_seed(0)
    made = PaliGemmaForConditionalGeneration(paligemma_config(geometry, vocabulary=128, image_token_id=127)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return made


def batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    prefix = [127] * 64 + [2, 11, 12]
    texts = ([[20, 21, 1], [22, 1], [*range(23, 70), 1]], [[30, 31, 32, 33, 1], [1]])
    return collate(
        [
            PackedRow(
                example_id=str(i), pixels=torch.randn(3, 224, 224, generator=generator), captions=2, **pack(prefix, of)
            )
            for i, of in enumerate(texts)
        ],
        pad=0,
    )


@pytest.mark.usefixtures("flex_on_cpu")
@pytest.mark.parametrize("geometry", ["nano", "nano2"])
def test_a_training_step_with_flex_is_the_plain_one(geometry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loss and all gradients, with a window shorter than the sequence and the last layer's picked queries; without
    gradients, as in generation, the plain way is taken and gives the same loss too."""
    monkeypatch.setattr("rscap.model.packed.flex_differs", lambda *_, **__: None)
    made, rows = model(geometry), batch()
    packed = PackedModel(made, compute_dtype=torch.float32)
    plain = packed(rows)
    plain.backward()
    expected = {name: parameter.grad.clone() for name, parameter in made.named_parameters()}
    made.zero_grad()
    assert packed.choose_attention("flex", checkpointed=False) is None
    assert made.model.language_model.config._attn_implementation == FLEX
    flexible = packed(rows)
    flexible.backward()
    assert flexible.item() == pytest.approx(plain.item(), rel=1e-6)
    with torch.no_grad():
        assert packed(rows).item() == pytest.approx(plain.item(), rel=1e-6)
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, parameter in made.named_parameters():
        torch.testing.assert_close(
            parameter.grad,
            expected[name],
            rtol=1e-4,
            atol=1e-5 * largest,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def test_a_cpu_trains_the_plain_way() -> None:
    """Without a GPU `auto` changes nothing, and `flex` is refused with the reason: it has no backward pass there."""
    packed = PackedModel(model("nano2"), compute_dtype=torch.float32)
    assert packed.choose_attention("auto", checkpointed=True) is None
    assert packed.choose_attention("plain", checkpointed=True) is None
    assert not packed.flex
    with pytest.raises(ModelError, match="does not support backward on CPU"):
        packed.choose_attention("flex", checkpointed=True)
    assert packed.bare.config.text_config._attn_implementation == "eager"


def test_a_fallback_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """While FlexAttention computes, too many graphs raise an error, and there is room for every variant; afterwards
    torch's own limit holds again."""
    from torch._dynamo import config

    before, seen = (config.recompile_limit, config.fail_on_recompile_limit_hit), []

    def compute(query: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        seen.append((config.recompile_limit, config.fail_on_recompile_limit_hit))
        return query

    monkeypatch.setattr(attention, "flex_attention", compute)
    laid = tokens([(4, [2])])
    states = torch.zeros(1, 1, 6, 8)
    attention.attend(torch.nn.Module(), states, states, states, blocks(laid, laid, window=3), scaling=1.0)
    assert seen == [(64, True)]
    assert (config.recompile_limit, config.fail_on_recompile_limit_hit) == before


@pytest.mark.parametrize(("window", "masks"), [(4096, 2), (40, 3)])
def test_a_window_that_hides_nothing_costs_no_mask(window: int, masks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One mask for all layers but the last and one for its picked queries; one more only where the window binds."""
    made = model("nano2")
    config = made.config.text_config
    config.sliding_window, config.layer_types = window, ["sliding_attention", "full_attention", "full_attention"]
    layers = made.model.language_model.layers
    layers.insert(1, layers[1])
    config.num_hidden_layers = 3
    calls: list[int | None] = []

    def counted(*given: Any, window: int | None, **how: Any) -> torch.Tensor:
        calls.append(window)
        return pairs(*given, window=window, **how)

    monkeypatch.setattr("rscap.model.packed.pairs", counted)
    PackedModel(made, compute_dtype=torch.float32)(batch())
    assert len(calls) == masks
