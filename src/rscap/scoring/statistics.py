"""Sufficient statistics per image: with them any subset or resample of the images is scored without the texts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from rscap.records import METRICS
from rscap.scoring import bleu, cider, rouge, sentence
from rscap.scoring.corpus import Corpus
from rscap.scoring.ngrams import Floats, Ints
from rscap.scoring.pairing import Paired
from rscap.scoring.pool import IdfPool

_BLEU = tuple(f"BLEU-{k}" for k in range(1, 5))


@dataclass(frozen=True)
class Statistics:
    """Sufficient statistics of n images, in the order of `ids`."""

    ids: tuple[str, ...]
    means: Mapping[str, Floats] = field(default_factory=dict)
    """Metrics whose corpus score is the mean of their item scores, float[n] each."""
    bleu: Floats | None = None
    """float[n, 9], see `bleu.COLUMNS`; BLEU of the sums is the corpus BLEU."""
    meteor: Floats | None = None
    """float[n, k]: METEOR's own statistics; METEOR of the sums is the corpus METEOR."""

    @cached_property
    def matrix(self) -> Floats:
        """float[n, K]: all statistics side by side; `corpus` takes sums of its rows."""
        parts = [values[:, None] for values in self.means.values()]
        parts += [part for part in (self.bleu, self.meteor) if part is not None]
        return np.concatenate(parts, axis=1) if parts else np.empty((len(self.ids), 0))

    def corpus(self, sums: Floats, weight: float) -> dict[str, Floats]:
        """Corpus scores of (weighted) sums [..., K] of rows of `matrix`, whose weights add up to `weight`."""
        scores = {metric: sums[..., place] / weight for place, metric in enumerate(self.means)}
        at = len(self.means)
        if self.bleu is not None:
            values = bleu.scores(sums[..., at : at + len(bleu.COLUMNS)])
            scores |= {metric: values[..., k] for k, metric in enumerate(_BLEU)}
            at += len(bleu.COLUMNS)
        if self.meteor is not None:
            scores["METEOR"] = meteor_scores(sums[..., at:])
        return {metric: scores[metric] for metric in METRICS if metric in scores}

    def corpus_scores(self, rows: np.ndarray | None = None) -> dict[str, float]:
        """Corpus scores of all images, or of those that `rows` (places or a mask) selects."""
        part = self.matrix if rows is None else self.matrix[rows]
        return {metric: float(score) for metric, score in self.corpus(part.sum(axis=0), len(part)).items()}

    def item_scores(self) -> dict[str, Floats]:
        """float[n] per metric: every image as a corpus of one."""
        return self.corpus(self.matrix, 1)


def meteor_scores(sums: Floats) -> Floats:
    """METEOR from its summed statistics [..., k]."""
    from rscap.scoring.meteor import Meteor

    return np.asarray(Meteor.corpus_score(sums), dtype=np.float64)


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
    from rscap.scoring.meteor import Meteor, MeteorUnavailable

    try:
        return Meteor().statistics(candidates, references), ""
    except MeteorUnavailable as error:
        return None, f"METEOR is not scored: {error.message}" + (f" ({error.hint})" if error.hint else "")
