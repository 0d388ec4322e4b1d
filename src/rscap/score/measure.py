"""From paired texts to kept statistics: the one place that knows which metric a protocol computes from what."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from rscap.score import bleu, cider, rouge, sentence
from rscap.score.corpus import Corpus
from rscap.score.ngrams import Floats, Ints
from rscap.score.pairing import Paired
from rscap.score.pool import IdfPool
from rscap.score.statistics import Statistics


def measure(
    paired: Paired, corpus: Corpus, pool: IdfPool | None, metrics: Collection[str], meteor: Floats | None = None
) -> Statistics:
    """Statistics of the candidates of `corpus`; without a pool, those of the `sentence` protocol."""
    means: dict[str, Floats] = {}
    if pool is None:
        if "BLEU-4" in metrics:
            means["BLEU-4"] = sentence.sentence_bleu(corpus)
        if "ROUGE-L" in metrics:
            texts = [corpus.texts[place] for place in corpus.candidate]
            means["ROUGE-L"] = sentence.rouge_l_f1(texts, [own[0] for own in paired.references])
        return Statistics(ids=paired.ids, means=means)
    if "ROUGE-L" in metrics:
        means["ROUGE-L"] = rouge.item_scores(corpus)
    if "CIDEr" in metrics:
        means["CIDEr"] = cider.item_scores(corpus, pool)
    wants_bleu = any(metric.startswith("BLEU") for metric in metrics)
    return Statistics(ids=paired.ids, means=means, bleu=bleu.statistics(corpus) if wants_bleu else None, meteor=meteor)


def shuffled(corpus: Corpus, seed: int) -> Corpus:
    """The same images, each with the candidate of another one: a random cycle through all images."""
    order: Ints = np.random.default_rng(seed).permutation(len(corpus))
    candidate = np.empty_like(corpus.candidate)
    candidate[order] = corpus.candidate[np.roll(order, 1)]
    return corpus.with_candidates(candidate)


def meteor_statistics(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[Floats | None, str]:
    """METEOR's statistics, float[n, k], or None with the reason why it cannot be computed here."""
    from rscap.score.meteor import Meteor, MeteorUnavailable

    try:
        return Meteor().statistics(candidates, references), ""
    except MeteorUnavailable as error:
        return None, f"METEOR is not scored: {error.message}" + (f" ({error.hint})" if error.hint else "")
