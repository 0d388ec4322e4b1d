"""Checks of losses and learning rates, from measurements: a rate is too high if the loss rises, not above a number."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from rscap.doctor.evidence import Evidence, LogEntry, RateTest, TrainingLog
from rscap.doctor.findings import Finding, found

ENTRIES_WANTED = 10
"""With fewer logged updates, nothing is said about the course of the loss."""

_UNIFORM = 0.1  # share of ln V
_EVEN = 1.0  # nats of spread; below it, all tokens have about the same loss
_SILENT = 1e-3
_RISE, _FALL = 0.05, 0.02  # shares of the first losses
_CLIPPED_STEPS, _CLIPPED_TIMES, _GAIN = 0.95, 3.0, 0.1
_EVALUATIONS, _PAST = 3, 0.05  # evaluations needed to judge; share of the best validation loss
_SPOILT_STEPS = 0.1  # with float16 occasional overflows are normal, more often at the start


@dataclass(frozen=True, slots=True)
class _Course:
    """The losses of a run: medians of the first and the last fifth, and the median difference of neighbours."""

    first: float
    last: float
    jitter: float
    begin: LogEntry
    end: LogEntry

    @classmethod
    def of(cls, log: TrainingLog | None) -> _Course | None:
        entries = [entry for entry in log.entries if math.isfinite(entry.loss)] if log else []
        if len(entries) < ENTRIES_WANTED:
            return None
        losses = [entry.loss for entry in entries]
        fifth = max(3, len(losses) // 5)
        jumps = [abs(after - before) for before, after in itertools.pairwise(losses)]
        return cls(
            statistics.median(losses[:fifth]),
            statistics.median(losses[-fifth:]),
            statistics.median(jumps),
            entries[0],
            entries[-1],
        )

    def __str__(self) -> str:
        return f"from {self.first:.3g} to {self.last:.3g} over steps {self.begin.step} to {self.end.step}"


def uniform_guess(evidence: Evidence) -> Iterator[Finding]:
    """Losses near ln V: of every token of the first batch, or of a run at its end."""
    uniform = math.log(evidence.vocabulary) if evidence.vocabulary else None
    if uniform is None:
        return
    first = evidence.first_losses if evidence.expected.pretrained else None
    if first and abs(first.mean / uniform - 1) < _UNIFORM and first.spread < _EVEN:
        text = f"the first loss is {first.mean:.2f} (spread {first.spread:.2f}); ln V is {uniform:.2f}"
        yield found("uniform-loss", text, where=first.where)
    elif (log := evidence.log) and (course := _Course.of(log)) and course.last > (1 - _UNIFORM) * uniform:
        text = f"the last losses are about {course.last:.2f}; ln V = ln {evidence.vocabulary:,} is {uniform:.2f}"
        yield found("uniform-loss", text, where=log.at(course.end))


def silent_start(evidence: Evidence) -> Iterator[Finding]:
    """A first loss of zero."""
    if first := evidence.first_losses:
        if first.mean < _SILENT:
            text = f"the first loss is {first.mean:.2g} over {first.tokens} tokens"
            yield found("zero-loss", text, where=first.where)
    elif (log := evidence.log) and log.entries and log.entries[0].loss < _SILENT:
        yield found("zero-loss", f"the first logged loss is {log.entries[0].loss:.2g}", where=log.at(log.entries[0]))


def spoilt(evidence: Evidence) -> Iterator[Finding]:
    """NaN or infinite losses; gradients that are often not finite."""
    if not (log := evidence.log):
        return
    losses = [entry for entry in log.entries if not math.isfinite(entry.loss)]
    norms = [entry for entry in log.entries if entry.grad_norm is not None and not math.isfinite(entry.grad_norm)]
    if losses:
        text = f"{len(losses)} of {len(log.entries)} logged losses are not finite, first at step {losses[0].step}"
        yield found("loss-not-finite", text, where=log.at(losses[0]))
    elif len(norms) > _SPOILT_STEPS * len(log.entries):
        text = f"{len(norms)} of {len(log.entries)} gradient norms are not finite, first at step {norms[0].step}"
        yield found("loss-not-finite", text, where=log.at(norms[0]))


def rising(evidence: Evidence) -> Iterator[Finding]:
    """A loss that is higher at the end than at the start, beyond its jitter."""
    log = evidence.log
    if log and (course := _Course.of(log)) and course.last - course.first > max(course.jitter, _RISE * course.first):
        yield found("loss-rises", f"the loss goes {course}{_rate(evidence)}", where=log.at(course.end))


def flat(evidence: Evidence) -> Iterator[Finding]:
    """A loss that ends where it began."""
    log = evidence.log
    if not log or not (course := _Course.of(log)):
        return
    fall = course.first - course.last
    if fall < _FALL * course.first and -fall <= max(course.jitter, _RISE * course.first):
        yield found("loss-flat", f"the loss goes {course}{_rate(evidence)}", where=log.at(course.end))


def past_its_best(evidence: Evidence) -> Iterator[Finding]:
    """A validation loss that fell and rose again, with captions that got worse, while the last weights are kept."""
    log = evidence.log
    if log is None or evidence.expected.selects or len(log.validation) < _EVALUATIONS:
        return
    best, last = min(log.validation, key=lambda one: one.loss), log.validation[-1]
    worse = best.score is None or last.score is None or last.score < best.score
    if last.loss > (1 + _PAST) * best.loss and worse:
        text = (
            f"the validation loss goes from {best.loss:.3g} at step {best.step} to {last.loss:.3g} at step {last.step}"
        )
        if best.score is not None and last.score is not None:
            text += f", CIDEr from {best.score:.3f} to {last.score:.3f}"
        yield found("past-its-best", text, where=log.at(last))


def _rate(evidence: Evidence) -> str:
    expected = evidence.expected
    return f" at a learning rate of {expected.learning_rate:g}" if expected.learning_rate is not None else ""


def clipped(evidence: Evidence) -> Iterator[Finding]:
    """Gradient norms that stay far above the limit while the loss hardly falls."""
    limit, log = evidence.expected.max_grad_norm, evidence.log
    if limit is None or log is None or not (course := _Course.of(log)) or course.last < (1 - _GAIN) * course.first:
        return
    known = [entry.grad_norm for entry in log.entries if entry.grad_norm is not None]
    norms = [norm for norm in known if math.isfinite(norm)]
    if len(norms) < ENTRIES_WANTED:
        return
    above = sum(norm > limit for norm in norms)
    fifth = max(3, len(norms) // 5)
    first, last = statistics.median(norms[:fifth]), statistics.median(norms[-fifth:])
    far = statistics.median(norms) >= _CLIPPED_TIMES * limit
    if above >= _CLIPPED_STEPS * len(norms) and far and last >= 0.9 * first:
        text = (
            f"gradients{_rate(evidence)} are clipped in {above} of {len(norms)} logged updates: their norm goes from "
            f"{first:.3g} to {last:.3g}, the limit is {limit:g}, and the loss goes {course}"
        )
        yield found("always-clipped", text, where=log.at(course.end))


def tried_rate(evidence: Evidence) -> Iterator[Finding]:
    """The peak rate, tried on one batch: it overshoots, or is too low for the whole run."""
    if not (test := evidence.rate):
        return
    fall = (test.before - test.after) / test.before
    if test.worst > (1 + _FALL + test.noise) * test.before:
        yield found("rate-too-high", f"{_tried(test)}, at worst {test.worst:.4g}", where=test.where)
    elif test.guesses_evenly:
        yield found("rate-too-high", f"{_tried(test)}, after which every token is equally likely", where=test.where)
    elif (fall + test.noise) * test.budget < _FALL:
        whole = f"; the whole run has {test.budget:.3g} times as many updates"
        yield found("rate-too-low", _tried(test) + whole, where=test.where)


def _tried(test: RateTest) -> str:
    return (
        f"{test.updates} updates at {test.learning_rate:g} on one batch take its loss from {test.before:.4g} "
        f"to {test.after:.4g}"
    )
