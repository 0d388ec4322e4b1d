"""The built-in sample: 736 aerial scenes that rscap renders itself, five true captions each, from a seed alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL.Image import Image

from rscap.records import Example, ImageHeader
from rscap.sample.canvas import SIZE, Canvas
from rscap.sample.captions import compose
from rscap.sample.scenes import SCENES, Scene

SPLITS: dict[str, int] = {"train": 30, "val": 4, "test": 12}
"""Images of each scene class in each split, in the order of their numbers."""


@dataclass(frozen=True, slots=True)
class RenderedScene:
    """An image that is drawn when it is loaded: scene class, number within the class, seed of the sample."""

    scene_class: str
    number: int
    seed: int = 0

    @property
    def name(self) -> str:
        return f"sample_{self.scene_class.replace(' ', '_')}_{self.number:04d}.png"

    @property
    def identity(self) -> str:
        """The name: class and number determine every pixel."""
        return self.name

    def header(self) -> ImageHeader:
        return ImageHeader("pixels", "RGB", SIZE, SIZE)

    def data(self) -> None:
        """None: the image is drawn, there is no file."""

    def facts(self) -> Scene:
        """The facts that the picture shows."""
        return SCENES[self.scene_class].plan(self._rng("facts"))

    def canvas(self) -> Canvas:
        """The drawing with its label map, before light and lens."""
        canvas = Canvas(self._rng("pixels"))
        self.facts().paint(canvas)
        return canvas

    def load(self) -> Image:
        """Render: RGB, 224x224, the same pixels every time."""
        return _rendered(self).copy()

    def render(self) -> Image:
        """The drawing under the light of its day."""
        rng = self._rng("light")
        canvas = self.canvas()
        tint = np.float32(0.94) + np.float32(0.12) * rng.random(3, np.float32)
        canvas.rgb *= tint * np.float32(0.76 + 0.4 * rng.random())
        return canvas.image()

    def captions(self) -> tuple[str, ...]:
        """Five sentences about the facts."""
        return _composed(self)

    def _rng(self, purpose: str) -> np.random.Generator:
        stream = ("facts", "pixels", "captions", "light").index(purpose)
        return np.random.default_rng([self.seed, list(SCENES).index(self.scene_class), self.number, stream])


@lru_cache(maxsize=1024)
def _rendered(scene: RenderedScene) -> Image:
    """Training asks for a picture every epoch, and drawing takes ten times as long as decoding a file (150 kB each)."""
    return scene.render()


@lru_cache(maxsize=1024)
def _composed(scene: RenderedScene) -> tuple[str, ...]:
    """Whoever opens the sample asks for all captions, which take a quarter of a second to write."""
    return compose(scene.facts().remarks(), scene._rng("captions"))


def sample_examples(*, seed: int = 0) -> list[Example]:
    """The sample: 480 train, 64 val and 192 test examples, scene classes interleaved, images rendered on load.

    Ids look like `sample_airport_0007.png`; `source` is `sample`. Another seed gives other pictures under the same ids.
    """
    examples = []
    number = 0
    for split, count in SPLITS.items():
        for _ in range(count):
            for scene_class in SCENES:
                handle = RenderedScene(scene_class, number, seed)
                examples.append(
                    Example(
                        id=handle.name,
                        captions=handle.captions(),
                        image=handle,
                        split=split,
                        source="sample",
                        scene_class=scene_class,
                    )
                )
            number += 1
    return examples
