"""Examples become predictions: none is lost, and each says how it ended and whether a choice was a near-tie."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rscap.captioner import Captioner
from rscap.captioner.batch import Encoder
from rscap.captioner.decoding import decode
from rscap.errors import ImageError
from rscap.model.load import Base, load_base
from rscap.model.packed import PackedModel
from rscap.recipe import GenerateSection, ModelSection
from rscap.records import Example, Prediction, Rejected
from rscap.sample import sample_examples

PREFIX = "caption en"


@pytest.fixture(scope="module", params=["nano", "nano2"])
def base(request: pytest.FixtureRequest, nano2: Path) -> Base:
    name = "nano" if request.param == "nano" else str(nano2)
    return load_base(ModelSection(base=name, dtype="float32"))


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return sample_examples()[:6]


def captions(base: Base, examples: list[Example], *, size: int, tokens: int = 24) -> list[Prediction]:
    packed = PackedModel(base.model, compute_dtype=torch.float32)
    settings = GenerateSection(max_new_tokens=tokens, batch_size=size)
    found = list(Captioner(packed, Encoder.of(base), prefix=PREFIX, settings=settings).predictions(examples))
    assert all(isinstance(item, Prediction) for item in found)
    return [item for item in found if isinstance(item, Prediction)]


def test_batched_equals_one_by_one(base: Base, examples: list[Example]) -> None:
    """In float32 a batch gives every image the caption it has alone, unless a near-tie is reported."""
    alone, together = captions(base, examples, size=1), captions(base, examples, size=6)
    assert [prediction.example_id for prediction in together] == [example.id for example in examples]
    for one, many in zip(alone, together, strict=True):
        assert (one.caption, one.tokens, one.stopped) == (many.caption, many.tokens, many.stopped) or one.near_ties


def iter_batches(encoder: Encoder, examples: list[Example]):
    from functools import partial

    from rscap.captioner.loader import batches

    return batches(examples, partial(encoder, prefix=PREFIX, captions=()), size=4, pad=encoder.prompter.pad)


def test_length_limit_is_told(base: Base, examples: list[Example]) -> None:
    """A caption cut by max_new_tokens says `length` and has that many tokens."""
    for prediction in captions(base, examples[:2], size=2, tokens=2):
        assert (prediction.stopped, prediction.tokens) == ("length", 2)


class Broken:
    """An image that cannot be decoded."""

    name = "broken.jpg"

    def load(self):
        raise ImageError("broken.jpg is truncated")


def test_a_broken_image_is_told_and_the_others_are_captioned(base: Base, examples: list[Example]) -> None:
    """An undecodable image becomes a Rejected with its id; no other image of the batch is lost."""
    mixed = [examples[0], replace(examples[1], image=Broken()), examples[2]]
    packed = PackedModel(base.model, compute_dtype=torch.float32)
    settings = GenerateSection(max_new_tokens=4, batch_size=3)
    found = list(Captioner(packed, Encoder.of(base), prefix=PREFIX, settings=settings).predictions(mixed))
    assert [item for item in found if isinstance(item, Rejected)] == [
        Rejected(row=examples[1].id, reason="broken.jpg is truncated")
    ]
    assert {item.example_id for item in found if isinstance(item, Prediction)} == {examples[0].id, examples[2].id}


def test_near_ties_are_counted(base: Base, examples: list[Example]) -> None:
    """With two equal rows in the head, every step that chooses between them is a near-tie."""
    packed = PackedModel(base.model, compute_dtype=torch.float32)
    encoder = Encoder.of(base)
    batch = next(iter_batches(encoder, examples[:2]))
    weights = base.model.lm_head.weight
    kept = weights.detach().clone()
    try:
        with torch.no_grad():
            weights.zero_()
        results = decode(packed, batch, eos=encoder.prompter.eos, settings=GenerateSection(max_new_tokens=3))
    finally:
        with torch.no_grad():
            weights.copy_(kept)
    assert all(result.near_ties == len(result.ids) for result in results)


def test_a_model_in_training_mode_is_refused_and_left_as_it_is(base: Base, examples: list[Example]) -> None:
    """Dropout would change captions, and switching it off under whoever holds the model is not the captioner's job."""
    packed = PackedModel(base.model, compute_dtype=torch.float32).train()
    with pytest.raises(ValueError, match="training mode"):
        list(Captioner(packed, Encoder.of(base), prefix=PREFIX).predictions(examples[:1]))
    assert packed.training
    packed.eval()
