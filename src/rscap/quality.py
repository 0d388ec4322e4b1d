"""Quality of training captions: scores, filters and weights for the captions of a training split.

A caption's consensus is its CIDEr-D against the other captions of its own image (leave one out), with the document
frequencies of the whole split: four captions tell how well the fifth one fits. Filters act on the
training split alone; what is measured on stays as published. Nothing here is random: the same rules on the same data
remove the same captions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Literal

from rscap.data.audit import AuditFinding, about
from rscap.data.audit.captions import caption_kinds, most_end_with_a_stop
from rscap.data.draw import key
from rscap.data.source import Source
from rscap.data.text import tokens
from rscap.errors import DataError
from rscap.records import Example
from rscap.scoring import IdfPool, cider_rewards
from rscap.store import Quality, Removed, RunFolder, Weighted, write_rows

_IMAGES_AT_ONCE = 500
_POOL_IMAGES = 5_000
"""An audit of more images takes its document frequencies from this many, chosen by hash: memory stays bounded."""
NOISE: tuple[str, ...] = ("non-ascii", "invisible", "spaces", "no-full-stop", "too-short", "repeated-word")


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityRules:
    """`[data.quality]` of a recipe. The defaults change nothing."""

    min_consensus: float = 0.0
    """Drop captions whose consensus (CIDEr-D, 0 … 10) is below this."""
    full_consensus: float = 0.0
    """Captions of at least this consensus weigh 1, those below in proportion, at least `floor`; 0 leaves all at 1."""
    floor: float = 0.1
    """The least weight that consensus or noise leaves a caption."""
    min_words: int = 0
    max_words: int = 10_000
    """Drop captions of fewer or more words, split at white space."""
    repeated: Literal["keep", "weigh", "drop"] = "keep"
    """The same sentence n times for one image: keep all, weigh each 1/n, or drop all but the first."""
    noise: tuple[str, ...] = ()
    """Kinds of text noise, of NOISE, that are acted on."""
    noisy: Literal["weigh", "drop"] = "drop"
    """Drop noisy captions, or weigh them with `floor`."""
    keep_at_least: int = 1
    """Captions that an image keeps, the best by consensus, whatever the rules say; 0 lets whole images go."""

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.noise if kind not in NOISE]
        if unknown:
            raise DataError(f"unknown kind of noise {unknown[0]!r}", hint=f"known: {', '.join(NOISE)}")
        if not 0 < self.floor <= 1 or self.keep_at_least < 0 or self.min_words > self.max_words:
            raise DataError(
                f"quality rules that cannot hold: {asdict(self)}", hint="0 < floor <= 1, min_words <= max_words"
            )
        if self.repeated not in ("keep", "weigh", "drop") or self.noisy not in ("weigh", "drop"):
            raise DataError(
                f"repeated = {self.repeated!r}, noisy = {self.noisy!r}", hint="keep, weigh or drop; weigh or drop"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """A source after its rules: what is left, what each caption weighs, what was removed."""

    source: Source
    weights: Mapping[str, tuple[float, ...]]
    """For each training example whose captions do not all weigh 1, the weights `choose` takes."""
    removed: tuple[Removed, ...]
    dropped_images: tuple[str, ...]

    def weighted(self) -> Iterator[Weighted]:
        """The captions that were weighed down, in the source's order."""
        for example in self.source.examples:
            if own := self.weights.get(example.id):
                pairs = zip(example.captions, own, strict=True)
                yield from (
                    Weighted(example_id=example.id, caption=caption, weight=weight)
                    for caption, weight in pairs
                    if weight < 1
                )

    def summary(self) -> Quality:
        """Figures for a report: captions and images removed, by reason, and the mean weight of the weighted."""
        lighter = [one.weight for one in self.weighted()]
        return Quality(
            captions_removed=len(self.removed),
            by_reason=dict(Counter(one.reason.split(":")[0] for one in self.removed)),
            images_dropped=len(self.dropped_images),
            captions_weighted=len(lighter),
            mean_weight=round(sum(lighter) / len(lighter), 4) if lighter else None,
        )

    def write(self, run: RunFolder) -> None:
        """Leave in a run folder what the rules did, caption by caption and in sum."""
        write_rows(run.removed_file, self.removed)
        write_rows(run.weighted_file, self.weighted())
        self.summary().write(run.quality_file)


def consensus(examples: Sequence[Example], pool: IdfPool | None = None) -> list[tuple[float, ...]]:
    """CIDEr-D, 0 … 10, of each caption against its siblings; a caption without siblings scores 0.

    Args:
        examples: K captions each, K may differ.
        pool: document frequencies; by default those of `examples`.
    """
    if not examples:
        return []
    pool = pool or IdfPool.build([example.captions for example in examples])
    scores: list[tuple[float, ...]] = []
    rest = iter(examples)
    while chunk := list(islice(rest, _IMAGES_AT_ONCE)):
        scores += _consensus(chunk, pool)
    return scores


def _consensus(examples: Sequence[Example], pool: IdfPool) -> Iterator[tuple[float, ...]]:
    several = [example.captions for example in examples if len(example.captions) > 1]
    candidates = [caption for captions in several for caption in captions]
    siblings = [[*captions[:i], *captions[i + 1 :]] for captions in several for i in range(len(captions))]
    values = iter(cider_rewards(candidates, siblings, pool).tolist())
    for example in examples:
        count = len(example.captions)
        yield tuple(islice(values, count)) if count > 1 else (0.0,)


def select(source: Source, rules: QualityRules, *, split: str = "train") -> Selection:
    """Apply rules to one split; the examples of the others stay as they are.

    Raises:
        DataError: there is no such split, or the rules leave no image of it.
    """
    chosen = source.split(split)
    needed = rules.min_consensus > 0 or rules.full_consensus > 0 or rules.keep_at_least > 0
    scores = consensus(chosen) if needed else [(0.0,) * len(one.captions) for one in chosen]
    stops = most_end_with_a_stop(chosen)
    kept: dict[str, Example] = {}
    weights: dict[str, tuple[float, ...]] = {}
    removed: list[Removed] = []
    for example, own in zip(chosen, scores, strict=True):
        verdicts = [_judge(example, index, own[index], rules, stops) for index in range(len(example.captions))]
        left = _left(verdicts, own, rules.keep_at_least)
        dropped = [index for index in range(len(verdicts)) if index not in left]
        removed += [
            Removed(example_id=example.id, caption=example.captions[i], reason=verdicts[i].reason or "")
            for i in dropped
        ]
        if left:
            kept[example.id] = replace(example, captions=tuple(example.captions[i] for i in left))
            own_weights = tuple(verdicts[i].weight for i in left)
            if any(value != 1 for value in own_weights):
                weights[example.id] = own_weights
    if not kept:
        raise DataError(f"{source.name}: the quality rules leave no image of {split!r}", hint="loosen [data.quality]")
    examples = [kept.get(one.id, one) for one in source.examples if one.split != split or one.id in kept]
    gone = tuple(example.id for example in chosen if example.id not in kept)
    return Selection(
        source=source.with_examples(examples), weights=weights, removed=tuple(removed), dropped_images=gone
    )


@dataclass(frozen=True, slots=True)
class _Ruling:
    weight: float
    reason: str | None
    """Why the caption is dropped; None where it stays."""


def _judge(example: Example, index: int, score: float, rules: QualityRules, stops: bool) -> _Ruling:
    caption = example.captions[index]
    count, copies = len(tokens(caption)), example.captions.count(caption)
    noise = [kind for kind in caption_kinds(caption, stops) if kind in rules.noise] if rules.noise else []
    weight = 1.0
    if not rules.min_words <= count <= rules.max_words:
        return _Ruling(weight, f"length: {count} words")
    if len(example.captions) > 1 and score < rules.min_consensus:
        return _Ruling(weight, f"consensus: {score:.2f}")
    if rules.repeated == "drop" and caption in example.captions[:index]:
        return _Ruling(weight, "repeated: the same sentence again")
    if noise and rules.noisy == "drop":
        return _Ruling(weight, f"noise: {noise[0]}")
    if rules.repeated == "weigh":
        weight /= copies
    if rules.full_consensus > 0 and len(example.captions) > 1:
        weight *= min(1.0, max(rules.floor, score / rules.full_consensus))
    if noise:
        weight *= rules.floor
    return _Ruling(weight, None)


def _left(verdicts: Sequence[_Ruling], scores: Sequence[float], at_least: int) -> list[int]:
    """Positions of the captions that stay, in order: those that no rule drops, filled up with the best of the rest."""
    left = [index for index, verdict in enumerate(verdicts) if verdict.reason is None]
    spare = sorted((i for i in range(len(verdicts)) if i not in left), key=lambda i: (-scores[i], i))
    return sorted([*left, *spare[: max(0, at_least - len(left))]])


def disagreements(source: Source, *, below: float = 0.05, siblings_above: float = 2.0) -> list[AuditFinding]:
    """Captions that share next to nothing with siblings which agree among themselves; the clearest first.

    A caption is found when its consensus is under `below` while its siblings', without it, is on average over
    `siblings_above` (CIDEr-D). Images need three captions for that.
    """
    examples = [example for example in source.examples if len(example.captions) >= 3]
    if not examples:
        return []
    pooled = sorted(source.examples, key=lambda one: key("pool", one.id))[:_POOL_IMAGES]
    pool = IdfPool.build([example.captions for example in pooled])
    outsiders = [
        (example, index, score)
        for example, own in zip(examples, consensus(examples, pool), strict=True)
        for index, score in enumerate(own)
        if score < below
    ]
    without = [replace(one, captions=one.captions[:i] + one.captions[i + 1 :]) for one, i, _ in outsiders]
    found = []
    for (example, index, score), own in zip(outsiders, consensus(without, pool) if without else [], strict=True):
        agreement = sum(own) / len(own)
        if agreement > siblings_above:
            detail = f"consensus {score:.2f}, its siblings {agreement:.2f} among themselves"
            others = example.captions[:index] + example.captions[index + 1 :]
            found.append(
                (agreement, _disagreement(example, (example.captions[index], *others), detail, score, agreement))
            )
    return [finding for _, finding in sorted(found, key=lambda item: -item[0])]


def _disagreement(
    example: Example, captions: tuple[str, ...], detail: str, score: float, agreement: float
) -> AuditFinding:
    extra = {"consensus": round(score, 4), "siblings": round(agreement, 4)}
    return about([example], "disagreement", "note", detail, captions=captions, extra=extra)
