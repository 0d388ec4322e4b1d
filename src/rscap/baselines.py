"""Predictions that need no model: one constant sentence, and the caption of the nearest training image.

A captioning score means little alone. RISC's captions follow few patterns, so one well-chosen sentence for every image,
or the caption of the most similar training image by a hand-made descriptor, already scores well. Both are written as
ordinary predictions and scored like a model's.

On the 900 test images of the RISC excerpt (2,900 training images, CIDEr, five references) the constant scores about
.30 and the nearest image about .60. The parts of the descriptor weigh the same; no weight was fitted.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rscap.errors import DataError
from rscap.progress import Progress
from rscap.records import Example, Prediction

Gram = tuple[str, ...]

POOL_IMAGES = 3_000
"""The most training images whose captions are used; chosen by a hash of the id, so that order does not matter."""
SHORTLIST = 100
"""Sentences whose CIDEr is computed exactly."""
_LENGTH_SIGMA = 6.0  # CIDEr-D's width of the length penalty, in words
_ORDERS = (1, 2, 3, 4)


def constant_caption(train: Sequence[Example]) -> str:
    """The training caption with the highest mean CIDEr against the references of the training images.

    Every distinct caption is ranked by its mean TF-IDF cosine with all references (one product with their centroid);
    the best `SHORTLIST` are then scored with CIDEr-D itself (Vedantam et al., arXiv:1411.5726). More than
    `POOL_IMAGES` training images are represented by a subset of that size. Ties go to the alphabetically first.

    Raises:
        DataError: there is no training caption to choose from.
    """
    pool = _pool(train)
    space = CaptionSpace.of(pool)
    references = [space.vector(caption) for example in pool for caption in example.captions]
    centroid: tuple[defaultdict[Gram, float], ...] = tuple(defaultdict(float) for _ in _ORDERS)
    for reference in references:
        for order, total in enumerate(centroid):
            for gram, weight in reference.weights[order].items():
                total[gram] += weight / reference.norms[order]
    captions = sorted({caption for example in pool for caption in example.captions})
    vectors = {caption: space.vector(caption) for caption in captions}
    ranked = sorted(captions, key=lambda caption: -_centroid_cosine(vectors[caption], centroid))[:SHORTLIST]
    index = _Postings.of(references)
    return max(sorted(ranked), key=lambda caption: index.mean_cider(vectors[caption]))


def constant(train: Sequence[Example], test: Sequence[Example]) -> list[Prediction]:
    """The constant caption of `train` as the prediction for every image of `test`."""
    caption = constant_caption(train)
    return [_prediction(example.id, caption) for example in test]


def nearest_image(
    train: Sequence[Example], test: Sequence[Example], progress: Progress | None = None
) -> list[Prediction]:
    """For every test image, a caption of the training image with the nearest `descriptor` (Euclidean distance).

    Of the neighbour's captions it takes the one that agrees best with its siblings (`typical_caption`). Equal distances
    go to the smaller training id, so that the order of `train` does not matter. Images that cannot be decoded are left
    out: such a test image has no prediction, and the scores count it as unscored.

    Raises:
        DataError: there is no training image, or none that can be decoded.
    """
    space = CaptionSpace.of(_pool(train))
    ordered = sorted(train, key=lambda example: example.id)
    total = len(ordered) + len(test)
    ordered, known = _descriptors(ordered, progress, 0, total)
    test, wanted = _descriptors(test, progress, len(train), total)
    if not ordered:
        raise DataError(f"none of the {len(train)} training images can be decoded")
    neighbours = _nearest(wanted, known)
    return [
        _prediction(example.id, typical_caption(ordered[neighbour].captions, space))
        for example, neighbour in zip(test, neighbours, strict=True)
    ]


def typical_caption(captions: Sequence[str], space: CaptionSpace) -> str:
    """The caption with the highest mean TF-IDF cosine to its siblings; the first of equals."""
    vectors = [space.vector(caption) for caption in captions]
    agreement = [sum(_cosine(one, other) for other in vectors if other is not one) for one in vectors]
    return captions[max(range(len(captions)), key=lambda index: (round(agreement[index], 9), -index))]


# --- images ---------------------------------------------------------------------------------------------------------

DESCRIPTOR_SIZE = 768 + 192 + 144
_SIDE = 128  # pixels a side at which colour and gradients are read
_HUES, _SATURATIONS, _VALUES = 12, 4, 4
_CELLS, _DIRECTIONS = 4, 9


def descriptor(image: Image.Image) -> NDArray[np.float32]:
    """A description of an image, float32[1104]: three parts of unit length, one after the other.

    - 768: the 16x16 RGB thumbnail;
    - 192: a histogram of hue x saturation x value (12 x 4 x 4);
    - 144: histograms of gradient orientation (9 directions, unsigned, weighted by magnitude) in 4 x 4 cells, as in HOG
      (Dalal and Triggs, CVPR 2005).

    The parts are square-rooted before they are normalised, so that the distance is Hellinger's and large bins do not
    drown the others. Images of any size and mode are taken; the shape of the image is not kept.
    """
    rgb = image.convert("RGB")
    small = rgb.resize((_SIDE, _SIDE), Image.Resampling.BOX)
    thumbnail = np.asarray(rgb.resize((16, 16), Image.Resampling.BOX), dtype=np.float64).ravel()
    parts = (thumbnail, _colours(small), _orientations(small))
    return np.concatenate([_hellinger(part) for part in parts]).astype(np.float32)


def _colours(image: Image.Image) -> NDArray[np.float64]:
    hsv = np.asarray(image.convert("HSV"), dtype=np.int64)
    hue, saturation, value = hsv[..., 0] * _HUES // 256, hsv[..., 1] * _SATURATIONS // 256, hsv[..., 2] * _VALUES // 256
    bins = (hue * _SATURATIONS + saturation) * _VALUES + value
    return np.bincount(bins.ravel(), minlength=_HUES * _SATURATIONS * _VALUES).astype(np.float64)


def _orientations(image: Image.Image) -> NDArray[np.float64]:
    grey = np.asarray(image.convert("L"), dtype=np.float64)
    down, right = np.gradient(grey)
    angle = np.arctan2(down, right) % np.pi
    direction = np.minimum((angle / np.pi * _DIRECTIONS).astype(np.int64), _DIRECTIONS - 1)
    cell = np.arange(_SIDE) * _CELLS // _SIDE
    bins = (cell[:, None] * _CELLS + cell[None, :]) * _DIRECTIONS + direction
    strength = np.hypot(down, right)
    return np.bincount(bins.ravel(), strength.ravel(), _CELLS * _CELLS * _DIRECTIONS).astype(np.float64)


def _hellinger(part: NDArray[np.float64]) -> NDArray[np.float64]:
    total = float(part.sum())
    return np.sqrt(part / total) if total > 0 else np.zeros_like(part)  # a black or flat image has an empty part


def _descriptors(
    examples: Sequence[Example], progress: Progress | None, done: int, total: int
) -> tuple[list[Example], NDArray[np.float32]]:
    """The examples whose image can be decoded, and the descriptor of each; evaluation lists the others."""
    usable, rows = [], []
    for number, example in enumerate(examples, start=1):
        try:
            rows.append(descriptor(example.image.load()))
            usable.append(example)
        except DataError:
            pass
        if progress is not None:
            progress(done + number, total)
    return usable, np.array(rows, dtype=np.float32).reshape(len(rows), DESCRIPTOR_SIZE)


def _nearest(wanted: NDArray[np.float32], known: NDArray[np.float32]) -> list[int]:
    """Row of `known` nearest to each row of `wanted`; the first of equals.

    The matrix product picks a few candidates and the distance decides: rounding inside the product must not
    choose between two copies of one image.
    """
    lengths = np.einsum("ij,ij->i", known, known)
    few = min(8, len(known))
    nearest: list[int] = []
    for start in range(0, len(wanted), 256):
        block = wanted[start : start + 256]
        distances = lengths[None, :] - 2.0 * (block @ known.T)
        candidates = np.sort(np.argpartition(distances, few - 1, axis=1)[:, :few], axis=1)
        exact = np.square(known[candidates].astype(np.float64) - block[:, None, :]).sum(axis=2).round(9)
        nearest.extend(int(row[best]) for row, best in zip(candidates, exact.argmin(axis=1), strict=True))
    return nearest


# --- captions -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Vector:
    """TF-IDF weights of one caption, per n-gram order, with their lengths (1 where the order is empty)."""

    weights: tuple[dict[Gram, float], ...]
    norms: tuple[float, ...]
    words: int


@dataclass(frozen=True, slots=True)
class CaptionSpace:
    """CIDEr's TF-IDF space: how many images of a pool have an n-gram in any of their captions."""

    images: int
    frequency: Counter[Gram]

    @classmethod
    def of(cls, examples: Sequence[Example]) -> CaptionSpace:
        frequency: Counter[Gram] = Counter()
        for example in examples:
            frequency.update({gram for caption in example.captions for gram in _grams(_words(caption))})
        return cls(len(examples), frequency)

    def vector(self, caption: str) -> _Vector:
        words = _words(caption)
        weights: tuple[dict[Gram, float], ...] = tuple({} for _ in _ORDERS)
        for gram, count in Counter(_grams(words)).items():
            weights[len(gram) - 1][gram] = count * math.log(self.images / max(1, self.frequency[gram]))
        norms = tuple(math.sqrt(sum(weight * weight for weight in order.values())) or 1.0 for order in weights)
        return _Vector(weights, norms, len(words))


def _words(caption: str) -> list[str]:
    return re.findall(r"\w+(?:['-]\w+)*", caption.lower())


def _grams(words: Sequence[str]) -> Iterable[Gram]:
    return (tuple(words[start : start + n]) for n in _ORDERS for start in range(len(words) - n + 1))


def _cosine(one: _Vector, other: _Vector) -> float:
    total = 0.0
    for order in range(len(_ORDERS)):
        shared = sum(weight * other.weights[order].get(gram, 0.0) for gram, weight in one.weights[order].items())
        total += shared / (one.norms[order] * other.norms[order])
    return total / len(_ORDERS)


def _centroid_cosine(vector: _Vector, centroid: Sequence[Mapping[Gram, float]]) -> float:
    return sum(
        sum(weight * centroid[order].get(gram, 0.0) for gram, weight in weights.items()) / vector.norms[order]
        for order, weights in enumerate(vector.weights)
    )


@dataclass(frozen=True, slots=True)
class _Postings:
    """The references in which each n-gram occurs, so that one sentence is scored against all of them at once."""

    rows: dict[Gram, NDArray[np.int64]]
    weights: dict[Gram, NDArray[np.float64]]
    norms: NDArray[np.float64]
    """float64[orders, references]"""
    words: NDArray[np.float64]

    @classmethod
    def of(cls, references: Sequence[_Vector]) -> _Postings:
        rows: dict[Gram, list[int]] = {}
        weights: dict[Gram, list[float]] = {}
        for row, reference in enumerate(references):
            for order in reference.weights:
                for gram, weight in order.items():
                    rows.setdefault(gram, []).append(row)
                    weights.setdefault(gram, []).append(weight)
        return cls(
            {gram: np.array(found, dtype=np.int64) for gram, found in rows.items()},
            {gram: np.array(found) for gram, found in weights.items()},
            np.array([reference.norms for reference in references]).T,
            np.array([reference.words for reference in references], dtype=np.float64),
        )

    def mean_cider(self, candidate: _Vector) -> float:
        """Mean CIDEr-D of one sentence over all references: clipped counts and a Gaussian length penalty."""
        total = np.zeros(len(self.words))
        for order, weights in enumerate(candidate.weights):
            shared = np.zeros(len(self.words))
            for gram, weight in weights.items():
                if gram in self.rows:
                    found = self.weights[gram]
                    shared[self.rows[gram]] += np.minimum(weight, found) * found
            total += shared / (candidate.norms[order] * self.norms[order])
        penalty = np.exp(-np.square(candidate.words - self.words) / (2 * _LENGTH_SIGMA**2))
        return float((10.0 * total * penalty).mean() / len(_ORDERS))


def _pool(train: Sequence[Example]) -> list[Example]:
    """At most `POOL_IMAGES` examples, by a hash of their ids; the same whatever their order.

    Raises:
        DataError: there is none.
    """
    if not train:
        raise DataError(
            "a baseline needs training images, and there are none", hint="choose a source with a train split"
        )
    ordered = sorted(train, key=lambda example: (hashlib.sha256(example.id.encode()).digest(), example.id))
    return ordered[:POOL_IMAGES]


def _prediction(example_id: str, caption: str) -> Prediction:
    return Prediction(example_id=example_id, caption=caption, prefix="", tokens=len(caption.split()), stopped="eos")
