"""What a single score hides: lengths, variety, degenerate outputs, scores of groups, and whether images matter."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from rscap.scoring.corpus import Corpus
from rscap.scoring.degenerate import KINDS, degenerate
from rscap.scoring.ngrams import Ints
from rscap.scoring.pairing import Paired
from rscap.scoring.statistics import Statistics

_WORDS = re.compile(r"\w+")
LENGTHS = ((0, 7), (8, 10), (11, 13), (14, 17), (18, None))
"""Candidate lengths in words that are scored apart, both ends included."""


def describe(
    statistics: Statistics,
    corpus: Corpus,
    paired: Paired,
    *,
    prefix: str | None,
    sources: Mapping[str, str],
    scene_classes: Mapping[str, str | None],
    training_captions: Collection[str] | None,
) -> dict[str, Any]:
    """All of it, as a score sheet holds it under `diagnostics`."""
    found: dict[str, Any] = {
        **variety(corpus),
        "length_ratio": length_ratio(statistics),
        "degenerate": degenerate_outputs(paired, prefix),
        "by_source": by_group(statistics, sources),
        "by_scene_class": by_group(statistics, scene_classes),
        "by_length": by_length(statistics, corpus),
    }
    return (
        found
        if training_captions is None
        else {**found, "verbatim_training": verbatim(paired.captions, training_captions)}
    )


def variety(corpus: Corpus) -> dict[str, float]:
    """Lengths in words, and how many captions and words are distinct, of candidates and of references."""
    candidate, reference = corpus.lengths(corpus.candidate), corpus.lengths(corpus.reference)
    return {
        "candidate_words": float(candidate.mean()),
        "reference_words": float(reference.mean()),
        "distinct_captions": len(np.unique(corpus.candidate)),
        "vocabulary": _vocabulary(corpus, corpus.candidate),
        "reference_vocabulary": _vocabulary(corpus, corpus.reference),
    }


def _vocabulary(corpus: Corpus, texts: Ints) -> int:
    places, _ = corpus.bags.rows(np.unique(texts))
    grams = np.unique(corpus.bags.grams[places])
    return int((grams < len(corpus.table.words)).sum())


def length_ratio(statistics: Statistics) -> float | None:
    """Words of all candidates over those of their closest references: BLEU's brevity penalty bites below 1."""
    if statistics.bleu is None:
        return None
    sums = statistics.bleu.sum(axis=0)
    return float(sums[4] / sums[8]) if sums[8] else None


def verbatim(captions: Sequence[str], training: Collection[str]) -> dict[str, float]:
    """How many captions are, apart from case, punctuation and spaces, training captions word for word."""
    known = {_plain(text) for text in training}
    count = sum(_plain(caption) in known for caption in captions)
    return {"count": count, "share": count / len(captions)}


def _plain(text: str) -> str:
    return " ".join(_WORDS.findall(text.lower()))


def degenerate_outputs(paired: Paired, prefix: str | None) -> dict[str, dict[str, Any]]:
    """Count and ids of the outputs of each kind of `degenerate`."""
    kinds = {caption: degenerate(caption, prefix) for caption in set(paired.captions)}
    ids = {
        kind: [i for i, caption in zip(paired.ids, paired.captions, strict=True) if kind in kinds[caption]]
        for kind in KINDS
    }
    return {kind: {"count": len(found), "ids": found} for kind, found in ids.items()}


def by_group(statistics: Statistics, group: Mapping[str, str | None]) -> dict[str, dict[str, float]]:
    """Corpus scores, and n, of the images of every group; images of no group are left out."""
    members: dict[str, list[int]] = {}
    for place, example in enumerate(statistics.ids):
        if (name := group.get(example)) is not None:
            members.setdefault(name, []).append(place)
    return {
        name: {"n": len(members[name]), **statistics.corpus_scores(np.array(members[name]))} for name in sorted(members)
    }


def by_length(statistics: Statistics, corpus: Corpus) -> dict[str, dict[str, float]]:
    """Corpus scores of candidates of similar length, see LENGTHS."""
    words = corpus.lengths(corpus.candidate)
    groups = {}
    for low, high in LENGTHS:
        rows = np.flatnonzero((words >= low) & (words <= (high if high is not None else np.inf)))
        if len(rows):
            name = f"{low}-{high}" if high is not None else f"{low}+"
            groups[name] = {"n": len(rows), **statistics.corpus_scores(rows)}
    return groups
