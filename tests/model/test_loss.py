"""Head and cross-entropy in chunks: the loss and the gradients of the plain way, without its logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PaliGemmaForConditionalGeneration

from rscap.captioner.batch import Batch, PackedRow, collate, pack
from rscap.model.families.paligemma import paligemma_config
from rscap.model.loss import CHUNK_LOGITS, chunk_rows, summed_loss, token_losses
from rscap.model.packed import PackedModel

HIDDEN, VOCABULARY = 8, 37


def parts(rows: int, dtype: torch.dtype, *, head_learns: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, a head and targets, drawn anew from one seed."""
    generator = torch.Generator().manual_seed(rows)
    hidden = torch.randn(rows, HIDDEN, generator=generator, dtype=torch.float64).to(dtype).requires_grad_(True)
    weight = torch.randn(VOCABULARY, HIDDEN, generator=generator, dtype=torch.float64).to(dtype)
    targets = torch.randint(0, VOCABULARY, (rows,), generator=generator)
    return hidden, weight.requires_grad_(head_learns), targets


def plain(hidden: Tensor, weight: Tensor, targets: Tensor, cap: float | None, dtype: torch.dtype) -> Tensor:
    """The loss as anyone would write it: all logits at once."""
    logits = F.linear(hidden.to(dtype), weight.to(dtype)).to(torch.promote_types(dtype, torch.float32))
    return F.cross_entropy(logits if cap is None else cap * torch.tanh(logits / cap), targets, reduction="sum")


@given(
    rows=st.integers(1, 23),
    chunk=st.integers(1, 25),
    cap=st.sampled_from([None, 2.0]),
    head_learns=st.booleans(),
    scale=st.sampled_from([1.0, 0.37]),
)
@settings(deadline=None, max_examples=40)
def test_chunks_are_exact(rows: int, chunk: int, cap: float | None, head_learns: bool, scale: float) -> None:
    """However the rows are cut, loss and gradients are those of all logits at once, with and without soft-capping."""
    found, expected = (
        parts(rows, torch.float64, head_learns=head_learns),
        parts(rows, torch.float64, head_learns=head_learns),
    )
    ours = summed_loss(*found, cap=cap, dtype=torch.float64, rows=chunk)
    theirs = plain(*expected, cap, torch.float64)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    (ours * scale).backward()
    (theirs * scale).backward()
    torch.testing.assert_close(found[0].grad, expected[0].grad, rtol=1e-10, atol=1e-13)
    assert (found[1].grad is not None) == head_learns
    if head_learns:
        torch.testing.assert_close(found[1].grad, expected[1].grad, rtol=1e-10, atol=1e-13)


@given(
    rows=st.integers(1, 23),
    chunk=st.integers(1, 25),
    cap=st.sampled_from([None, 2.0]),
    smoothing=st.sampled_from([0.1, 0.5]),
    weighted=st.booleans(),
)
@settings(deadline=None, max_examples=30)
def test_smoothed_targets_are_torchs(
    rows: int, chunk: int, cap: float | None, smoothing: float, weighted: bool
) -> None:
    """Loss and gradients with label smoothing are those of cross_entropy(label_smoothing=), however the rows are cut;
    without gradients the loss is that of the targets as they are."""
    found, expected = (parts(rows, torch.float64, head_learns=True) for _ in range(2))
    weights = torch.linspace(0.5, 2.0, rows, dtype=torch.float64) if weighted else None
    ours = summed_loss(*found, cap=cap, dtype=torch.float64, rows=chunk, weights=weights, smoothing=smoothing)
    logits = F.linear(expected[0], expected[1])
    logits = logits if cap is None else cap * torch.tanh(logits / cap)
    losses = F.cross_entropy(logits, expected[2], reduction="none", label_smoothing=smoothing)
    theirs = (losses if weights is None else losses * weights).sum()
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    ours.backward()
    theirs.backward()
    for mine, other in zip(found[:2], expected[:2], strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-10, atol=1e-13)
    with torch.no_grad():
        plainly = summed_loss(*found, cap=cap, dtype=torch.float64, weights=weights, smoothing=smoothing)
        assert plainly == summed_loss(*found, cap=cap, dtype=torch.float64, weights=weights)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_rounds_as_the_plain_way_does(dtype: torch.dtype) -> None:
    """With products in 16 bits loss and gradients are those of 16-bit logits taken to float32."""
    found, expected = parts(20, torch.float32, head_learns=True), parts(20, torch.float32, head_learns=True)
    ours, theirs = summed_loss(*found, cap=30.0, dtype=dtype, rows=6), plain(*expected, 30.0, dtype)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    ours.backward()
    theirs.backward()
    for one, other in zip(found[:2], expected[:2], strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=float(torch.finfo(dtype).eps) * 8)


def test_small_gradients_survive_float16() -> None:
    """A probability of 1e-8 is zero in float16; 200,000 of them weigh 0.2 %, and their gradient is kept."""
    others, gap = 200_000, 18.4
    hidden = torch.tensor([[0.0, 1.0]], requires_grad=True)  # the second number sets the logits
    weight = torch.ones(others + 1, 2)
    weight[0, 0] = 2.0
    weight[:, 1] = torch.cat([torch.tensor([gap]), torch.zeros(others)])
    summed_loss(hidden, weight, torch.tensor([0]), cap=None, dtype=torch.float16).backward()
    small = others * torch.tensor(-gap).exp().item()  # what the target lacks, and all others have
    assert hidden.grad is not None
    assert hidden.grad[0, 0].item() == pytest.approx(small * 1.0 - small * 2.0, rel=0.05)  # else: 0 - 2 small


class Largest(TorchDispatchMode):
    """Notes the number of elements of the largest tensor that any operation returned."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else (out,):
            if isinstance(value, Tensor):
                self.elements = max(self.elements, value.numel())
        return out


def test_the_logits_are_never_whole() -> None:
    """With chunks of 4 rows no tensor is larger than 4 rows of logits, neither forward nor backward."""
    hidden, weight, targets = parts(64, torch.float32, head_learns=False)
    with Largest() as chunked:
        summed_loss(hidden, weight, targets, cap=None, dtype=torch.float32, rows=4).backward()
        token_losses(hidden, weight, targets, cap=None, dtype=torch.float32, rows=4)
    with Largest() as whole:
        plain(hidden, weight, targets, None, torch.float32).backward()
    assert whole.elements == 64 * VOCABULARY
    assert chunked.elements <= max(hidden.numel(), 4 * VOCABULARY)


def test_chunks_fit_the_vocabulary() -> None:
    """At PaliGemma's vocabulary a chunk is 260 rows, 256 MiB of float32; a vocabulary past all measure gets one row."""
    assert chunk_rows(257_216) == 260
    assert chunk_rows(257_216) * 257_216 * 4 <= 256 * 2**20
    assert chunk_rows(2 * CHUNK_LOGITS) == 1


def test_a_second_backward_pass_is_refused() -> None:
    """Gradients are scaled where they lie, so a graph that is kept cannot be gone through twice in silence."""
    hidden, weight, targets = parts(5, torch.float32, head_learns=False)
    loss = summed_loss(hidden, weight, targets, cap=None, dtype=torch.float32)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def small(geometry: str) -> PaliGemmaForConditionalGeneration:
    torch.manual_seed(0)
    model = PaliGemmaForConditionalGeneration(paligemma_config(geometry, vocabulary=128, image_token_id=127)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    prefix = [127] * 64 + [2, 11, 12]
    rows = [
        PackedRow(
            example_id=str(i), pixels=torch.randn(3, 224, 224, generator=generator), captions=2, **pack(prefix, two)
        )
        for i, two in enumerate(([[20, 21, 1], [22, 1]], [[30, 31, 32, 33, 1], [1]]))
    ]
    return collate(rows, pad=0)


@pytest.mark.parametrize("geometry", ["nano", "nano2"])
@pytest.mark.parametrize("head_learns", [False, True])
def test_the_packed_model_learns_as_from_whole_logits(geometry: str, head_learns: bool) -> None:
    """The loss and all its gradients equal cross-entropy over `head`; with a tied head that learns, the head's
    gradient and the embeddings' add up in one matrix."""
    model, rows = small(geometry), batch()
    model.lm_head.weight.requires_grad_(head_learns)
    packed = PackedModel(model, compute_dtype=torch.float32)
    ours = packed(rows)
    ours.backward()
    gradients = {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    theirs = F.cross_entropy(packed.head(packed.supervised(rows)), rows.targets, reduction="sum")
    theirs.backward()
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    assert (gradients["model.language_model.embed_tokens.weight"] is not None) == head_learns
    largest = max(float(p.grad.abs().max()) for p in model.parameters() if p.grad is not None)
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == (gradients[name] is None), name
        if parameter.grad is not None:
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-5, atol=1e-6 * largest, msg=name)


def test_token_losses_sum_to_the_loss() -> None:
    """The losses that the first step looks at token by token are those that are learned from."""
    packed, rows = PackedModel(small("nano2"), compute_dtype=torch.float32), batch()
    losses = packed.token_losses(rows)
    assert losses.shape == rows.targets.shape
    torch.testing.assert_close(losses.sum(), packed(rows).detach(), rtol=1e-6, atol=0)
