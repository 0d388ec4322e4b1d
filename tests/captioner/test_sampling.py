"""Captions drawn behind one prefix: reproducible, never a special token, as probable as training then finds them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rscap.captioner import fitting as fitting_module
from rscap.captioner import sampling
from rscap.captioner.batch import Batch, Encoder, PackedRow, collate, pack
from rscap.captioner.fitting import Fitting
from rscap.captioner.sampling import Sample, Sampling, forbidden_ids, sample, sample_in_parts, with_features
from rscap.errors import OutOfMemory
from rscap.model.load import Base, load_base
from rscap.model.loss import Draw
from rscap.model.packed import PackedModel
from rscap.recipe import ModelSection
from rscap.sample import sample_examples

IDS = slice(3, 6)
Ids = tuple[int, ...]


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base(ModelSection(base="nano", dtype="float32"))


@pytest.fixture(scope="module")
def packed(base: Base) -> PackedModel:
    return PackedModel(base.model, compute_dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def batch(base: Base) -> Batch:
    return prefixes(base)


def prefixes(base: Base) -> Batch:
    encoder = Encoder.of(base)
    rows = [encoder(one, prefix="caption en", captions=()) for one in sample_examples(seed=0)[IDS]]
    return collate(rows, pad=encoder.prompter.pad)


def asked(count: int = 4, limit: int = 9, temperature: float = 1.0, seed: int = 0) -> Sampling:
    return Sampling(count=count, limit=limit, temperature=temperature, purpose=("test", seed))


def forbidden(base: Base) -> torch.Tensor:
    return torch.tensor(forbidden_ids(Encoder.of(base).prompter, base.model.config.text_config.vocab_size))


def packed_with(batch: Batch, samples: list[list[Sample]], draw: Draw | None, pad: int) -> Batch:
    """One row an image: its prefix and its samples as branches, with how they were drawn."""
    rows = []
    for number, own in enumerate(samples):
        suffixes = [list(one.ids) for one in own]
        layout = pack(batch.tokens[number].tolist(), suffixes, first=int(batch.positions[number, 0]))
        name, seen = batch.example_ids[number], batch.pixel_values[number]
        rows.append(PackedRow(example_id=name, pixels=seen, captions=len(own), **layout))  # type: ignore[arg-type]
    made = collate(rows, pad=pad)
    return made if draw is None else replace(made, draw=draw._replace(rows=torch.ones(made.supervised) > 0))


@pytest.mark.parametrize(
    ("family", "temperature", "limit"),
    [("paligemma", 1.0, 9), ("paligemma", 0.6, 12), ("paligemma", 1.7, 3), ("smolvlm", 0.6, 12), ("smolvlm", 1.0, 3)],
)
def test_training_gives_samples_the_probabilities_they_were_drawn_with(
    family: str, temperature: float, limit: int, smolnano: Path
) -> None:
    """Recomputed in one packed pass to 1e-5: temperature, forbidden tokens and samples that the limit cut off."""
    base = load_base(ModelSection(base="nano" if family == "paligemma" else str(smolnano), dtype="float32"))
    packed, batch = PackedModel(base.model, compute_dtype=torch.float32).eval(), prefixes(base)
    never, eos, pad = forbidden(base), base.layout.eos, base.layout.pad
    never = torch.cat([never, torch.tensor([7, 11, 13])])
    samples = sample(packed, batch, sampling=asked(4, limit, temperature), forbidden=never, eos=eos)
    losses = packed.token_losses(packed_with(batch, samples, Draw(temperature, never, never > 0), pad))
    drawn = [chance for own in samples for one in own for chance in one.logprobs]
    assert -losses.numpy() == pytest.approx(drawn, abs=1e-5)
    said = {token for own in samples for one in own for token in one.ids}
    assert not said & set(never.tolist())
    assert all(
        len(one.ids) <= limit and (one.ids[-1] == eos or len(one.ids) == limit) for own in samples for one in own
    )


def test_a_sample_depends_on_its_image_and_number_alone(base: Base, packed: PackedModel, batch: Batch) -> None:
    """Another batch, fewer samples, or images at a time: the same; another seed: others."""
    never, eos = forbidden(base), base.tokenizer.eos_token_id
    whole = sample(packed, batch, sampling=asked(), forbidden=never, eos=eos)
    fewer = sample(packed, batch, sampling=asked(count=2), forbidden=never, eos=eos)
    assert [[one.ids for one in own[:2]] for own in whole] == [[one.ids for one in own] for own in fewer]
    alone = Fitting(limits={(4, 9): 1})
    parts = sample_in_parts(packed, batch, sampling=asked(), forbidden=never, eos=eos, fitting=alone)
    assert [[one.ids for one in own] for own in parts] == [[one.ids for one in own] for own in whole]
    seen = sample(
        packed, with_features(packed.requires_grad_(False), batch), sampling=asked(), forbidden=never, eos=eos
    )
    assert [[one.ids for one in own] for own in seen] == [[one.ids for one in own] for own in whole]
    other = sample(packed, batch, sampling=asked(seed=1), forbidden=never, eos=eos)
    assert [one.ids for one in other[0]] != [one.ids for one in whole[0]]


def sampled_where(
    fails: Callable[[int], bool], base: Base, packed: PackedModel, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[list[Ids]], list[int], list[str], Fitting]:
    """What is drawn where some numbers of images do not fit; the numbers tried, what was said and is remembered."""
    tried, said, fitting = list[int](), list[str](), Fitting()

    def tight(packed: PackedModel, part: Batch, **options: Any) -> list[list[Sample]]:
        tried.append(part.images)
        if fails(part.images):
            torch.empty(1 << 60, dtype=torch.uint8)  # the error of torch's own allocator
        return sample(packed, part, **options)

    monkeypatch.setattr(sampling, "sample", tight)
    never, eos = forbidden(base), base.tokenizer.eos_token_id
    found = sample_in_parts(packed, batch, sampling=asked(), forbidden=never, eos=eos, fitting=fitting, say=said.append)
    return [[one.ids for one in own] for own in found], tried, said, fitting


def test_drawing_that_runs_out_of_memory_once_is_tried_again_with_an_empty_cache(
    base: Base, packed: PackedModel, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same images together once more, the same captions, nothing said and nothing given up."""
    expected, *_ = sampled_where(lambda _: False, base, packed, batch, monkeypatch)
    left, emptied = [True], list[str]()
    monkeypatch.setattr(fitting_module, "release", lambda device: emptied.append(device.type))
    found, tried, said, fitting = sampled_where(lambda _: bool(left) and left.pop(), base, packed, batch, monkeypatch)
    assert (found, tried, emptied) == (expected, [3, 3], ["cpu"])
    assert (said, fitting.limits) == ([], {})


def test_drawing_that_does_not_fit_goes_on_in_smaller_parts(
    base: Base, packed: PackedModel, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a second try of all three: the same captions in their order, said once a halving, remembered for later
    batches; one image that does not fit is an error that names it and the way out."""
    expected, *_ = sampled_where(lambda _: False, base, packed, batch, monkeypatch)
    found, tried, said, fitting = sampled_where(lambda images: images > 1, base, packed, batch, monkeypatch)
    assert (found, tried) == (expected, [3, 3, 1, 2, 1, 1])
    assert said == [
        "out of memory decoding 3 images together; continuing with 2 at a time",
        "out of memory decoding 2 images together; continuing with 1 at a time",
    ]
    assert fitting.limits == {(4, 9): 1}
    with pytest.raises(OutOfMemory, match=rf"^{batch.example_ids[0]}: .* with 4 captions of up to 9 tokens") as refused:
        sampled_where(lambda _: True, base, packed, batch, monkeypatch)
    assert "fewer or shorter captions" in str(refused.value.hint)


def test_no_special_token_can_be_drawn(base: Base) -> None:
    """The image token, padding, `<bos>` and ids without a token are forbidden; `<eos>` is not."""
    tokenizer, never = base.tokenizer, forbidden(base).tolist()
    assert {base.image_token_id, tokenizer.pad_token_id, tokenizer.bos_token_id} <= set(never)
    assert tokenizer.eos_token_id not in never
