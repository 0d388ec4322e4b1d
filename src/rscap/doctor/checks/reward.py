"""Checks of training on a reward: what a model gives up for it, and whether there was anything to win."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from rscap.doctor.evidence import Evidence, RewardLog, Watched
from rscap.doctor.findings import Finding, found

_ENTRIES = 10
"""With fewer logged updates, nothing is said about the course of the reward."""
_CAPTIONS = 30
"""With fewer, one caption more or less would be told as a failure."""
_BROKEN, _BROKEN_TIMES = 0.05, 2.0
_ALIKE = 0.5
_FALL, _SCORE_FALL = 0.1, 0.2
_BY_HEART = 1.5


def broken_endings(evidence: Evidence) -> Iterator[Finding]:
    """Captions that break off, more often than references do."""
    if (log := evidence.reward) and (last := _last(log)) and last.bad_endings is not None:
        usual = last.reference_bad_endings or 0.0
        if last.bad_endings > max(usual + _BROKEN, _BROKEN_TIMES * usual):
            text = (
                f"{last.bad_endings:.0%} of the captions of step {last.step} end in an article, a preposition or the "
                f"like, and {usual:.0%} of the references"
            )
            if log.end_word is False:
                text += "; the reward counts no end of a sentence (objective.end_word = false)"
            yield found("captions-break-off", text, where=log.at(last))


def collapse(evidence: Evidence) -> Iterator[Finding]:
    """Fewer and fewer different captions."""
    if not (log := evidence.reward) or not (last := _last(log)):
        return
    first = log.evaluations[0]
    if first is last or first.distinct is None or last.distinct is None:
        return
    if last.distinct < _ALIKE * first.distinct:
        text = (
            f"of the validation captions {first.distinct:.0%} differ at step {first.step}, {last.distinct:.0%} at step "
            f"{last.step}{_rate(evidence)}"
        )
        yield found("captions-alike", text, where=log.at(last))


def falling(evidence: Evidence) -> Iterator[Finding]:
    """A reward that is lower at the end than at the start, or scores far below the best of the run."""
    if not (log := evidence.reward) or len(log.drawn) < _ENTRIES:
        return
    fifth = max(3, len(log.drawn) // 5)
    begin, end = (statistics.mean(part) for part in (log.drawn[:fifth], log.drawn[-fifth:]))
    scores = [one.score for one in log.evaluations if one.score is not None]
    if end < (1 - _FALL) * begin:
        text = f"the mean reward of drawn captions goes from {begin:.3g} to {end:.3g}{_rate(evidence)}"
        yield found("reward-falls", text, where=log.where)
    elif len(scores) > 1 and scores[-1] < (1 - _SCORE_FALL) * max(scores):
        text = f"CIDEr on validation images goes from {max(scores):.3f} to {scores[-1]:.3f}{_rate(evidence)}"
        yield found("reward-falls", text, where=log.where)


def by_heart(evidence: Evidence) -> Iterator[Finding]:
    """Drawn captions of training images that score far above the best captions of validation images."""
    if not (log := evidence.reward) or not log.evaluations or not log.drawn:
        return
    first = log.evaluations[0]
    before = log.drawn[: max(1, log.updates_before(first))]
    begin = statistics.mean(before)
    if first.reward is not None and begin > 0 and begin > _BY_HEART * max(first.reward, 0.0):
        text = (
            f"until step {first.step} drawn captions of training images earn {begin:.3g} on average; captions of "
            f"validation images earn {first.reward:.3g}"
        )
        yield found("images-by-heart", text, where=log.at(first))


def _last(log: RewardLog) -> Watched | None:
    """The last evaluation, if it tells something."""
    last = log.evaluations[-1] if log.evaluations else None
    return last if last and last.n >= _CAPTIONS else None


def _rate(evidence: Evidence) -> str:
    rate = evidence.expected.learning_rate
    return f" at a learning rate of {rate:g}" if rate is not None else ""
