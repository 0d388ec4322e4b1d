"""Consensus decoding: the caption that is most like the others, whichever way similarity is measured."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from recipes import small_recipe
from rscap.captioner import Captioner, ModelRef
from rscap.captioner.choice import decode_name
from rscap.captioner.consensus import mean_cider, mean_rouge
from rscap.errors import RecipeError
from rscap.recipe import GenerateSection, change_generate
from rscap.sample import sample_examples
from rscap.scoring import IdfPool, score_captions
from rscap.training.session import train

CAPTIONS = ["two planes are parked", "two planes are parked near a building", "a river", ""]
REFERENCES = {"a": ["two planes are parked .", "planes by a building ."], "b": ["a river .", "a wide river flows ."]}
DRAWN = {"choose": "consensus", "temperature": 0.7, "samples": 4, "max_new_tokens": 8}


def test_the_most_typical_caption_has_the_highest_mean_similarity() -> None:
    """Means over the other captions are those of the metrics; an empty caption has none."""
    pool = IdfPool.build(REFERENCES)
    rouge, cider = mean_rouge(CAPTIONS), mean_cider(CAPTIONS, pool)
    assert rouge.argmax() in (0, 1)
    assert cider.argmax() in (0, 1)
    assert rouge[3] == cider[3] == 0.0
    pairs = [
        score_captions({"x": CAPTIONS[0]}, {"x": [other]}, metrics=["ROUGE-L"], draws=0).items["x"]["ROUGE-L"]
        for other in CAPTIONS[1:3]
    ]
    assert rouge[0] == pytest.approx(sum(pairs) / 3)
    equal = mean_rouge(["a plane", "a plane", "a river"])
    assert equal[0] == equal[1] > equal[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = small_recipe({"data": {"train_limit": 4}, "train": {"max_steps": 1}})
    return train(made, tmp_path_factory.mktemp("runs") / "run", say=lambda _: None).path


def test_a_run_captions_by_consensus(run: Path) -> None:
    """The same captions whatever the batch; by CIDEr with the document frequencies that the run keeps; a base model
    has none, and the error names the way out."""
    captioner: Captioner = ModelRef.of(str(run)).load("cpu")
    examples = sample_examples(seed=0)[:3]
    for similarity in ("ROUGE-L", "CIDEr"):
        asked = {**DRAWN, "similarity": similarity}
        whole = captioner.caption(examples, **asked)
        assert [one.caption for one in captioner.caption(examples, batch_size=1, **asked)] == [
            one.caption for one in whole
        ]
        assert all(one.tokens <= 8 for one in whole)
    base = ModelRef.of("nano", dtype="float32").load("cpu")
    with pytest.raises(RecipeError, match="document frequencies") as refused:
        base.caption(examples, **DRAWN, similarity="CIDEr")
    assert "ROUGE-L" in str(refused.value.hint)
    assert torch.is_inference_mode_enabled() is False


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (["generate.choose=consensus"], "set a temperature"),
        (["generate.choose=consensus", "generate.temperature=0.5", "generate.top_k=5"], "top_k does not go"),
        (["generate.samples=8"], "samples = 8 is for choose"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(changes: list[str], problem: str) -> None:
    """No temperature, cuts of the draw, samples that nobody draws."""
    with pytest.raises(RecipeError, match=problem):
        change_generate(GenerateSection(), changes)


def test_the_signature_names_samples_similarity_and_temperature() -> None:
    """As in the name of the folder of an evaluation."""
    made = GenerateSection(choose="consensus", temperature=0.5, similarity="CIDEr")
    assert decode_name(made) == "consensus16cider-64-t0.5-s0"
    assert decode_name(GenerateSection(choose="consensus", temperature=1.0, samples=8, seed=2)) == (
        "consensus8rougel-64-t1-s2"
    )
