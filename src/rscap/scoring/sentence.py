r"""The `sentence` protocol: mean sentence-BLEU-4 with method-1 smoothing and ROUGE-L F1 with stemming, one reference.

    BLEU-4   = BP · (∏_{j=1..4} p_j)^{1/4},  p_j = m_j / max(1, t_j), or 0.1 / max(1, t_j) where m_j = 0; 0 if m_1 = 0
    BP       = 1 where c > r, else exp(1 - r / c)
    ROUGE-L  = 2 P R / (P + R),  P = LCS / |c|,  R = LCS / |r|

BLEU as NLTK's `sentence_bleu(..., smoothing_function=method1)` on strings split at white space (Chen and Cherry, WMT
2014); ROUGE-L as rouge_score: lower-cased, anything but a-z and 0-9 is a space, words of four and more letters stemmed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from rscap.scoring import bleu
from rscap.scoring.corpus import ORDERS, Corpus, Floats
from rscap.scoring.measures import Averaged
from rscap.scoring.porter import stem
from rscap.scoring.rouge import lcs_length, positions

_NOT_WORD = re.compile(r"[^a-z0-9]+")
_EPSILON = 0.1


def sentence_bleu(corpus: Corpus) -> Floats:
    """float[n]: BLEU-4 of each candidate on its own, method-1 smoothing, against all references of the corpus."""
    kept = bleu.statistics(corpus)
    matched, total = kept[:, :ORDERS], np.maximum(1, kept[:, ORDERS : 2 * ORDERS])
    precision = np.where(matched > 0, matched, _EPSILON) / total
    words, closest = kept[:, ORDERS], kept[:, -1]
    brevity = np.where(words > closest, 1.0, np.exp(1 - closest / np.maximum(1, words)))
    return np.where(matched[:, 0] > 0, brevity * np.exp(np.log(precision).mean(axis=1)), 0.0)


def stemmed_words(text: str) -> list[str]:
    """The words that rouge_score compares."""
    return [stem(word) if len(word) > 3 else word for word in _NOT_WORD.sub(" ", text.lower()).split()]


def rouge_l_f1(candidates: Sequence[str], references: Sequence[str]) -> Floats:
    """float[n]: ROUGE-L F1 of each candidate against its one reference."""
    scores = []
    for candidate, reference in zip(candidates, references, strict=True):
        words, other = stemmed_words(candidate), stemmed_words(reference)
        common = lcs_length(positions(words), len(words), other)
        scores.append(2 * common / (len(words) + len(other)) if common else 0.0)
    return np.array(scores, dtype=np.float64)


SENTENCE_BLEU = Averaged(lambda material: sentence_bleu(material.corpus))
ROUGE_L_F1 = Averaged(lambda material: rouge_l_f1(material.candidates, [own[0] for own in material.references]))
