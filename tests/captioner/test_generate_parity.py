"""Decoding chooses the tokens that transformers' `generate` chooses, whatever the settings and the family."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from rscap.captioner.batch import Batch, Encoder
from rscap.captioner.choice import Decoded
from rscap.captioner.decoding import decode
from rscap.captioner.loader import batches
from rscap.model.load import Base, load_base
from rscap.model.packed import PackedModel
from rscap.recipe import GenerateSection, ModelSection
from rscap.sample import sample_examples

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # inside the processor

PREFIX, IMAGES = "caption en", 4
SETTINGS: dict[str, dict[str, Any]] = {
    "greedy": {"max_new_tokens": 24},
    "greedy, penalties": {"max_new_tokens": 24, "repetition_penalty": 2.0, "no_repeat_ngram": 2},
    # as prior work A decoded
    "beams, penalties": {
        "max_new_tokens": 50,
        "beams": 3,
        "repetition_penalty": 1.2,
        "no_repeat_ngram": 3,
        "length_penalty": 0.6,
    },
    "beams, long": {"max_new_tokens": 24, "beams": 4, "length_penalty": 2.0},
    "beams, short": {"max_new_tokens": 12, "beams": 2, "length_penalty": -1.0},
    "beams, one token": {"max_new_tokens": 1, "beams": 3},
}


class Subject:
    """A model with a batch of images, and the token that plays `<eos>`."""

    def __init__(self, base: Base, images: int = IMAGES) -> None:
        self.base, self.encoder = base, Encoder.of(base)
        self.packed = PackedModel(base.model, compute_dtype=base.compute_dtype)
        self.examples = sample_examples()[:images]
        encode = partial(self.encoder, prefix=PREFIX, captions=())
        self.batch: Batch = next(batches(self.examples, encode, size=images, pad=self.encoder.prompter.pad))
        self.eos = self.encoder.prompter.eos

    def ours(self, settings: GenerateSection) -> list[Decoded]:
        return decode(self.packed, self.batch, settings=settings, eos=self.eos)

    def theirs(self, index: int, settings: GenerateSection) -> list[int]:
        """Plain `generate` on one image, as the library's processor makes its inputs."""
        image, base = self.examples[index].image.load(), self.base
        inputs = base.family.inputs(base.processor, base.layout, image, PREFIX)
        inputs["pixel_values"] = inputs["pixel_values"].to(self.packed.compute_dtype)
        given = {"length_penalty": settings.length_penalty} if settings.beams > 1 else {}
        found = self.base.model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=settings.max_new_tokens,
            num_beams=settings.beams,
            repetition_penalty=settings.repetition_penalty,
            no_repeat_ngram_size=settings.no_repeat_ngram,
            eos_token_id=self.eos,
            **given,
        )[0, inputs["input_ids"].shape[1] :].tolist()
        return found[: found.index(self.eos) + 1] if self.eos in found else found


@pytest.fixture(scope="module", params=["nano", "nano2", "smolnano"])
def subject(request: pytest.FixtureRequest, nano2: Path, smolnano: Path) -> Subject:
    """nano as it is; its twins with larger random weights and a token for `<eos>` that they do say."""
    if request.param == "nano":
        return Subject(load_base(ModelSection(base="nano", dtype="float32")))
    base = load_base(ModelSection(base=str(nano2 if request.param == "nano2" else smolnano), dtype="float32"))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in base.model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
    found = Subject(base)
    said = found.ours(GenerateSection(max_new_tokens=24))
    found.eos = Counter(token for one in said for token in set(one.ids[4:])).most_common(1)[0][0]
    return found


@pytest.mark.parametrize("name", SETTINGS)
def test_tokens_are_those_of_plain_generate(subject: Subject, name: str) -> None:
    """Decoded together, every image gets the tokens that `generate` gives it alone, unless a near-tie is reported."""
    settings = GenerateSection(**SETTINGS[name])
    ours = subject.ours(settings)
    surely = [index for index, found in enumerate(ours) if not found.near_ties]
    assert len(surely) >= IMAGES // 2, "nearly all images are near-ties; this compares nothing"
    for index in surely:
        assert ours[index].ids == subject.theirs(index, settings)


@pytest.mark.parametrize(
    "settings",
    [{"beams": 3, "length_penalty": 0.7}, {"temperature": 0.8, "top_p": 0.9, "seed": 3}],
    ids=["beams", "draws"],
)
def test_a_batch_gives_what_each_image_gets_alone(subject: Subject, settings: dict[str, Any]) -> None:
    """Beams and draws of every family, in float32, where images leave as their captions end."""
    asked = GenerateSection(max_new_tokens=24, **settings)
    together = subject.ours(asked)
    for found, one in zip(together, subject.batch.parts(1), strict=True):
        (alone,) = decode(subject.packed, one, settings=asked, eos=subject.eos)
        assert alone.ids == found.ids or found.near_ties


def test_in_bfloat16_the_models_own_logits_are_those_of_generate() -> None:
    """With `logits = "model"` nano in bfloat16 gives the tokens of `generate`; with float32 logits some captions leave
    them, each at a reported near-tie."""
    half = Subject(load_base(ModelSection(base="nano", dtype="bfloat16")), images=8)
    wide, own = (GenerateSection(max_new_tokens=16, logits=name) for name in ("float32", "model"))
    theirs = [half.theirs(index, own) for index in range(8)]
    assert [one.ids for one in half.ours(own)] == theirs
    apart = [one for one, there in zip(half.ours(wide), theirs, strict=True) if one.ids != there]
    assert apart, "float32 logits changed nothing here, so nothing is shown"
    assert all(one.near_ties for one in apart)


def test_settings_matter(subject: Subject) -> None:
    """The settings compared above do not all lead to the same tokens, and some captions end by themselves."""
    found = {name: subject.ours(GenerateSection(**values)) for name, values in SETTINGS.items()}
    texts = {name: [one.ids[:12] for one in decoded] for name, decoded in found.items()}
    assert texts["greedy"] != texts["greedy, penalties"]
    assert texts["greedy"] != texts["beams, penalties"]
    assert texts["beams, long"] != texts["beams, short"]
    assert any(one.ids[-1] == subject.eos for one in found["beams, penalties"])


def test_the_prompt_counts_as_said(subject: Subject) -> None:
    """As in transformers, the penalty falls on the tokens of the prompt too, those of the image among them."""
    from rscap.captioner.choice import penalties

    processed = penalties(GenerateSection(repetition_penalty=2.0))(subject.batch.tokens, torch.ones(IMAGES, 8192))
    lowered = (processed[0] == 0.5).nonzero().squeeze(1).tolist()
    assert sorted(set(subject.batch.tokens[0].tolist())) == lowered
    assert subject.base.image_token_id in lowered


def test_draws_see_the_distribution_of_transformers() -> None:
    """Temperature, top k and top p come in the order of `generate`, and give its scores."""
    from transformers import GenerationConfig

    from rscap.captioner.choice import cuts

    base = load_base(ModelSection(base="nano", dtype="float32"))
    given = {"temperature": 0.7, "top_k": 20, "top_p": 0.8}
    config = GenerationConfig(do_sample=True, **given)
    theirs = base.model._get_logits_processor(config, input_ids_seq_length=3)
    ids, scores = torch.zeros(5, 3, dtype=torch.long), torch.randn(5, 300, generator=torch.Generator().manual_seed(0))
    ours = cuts(GenerateSection(**given))(ids, scores)
    assert torch.equal(ours, theirs(ids, scores))
    assert (ours > -torch.inf).sum(dim=1).max() <= 20
