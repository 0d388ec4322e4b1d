r"""CIDEr-D (Vedantam, Zitnick and Parikh, CVPR 2015): the CIDEr that everyone reports, with an explicit IDF pool.

    idf(w)   = log N - log max(1, df(w))
    g_k(s)   = (count of w in s) · idf(w), for every k-gram w
    CIDEr-D  = 10/4 Σ_{k=1..4} mean_j  exp(-(l_c - l_j)² / 2σ²) min(g_k(c), g_k(r_j)) · g_k(r_j) / |g_k(c)| |g_k(r_j)|

σ = 6; l counts bigrams, as the published program does. N is the number of images of the pool and df(w) the number of
those whose references hold w. The pool decides the score: the same caption scored 3.56, 3.54, 3.71 and 0 in pools of 4,
3, 2 and 1 images. The corpus score is the mean over images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rscap.errors import ScoreError
from rscap.scoring.corpus import ORDERS, Corpus, Floats
from rscap.scoring.measures import Averaged, Material
from rscap.scoring.pool import IdfPool
from rscap.scoring.protocol import prepare_remembered
from rscap.scoring.resampling import check_captions, check_references

_SIGMA = 6.0


def item_scores(corpus: Corpus, pool: IdfPool) -> Floats:
    """float[n]: CIDEr-D of each image's candidate against its references, n-grams weighted by `pool`."""
    idf = pool.weights(corpus.table)
    norm = _norms(corpus, idf)
    overlap, pairs = corpus.overlap, len(corpus.reference)
    clipped = np.minimum(overlap.candidate_count, overlap.reference_count) * overlap.reference_count
    cell = overlap.pair * ORDERS + corpus.table.order[overlap.gram]
    product = np.bincount(cell, weights=clipped * idf[overlap.gram] ** 2, minlength=pairs * ORDERS)
    own = corpus.candidate[corpus.image]
    lengths = norm[own] * norm[corpus.reference]
    cosine = np.divide(product.reshape(pairs, ORDERS), lengths, out=np.zeros_like(lengths), where=lengths > 0)
    bigrams = np.maximum(0, corpus.lengths(own) - 1) - np.maximum(0, corpus.lengths(corpus.reference) - 1)
    similarity = cosine.mean(axis=1) * np.exp(-(bigrams**2) / (2 * _SIGMA**2))
    references = np.bincount(corpus.image, minlength=len(corpus))
    return 10 * np.bincount(corpus.image, weights=similarity, minlength=len(corpus)) / references


FEW_IMAGES = 30


def cautions(n: int, references_per_image: float, pool: IdfPool, score: float, *, own_pool: bool) -> dict[str, str]:
    """`{kind: sentence}`: what a reader of this CIDEr has to know; empty for an ordinary score.

    Args:
        n: images scored.
        references_per_image: their mean number.
        pool: the document frequencies used.
        score: the corpus score.
        own_pool: whether the pool is that of the references themselves.
    """
    found = {}
    give = "a pool of the training references makes scores comparable (docs/scoring.md)"
    if n == 1 and own_pool and pool.n == 1:
        found["one image"] = (
            f"CIDEr is 0 for any caption of a single image, since each n-gram occurs in every image of its pool; {give}"
        )
    elif n < FEW_IMAGES:
        why = f"n-grams are weighted by how rare they are among these {n} images alone; {give}; " if own_pool else ""
        found["few images"] = f"CIDEr of {n} images: {why}the interval of fewer than {FEW_IMAGES} images is too narrow"
    if references_per_image == 1:
        found["one reference"] = (
            "CIDEr with one reference per image varies more than with the usual five and is not comparable with it"
        )
    if score == 0 and not found.get("one image"):
        found["zero"] = "CIDEr is 0: no candidate shares a word with its references that the pool gives any weight"
    return found


def _norms(corpus: Corpus, idf: Floats) -> Floats:
    """float[T, 4]: length of every text's weighted n-gram vector, per order."""
    bags, texts = corpus.bags, len(corpus.texts)
    owner = np.repeat(np.arange(texts), np.diff(bags.starts))
    cell = owner * ORDERS + corpus.table.order[bags.grams]
    squares = np.bincount(cell, weights=(bags.counts * idf[bags.grams]) ** 2, minlength=texts * ORDERS)
    return np.sqrt(squares).reshape(texts, ORDERS)


def cider_rewards(candidates: Sequence[str], references: Sequence[Sequence[str]], pool: IdfPool) -> Floats:
    """float[n]: CIDEr-D of a batch of candidates against a saved pool, as a reward for training.

    The texts are prepared under the pool's own protocol, so a reward equals the item score that `score_captions` gives
    with the same pool.

    Raises:
        ScoreError: the two sequences differ in length, a candidate has no reference, or a text is not a string.
    """
    if len(candidates) != len(references):
        raise ScoreError(f"{len(candidates)} candidates but {len(references)} sets of references")
    check_captions(dict(enumerate(candidates)))
    check_references(dict(enumerate(references)))
    if len(candidates) == 0:
        return np.empty(0)
    texts = prepare_remembered(pool.protocol, [*candidates, *(text for own in references for text in own)])
    rest = iter(texts[len(candidates) :])
    corpus = Corpus.build(texts[: len(candidates)], [[next(rest) for _ in own] for own in references])
    return item_scores(corpus, pool)


def _item_scores(material: Material) -> Floats:
    assert material.pool is not None, "only the protocol `sentence` has no pool, and it does not define CIDEr"
    return item_scores(material.corpus, material.pool)


CIDER = Averaged(_item_scores)
