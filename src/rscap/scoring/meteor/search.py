"""Choosing among matches: METEOR 1.5's beam search, and an upper bound that spares it.

`align` goes left to right over the reference. Matches whose words no other match touches are fixed first. For the rest
every partial alignment is ranked by (words matched, as `SEARCH_SHARES` counts them; fewest chunks, the open one not
counted; smallest distance; the rank before), and the best `BEAM` are kept. As observed, the distance of a match weighs
on whatever is tried *after* it at the same word, not on the alignment that takes it.

`upper_bound` says how good any alignment could be: a reference that cannot beat another one is not searched.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain
from operator import itemgetter
from typing import NamedTuple

from rscap.scoring.meteor.formula import DELTA, WEIGHTS, blend
from rscap.scoring.meteor.lexicon import EXACT, SYNONYM
from rscap.scoring.meteor.matching import WORD_BITS, Match
from rscap.scoring.meteor.normalise import Text, spread

OTHER_WEIGHT = max(WEIGHTS[1], WEIGHTS[3])


def upper_bound(candidate: Text, reference: Text, rows: Sequence[Sequence[Match]]) -> float:
    """A number no smaller than the METEOR of any alignment made of these matches.

    Every word counts as matched by the heaviest matcher that reaches it. With c chunks, and J words that may follow
    another word of their chunk, at most J + c words are matched, so fragmentation is smallest for one chunk.
    """
    matches = list(chain.from_iterable(rows))
    ends = {(match.end, match.candidate_end) for match in matches}
    covered = [0] * 4
    joined = 0
    for start, place, matcher, _, _, mask, _, _ in matches:
        covered[matcher] |= mask
        joined |= mask if (start, place) in ends else mask ^ (1 << 2 * start | 2 << 2 * place)
    exact, stem, synonym, paraphrase = covered
    union = exact | stem | synonym | paraphrase
    parts = (exact, synonym & ~exact, union & ~exact & ~synonym)
    precision, words = _share(parts, union, joined, candidate, 1)
    recall, reference_words = _share(parts, union, joined, reference, 0)
    if not words or not reference_words:
        return 0.0
    whole = words == len(candidate.words) and reference_words == len(reference.words)
    return blend(precision, recall, 0.0 if whole else 2 / (words + reference_words))


def _share(parts: Sequence[int], union: int, joined: int, text: Text, side: int) -> tuple[float, int]:
    """(highest precision or recall, most words that one chunk can hold) of one side."""
    bits = spread(len(text.words)) << side
    words = min((union & bits).bit_count(), (joined & bits).bit_count() + 1)
    if not words:
        return 0.0, 0
    weighted = 0.0
    for part, weight in zip(parts, (WEIGHTS[EXACT], WEIGHTS[SYNONYM], OTHER_WEIGHT), strict=True):
        if own := part & bits:
            content = (own & ~(text.functions << side)).bit_count()
            weighted += weight * (DELTA * content + (1 - DELTA) * (own.bit_count() - content))
    return weighted / text.weight, words


BEAM = 40
CLOSED = -1
CHUNK = 1 << 30
CROWD = 2 * BEAM
"""So many new paths are cut to the beam before more are made."""

Path = tuple[int, int, int, "Link | None"]
"""(rank; where the open chunk ends in the candidate, or CLOSED; used words; matches taken). A rank is one integer,
smallest best: minus 1 << WORD_BITS for a matched word, CHUNK for a chunk, 1 for a step of distance."""
Link = tuple[Match, "Link | None"]

_rank = itemgetter(0)


class Run(NamedTuple):
    """Reference words without a choice, one after another: fixed matches, and words that no match touches."""

    place: int
    """Where the first of them continues an open chunk in the candidate; CLOSED where it ends every chunk."""
    chunks: int
    """The rank of the chunks that end within the run."""
    at: int
    """Where the chunk that is open after the run ends, or CLOSED."""


class Branch(NamedTuple):
    """A reference word with a choice."""

    bit: int
    row: Sequence[Match]
    to_come: int
    """The most words that all later choices can win."""


def align(rows: Sequence[Sequence[Match]]) -> list[Match]:
    """The matches of the alignment, by place in the reference."""
    matches = list(chain.from_iterable(rows))
    fixed, covered = _fixed(matches)
    if len(matches) == len(fixed):
        return list(fixed.values())
    paths: list[Path] = [(0, CLOSED, 0, None)]
    for step in _steps(rows, fixed, covered):
        paths = _follow(paths, step) if isinstance(step, Run) else _branch(paths, step)
        paths.sort(key=_rank)
        del paths[BEAM:]
    best = min(paths, key=_finished)  # of equals the first
    return sorted(chain(fixed.values(), _taken(best[3])))


def _fixed(matches: Sequence[Match]) -> tuple[dict[int, Match], int]:
    """(the matches no other match touches, by start; all words that matches touch)."""
    once = twice = 0
    for match in matches:
        mask = match.mask
        twice |= once & mask
        once |= mask
    return {match.start: match for match in matches if not match.mask & twice}, once


def _steps(rows: Sequence[Sequence[Match]], fixed: dict[int, Match], covered: int) -> list[Run | Branch]:
    """The reference from left to right; neighbouring words without a choice are one step."""
    steps: list[Run | Branch] = []
    free = [start not in fixed and bool(covered >> 2 * start & 1) for start in range(len(rows))]
    hopes = [
        max((match.gain for match in row), default=0) if open_ else 0 for row, open_ in zip(rows, free, strict=True)
    ]
    to_come = [*accumulate(reversed(hopes), initial=0)][::-1]
    settled = 0  # words that belong to a fixed match begun further left
    run: Run | None = None
    for start, row in enumerate(rows):
        if start in fixed:
            run = _extended(run, fixed[start].candidate_start, fixed[start].candidate_end)
            settled |= fixed[start].mask
        elif not free[start]:
            run = _extended(run, CLOSED, CLOSED)
        elif not settled >> 2 * start & 1:
            if run:
                steps.append(run)
                run = None
            steps.append(Branch(1 << 2 * start, row, to_come[start + 1]))
    return [*steps, run] if run else steps


def _extended(run: Run | None, place: int, end: int) -> Run:
    """A run with one more fixed match (or, CLOSED, a word without any) after it."""
    if run is None:
        return Run(place, 0, end)
    return Run(run.place, run.chunks + (CHUNK if run.at != CLOSED and run.at != place else 0), end)


def _follow(paths: list[Path], run: Run) -> list[Path]:
    """Every path takes the fixed matches of a run."""
    place, chunks, end = run
    broken = chunks + CHUNK
    return [(rank + (chunks if at < 0 or at == place else broken), end, used, link) for rank, at, used, link in paths]


def _branch(paths: list[Path], branch: Branch) -> list[Path]:
    """Every path with each match it still has words for, then without any.

    Left out are paths so far behind the first that even all words to come cannot bring them level: such a path, and all
    that grows from it, ranks behind the others now and later, so that it can neither win nor push out one that may.
    """
    bit, row, to_come = branch
    limit = ((paths[0][0] >> WORD_BITS) + 1 << WORD_BITS) + to_come
    following: list[Path] = []
    add = following.append
    for path in paths:
        rank, at, used, link = path
        if used & bit:
            add(path)
            continue
        for match in row:
            _, place, _, _, end, mask, gain, distance = match
            if not used & mask:
                new = (rank if at < 0 or at == place else rank + CHUNK) - gain
                if new < limit:
                    add((new, end, used | mask, (match, link)))
                rank += distance
        if rank < limit:
            add((rank if at < 0 else rank + CHUNK, CLOSED, used, link))
        if len(following) > CROWD:
            following.sort(key=_rank)
            del following[BEAM:]
            limit = min(limit, following[-1][0])  # of equals the earlier stay
    return following


def _finished(path: Path) -> int:
    """The rank once the open chunk is counted."""
    return path[0] if path[1] == CLOSED else path[0] + CHUNK


def _taken(link: Link | None) -> list[Match]:
    matches = []
    while link:
        match, link = link
        matches.append(match)
    return matches
