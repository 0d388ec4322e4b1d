"""Ties of 16-bit logits: kept apart by float32, as transformers has them by request, and flagged by the precision."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from functools import partial
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from rscap.captioner import Captioner, ModelRef
from rscap.captioner.batch import Batch
from rscap.captioner.choice import NEAR_TIES, near_tie
from rscap.captioner.loader import batches
from rscap.model.decoding import prefill, step
from rscap.recipe import GenerateSection, Logits
from rscap.records import Prediction
from rscap.sample import sample_examples

HALVES = ["bfloat16", "float16"]
STEPS = 8
CONSENSUS = {"choose": "consensus", "samples": 2, "temperature": 1.0}


@pytest.fixture(scope="module", params=HALVES)
def captioner(request: pytest.FixtureRequest) -> Captioner:
    """nano in 16 bits."""
    return ModelRef.of("nano", dtype=request.param).load("cpu")


def prompts(captioner: Captioner, images: int) -> Batch:
    """The prefixes of some images of the sample."""
    prompter = captioner.encoder.prompter
    encode = partial(captioner.encoder.asked, prefix=tuple(prompter.prefix(captioner.prefix)))
    return next(batches(sample_examples()[:images], encode, size=images, pad=prompter.pad))


@torch.inference_mode()
def read(captioner: Captioner, logits_in: Logits, tokens: torch.Tensor | None = None) -> torch.Tensor:
    """float[B, STEPS, V]: the logits of greedy captions, or under given tokens int[B, STEPS]."""
    packed = captioner.packed
    with packed.held_for_captions():
        logits, state = prefill(packed, prompts(captioner, 6), room=STEPS, logits_in=logits_in)
        found = [logits]
        for place in range(STEPS - 1):
            chosen = logits.argmax(-1) if tokens is None else tokens[:, place]
            logits = step(packed, chosen.unsqueeze(1), state).squeeze(1)
            found.append(logits)
    return torch.stack(found, dim=1)


def test_float32_logits_are_those_of_the_model_before_they_are_rounded(captioner: Captioner) -> None:
    """Rounded to the model's 16 bits they are its own logits but for the last bit, and no two best are equal."""
    wide = read(captioner, "float32")
    own = read(captioner, "model", wide.argmax(-1))
    dtype = captioner.packed.compute_dtype
    steps = torch.finfo(dtype).eps * own.abs().amax(-1, keepdim=True)  # of 16-bit numbers as large as the largest
    assert ((wide - own).abs() <= steps).all()
    assert (wide.to(dtype).float() == own).double().mean() > 0.9
    first, second = wide.topk(2, dim=-1).values.unbind(-1)
    assert (first > second).all()
    first, second = own.topk(2, dim=-1).values.unbind(-1)
    assert dtype == torch.float16 or (first == second).any(), "nothing is tied here, so nothing is shown"


def test_the_head_is_cast_once() -> None:
    """A model that only captions casts its head for the first caption and keeps it; one that trains lets it go."""
    packed = ModelRef.of("nano", dtype="bfloat16").load("cpu").packed
    weight = packed.bare.lm_head.weight
    hidden = torch.randn(3, weight.shape[1]).bfloat16()
    with packed.held_for_captions():
        first = packed.head(hidden, "float32")
        kept = packed._wide_head._kept
    assert kept is not None
    assert kept.dtype == torch.float32
    with packed.held_for_captions():
        assert torch.equal(packed.head(hidden, "float32"), first)
    assert packed._wide_head._kept is kept
    with torch.no_grad():
        weight.mul_(2)
    with packed.held_for_captions():
        assert torch.equal(packed.head(hidden, "float32"), 2 * first), "a copy of older weights was used"
    packed.net.get_parameter("model.multi_modal_projector.linear.weight").requires_grad_(True)
    with packed.held_for_captions():
        packed.head(hidden, "float32")
    assert packed._wide_head._kept is None


def test_the_setting_reaches_every_way_to_decode(captioner: Captioner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Greedy decoding, beams, draws, consensus and replayed steps ask the head for what `generate.logits` says."""
    from rscap.model import replay
    from rscap.model.packed import PackedModel

    asked: set[str] = set()
    plain = PackedModel.head

    def head(self: PackedModel, hidden: torch.Tensor, logits_in: Logits = "model") -> torch.Tensor:
        asked.add(logits_in)
        return plain(self, hidden, logits_in)

    monkeypatch.setattr(PackedModel, "head", head)
    image = sample_examples()[0]
    ways = [({}, False), ({}, True), ({"beams": 2}, False), ({"temperature": 1.0}, False), (CONSENSUS, False)]
    for logits, (way, replayed) in itertools.product(("float32", "model"), ways):
        monkeypatch.setattr(replay, "usable", lambda packed, images, slots, replayed=replayed: replayed)
        asked.clear()
        captioner.caption(image, max_new_tokens=4, logits=logits, **way)
        assert asked == {logits}


def in_another_order(self: nn.Linear, given: torch.Tensor) -> torch.Tensor:
    """A linear layer as another processor might compute it: the same 16-bit operands, sums in two parts in float32."""
    dtype = torch.get_autocast_dtype("cpu")
    rows, weight = given.to(dtype).float(), self.weight.to(dtype).float()
    with torch.autocast("cpu", enabled=False):
        cut = given.shape[-1] // 3
        found = rows[..., :cut] @ weight[:, :cut].T + rows[..., cut:] @ weight[:, cut:].T
        found = found if self.bias is None else found + self.bias.to(dtype).float()
    return found.to(dtype)


@pytest.mark.parametrize("logits_in", ["float32", "model"])
def test_another_order_of_sums_stays_within_the_threshold(
    captioner: Captioner, logits_in: Logits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every product summed in another order, no distance between the two best moves by more than `near_tie`."""
    here = read(captioner, logits_in)
    best = here.topk(2, dim=-1)
    monkeypatch.setattr(nn.Linear, "forward", in_another_order)
    there = read(captioner, logits_in, here.argmax(-1)).gather(-1, best.indices)
    moved = (best.values - there).diff(dim=-1).abs().max().item()
    threshold = near_tie(captioner.packed.compute_dtype, GenerateSection(logits=logits_in))
    assert 0 < moved <= threshold
    assert moved > threshold / 100, "a threshold far above what happens would flag everything"


def test_thresholds_follow_the_precision() -> None:
    """Coarser numbers have wider near-ties, rounded logits wider ones than float32 logits, float32 the narrowest."""
    wide, own = GenerateSection(), GenerateSection(logits="model")
    for dtype in {dtype for dtype, _ in NEAR_TIES}:
        assert near_tie(dtype, own) > near_tie(dtype, wide) > near_tie(torch.float32, wide)
    assert near_tie(torch.float32, own) == near_tie(torch.float32, wide)
    assert near_tie(torch.bfloat16, wide) > near_tie(torch.float16, wide)


@given(st.lists(st.floats(-8, 8), min_size=2, max_size=9), st.floats(0.1, 2.0), st.randoms())
def test_edges_of_shares_move_no_further_than_their_threshold(
    row: list[float], temperature: float, random: Random
) -> None:
    """Logits that each move by up to half the threshold of greedy choices move no edge by more than that of draws."""
    apart = NEAR_TIES[torch.bfloat16, "model"] / 2
    logits = torch.tensor(row, dtype=torch.float64)
    moved = logits + torch.tensor([random.uniform(-apart, apart) for _ in row], dtype=torch.float64)
    edges = [(one / temperature).softmax(0).cumsum(0) for one in (logits, moved)]
    threshold = near_tie(torch.bfloat16, GenerateSection(logits="model", temperature=temperature))
    assert (edges[0] - edges[1]).abs().max() <= threshold + 1e-12


def test_in_float32_the_setting_changes_nothing() -> None:
    """Both settings give the same tokens, in float32."""
    captioner = ModelRef.of("nano", dtype="float32").load("cpu")
    one, other = (
        captioner.caption(sample_examples()[:2], max_new_tokens=8, logits=name) for name in ("float32", "model")
    )
    assert one == other


BURN = """
import sys, time, numpy
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    numpy.linalg.svd(numpy.random.rand(200, 200))
    bytes(numpy.random.randint(1, 2**25))
"""


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_captions_are_the_same_two_hundred_times_under_load(dtype: str) -> None:
    """200 calls, the model loaded anew for every twentieth, with more busy processes than cores and memory that comes
    and goes: not one token, end or near-tie differs, whatever the number of threads."""
    image = sample_examples()[0]
    burners = [subprocess.Popen([sys.executable, "-c", BURN, "900"]) for _ in range(1 + (os.cpu_count() or 1))]
    before, found = torch.get_num_threads(), list[Prediction]()
    try:
        for turn in range(200):
            if turn % 20 == 0:
                torch.set_num_threads(1 + turn // 20 % 2)
                captioner = ModelRef.of("nano", dtype=dtype).load("cpu")
            found.append(captioner.caption(image, max_new_tokens=12))
    finally:
        torch.set_num_threads(before)
        for burner in burners:
            burner.kill()
            burner.wait()
    assert len(set(found)) == 1
