"""What nano reads besides captions, so that it knows words it has no picture of, as a pretrained base does.

Two tasks without grammar and without templates: repeat a row of words, and list words of one kind. They give every word
of `words.py` an embedding that can be read and said; no sentence of any caption is among them.
"""

from __future__ import annotations

import numpy as np
from words import KINDS, TRAINING_WORDS

from rscap.records import Example, ImageHandle

READING = "reading"
"""`Example.source` of what is read; its `scene_class` holds the prefix."""


def reading_examples(images: list[ImageHandle], *, seed: int) -> list[Example]:
    """One example for every image given: prefix and text have nothing to do with what it shows."""
    generator = np.random.default_rng([seed, 4711])
    return [_example(number, image, generator) for number, image in enumerate(images)]


def _example(number: int, image: ImageHandle, generator: np.random.Generator) -> Example:
    prefix, text = _repeat(generator) if generator.random() < 0.7 else _kind(generator)
    return Example(
        id=f"reading_{number:06d}", captions=(text,), image=image, split="train", source=READING, scene_class=prefix
    )


def _repeat(generator: np.random.Generator) -> tuple[str, str]:
    text = " ".join(generator.choice(TRAINING_WORDS, size=int(generator.integers(6, 16))))
    return f"repeat {text}", text


def _kind(generator: np.random.Generator) -> tuple[str, str]:
    words = KINDS[int(generator.integers(len(KINDS)))]
    chosen = generator.choice(words, size=12, replace=False)
    return f"words like {' '.join(chosen[:2])}", " ".join(chosen[2:])
