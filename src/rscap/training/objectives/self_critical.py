r"""Self-critical sequence training: captions drawn from the model, each weighted by how much better it is than others.

    loss = 1/(N K) Σ_images w Σ_k (r_k - mean of the other r_j) · -log p(caption k | image)

for N images with K captions each (SCST, arXiv:1612.00563; the baseline of the other samples: arXiv:1602.06725,
arXiv:2003.09971). Its gradient is an unbiased estimate of that of the mean reward, negated. The likelihood of the
references may have a share s: `(1 - s) loss + s · mean -log p of a reference token`.

The K captions of an image share its prefix when they are drawn and when they are learned, and the ids that were drawn
are learned, not their text encoded again. Equal captions are one branch with the sum of their weights; a branch whose
weight is 0 is left out: both change no gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from rscap.captioner.batch import Batch, Encoder, PackedRow, collate, pack
from rscap.captioner.fitting import Fitting
from rscap.captioner.sampling import Sample, Sampling, forbidden_ids, sample_in_parts, with_features
from rscap.model.loss import Draw
from rscap.model.packed import PackedModel
from rscap.progress import Say, to_stderr
from rscap.recipe import ObjectiveSection, Recipe
from rscap.records import Example, Prediction
from rscap.scoring.corpus import Floats
from rscap.training.objectives.likelihood import Work
from rscap.training.objectives.reward import Drawn, Reward
from rscap.training.panel import asked
from rscap.training.team import Team

Ids = tuple[int, ...]


@dataclass(slots=True)
class SelfCritical:
    """The objective of a recipe with an [objective]."""

    packed: PackedModel
    encoder: Encoder
    section: ObjectiveSection
    seed: int
    limit: int
    """Tokens of a drawn caption, `<eos>` included."""
    team: Team
    reward: Reward
    references: Mapping[str, tuple[str, ...]]
    """Of each training image, by its id."""
    say: Say = to_stderr
    fitting: Fitting = field(default_factory=Fitting)
    _forbidden: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        vocabulary = self.packed.text_config.vocab_size
        self._forbidden = torch.tensor(forbidden_ids(self.encoder.prompter, vocabulary), device=self.team.device)

    @classmethod
    def of(
        cls,
        packed: PackedModel,
        encoder: Encoder,
        recipe: Recipe,
        team: Team,
        train: Sequence[Example],
        counted: Sequence[Example],
        say: Say = to_stderr,
    ) -> SelfCritical:
        """The objective of a recipe; document frequencies are those of the references of `counted`."""
        section = recipe.objective
        assert section is not None
        return cls(
            packed=packed,
            encoder=encoder,
            section=section,
            seed=recipe.seed,
            limit=section.max_new_tokens or recipe.generate.max_new_tokens,
            team=team,
            reward=Reward.of(section, counted),
            references={example.id: example.captions for example in train},
            say=say,
        )

    def __call__(self, micro_batches: Sequence[Batch], *, step: int) -> Work:
        """Draw captions of this process's images and weigh them."""
        sampled = [found for batch in micro_batches if batch.images for found in self._sampled(batch, step)]
        rewards = [self._rewards(one) for one in sampled]
        written = sum(batch.supervised for batch in micro_batches) if self.section.likelihood_share else 0
        images = sum(len(one.samples) for one in sampled)
        ended = sum(self._ended(sample) for one in sampled for own in one.samples for sample in own)
        distinct = sum(len({sample.ids for sample in own}) for one in sampled for own in one.samples)
        counts = self.team.sums([images, written, ended, distinct])
        of_all = _Counts(images=counts[0], drawn=counts[0] * self.section.samples, written=counts[1])
        batches = [self._learned(one, own, of_all) for one, own in zip(sampled, rewards, strict=True)]
        batches = [batch for batch in batches if batch.supervised]
        parts = [sum(getattr(one, name) for one in batches) for name in ("supervised", "captions")]
        tokens, captions = self.team.sums(parts)
        return Work(
            batches=batches,
            divisor=of_all.drawn,
            tokens=tokens,
            images=of_all.images,
            captions=captions,
            facts=self._facts(rewards, of_all, ended=counts[2], distinct=counts[3]),
        )

    def score(self, predictions: Sequence[Prediction], examples: Mapping[str, Example]) -> float:
        """The mean reward of generated captions."""
        drawn = [Drawn(one.caption, one.stopped == "eos", examples[one.example_id].captions) for one in predictions]
        return float(self.reward(drawn).mean()) if drawn else 0.0

    def _ended(self, sample: Sample) -> bool:
        return sample.ids[-1] == self.encoder.prompter.eos

    def _sampled(self, batch: Batch, step: int) -> Iterator[_Sampled]:
        """Draw captions of a micro batch; images whose prompts differ in length are drawn apart."""
        prompter, section = self.encoder.prompter, self.section
        sampling = Sampling(
            count=section.samples,
            limit=self.limit,
            temperature=section.temperature,
            purpose=("self-critical", self.seed, step),
        )
        rows = _rows(batch)
        for length in sorted({len(row.prefix) for row in rows}):
            own = [row for row in rows if len(row.prefix) == length]
            prefixes = collate([row.packed([]) for row in own], pad=prompter.pad).to(self.team.device)
            with asked(self.packed):
                prefixes = with_features(self.packed, prefixes)
                samples = sample_in_parts(
                    self.packed,
                    prefixes,
                    sampling=sampling,
                    forbidden=self._forbidden,
                    eos=prompter.eos,
                    fitting=self.fitting,
                    say=self.say,
                )
            if prefixes.features is not None:
                seen = prefixes.features
                own = [replace(row, features=one, pixels=torch.empty(0)) for row, one in zip(own, seen, strict=True)]
            yield _Sampled(own, samples)

    def _rewards(self, sampled: _Sampled) -> Floats:
        """float[B, K]."""
        caption = self.encoder.prompter.caption
        drawn = [
            Drawn(caption(list(sample.ids)), self._ended(sample), self.references[row.example_id])
            for row, own in zip(sampled.rows, sampled.samples, strict=True)
            for sample in own
        ]
        return self.reward(drawn).reshape(len(sampled.rows), -1)

    def _learned(self, sampled: _Sampled, rewards: Floats, counts: _Counts) -> Batch:
        """The packed batch of drawn captions, and of references where the likelihood has a share."""
        section, prompter = self.section, self.encoder.prompter
        share = section.likelihood_share
        of_reference = share * counts.drawn / max(1, counts.written)  # the loss is divided by all drawn captions
        rows: list[PackedRow] = []
        weights: list[float] = []
        drawn: list[bool] = []
        for row, samples, advantages in zip(
            sampled.rows, sampled.samples, self._advantages(sampled, rewards), strict=True
        ):
            branches = [(ids, (1 - share) * weight, True) for ids, weight in merged(samples, advantages)]
            branches += [(suffix, of_reference, False) for suffix in row.suffixes if share]
            if not branches:
                continue
            rows.append(row.packed([list(ids) for ids, _, _ in branches]))
            for ids, weight, is_drawn in branches:
                weights += [weight] * len(ids)
                drawn += [is_drawn] * len(ids)
        draw = Draw(section.temperature, self._forbidden, torch.tensor(drawn, dtype=torch.bool))
        return replace(collate(rows, pad=prompter.pad), weights=torch.tensor(weights, dtype=torch.float32), draw=draw)

    def _advantages(self, sampled: _Sampled, rewards: Floats) -> Floats:
        """float[B, K]: of each image's captions, weighted down where all its references are one sentence."""
        found = leave_one_out(rewards)
        if self.section.normalise:
            spread = rewards.std(axis=1, keepdims=True)
            found = np.divide(found, spread, out=np.zeros_like(found), where=spread > 0)
        if self.section.clip is not None:
            found = found.clip(-self.section.clip, self.section.clip)
        equal = [len(set(self.references[row.example_id])) == 1 for row in sampled.rows]
        return found * np.where(equal, self.section.equal_references, 1.0)[:, None]

    def _facts(self, rewards: Sequence[Floats], counts: _Counts, *, ended: int, distinct: int) -> dict[str, float]:
        """The mean reward of the drawn captions, its spread within an image, and how many ended and differ."""
        total = sum(float(own.sum()) for own in rewards)
        spread = sum(float(own.std(axis=1).sum()) for own in rewards)
        sums = self.team.sum(torch.tensor([total, spread], dtype=torch.float64, device=_wide(self.team.device)))
        drawn = max(1, counts.drawn)
        return {
            "reward": float(sums[0]) / drawn,
            "reward_spread": float(sums[1]) / max(1, counts.images),
            "ended": ended / drawn,
            "distinct": distinct / drawn,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counts:
    """Of the whole update."""

    images: int
    drawn: int
    """Captions."""
    written: int
    """Tokens of references; 0 where the likelihood has no share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """An example as it was loaded: what it shows, its prefix and its references, each closed by `<eos>`."""

    example_id: str
    pixels: torch.Tensor
    features: torch.Tensor | None
    prefix: list[int]
    first: int
    """The position of its first token."""
    suffixes: list[Ids]

    def packed(self, suffixes: Sequence[Sequence[int]]) -> PackedRow:
        """Its prefix with other captions."""
        return PackedRow(
            example_id=self.example_id,
            pixels=self.pixels,
            features=self.features,
            captions=len(suffixes),
            **pack(self.prefix, suffixes, first=self.first),
        )


@dataclass(frozen=True, slots=True)
class _Sampled:
    """Examples with the captions that were drawn of each."""

    rows: list[_Row]
    samples: list[list[Sample]]


def _rows(batch: Batch) -> list[_Row]:
    """The examples of a batch."""
    found = []
    owner, targets = batch.source_rows.tolist(), batch.targets.tolist()
    for number, name in enumerate(batch.example_ids):
        own = [target for target, row in zip(targets, owner, strict=True) if row == number]
        columns = batch.source_columns[batch.source_rows == number].tolist()
        prefix = batch.tokens[number][batch.branch[number] == 0].tolist()
        starts = [place for place, column in enumerate(columns) if column == len(prefix) - 1]
        found.append(
            _Row(
                example_id=name,
                pixels=batch.pixel_values[number] if batch.features is None else torch.empty(0),
                features=None if batch.features is None else batch.features[number],
                prefix=prefix,
                first=int(batch.positions[number, 0]),
                suffixes=[tuple(own[begin:end]) for begin, end in zip(starts, [*starts[1:], len(own)], strict=True)],
            )
        )
    return found


def leave_one_out(rewards: Floats) -> Floats:
    """float[B, K]: each reward less the mean of the other K - 1 of its row."""
    count = rewards.shape[1]
    return (rewards - rewards.mean(axis=1, keepdims=True)) * count / (count - 1)


def merged(samples: Sequence[Sample], weights: Floats) -> list[tuple[Ids, float]]:
    """Each different caption once, with the sum of its weights; those whose sum is 0 are left out."""
    totals: dict[Ids, float] = {}
    for sample, weight in zip(samples, weights.tolist(), strict=True):
        totals[sample.ids] = totals.get(sample.ids, 0.0) + weight
    return [(ids, total) for ids, total in totals.items() if abs(total) > _NOTHING]


_NOTHING = 1e-12
"""What rounding leaves of a sum of weights that is 0."""


def _wide(device: torch.device) -> torch.device:
    """Where float64 can be summed: Apple's GPUs have none."""
    return torch.device("cpu") if device.type == "mps" else device
