"""METEOR 1.5 from counts (Denkowski and Lavie 2014), with the parameters tuned for English.

    P = sum_m w_m (delta c_m + (1 - delta) f_m) / (delta C + (1 - delta) F)   over the candidate; R: the reference
    F_mean = P R / (alpha P + (1 - alpha) R)
    penalty = gamma (chunks / matched words) ^ beta
    METEOR = F_mean (1 - penalty)

c_m, f_m: content and function words matched by matcher m; C, F: all content and function words; matched words: the mean
of both sides. A segment whose two texts are one chunk from end to end counts no chunk, in its own score and in the
corpus.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ALPHA, BETA, GAMMA, DELTA = 0.85, 0.20, 0.60, 0.75
WEIGHTS = (1.0, 0.6, 0.8, 0.6)
"""exact, stem, synonym, paraphrase"""

COLUMNS = (
    *("candidate_words", "reference_words", "candidate_function_words", "reference_function_words"),
    *(
        f"{matcher}_{side}_{kind}"
        for matcher in ("exact", "stem", "synonym", "paraphrase")
        for kind in ("content", "function")
        for side in ("candidate", "reference")
    ),
    *("chunks", "candidate_matched", "reference_matched"),
)
"""The counts of a segment, in the order of the Java program's own statistics."""


def meteor(statistics: Floats) -> Floats:
    """METEOR of each row of statistics (or of sums of rows): float[..., 23] to float[...]; 0 where nothing matches."""
    counts = np.asarray(statistics, dtype=np.float64)
    candidate, reference, candidate_function, reference_function = np.moveaxis(counts[..., :4], -1, 0)
    matched = counts[..., 4:20].reshape(*counts.shape[:-1], 4, 2, 2)  # matcher, kind, side
    weighted = np.einsum("...mks,m,k->...s", matched, np.array(WEIGHTS), np.array([DELTA, 1 - DELTA]))
    precision = _ratio(weighted[..., 0], DELTA * (candidate - candidate_function) + (1 - DELTA) * candidate_function)
    recall = _ratio(weighted[..., 1], DELTA * (reference - reference_function) + (1 - DELTA) * reference_function)
    mean = _ratio(precision * recall, ALPHA * precision + (1 - ALPHA) * recall)
    chunks, candidate_matched, reference_matched = np.moveaxis(counts[..., 20:], -1, 0)
    fragmentation = _ratio(chunks, (candidate_matched + reference_matched) / 2)
    return mean * (1 - GAMMA * fragmentation**BETA)


def segment(counts: Sequence[int]) -> float:
    """METEOR of the 23 counts of one segment: `meteor` for one row, without the price of arrays."""
    weighted = [0.0, 0.0]
    for side in (0, 1):
        for matcher, weight in enumerate(WEIGHTS):
            at = 4 + 4 * matcher + side
            weighted[side] += weight * (DELTA * counts[at] + (1 - DELTA) * counts[at + 2])
    if not (weighted[0] and weighted[1]):
        return 0.0
    sizes = [DELTA * (counts[side] - counts[side + 2]) + (1 - DELTA) * counts[side + 2] for side in (0, 1)]
    return blend(weighted[0] / sizes[0], weighted[1] / sizes[1], 2 * counts[20] / (counts[21] + counts[22]))


def blend(precision: float, recall: float, fragmentation: float) -> float:
    """METEOR of one segment from its three parts; `precision` and `recall` are not both 0."""
    mean = precision * recall / (ALPHA * precision + (1 - ALPHA) * recall)
    penalty: float = GAMMA * fragmentation**BETA
    return mean * (1 - penalty)


def _ratio(part: Floats, whole: Floats) -> Floats:
    """part / whole, 0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
