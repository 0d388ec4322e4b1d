r"""ROUGE-L (Lin, "ROUGE: a package for automatic evaluation of summaries", 2004), as coco-caption computes it.

    P = max_j LCS(c, r_j) / |c|      R = max_j LCS(c, r_j) / |r_j|      ROUGE-L = (1 + β²) P R / (R + β² P),  β = 1.2

The two maxima may come from different references. The corpus score is the mean. The longest common subsequence is
found with the bit-parallel recurrence of Crochemore et al. (Information Processing Letters 80, 2001).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rscap.scoring.corpus import Corpus, Floats
from rscap.scoring.measures import Averaged

_BETA_SQUARED = 1.2**2


def positions(words: Sequence[str]) -> dict[str, int]:
    """For every word a bit mask of its positions."""
    masks: dict[str, int] = {}
    for place, word in enumerate(words):
        masks[word] = masks.get(word, 0) | 1 << place
    return masks


def lcs_length(masks: dict[str, int], length: int, other: Sequence[str]) -> int:
    """Length of the longest common subsequence of `other` and the text of `length` words that `masks` describes."""
    full = (1 << length) - 1
    row = full
    for mask in filter(None, map(masks.get, other)):  # words that the text has
        hit = row & mask
        row = (row + hit) | (row - hit)
    return length - (row & full).bit_count()


def item_scores(corpus: Corpus) -> Floats:
    """float[n]: ROUGE-L of each image's candidate."""
    # Split at single spaces, as the published program does: two spaces in a raw string enclose an (empty) word.
    split: dict[int, list[str]] = {}
    for text in np.union1d(corpus.candidate, corpus.reference).tolist():
        split[text] = corpus.texts[text].split(" ")
    starts = [*corpus.first_reference.tolist(), len(corpus.reference)]
    references = corpus.reference.tolist()
    scores = np.empty(len(corpus))
    for i, text in enumerate(corpus.candidate.tolist()):
        words = split[text]
        masks, length, precision, recall = positions(words), len(words), 0.0, 0.0
        for own in set(references[starts[i] : starts[i + 1]]):
            other = split[own]
            common = lcs_length(masks, length, other)
            precision, recall = max(precision, common / length), max(recall, common / len(other))
        scores[i] = f_measure(precision, recall)
    return scores


def f_measure(precision: float, recall: float) -> float:
    """The F-measure that weighs recall β = 1.2 times as much as precision; 0 where nothing is shared."""
    if precision == 0 or recall == 0:
        return 0.0
    return (1 + _BETA_SQUARED) * precision * recall / (recall + _BETA_SQUARED * precision)


ROUGE_L = Averaged(lambda material: item_scores(material.corpus))
