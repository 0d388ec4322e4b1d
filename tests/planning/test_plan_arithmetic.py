"""The plan's numbers: parameters, bytes of weights, operations, and the walk over a step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rscap.model.families.paligemma import paligemma_config
from rscap.planning.memory import MicroBatch, kept_bytes
from rscap.planning.parameters import COMPONENTS, NF4_BYTES, Setting, residents
from rscap.planning.shapes import shapes_of
from rscap.planning.time import operations
from rscap.planning.timeline import Segment, moments, peak
from rscap.recipe import Recipe, parse_recipe


def recipe(**sections: Any) -> Recipe:
    """A recipe on nano with LoRA on the language model, some sections replaced."""
    table = {"data": {"source": "sample"}, "model": {"base": "nano", "dtype": "float32"}, "adapter": {"rank": 16}}
    return parse_recipe({**table, **sections})


@pytest.mark.parametrize("geometry", ["paligemma-3b", "paligemma2-3b", "bench-7M", "bench-49M", "nano", "nano2"])
def test_parameters_are_those_of_the_model(geometry: str) -> None:
    """Every weight is counted once, per component, for both families; the head is the embeddings."""
    from transformers import PaliGemmaForConditionalGeneration

    config = paligemma_config(geometry)
    with torch.device("meta"):
        model = PaliGemmaForConditionalGeneration(config)
    model.tie_weights()
    shapes = shapes_of(config, name=geometry)
    parts = {
        "vision tower": model.model.vision_tower,
        "projector": model.model.multi_modal_projector,
        "embeddings": model.model.language_model.embed_tokens,
    }
    held = residents(shapes, Setting(recipe(), "cpu"))
    for name, module in parts.items():
        assert held[name].weights == 4 * sum(one.numel() for one in module.parameters()), name
    total = sum(one.numel() for one in model.parameters())
    assert shapes.parameters == total
    assert sum(one.weights for one in held.values()) == 4 * total


def test_learning_parameters_are_prior_work_bs() -> None:
    """Rank 16 on the seven maps of Gemma 2B's 18 layers: 19,611,648, with 12 bytes each of gradient and states."""
    shapes = shapes_of(paligemma_config("paligemma-3b"), name="paligemma-3b")
    held = residents(shapes, Setting(recipe()))
    assert sum(one.trainable for one in held.values()) == 19_611_648
    language = held["language model"]
    assert language.adapters == 4 * 19_611_648
    assert language.gradients + language.optimiser == 12 * 19_611_648


def test_learning_parameters_are_those_that_learn(nano2: Any) -> None:
    """Targets, both towers and DoRA's magnitudes: as many as `prepare` makes trainable."""
    from rscap.model.adapters import prepare, trainable_parameters
    from rscap.model.load import load_base
    from rscap.planning.shapes import shapes_of_base

    asked = recipe(
        model={"base": str(nano2), "dtype": "float32"},
        towers={"vision_tower": "adapted", "projector": "trained", "language_model": "adapted"},
        adapter={"rank": 3, "weight_decomposed": True, "language_targets": ["q_proj", "down_proj"]},
    )
    net = prepare(load_base(asked.model).model, asked.towers, asked.adapter, seed=0)
    held = residents(shapes_of_base(str(nano2)), Setting(asked, "cpu"))
    assert sum(one.trainable for one in held.values()) == sum(one.numel() for one in trainable_parameters(net))


def test_four_bits_are_counted_with_their_scales() -> None:
    """A matrix that bitsandbytes packs takes what the plan says, but for its tables of fixed size."""
    from bitsandbytes.functional import quantize_4bit

    packed, state = quantize_4bit(torch.randn(1024, 2048), quant_type="nf4", compress_statistics=True)
    scales = state.absmax.nbytes + state.state2.absmax.nbytes
    assert packed.nbytes + scales == pytest.approx(NF4_BYTES * 1024 * 2048, rel=1e-6)


@pytest.mark.parametrize("vision", ["frozen", "adapted", "trained"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_operations_are_those_that_torch_counts(nano2: Any, vision: str, checkpointing: bool) -> None:
    """Within 6 % of torch's own counter over forward and backward, whatever learns and is computed again."""
    from torch.utils.flop_counter import FlopCounterMode

    from rscap.captioner.batch import PackedRow, collate, pack
    from rscap.model.adapters import prepare
    from rscap.model.load import load_base
    from rscap.model.packed import PackedModel
    from rscap.planning.shapes import shapes_of_base

    whole = vision == "trained"
    asked = recipe(
        model={"base": str(nano2), "dtype": "float32"},
        towers={"vision_tower": vision, "language_model": "trained" if whole else "adapted"},
        train={"gradient_checkpointing": checkpointing},
        adapter=None if whole else {"rank": 16},
    )
    base = load_base(asked.model)
    packed = PackedModel(prepare(base.model, asked.towers, asked.adapter, seed=0), compute_dtype=torch.float32)
    if checkpointing:
        packed.checkpoint_activations()
    packed.train()
    prefix = [base.image_token_id] * base.image_tokens + [2, 5, 6]
    row = PackedRow(example_id="x", pixels=torch.zeros(3, 224, 224), captions=2, **pack(prefix, [[7] * 9 + [1]] * 2))
    batch = collate([row], pad=0)
    with FlopCounterMode(display=False) as counter:
        packed(batch).backward()
    counted = operations(
        shapes_of_base(str(nano2)), Setting(asked, "cpu"), tokens=batch.tokens.shape[1], supervised=batch.supervised
    )
    assert counted.total == pytest.approx(counter.get_total_flops(), rel=0.06)


@pytest.mark.parametrize("vision", ["frozen", "trained"])
def test_operations_of_drawn_captions_are_those_that_torch_counts(nano2: Any, vision: str) -> None:
    """Within 10 % of torch's own counter: prefixes once, all captions to their limit. What a frozen vision tower sees
    serves the backward pass too, where it is counted."""
    from torch.utils.flop_counter import FlopCounterMode

    from rscap.captioner.batch import PackedRow, collate, pack
    from rscap.captioner.sampling import Sampling, sample
    from rscap.model.adapters import prepare
    from rscap.model.load import load_base
    from rscap.model.packed import PackedModel
    from rscap.planning.drawing import drawing
    from rscap.planning.sequence import DrawnCaptions, Lengths
    from rscap.planning.shapes import shapes_of_base

    asked = recipe(model={"base": str(nano2), "dtype": "float32"}, towers={"vision_tower": vision})
    base = load_base(asked.model)
    packed = PackedModel(prepare(base.model, asked.towers, asked.adapter, seed=0), compute_dtype=torch.float32).eval()
    prefix = [base.image_token_id] * base.image_tokens + [2, 5, 6]
    row = PackedRow(example_id="x", pixels=torch.zeros(3, 224, 224), captions=0, **pack(prefix, []))
    batch = collate([row], pad=0)
    seeing = FlopCounterMode(display=False)
    with seeing, torch.no_grad():
        features = packed.seen(batch.pixel_values)
    if vision == "frozen":
        batch = replace(batch, features=features, pixel_values=torch.empty(0))
    endless = torch.tensor([base.tokenizer.eos_token_id])
    sampling = Sampling(count=3, limit=9, temperature=1.0, purpose=("count",))
    with FlopCounterMode(display=False) as counter:
        sample(packed, batch, sampling=sampling, forbidden=endless, eos=int(endless))
    rows = Lengths(
        prefix=len(prefix),
        mean_tokens=0,
        longest_tokens=0,
        mean_supervised=0,
        longest_supervised=0,
        captions=3,
        images=1,
        origin="",
        drawn=DrawnCaptions(captions=3, limit=9, steps=8),
    )
    counted = drawing(shapes_of_base(str(nano2)), Setting(asked, "cpu"), rows)
    assert counted.total == pytest.approx(counter.get_total_flops(), rel=0.1)


def test_operations_at_the_true_geometry() -> None:
    """One image with five captions of 14 tokens at PaliGemma-3B: about 3 TFLOP, 4.3 with checkpointing."""
    shapes = shapes_of(paligemma_config("paligemma-3b"), name="paligemma-3b")
    plain, again = (
        operations(shapes, Setting(recipe(train={"gradient_checkpointing": on})), tokens=335, supervised=75).total
        / 1e12
        for on in (False, True)
    )
    assert plain == pytest.approx(3.0, rel=0.05)
    assert again == pytest.approx(4.3, rel=0.05)


def test_fused_attention_keeps_no_scores() -> None:
    """Gemma 2 keeps all scores three times in plain attention and none in FlexAttention, which only a GPU has."""
    shapes = shapes_of(paligemma_config("paligemma2-3b"), name="paligemma2-3b")
    batch = MicroBatch(images=1, tokens=335, queries=75, supervised=75)
    kept = {
        (attention, device): kept_bytes(
            shapes, Setting(recipe(model={"base": "nano", "dtype": "bfloat16", "attention": attention}), device), batch
        )
        for attention in ("auto", "flex")
        for device in ("cuda", "cpu")
    }
    scores = 8 * (25 * 335 * 335 + 75 * 335) * (2 + 4 + 2)
    inputs = 25 * 335 * 2048 * 2  # of `o_proj`, which are FlexAttention's outputs and kept by it anyway
    assert kept["auto", "cuda"] - kept["flex", "cuda"] == pytest.approx(scores + inputs, rel=0.05)
    assert kept["auto", "cpu"] == kept["flex", "cpu"]


def chain() -> list[Segment]:
    """Three segments, with round numbers."""
    return [
        Segment(component="vision tower", name="a", inputs=1, kept=10, working=5, gradients=100),
        Segment(component="language model", name="b", kept=20, working=50, gradients=200, casts=3),
        Segment(component="head", name="c", kept=4, working=7),
    ]


def test_a_step_is_walked_forward_and_back() -> None:
    """What is kept adds up forwards and is let go backwards, where gradients come in its place."""
    walked = {moment.when: moment.total for moment in moments(chain(), accumulates=False)}
    assert walked == {
        "forward: a": 11 + 5,
        "forward: b": 34 + 50,
        "forward: c": 38 + 7,
        "backward: c": 38 + 7,
        "backward: b": 34 + 50 + 200,
        "backward: a": 11 + 5 + 300,
    }
    assert peak(chain(), accumulates=False).when == "backward: a"


def test_gradients_of_earlier_micro_batches_are_there_all_along() -> None:
    """With accumulation the peak is where most is in use, all gradients included."""
    found = peak(chain(), accumulates=True)
    assert (found.when, found.total) == ("forward: b", 34 + 50 + 300)
    assert sum(found.gradients.values()) == 300


def test_a_checkpointed_segment_is_computed_again() -> None:
    """Only its input is kept until its backward pass, which holds its inside and its casts for that time."""
    whole = Segment(component="language model", name="b", kept=2, inside=30, casts=3, checkpointed=True)
    row = [whole, whole, Segment(component="head", name="c", kept=4, outside_autocast=True)]
    walked = [moment.total for moment in moments(row, accumulates=False)]
    assert walked == [5, 10, 8, 8, 2 + 35, 35]


@given(
    segments=st.lists(
        st.builds(
            Segment,
            component=st.sampled_from(COMPONENTS),
            name=st.just("x"),
            kept=st.integers(0, 99),
            inside=st.integers(0, 99),
            working=st.integers(0, 99),
            gradients=st.integers(0, 99),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_no_moment_is_above_the_peak(segments: list[Segment]) -> None:
    """The peak is among the moments, none is above it, and accumulation never needs less."""
    found = peak(segments, accumulates=False)
    totals = [moment.total for moment in moments(segments, accumulates=False)]
    assert found.total == max(totals)
    assert found.total <= peak(segments, accumulates=True).total
    assert found.total >= sum(one.kept for one in segments)
