"""Choosing among matches: METEOR 1.5's beam search, left to right over the reference.

Matches whose words no other match touches are fixed first. For the rest every partial alignment is ranked by (words
matched, as `SEARCH_SHARES` counts them; fewest chunks, the open one not counted; smallest distance; the rank before), and
the best `BEAM` go on. As observed, the distance of a match weighs on whatever is tried *after* it at the same word, not on
the alignment that takes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain
from operator import itemgetter
from typing import NamedTuple

from rscap.score.meteor.matching import WORD_BITS, Match

BEAM = 40
CLOSED = -1
CHUNK = 1 << 24
"""A rank is one integer, smallest best: minus 1 << WORD_BITS for a matched word, CHUNK for a chunk, 1 for a step of distance."""

Path = tuple[int, int, int, int, "Link | None"]
"""(rank; where the open chunk ends in the candidate, or CLOSED; used words: candidate's, reference's; matches taken)."""
Link = tuple[Match, "Link | None"]

_rank = itemgetter(0)


class Ground(NamedTuple):
    """What is settled before the search: masks are of reference words but where the name says candidate."""

    fixed: dict[int, Match]
    """The matches whose words no other match touches, by start."""
    used: int
    used_candidate: int
    covered: int
    """The words that any match touches."""


def align(rows: Sequence[Sequence[Match]]) -> list[Match]:
    """The matches of the alignment, by place in the reference."""
    ground = _ground(rows)
    fixed = ground.fixed
    if sum(map(len, rows)) == len(fixed):
        return list(fixed.values())
    gains = [max((match.gain >> WORD_BITS for match in row), default=0) for row in rows]
    to_come = [*accumulate(reversed(gains), initial=0)][::-1]
    paths: list[Path] = [(0, CLOSED, ground.used_candidate, ground.used, None)]
    for start, row in enumerate(rows):
        if start in fixed:
            paths = _follow(paths, fixed[start])
        elif not ground.covered >> start & 1:
            if not start or ground.covered >> start - 1 & 1:  # else they are all closed already
                paths = _close(paths)
        elif not ground.used >> start & 1:
            paths = _branch(paths, start, row, _hopeless(paths, to_come[start + 1]))
        paths.sort(key=_rank)
        del paths[BEAM:]
    best = min(paths, key=_finished)  # of equals the first
    return sorted(chain(fixed.values(), _taken(best[4])))


def _ground(rows: Sequence[Sequence[Match]]) -> Ground:
    """Fix the matches that compete with no other."""
    matches = list(chain.from_iterable(rows))
    once = twice = once_candidate = twice_candidate = 0
    for match in matches:
        mask, candidate_mask = match[5], match[6]
        twice |= once & mask
        once |= mask
        twice_candidate |= once_candidate & candidate_mask
        once_candidate |= candidate_mask
    fixed = {}
    used = used_candidate = 0
    for match in matches:
        if not (match[5] & twice or match[6] & twice_candidate):
            fixed[match.start] = match
            used |= match.mask
            used_candidate |= match.candidate_mask
    return Ground(fixed, used, used_candidate, once)


def _hopeless(paths: list[Path], to_come: int) -> int:
    """The rank from which on a path is not worth keeping: even all words to come cannot bring it level with the first.

    Such a path, and all that grows from it, ranks behind the others now and later: it can neither win nor push a path
    that may out of the beam.
    """
    return (paths[0][0] >> WORD_BITS) + to_come + 1 << WORD_BITS


def _follow(paths: list[Path], match: Match) -> list[Path]:
    """Every path takes a fixed match."""
    place, end = match.candidate_start, match.candidate_end
    return [
        (rank if at < 0 or at == place else rank + CHUNK, end, used_candidate, used, link)
        for rank, at, used_candidate, used, link in paths
    ]


def _close(paths: list[Path]) -> list[Path]:
    """No path has a match for this word: the open chunks end."""
    return [path if path[1] < 0 else (path[0] + CHUNK, CLOSED, path[2], path[3], path[4]) for path in paths]


def _branch(paths: list[Path], start: int, row: Sequence[Match], hopeless: int) -> list[Path]:
    """Every path with each match it still has words for, then without any; ranks from `hopeless` on are left out."""
    bit = 1 << start
    following: list[Path] = []
    for path in paths:
        rank, at, used_candidate, used, link = path
        if used & bit:
            following.append(path)
            continue
        for match in row:
            _, place, _, _, end, mask, candidate_mask, gain, distance = match
            if not (used_candidate & candidate_mask or used & mask):
                new = (rank if at < 0 or at == place else rank + CHUNK) - gain
                if new < hopeless:
                    following.append((new, end, used_candidate | candidate_mask, used | mask, (match, link)))
                rank += distance
        if rank < hopeless:
            following.append((rank if at < 0 else rank + CHUNK, CLOSED, used_candidate, used, link))
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
