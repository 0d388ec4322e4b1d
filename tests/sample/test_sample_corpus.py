"""The corpus of the nano model: disjoint from the built-in sample, varied, deterministic and true to its pictures."""

from __future__ import annotations

import pickle
import re
import string
import sys
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest

from checkout import ROOT
from rscap.records import Example
from rscap.sample import captions as sample_captions
from rscap.sample import sample_examples
from rscap.sample.canvas import Canvas
from rscap.sample.scenes import SCENES

TOOLS = ROOT / "tools" / "nano"
NAMES = ("corpus", "compositions", "layout", "words")


@pytest.fixture(scope="module")
def tools() -> Iterator[dict[str, ModuleType]]:
    """The scripts' own modules, imported as the scripts do and forgotten afterwards."""
    sys.path.insert(0, str(TOOLS))
    try:
        yield {name: __import__(name) for name in NAMES}
    finally:
        sys.path.remove(str(TOOLS))
        for name in NAMES:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def corpus(tools: dict[str, ModuleType]) -> list[Example]:
    return tools["corpus"].corpus_examples(1500, seed=11)


def skeleton(template: str) -> str:
    """A template without the names of its slots."""
    return re.sub(r"\{[^}]*\}", "{}", template).rstrip(" .").lower()


def test_no_scene_class_is_named(corpus: list[Example], tools: dict[str, ModuleType]) -> None:
    """No caption and no template of the corpus names a scene class of the sample, whole or by its telling word."""
    text = "\n".join(caption for example in corpus for caption in example.captions)
    text += "\n".join(template for group in tools["corpus"].TEMPLATES.values() for template in group)
    telling = {word for name in SCENES for word in name.split()} - {"field", "lot", "court", "dense", "sparse"}
    telling |= set(SCENES) | {"courts", "field", "harbor", "tank", "lake", "plane", "boat", "runway", "sea"}
    found = [word for word in sorted(telling) if re.search(rf"\b{word}s?\b", text)]
    assert found == []


def test_no_sentence_is_shared(corpus: list[Example], tools: dict[str, ModuleType]) -> None:
    """Neither a template nor a caption occurs on both sides."""
    sample = sample_examples()
    theirs = {skeleton(caption) for example in sample for caption in example.captions}
    assert not theirs & {skeleton(caption) for example in corpus for caption in example.captions}
    shared = [getattr(sample_captions, name) for name in ("NEAR", "ON", "WITHIN", "AND", "IN", "OVER", "BETWEEN")]
    frames = {skeleton(frame) for group in shared for frame in group}
    frames |= {skeleton(f) for e in sample for remark in e.image.facts().remarks() for f in remark.frames}  # type: ignore[attr-defined]
    templates = {skeleton(template) for group in tools["corpus"].TEMPLATES.values() for template in group}
    assert not frames & templates
    assert len(templates) >= 30


def test_captions_are_finished(corpus: list[Example]) -> None:
    """Three to five different sentences a picture, all slots filled, a few hundred words in all."""
    words: set[str] = set()
    for example in corpus:
        assert 3 <= len(set(example.captions)) == len(example.captions) <= 5, example
        for caption in example.captions:
            assert not set(string.punctuation) - set("-,") & set(caption), caption
            assert caption == " ".join(caption.split()), caption
            words |= set(caption.split())
    assert 150 < len(words) < 500


def test_corpus_is_a_function_of_its_seed(tools: dict[str, ModuleType], corpus: list[Example]) -> None:
    """The same seed gives the same pictures, a shorter corpus is the head of a longer one, handles survive pickling."""
    again = tools["corpus"].corpus_examples(20, seed=11)
    assert again == corpus[:20]
    other = tools["corpus"].corpus_examples(20, seed=12)
    assert again[3].image.load().tobytes() != other[3].image.load().tobytes()
    copy = pickle.loads(pickle.dumps(again[3]))
    assert copy.image.load().tobytes() == again[3].image.load().tobytes()


def test_counts_in_captions_are_counts_in_pictures(tools: dict[str, ModuleType], corpus: list[Example]) -> None:
    """A picture said to hold n discs or rectangles of a colour shows n separate shapes in its label map."""
    looked = 0
    for example in corpus:
        found = example.image.composition()  # type: ignore[attr-defined]
        number = tools["compositions"].NUMBERS.index(found.words.get("n")) if found.words.get("n") in WANTED else 0
        if not number or not re.search("disc|rectang|oval|triangle|cross", found.words["nouns"]):
            continue
        canvas = Canvas(np.random.default_rng(example.image.number))  # type: ignore[attr-defined]
        found.paint(canvas)
        assert _pieces(canvas.mask("thing")) == number, f"{example.id}: {example.captions}"
        looked += 1
        if looked == 40:
            return
    raise AssertionError(f"only {looked} pictures of countable shapes in {len(corpus)}")


WANTED = ("one", "two", "three", "four", "five", "six")


def _pieces(mask: np.ndarray) -> int:
    """Connected pieces of a mask by flooding, slivers left out."""
    left, count = mask.copy(), 0
    while left.any():
        y, x = (int(values[0]) for values in np.nonzero(left))
        stack, area = [(y, x)], 0
        left[y, x] = False
        while stack:
            y, x = stack.pop()
            area += 1
            for b, a in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if 0 <= b < left.shape[0] and 0 <= a < left.shape[1] and left[b, a]:
                    left[b, a] = False
                    stack.append((b, a))
        count += area >= 20
    return count


def test_words_for_the_tokenizer(tools: dict[str, ModuleType]) -> None:
    """The word list has no doubles and holds every word of the sample's captions, plurals aside."""
    words = tools["words"].TRAINING_WORDS
    assert len(words) == len(set(words)) > 1400
    known = {word.lower() for word in words}
    used = {word.lower() for e in sample_examples() for caption in e.captions for word in caption.split()} - {"."}
    unknown = {word for word in used if word not in known and word.removesuffix("s") not in known}
    assert not unknown, sorted(unknown)
