"""What the nano model is pretrained on: plain shapes, bands and grounds seen from above, with true captions.

Nothing of the built-in sample is in it: no scene class, no sentence template, no seed. It is drawn with the same
brushes, so a model that has read it knows grounds, water, trees, roofs, vehicles, colours, counts and layout, and has
yet to be told what they make up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from compositions import Composition, compose
from PIL.Image import Image

from rscap.records import Example, ImageHeader
from rscap.sample.canvas import SIZE, Canvas
from rscap.sample.things import choose

STREAM = 90210
"""First word of every seed here; the sample's seeds have four words and never this one."""

TEMPLATES: dict[str, tuple[str, ...]] = {
    "whole": (
        "an aerial view of {ground} with {things}",
        "an overhead picture of {things} against {ground}",
        "{ground} with {things} on top of it",
        "{things} seen from above over {ground}",
        "from high up one sees {things} and {ground}",
        "an aerial view that shows {things}",
        "{n} {nouns} of {colour} colour over {ground}",
    ),
    "place": (
        "{things} towards the {place} of the view",
        "towards the {place} there {be} {things}",
        "the {place} of the view holds {things}",
        "{n} {nouns} can be seen at the {place}",
    ),
    "order": (
        "{order} of {n} {colour} {nouns}",
        "{n} {nouns} set out as {order}",
        "the {colour} {nouns} make up {order}",
        "{order} of {nouns} over {ground}",
    ),
    "colour": (
        "the colour of the {nouns} is {colour}",
        "{tinted} stand{s} out from {ground}",
        "the {nouns} look{s} {colour} from above",
        "the {nouns} {be} {colour} and the rest is {ground}",
    ),
    "size": (
        "an overhead view of {n} {size} {nouns}",
        "the {nouns} over {ground} {be} {size}",
        "{n} {nouns} of {size} size and {colour} colour",
    ),
    "band": (
        "{band} runs along the {side}",
        "{band} at the {side} and {things}",
        "an aerial view of {things} close to {band}",
        "at the {side} of the view runs {band}",
    ),
    "others": (
        "{things} together with {others}",
        "{others} lie scattered over {ground}",
        "an overhead picture with {others}",
        "around the {nouns} one sees {others}",
    ),
    "lines": (
        "an aerial view of {ground} crossed by {bands}",
        "{bands} run{s} {direction} over {ground}",
        "{bands} divide{s} {ground}",
        "seen from above, {bands} cut{s} {direction} through the view",
        "{ground} and {bands} from high up",
    ),
    "halves": (
        "the {side} half shows {ground} and the {other} half {second}",
        "{ground} meets {second}",
        "an aerial view with {ground} at the {side} and {second} at the {other}",
        "a border between {ground} and {second}",
        "{second} fills the {other} half of the view",
    ),
    "plain": (
        "an aerial view of {ground}",
        "{ground} everywhere and {others}",
        "{ground} seen from high up with {others}",
        "an overhead picture of {ground} and {others}",
    ),
}


@dataclass(frozen=True, slots=True)
class CorpusScene:
    """An image that is drawn when it is loaded; cheap to hold and to pickle."""

    number: int
    seed: int

    @property
    def name(self) -> str:
        return f"corpus_{self.seed}_{self.number:06d}.png"

    @property
    def identity(self) -> str:
        return self.name

    def header(self) -> ImageHeader:
        return ImageHeader("pixels", "RGB", SIZE, SIZE)

    def data(self) -> None:
        """None: there is no file."""

    def load(self) -> Image:
        """Render: RGB, 224x224."""
        canvas = Canvas(self._rng(1))
        self.composition().paint(canvas)
        return canvas.image()

    def composition(self) -> Composition:
        """What the picture shows."""
        return compose(self._rng(0))

    def captions(self) -> tuple[str, ...]:
        """Three to five sentences, each from another kind or template."""
        rng = self._rng(2)
        found = self.composition()
        pool = [template for kind in found.kinds for template in TEMPLATES[kind]]
        first = choose(rng, TEMPLATES[found.kinds[0]])
        rest = [template for template in pool if template != first]
        order = rng.permutation(len(rest))[: int(rng.integers(2, 5))].tolist()
        return tuple(template.format(**found.words) for template in (first, *(rest[k] for k in order)))

    def _rng(self, purpose: int) -> np.random.Generator:
        return np.random.default_rng([STREAM, self.seed, self.number, purpose, 1])


def corpus_examples(n: int, *, seed: int) -> list[Example]:
    """`n` examples of split `train`, source `corpus`: three to five captions each, images rendered on load."""
    examples = []
    for number in range(n):
        handle = CorpusScene(number, seed)
        examples.append(
            Example(id=handle.name, captions=handle.captions(), image=handle, split="train", source="corpus")
        )
    return examples
