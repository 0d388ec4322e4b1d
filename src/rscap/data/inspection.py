"""The figures of `rscap data inspect`: captions, words, sizes and brightness, per source and split."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rscap.data.images import MissingImage
from rscap.data.measure import ImageFacts, Unreadable, measure
from rscap.data.source import Source
from rscap.data.text import sibling_similarity, tokens, words
from rscap.errors import ImageError
from rscap.records import Example

ALL = "all"

_Similarities = Mapping[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionTable:
    """The captions of one source and split (or of several together: `all`). Words are split at white space."""

    source: str
    split: str
    images: int
    captions: int
    words_mean: float
    words_min: int
    words_max: int
    vocabulary: int
    """Distinct words, lower-cased, without punctuation."""
    distinct_captions: int
    one_caption: int
    """Images that have several captions, all identical."""
    repeated: int
    """Images with fewer distinct captions than captions."""
    similarity: float | None
    """Mean similarity among an image's captions (Jaccard index of word sets); None where images have one caption."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Counts in bins: bin i reaches from edges[i] up to, not including, edges[i + 1]."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, values: Sequence[float], *, start: float, width: float, bins: int) -> Histogram:
        """Values outside the range count in the first or last bin."""
        counts = [0] * bins
        for value in values:
            counts[min(max(int((value - start) / width), 0), bins - 1)] += 1
        return cls(edges=tuple(start + width * i for i in range(bins + 1)), counts=tuple(counts))


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTable:
    """All images of a source. Brightness and contrast are mean and standard deviation of grey values, 0 … 255."""

    measured: int
    unreadable: int
    missing: int
    sizes: tuple[tuple[str, int], ...]
    """`224 x 224` and how many, the most frequent first."""
    brightness: Histogram
    brightness_mean: float
    contrast: Histogram


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """All that `rscap data inspect` reports about one source."""

    name: str
    digest: str
    split_scheme: str
    splits: dict[str, int]
    rejected: int
    notes: int
    tables: tuple[CaptionTable, ...]
    """One a source and split, then one a split over all sources, then one over all."""
    caption_words: Histogram
    distinct_per_image: tuple[tuple[int, int], ...]
    """(distinct captions, images)."""
    similarity: Histogram
    top_words: tuple[tuple[str, int], ...]
    top_bigrams: tuple[tuple[str, int], ...]
    top_trigrams: tuple[tuple[str, int], ...]
    scene_classes: tuple[tuple[str, int], ...]
    images: ImageTable | None
    """None where images were not looked at."""


def inspect(source: Source, *, with_images: bool = True, progress: Callable[[], None] | None = None) -> Inspection:
    """Count everything; images are decoded one at a time unless `with_images` is off or there are none."""
    examples = source.examples
    captions = [caption for example in examples for caption in example.captions]
    lengths = [float(len(tokens(caption))) for caption in captions]
    grams = [_grams(captions, n) for n in (1, 2, 3)]
    alike = {example.id: sibling_similarity(example.captions) for example in examples}
    similarities = [value for value in alike.values() if value is not None]
    distinct = Counter(len(set(example.captions)) for example in examples)
    classes = Counter(example.scene_class for example in examples if example.scene_class)
    return Inspection(
        name=source.name,
        digest=source.digest,
        split_scheme=source.split_scheme,
        splits=source.splits,
        rejected=len(source.rejected),
        notes=len(source.notes),
        tables=tuple(_tables(examples, alike)),
        caption_words=Histogram.of(lengths, start=0.5, width=1.0, bins=max(1, min(60, int(max(lengths))))),
        distinct_per_image=tuple(sorted(distinct.items())),
        similarity=Histogram.of(similarities, start=0.0, width=0.05, bins=20),
        top_words=grams[0],
        top_bigrams=grams[1],
        top_trigrams=grams[2],
        scene_classes=tuple(classes.most_common()),
        images=_image_table(examples, progress) if with_images else None,
    )


def _tables(examples: Sequence[Example], alike: _Similarities) -> list[CaptionTable]:
    cells: dict[tuple[str, str], list[Example]] = defaultdict(list)
    for example in examples:
        cells[example.source, example.split].append(example)
    splits = list(dict.fromkeys(example.split for example in examples))
    rows = [_table(source, split, cells[source, split], alike) for source, split in sorted(cells)]
    if len({source for source, _ in cells}) > 1:
        rows += [_table(ALL, split, [one for one in examples if one.split == split], alike) for split in splits]
    if len(splits) > 1:
        rows.append(_table(ALL, ALL, examples, alike))
    return rows


def _table(source: str, split: str, examples: Sequence[Example], alike: _Similarities) -> CaptionTable:
    captions = [caption for example in examples for caption in example.captions]
    lengths = [len(tokens(caption)) for caption in captions]
    similarities = [value for one in examples if (value := alike[one.id]) is not None]
    return CaptionTable(
        source=source,
        split=split,
        images=len(examples),
        captions=len(captions),
        words_mean=sum(lengths) / len(lengths),
        words_min=min(lengths),
        words_max=max(lengths),
        vocabulary=len({word for caption in set(captions) for word in words(caption)}),
        distinct_captions=len(set(captions)),
        one_caption=sum(len(one.captions) > 1 and len(set(one.captions)) == 1 for one in examples),
        repeated=sum(len(set(one.captions)) < len(one.captions) for one in examples),
        similarity=math.fsum(similarities) / len(similarities) if similarities else None,
    )


def _grams(captions: Sequence[str], n: int, top: int = 20) -> tuple[tuple[str, int], ...]:
    counts: Counter[str] = Counter()
    for caption in captions:
        found = words(caption)
        if n == 1:
            counts.update(found)
        elif n == 2:
            counts.update(map(" ".join, pairwise(found)))
        else:
            counts.update(" ".join(found[i : i + n]) for i in range(len(found) - n + 1))
    return tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:top])


def _image_table(examples: Sequence[Example], progress: Callable[[], None] | None) -> ImageTable | None:
    with_image = [example for example in examples if not isinstance(example.image, MissingImage)]
    if not with_image:
        return None
    sizes: Counter[str] = Counter()
    brightness, contrast, unreadable = [], [], 0
    for example in with_image:
        facts = _facts(example)
        if isinstance(facts, Unreadable):
            unreadable += 1
        else:
            sizes[f"{facts.width} x {facts.height}"] += 1
            brightness.append(facts.brightness)
            contrast.append(facts.contrast)
        if progress is not None:
            progress()
    return ImageTable(
        measured=len(brightness),
        unreadable=unreadable,
        missing=len(examples) - len(with_image),
        sizes=tuple(sizes.most_common(10)),
        brightness=Histogram.of(brightness, start=0.0, width=8.0, bins=32),
        brightness_mean=sum(brightness) / len(brightness) if brightness else 0.0,
        contrast=Histogram.of(contrast, start=0.0, width=4.0, bins=32),
    )


def _facts(example: Example) -> ImageFacts | Unreadable:
    try:
        return measure(example.image.load())
    except ImageError as error:
        return Unreadable(error.in_one_line)
