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

from rscap.score.meteor.matching import Match

BEAM = 40
CLOSED = -1
WORD_BITS = 48
CHUNK = 1 << 24
WORD = 1 << WORD_BITS
"""A rank is one integer, smallest best: -WORD for a matched word, CHUNK for a chunk, 1 for a step of distance."""

Path = tuple[int, int, int, int, "Link | None"]
"""(rank; where the open chunk ends in the candidate, or CLOSED; used words: candidate's, reference's; matches taken)."""
Link = tuple[Match, "Link | None"]

_rank = itemgetter(0)


def align(rows: Sequence[Sequence[Match]]) -> list[Match]:
    """The matches of the alignment, by place in the reference."""
    fixed, used, used_candidate = _fixed(rows)
    if sum(map(len, rows)) == len(fixed):
        return list(fixed.values())
    gains = [
        0 if used >> start & 1 else max((m.search_words for m in row), default=0) for start, row in enumerate(rows)
    ]
    to_come = [*accumulate(reversed(gains), initial=0)][::-1]
    paths: list[Path] = [(0, CLOSED, used_candidate, used, None)]
    for start, row in enumerate(rows):
        _rank_and_cut(paths, to_come[start])
        if start in fixed:
            paths = _follow(paths, fixed[start])
        elif not used >> start & 1:
            paths = _branch(paths, start, row)
    _rank_and_cut(paths, 0)
    best = min(paths, key=_finished)  # of equals the first
    return sorted(chain(fixed.values(), _taken(best[4])))


def _fixed(rows: Sequence[Sequence[Match]]) -> tuple[dict[int, Match], int, int]:
    """(the matches no other match touches, by start; their reference words; their candidate words)."""
    once = twice = once_candidate = twice_candidate = 0
    for match in chain.from_iterable(rows):
        mask, candidate_mask = match.mask, match.candidate_mask
        twice |= once & mask
        once |= mask
        twice_candidate |= once_candidate & candidate_mask
        once_candidate |= candidate_mask
    fixed = {}
    used = used_candidate = 0
    for match in chain.from_iterable(rows):
        if not (match.mask & twice or match.candidate_mask & twice_candidate):
            fixed[match.start] = match
            used |= match.mask
            used_candidate |= match.candidate_mask
    return fixed, used, used_candidate


def _rank_and_cut(paths: list[Path], to_come: int) -> None:
    """Keep the best paths, in order. A path so far behind the first that even all words to come cannot bring it level is
    dropped too: it can never be the best, nor push one that can out of the beam."""
    if len(paths) > 1:
        paths.sort(key=_rank)
        del paths[BEAM:]
        limit = (paths[0][0] >> WORD_BITS) + to_come + 1 << WORD_BITS
        while paths[-1][0] >= limit:
            paths.pop()


def _follow(paths: list[Path], match: Match) -> list[Path]:
    """Every path takes a fixed match."""
    place, end = match.candidate_start, match.candidate_end
    return [
        (rank if at < 0 or at == place else rank + CHUNK, end, used_candidate, used, link)
        for rank, at, used_candidate, used, link in paths
    ]


def _branch(paths: list[Path], start: int, row: Sequence[Match]) -> list[Path]:
    """Every path with each match it still has words for, then without any."""
    bit = 1 << start
    following: list[Path] = []
    for path in paths:
        rank, at, used_candidate, used, link = path
        if used & bit:
            following.append(path)
            continue
        for match in row:
            _, place, _, _, end, mask, candidate_mask, words, distance = match
            if not (used_candidate & candidate_mask or used & mask):
                broken = rank if at < 0 or at == place else rank + CHUNK
                following.append(
                    (broken - words * WORD, end, used_candidate | candidate_mask, used | mask, (match, link))
                )
                rank += distance
        following.append((rank if at == CLOSED else rank + CHUNK, CLOSED, used_candidate, used, link))
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
