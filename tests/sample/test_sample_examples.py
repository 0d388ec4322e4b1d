"""The built-in sample as a data set: splits, ids, captions, and pixels that are the same everywhere."""

from __future__ import annotations

import hashlib
import pickle
from collections import Counter

import numpy as np
import pytest

from rscap import sample
from rscap.baselines import constant, nearest_image
from rscap.records import Example, Prediction
from rscap.sample import SPLITS, RenderedScene, sample_examples
from rscap.sample.captions import Counted, Phrase, Remark
from rscap.sample.scenes import SCENES
from rscap.scoring.captions import score_captions

PIXEL_DIGESTS = {
    ("airport", 7): "49b3f3192322ce331f61fc9e6aa185d7992c11f97f74236cba23f42740a06470",
    ("forest", 0): "8d7be54fbd30006670a6e83cc2c3f2506fb28d0e416dcb28c069cfc926ec592d",
    ("harbour", 33): "6bed8772427fb0a34da181c319808e0658d6e354a9b72a7fcf371706b37f6ec1",
    ("dense residential", 39): "cf22323d206a38f018fd68c04b3b9c8b1cb3fc7e116acce6b66c0bbc43065c2e",
}


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return sample_examples()


def split_of(examples: list[Example], split: str) -> list[Example]:
    return [example for example in examples if example.split == split]


def cider(candidates: dict[str, str], references: list[Example]) -> float:
    known = {example.id: example.captions for example in references}
    return score_captions(candidates, known, draws=0, metrics=["CIDEr"]).corpus["CIDEr"]


def test_size_and_balance(examples: list[Example]) -> None:
    """736 examples, 480 / 64 / 192, and every scene class has its share of every split."""
    assert Counter(example.split for example in examples) == {"train": 480, "val": 64, "test": 192}
    shares = Counter((example.split, example.scene_class) for example in examples)
    assert shares == {(split, name): count for split, count in SPLITS.items() for name in SCENES}
    assert len(SCENES) >= 14


def test_ids_name_class_and_number(examples: list[Example]) -> None:
    """Ids are unique and look like sample_airport_0007.png; the handle carries the same name."""
    assert len({example.id for example in examples}) == len(examples)
    assert "sample_airport_0007.png" in {example.id for example in examples}
    assert all(example.image.name == example.id and example.source == "sample" for example in examples)


def test_a_prefix_of_a_split_is_balanced(examples: list[Example]) -> None:
    """The first examples of a split show every scene class once, so that a limit does not cut classes off."""
    for split in SPLITS:
        first = split_of(examples, split)[: len(SCENES)]
        assert {example.scene_class for example in first} == set(SCENES)


def test_captions_are_plain_sentences(examples: list[Example]) -> None:
    """Five different sentences of 5 to 20 words, capital letter first, ` .` last, no placeholder left over."""
    for example in examples:
        assert len(set(example.captions)) == len(example.captions) == 5, example.id
        for caption in example.captions:
            assert 5 <= len(caption.split()) <= 20, caption
            assert caption[0].isupper(), caption
            assert caption.endswith(" ."), caption
            assert caption == " ".join(caption.split()), caption
            assert not set("{}\\_") & set(caption), caption


def test_vocabulary_is_small(examples: list[Example]) -> None:
    """A few hundred words at most, so that a small model can learn them from the training split alone."""
    words = {split: _words(split_of(examples, split)) for split in SPLITS}
    assert 120 < len(words["train"]) < 400
    assert words["test"] <= words["train"]


def _words(examples: list[Example]) -> set[str]:
    return {word.lower() for example in examples for caption in example.captions for word in caption.split()}


def test_same_seed_same_sample(examples: list[Example]) -> None:
    """Two calls agree in ids, captions and pixels; another seed gives other pictures and captions."""
    sample._composed.cache_clear()  # or the second call would only look up what the first one made
    assert sample_examples() == examples
    other = sample_examples(seed=1)
    assert [example.id for example in other] == [example.id for example in examples]
    assert sum(one.captions == two.captions for one, two in zip(examples, other, strict=True)) < 10
    first, again = examples[5].image.load(), pickle.loads(pickle.dumps(examples[5])).image.load()
    assert first.tobytes() == again.tobytes() != other[5].image.load().tobytes()


def test_pictures_differ(examples: list[Example]) -> None:
    """No two handles draw the same scene, and a fifth of the pictures, rendered, all differ; RGB of 224x224."""
    assert len({example.image for example in examples}) == len(examples)
    digests = set()
    some = examples[::5]
    for example in some:
        image = example.image.load()
        assert image.mode == "RGB"
        assert image.size == (224, 224)
        digests.add(hashlib.sha256(image.tobytes()).digest())
    assert len(digests) == len(some)


@pytest.mark.parametrize(("scene_class", "number"), PIXEL_DIGESTS)
def test_pixels_are_the_same_on_every_machine(scene_class: str, number: int) -> None:
    """Decoded pixels have the digests they had when the sample was made; a change here is a change of the data set."""
    pixels = np.asarray(RenderedScene(scene_class, number).load())
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == PIXEL_DIGESTS[scene_class, number]


def test_facts_beat_guesses(examples: list[Example]) -> None:
    """True sentences score far above those with other facts of the right class, one constant and the nearest image."""
    train, test = split_of(examples, "train"), split_of(examples, "test")
    rng = np.random.default_rng(0)
    facts = {example.id: RenderedScene(example.scene_class or "", int(example.id[-8:-4])).facts() for example in test}
    true = {name: scene.remarks()[0].say(rng) for name, scene in facts.items()}
    guessed = {name: type(scene).plan(rng).remarks()[0].say(rng) for name, scene in facts.items()}
    reached = cider(true, test)
    assert reached > 2.0
    assert cider(guessed, test) < 0.6 * reached
    assert cider(_said(constant(train, test)), test) < 0.5
    assert cider(_said(nearest_image(train[:160], test)), test) < 0.65 * reached


def _said(predictions: list[Prediction]) -> dict[str, str]:
    return {prediction.example_id: prediction.caption for prediction in predictions}


@pytest.mark.parametrize(
    ("count", "expected"), [(1, "One red boat is near trees ."), (3, "Three red boats are near trees .")]
)
def test_verbs_agree_with_counts(count: int, expected: str) -> None:
    """A frame takes the number of its subject."""

    class First:
        def integers(self, _: int) -> int:
            return 0

    remark = Remark(("{a} {be} near {b} .",), Counted(count, "boat", "red").full, Phrase("trees", plural=True))
    assert remark.say(First()) == expected  # type: ignore[arg-type]
