"""Comparing systems that captioned the same images: paired bootstrap, randomisation test, variance between seeds."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np

from rscap.errors import ScoreError
from rscap.records import ScoreSheet
from rscap.scoring.comparison import LEVEL, Comparison, Difference, SystemScore, sentence
from rscap.scoring.content import RATES
from rscap.scoring.corpus import Floats
from rscap.scoring.foreign import is_higher_better
from rscap.scoring.measures import Statistics, mean_statistics
from rscap.scoring.resampling import (
    DRAWS,
    bootstrap_p,
    holm,
    images_needed,
    listed,
    randomisation_p,
    resampled_sums,
    swapped_sums,
)
from rscap.scoring.sheet import SEEN, seen_sentences, statistics_of

_CONDITIONS = {
    "protocol": "protocols",
    "tokenizer": "tokenizers",
    "reference_duplicates": "reference-duplicate policies",
    "pool": "IDF pools",
    "data": "references",
}
_BASELINE = "baseline-"
_STANDS_OUT = 9.0
"""A system whose variance between seeds is more than this times that of the others keeps its own estimate."""


@dataclass(frozen=True)
class _System:
    """Replicates of one system: corpus scores, the same after resampling images, and mean statistics."""

    name: str
    scores: Floats
    resampled: Floats
    """float[draws]: mean over replicates."""
    statistics: Statistics
    """Mean over replicates."""


def compare(
    sheets: Mapping[str, ScoreSheet],
    metric: str = "CIDEr",
    *,
    systems: Mapping[str, str] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Comparison:
    """Paired comparison of all systems.

    Args:
        sheets: `{name: sheet}`, all of the same images under the same conditions.
        metric: one that all sheets have.
        systems: `{name: system}`; sheets of one system are replicates, trained with different seeds. Their spread
            within systems, pooled, is a second level of noise. By default every sheet is a system.
        draws: resamples of the bootstrap, and random swaps.
        seed: of both.

    Raises:
        ScoreError: fewer than two systems; sheets of different images, references, protocols, tokenizers, pools or
            duplicate policies; a sheet without the metric or without kept statistics.
    """
    return Resampled.of(sheets, metric, systems=systems, draws=draws, seed=seed).comparison()


@dataclass(frozen=True, kw_only=True)
class Resampled:
    """Systems with their scores on the same resamples of the images, from which any set of pairs can be compared."""

    sheets: Mapping[str, ScoreSheet]
    metric: str
    n: int
    members: Mapping[str, _System]
    noise: _SeedNoise
    draws: int
    seed: int
    systems: Mapping[str, str]
    """The system of each sheet that is not one by itself."""
    _known: dict[tuple[str, str], tuple[Difference, Floats]] = field(default_factory=dict, repr=False)
    """Pairs that were compared before, without correction."""

    @classmethod
    def of(
        cls,
        sheets: Mapping[str, ScoreSheet],
        metric: str,
        *,
        systems: Mapping[str, str] | None = None,
        untrained: Collection[str] = (),
        draws: int = DRAWS,
        seed: int = 0,
    ) -> Resampled:
        """As `compare`; systems that are `untrained` would score the same with any training seed.

        Raises:
            ScoreError: as `compare`.
        """
        groups = _groups(sheets, systems)
        if draws < 100:
            raise ScoreError(f"a comparison needs at least 100 draws, found {draws}")
        _refuse_unlike(sheets, metric)
        kept = {name: statistics_of(sheet).of_metric(metric) for name, sheet in sheets.items()}
        resampled = _resampled(kept, metric, draws, seed)
        members = {
            name: _System(
                name=name,
                scores=np.array([kept[own].corpus_scores()[metric] for own in names]),
                resampled=np.mean([resampled[own] for own in names], axis=0),
                statistics=mean_statistics([kept[own] for own in names]),
            )
            for name, names in groups.items()
        }
        return cls(
            sheets=sheets,
            metric=metric,
            n=len(next(iter(kept.values())).ids),
            members=members,
            noise=_SeedNoise.of(list(members.values()), draws, seed, untrained),
            draws=draws,
            seed=seed,
            systems=systems or {},
        )

    @property
    def higher_is_better(self) -> bool:
        """The direction of the metric."""
        return is_higher_better(next(iter(self.sheets.values())), self.metric)

    def comparison(self) -> Comparison:
        """All pairs."""
        first = next(iter(self.sheets.values()))
        return Comparison(
            metric=self.metric,
            n=self.n,
            conditions={key: str(first.extra[key]) for key in _CONDITIONS} | _foreign(first, self.metric),
            systems=tuple(
                replace(_system_score(one, self.noise), decode=self._decode(one.name)) for one in self.members.values()
            ),
            differences=self.differences(list(combinations(self.members, 2))),
            draws=self.draws,
            seed=self.seed,
            notes=(*self.noise.notes, *_seen_notes(self.sheets), *_unlike_notes(self.sheets, self.systems)),
            seed_deviation=self.noise.deviation,
            seed_freedom=self.noise.freedom,
            higher_is_better=self.higher_is_better,
        )

    def _decode(self, system: str) -> str:
        """How the captions of a system were decoded: `greedy-24`, or several ways with commas between."""
        own = (sheet for name, sheet in self.sheets.items() if self.systems.get(name, name) == system)
        return ", ".join(dict.fromkeys(str(sheet.extra.get("decode") or "not stated") for sheet in own))

    def differences(self, pairs: Sequence[tuple[str, str]]) -> tuple[Difference, ...]:
        """These pairs, first minus second each, corrected for their number."""
        for first, second in pairs:
            if (first, second) not in self._known:
                self._known[first, second] = self._difference(self.members[first], self.members[second])
        found = [self._known[pair] for pair in pairs]
        uncorrected = [row.p_bootstrap if self.noise.freedom else row.p_randomisation for row, _ in found]
        rows = []
        for (row, far), own, p in zip(found, uncorrected, holm(uncorrected), strict=True):
            tested = replace(row, p_holm=p, corrected=_widened(row, far, p / own) if len(pairs) > 1 else row.interval)
            said = sentence(tested, self.metric, self.n, len(pairs), higher_is_better=self.higher_is_better)
            rows.append(replace(tested, sentence=said))
        return tuple(rows)

    def _difference(self, first: _System, second: _System) -> tuple[Difference, Floats]:
        """One pair, without correction and sentence; and float[draws]: how far each draw lies from the difference."""
        difference = float(first.scores.mean() - second.scores.mean())
        images = first.resampled - second.resampled
        error_seeds = float(np.hypot(self.noise.error(first), self.noise.error(second)))
        both = images + self.noise.drawn(first, second)
        low, high = (float(bound) for bound in np.quantile(both, [LEVEL / 2, 1 - LEVEL / 2]))
        a, b = first.statistics, second.statistics
        swapped = swapped_sums(a.matrix, b.matrix, self.draws, self.seed)
        random = a.corpus(swapped[0], self.n)[self.metric] - b.corpus(swapped[1], self.n)[self.metric]
        observed = a.corpus_scores()[self.metric] - b.corpus_scores()[self.metric]
        row = Difference(
            first=first.name,
            second=second.name,
            difference=difference,
            interval=(low, high),
            corrected=(low, high),
            p_bootstrap=float(bootstrap_p(both, difference)),
            p_randomisation=float(randomisation_p(random, observed)),
            p_holm=1.0,
            images_needed=images_needed(difference, float(images.std()), error_seeds, self.n),
            sentence="",
            error_images=float(images.std()),
            error_seeds=error_seeds,
        )
        return row, np.abs(both - difference)


def _widened(row: Difference, far: Floats, factor: float) -> tuple[float, float]:
    """The interval that belongs to a p-value multiplied by `factor`, as Holm's correction did.

    The p-value of the bootstrap is (1 + c) / (draws + 1) where c draws lie as far from the difference as the difference
    lies from 0 (`bootstrap_p`). So the interval reaches as far as the draw with which c would first be too many for
    `factor` times that share to stay below LEVEL: it leaves out 0 exactly where the corrected p-value is below LEVEL.
    """
    allowed = max(0, math.ceil(LEVEL / factor * (len(far) + 1)) - 2)
    reach = float(np.partition(far, len(far) - 1 - allowed)[len(far) - 1 - allowed])
    return row.difference - reach, row.difference + reach


def _foreign(sheet: ScoreSheet, metric: str) -> dict[str, str]:
    """The source of a foreign metric, as one more condition."""
    declared = sheet.extra.get("foreign", {})
    return {"foreign": f"{metric}@{declared[metric]['source']}"} if metric in declared else {}


def _seen_notes(sheets: Mapping[str, ScoreSheet]) -> list[str]:
    """Which sheets score images that their model has seen."""
    return [f"{name} {text}" for name, sheet in sheets.items() for text in seen_sentences(sheet.extra.get(SEEN))]


def _unlike_notes(sheets: Mapping[str, ScoreSheet], systems: Mapping[str, str]) -> list[str]:
    """What differs between the sheets besides the models: decode settings, and the version that scored them.

    Baselines are no model's captions, and so their settings are left out.
    """
    kept = [(systems.get(name, name), sheet.extra) for name, sheet in sheets.items()]
    known = [(name, str(one["decode"])) for name, one in kept if "decode" in one]
    decodes = [(name, decode) for name, decode in known if not decode.startswith(_BASELINE)]
    versions = [(name, str(one.get("rscap") or "unknown")) for name, one in kept]
    notes = []
    if len({decode for _, decode in decodes}) > 1:
        notes.append(f"captions were decoded in different ways, which is part of these differences: {_each(decodes)}")
    if len({version for _, version in versions}) > 1:
        notes.append(f"scored by different versions of rscap, whose scores may differ: {_each(versions)}")
    return notes


def _each(values: Iterable[tuple[str, str]]) -> str:
    """`greedy-24 (a, b), beam-4-24 (c)`."""
    names: dict[str, dict[str, None]] = {}
    for name, value in values:
        names.setdefault(value, {})[name] = None
    return ", ".join(f"{value} ({', '.join(who)})" for value, who in names.items())


@dataclass(frozen=True)
class _SeedNoise:
    """Spread between replicates: pooled over systems, but for those that spread much more than the rest."""

    deviation: float
    freedom: int
    own: Mapping[str, float]
    """Deviations of systems that are not pooled, by name; 0 for those that no training seed changes."""
    draws: int
    seed: int
    notes: tuple[str, ...]

    @classmethod
    def of(cls, systems: Sequence[_System], draws: int, seed: int, untrained: Collection[str] = ()) -> _SeedNoise:
        squares = {one.name: float(((one.scores - one.scores.mean()) ** 2).sum()) for one in systems}
        freedom = {one.name: len(one.scores) - 1 for one in systems}
        if not sum(freedom.values()):
            note = "one run per system: these intervals exclude the variance between training seeds"
            return cls(0.0, 0, {}, draws, seed, (note,))
        wild = {name: (squares[name] / freedom[name]) ** 0.5 for name in freedom if _stands_out(name, squares, freedom)}
        own = {**dict.fromkeys(untrained, 0.0), **wild}
        rest = [name for name in freedom if name not in own]
        pooled = sum(freedom[name] for name in rest)
        deviation = (sum(squares[name] for name in rest) / pooled) ** 0.5
        note = f"seed noise: standard deviation {deviation:.3g}, {pooled} degrees of freedom, pooled over systems"
        notes = [note, *(f"seed noise of {name}, by itself: {value:.3g}" for name, value in wild.items())]
        return cls(deviation, pooled, own, draws, seed, tuple(notes))

    def error(self, system: _System) -> float:
        """Standard error of a system's mean over its replicates."""
        return self.own.get(system.name, self.deviation) / len(system.scores) ** 0.5

    def drawn(self, *systems: _System) -> Floats:
        """float[draws]: Student's t times the standard error of the systems' sum or difference.

        Pooled systems share one estimate, so their errors add up before it is drawn; the others are drawn by
        themselves (Behrens and Fisher's solution for unequal variances).
        """
        if not self.freedom:
            return np.zeros(self.draws)
        pooled = sum(self.error(one) ** 2 for one in systems if one.name not in self.own) ** 0.5
        total = pooled * np.random.default_rng([self.seed, 1]).standard_t(self.freedom, size=self.draws)
        for place, one in enumerate(systems):
            if self.own.get(one.name):
                rng = np.random.default_rng([self.seed, 2, place])
                total = total + self.error(one) * rng.standard_t(len(one.scores) - 1, size=self.draws)
        return total


def _stands_out(name: str, squares: Mapping[str, float], freedom: Mapping[str, int]) -> bool:
    """Whether a system's variance exceeds _STANDS_OUT times that of all others; needs three others at least."""
    others = [other for other in freedom if other != name and freedom[other]]
    if not freedom[name] or len(others) < 3:
        return False
    rest = sum(squares[other] for other in others) / sum(freedom[other] for other in others)
    return squares[name] / freedom[name] > _STANDS_OUT * rest


def _system_score(system: _System, noise: _SeedNoise) -> SystemScore:
    low, high = np.quantile(system.resampled + noise.drawn(system), [0.025, 0.975])
    return SystemScore(
        name=system.name,
        score=float(system.scores.mean()),
        interval=(float(low), float(high)),
        replicates=len(system.scores),
        error_images=float(system.resampled.std()),
    )


def _groups(sheets: Mapping[str, ScoreSheet], systems: Mapping[str, str] | None) -> dict[str, list[str]]:
    if systems is not None and set(systems) != set(sheets):
        raise ScoreError(f"systems names {sorted(set(systems) ^ set(sheets))}, which sheets does not, or the reverse")
    groups: dict[str, list[str]] = {}
    for name in sheets:
        groups.setdefault(systems[name] if systems else name, []).append(name)
    if len(groups) < 2:
        raise ScoreError(f"a comparison needs at least two systems, found {list(groups)}")
    return groups


def _refuse_unlike(sheets: Mapping[str, ScoreSheet], metric: str) -> None:
    (name, sheet), *others = sheets.items()
    for own, other in sheets.items():
        rates = other.extra.get("content", {}).get("rates", {})
        if metric not in other.corpus and metric not in rates:
            known = ", ".join([*other.corpus, *rates])
            raise ScoreError(f"{own} has no score for {metric}; it has {known}")
        if other.extra.get("foreign", {}).get(metric, {}).get("per_image") is False:
            raise ScoreError(f"{own} has one {metric} for all images; a paired comparison needs one per image")
        absent = [key for key in _CONDITIONS if key not in other.extra]
        if absent:
            hint = "score the predictions again with `rscap score`"
            raise ScoreError(
                f"{own} does not say under which conditions it was scored: {', '.join(absent)} missing", hint=hint
            )
    for own, other in others:
        if other.items.keys() != sheet.items.keys():
            only, also = (
                sorted(sheet.items.keys() - other.items.keys()),
                sorted(other.items.keys() - sheet.items.keys()),
            )
            parts = [f"only in {who}: {listed(ids)}" for who, ids in ((name, only), (own, also)) if ids]
            raise ScoreError(
                f"{name} (n = {sheet.n}) and {own} (n = {other.n}) are of different images; {'; '.join(parts)}"
            )
        if metric in RATES:
            mine, theirs = (one.extra["content"]["version"] for one in (sheet, other))
            if mine != theirs:
                raise ScoreError(f"{name} and {own} have {metric} by different word lists, {mine} and {theirs}")
        mine, theirs = (str(one.extra.get("foreign", {}).get(metric)) for one in (sheet, other))
        if mine != theirs:
            raise ScoreError(f"{name} and {own} have {metric} from different sources: {mine} and {theirs}")
        for key, what in _CONDITIONS.items():
            mine, theirs = _comparable(key, sheet.extra[key]), _comparable(key, other.extra[key])
            if mine != theirs:
                hint = "score both with the same options; `--pool` gives both the same IDF pool"
                raise ScoreError(f"{name} and {own} are of different {what}: {mine} and {theirs}", hint=hint)


def _comparable(key: str, value: object) -> str:
    """A pool is the same pool whether it was the references themselves or a file."""
    return str(value).removeprefix("self:").removeprefix("file:") if key == "pool" else str(value)


def _resampled(kept: Mapping[str, Statistics], metric: str, draws: int, seed: int) -> dict[str, Floats]:
    """float[draws] per sheet: its score on the same resamples of the images."""
    matrices = [statistics.matrix for statistics in kept.values()]
    sums = resampled_sums(np.concatenate(matrices, axis=1), draws, seed)
    parts = np.split(sums, np.cumsum([matrix.shape[1] for matrix in matrices])[:-1], axis=1)
    return {
        name: statistics.corpus(part, len(statistics.ids))[metric]
        for (name, statistics), part in zip(kept.items(), parts, strict=True)
    }
