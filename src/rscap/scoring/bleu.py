r"""BLEU-1 to BLEU-4 (Papineni et al., ACL 2002), with the smoothing constants and "closest" length of coco-caption.

    BLEU-k = min(1, exp(1 - r / c)) · (∏_{j=1..k} (m_j + 1e-15) / (t_j + 1e-9))^{1/k}

m_j are the candidate's j-grams that are matched (each at most as often as in the reference that has it most often),
t_j all its j-grams, c its words, r the words of the reference closest in length (the shorter one of two). Over a corpus
the counts are summed before anything is divided, so a corpus score is not a mean of item scores.
"""

from __future__ import annotations

import numpy as np

from rscap.scoring.corpus import ORDERS, Corpus, Floats
from rscap.scoring.measures import Summed

COLUMNS = (*(f"matched-{k}" for k in range(1, 5)), *(f"total-{k}" for k in range(1, 5)), "reference-length")
"""The statistics kept per image: enough for the BLEU of any set of images."""

_TINY, _SMALL = 1e-15, 1e-9


def statistics(corpus: Corpus) -> Floats:
    """float[n, 9]: matched and total n-grams of orders 1 to 4, and the closest reference length, of each image."""
    n, overlap = len(corpus), corpus.overlap
    _, image = corpus.candidate_entries
    most = np.zeros(len(image), dtype=np.int64)
    np.maximum.at(most, overlap.entry, np.minimum(overlap.candidate_count, overlap.reference_count))
    hit = np.flatnonzero(most)
    places, _ = corpus.candidate_entries
    order = corpus.table.order[corpus.bags.grams[places[hit]]]
    matched = np.bincount(image[hit] * ORDERS + order, weights=most[hit], minlength=n * ORDERS).reshape(n, ORDERS)
    words = corpus.lengths(corpus.candidate)
    total = np.maximum(0, words[:, None] - np.arange(ORDERS))
    return np.column_stack([matched, total, closest_length(corpus)])


def closest_length(corpus: Corpus) -> Floats:
    """float[n]: words of the reference closest in length to the candidate, the shorter one of two equally close."""
    theirs = corpus.bags.lengths[corpus.reference]
    base = int(theirs.max(initial=0)) + 1
    gap = np.abs(theirs - corpus.bags.lengths[corpus.candidate][corpus.image])
    return (np.minimum.reduceat(gap * base + theirs, corpus.first_reference) % base).astype(np.float64)


def scores(sums: Floats) -> Floats:
    """float[..., 4]: BLEU-1 to BLEU-4 from (summed) statistics [..., 9]: of one image, a corpus, or many resamples."""
    matched, total, reference = sums[..., :ORDERS], sums[..., ORDERS : 2 * ORDERS], sums[..., -1]
    precision = np.cumprod((matched + _TINY) / (total + _SMALL), axis=-1) ** (1 / np.arange(1, ORDERS + 1))
    ratio = (total[..., 0] + _TINY) / (reference + _SMALL)
    return precision * np.exp(np.minimum(0, 1 - 1 / ratio))[..., None]


NAMES = tuple(f"BLEU-{order}" for order in range(1, ORDERS + 1))

BLEU = Summed(
    key="BLEU",
    names=NAMES,
    columns=COLUMNS,
    statistics=lambda material: statistics(material.corpus),
    scores=lambda sums: dict(zip(NAMES, np.moveaxis(scores(sums), -1, 0), strict=True)),
)
