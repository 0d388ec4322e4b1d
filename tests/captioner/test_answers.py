"""How sure the model was of each token is what the model itself says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

import rscap
from rscap.captioner import Captioner
from rscap.captioner.batch import collate
from rscap.model.packed import PackedModel
from rscap.recipe import GenerateSection
from rscap.records import Answer, Example, Picture
from rscap.sample import sample_examples

WAYS: list[dict[str, Any]] = [
    {},
    {"repetition_penalty": 1.3, "no_repeat_ngram": 2},
    {"beams": 3},
    {"temperature": 0.8, "top_p": 0.9, "seed": 4},
]


@pytest.fixture(scope="module")
def model() -> Iterator[Captioner]:
    """The nano model in float32."""
    with rscap.load("nano", device="cpu", dtype="float32") as captioner:
        yield captioner


@pytest.fixture(scope="module")
def scenes() -> list[Example]:
    """Six scenes of the sample."""
    return sample_examples()[:6]


def losses(captioner: Captioner, example: Example, caption: str) -> list[float]:
    """What the training loss says of a caption, token by token."""
    row = captioner.encoder(example, prefix=captioner.prefix, captions=[caption])
    packed: PackedModel = captioner.packed
    with torch.inference_mode():
        return packed.token_losses(collate([row], pad=captioner.encoder.prompter.pad)).tolist()


@pytest.mark.parametrize("way", WAYS, ids=["greedy", "penalties", "beams", "draws"])
def test_log_probabilities_are_those_of_the_training_loss(
    model: Captioner, scenes: list[Example], way: dict[str, Any]
) -> None:
    """Whatever chose the tokens: the packed forward pass over the finished caption gives the same numbers, and the
    captions are those that `predictions` gives."""
    settings = GenerateSection(max_new_tokens=24, **way)
    answers = [item for item in model.answers(scenes, settings=settings) if isinstance(item, Answer)]
    assert [answer.prediction for answer in answers] == list(model.predictions(scenes, settings=settings))
    for example, answer in zip(scenes, answers, strict=True):
        prediction = answer.prediction
        assert "".join(token.text for token in answer.tokens).strip() == prediction.caption
        assert len(answer.tokens) == prediction.tokens
        known = losses(model, example, prediction.caption)[: prediction.tokens]
        if len(known) == prediction.tokens:  # a caption that was cut off may be cut into other tokens
            assert [token.logprob for token in answer.tokens] == pytest.approx([-loss for loss in known], abs=2e-4)
        assert (answer.margin < 1e-4) == (prediction.near_ties > 0)


def test_pictures_made_ready_beforehand_get_the_same_answers(model: Captioner, scenes: list[Example]) -> None:
    """`encoded` and `answers_of`, by which a server asks, give what `answers` gives."""
    settings = GenerateSection(max_new_tokens=16)
    rows = [model.encoded(Picture(id=scene.id, image=scene.image)) for scene in scenes]
    found = model.answers_of(rows, prefix=model.prefix, settings=settings)
    expected = [item for item in model.answers(scenes, settings=settings) if isinstance(item, Answer)]
    assert [answer.prediction for answer in found] == [answer.prediction for answer in expected]
    assert [answer.confidence for answer in found] == pytest.approx(
        [answer.confidence for answer in expected], abs=1e-4
    )
