"""Consensus decoding: of several drawn captions, the one that is most like the others (minimum Bayes risk).

The captions of an image are drawn behind one prefix. The one with the highest mean similarity to the others is what the
model says most often, in varying words; a caption that was drawn twice counts twice. Kumar and Byrne, "Minimum
Bayes-risk decoding for statistical machine translation" (NAACL 2004).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from rscap.captioner.batch import Batch
from rscap.captioner.choice import Decoded
from rscap.captioner.fitting import Fitting
from rscap.captioner.prompt import Prompter
from rscap.captioner.sampling import Sample, Sampling, forbidden_ids, sample_in_parts
from rscap.errors import RecipeError
from rscap.model.packed import PackedModel
from rscap.progress import Say
from rscap.recipe import GenerateSection
from rscap.scoring import IdfPool, cider_rewards
from rscap.scoring.corpus import Floats
from rscap.scoring.protocol import prepare_remembered
from rscap.scoring.rouge import f_measure, lcs_length, positions


@dataclass(slots=True)
class Consensus:
    """Chooses captions of one model by consensus."""

    prompter: Prompter
    pool_file: Path | None
    """Document frequencies of the references that the model learned; None for a base model."""
    fitting: Fitting
    _pool: IdfPool | None = field(default=None, init=False)

    def drawn(self, packed: PackedModel, batch: Batch, *, settings: GenerateSection, say: Say) -> list[list[Sample]]:
        """Several captions of each image of the batch.

        Raises:
            OutOfMemory: a single image does not fit.
        """
        sampling = Sampling(
            count=settings.samples,
            limit=settings.max_new_tokens,
            temperature=settings.temperature,
            purpose=("consensus", settings.seed),
            logits_in=settings.logits,
        )
        forbidden = torch.tensor(forbidden_ids(self.prompter, packed.text_config.vocab_size), device=packed.device)
        return sample_in_parts(
            packed,
            batch.to(packed.device),
            sampling=sampling,
            forbidden=forbidden,
            eos=self.prompter.eos,
            fitting=self.fitting,
            say=say,
        )

    def chosen(self, samples: Sequence[Sequence[Sample]], settings: GenerateSection) -> list[Decoded]:
        """The most typical caption of each image.

        Raises:
            RecipeError: the similarity is CIDEr, and the model has no document frequencies.
        """
        pool = self._frequencies() if settings.similarity == "CIDEr" else None
        return [Decoded(list(self._chosen(own, pool).ids), near_ties=0) for own in samples]

    def _chosen(self, samples: Sequence[Sample], pool: IdfPool | None) -> Sample:
        captions = [self.prompter.caption(list(one.ids)) for one in samples]
        means = mean_rouge(captions) if pool is None else mean_cider(captions, pool)
        return samples[int(np.argmax(means))]

    def _frequencies(self) -> IdfPool:
        if self._pool is None:
            if self.pool_file is None or not self.pool_file.is_file():
                raise RecipeError(
                    "generate.similarity = 'CIDEr' needs document frequencies, which a run keeps; this model has none",
                    hint="use generate.similarity = 'ROUGE-L'",
                )
            self._pool = IdfPool.load(self.pool_file)
        return self._pool


def mean_cider(captions: Sequence[str], pool: IdfPool) -> Floats:
    """float[S]: the mean CIDEr-D of each caption against the others; 0 for an empty one."""
    found = np.zeros(len(captions))
    spoken = [place for place, caption in enumerate(captions) if caption]
    if len(spoken) > 1:
        others = [[captions[other] for other in spoken if other != place] for place in spoken]
        found[spoken] = cider_rewards([captions[place] for place in spoken], others, pool)
    return found


def mean_rouge(captions: Sequence[str]) -> Floats:
    """float[S]: the mean ROUGE-L of each caption against each other one; 0 for an empty one."""
    words = [text.split() for text in prepare_remembered("coco", captions)]
    masks = [positions(own) for own in words]
    found = np.zeros(len(words))
    for place, own in enumerate(words):
        if not own:
            continue
        for other, theirs in enumerate(words):
            if other != place and theirs:
                common = lcs_length(masks[place], len(own), theirs)
                found[place] += f_measure(common / len(own), common / len(theirs))
    return found / max(1, len(words) - 1)
