"""Choosing among matches: METEOR 1.5's beam search, left to right over the reference.

Matches whose words no other match touches are fixed first. For the rest every partial alignment is ranked by
(words matched, rounded down as `SEARCH_WORDS` says; fewest chunks, the open one not counted; smallest distance; the rank
before), and the best `BEAM` are kept. As observed, the distance of a match weighs on whatever is tried *after* it at the
same word, not on the alignment that takes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from operator import itemgetter

from rscap.score.meteor.matching import Match

BEAM = 40
CHUNK = 1 << 24
WORD = 1 << 48
"""A rank is one integer, smallest best: -WORD for a matched word, CHUNK for a chunk, 1 for a step of distance."""

CLOSED = -1

Path = tuple[int, int, int, int, "Link | None"]
"""(rank, where the open chunk ends in the candidate or CLOSED, words used in candidate, in reference, matches taken)."""
Link = tuple[Match, "Link | None"]

_rank = itemgetter(0)


def align(rows: Sequence[Sequence[Match]]) -> list[Match]:
    """The matches of the alignment, by place in the reference."""
    fixed, used, used_candidate = _fixed(rows)
    if sum(map(len, rows)) == len(fixed):
        return list(fixed.values())
    paths: list[Path] = [(0, CLOSED, used_candidate, used, None)]
    for start, row in enumerate(rows):
        paths.sort(key=_rank)
        del paths[BEAM:]
        if used >> start & 1:
            paths = _follow(paths, fixed[start]) if start in fixed else paths
        else:
            paths = _branch(paths, start, row)
    paths.sort(key=_rank)
    del paths[BEAM:]
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
        mask, candidate_mask = match.mask, match.candidate_mask
        if not (mask & twice or candidate_mask & twice_candidate):
            fixed[match.start] = match
            used |= mask
            used_candidate |= candidate_mask
    return fixed, used, used_candidate


def _follow(paths: list[Path], match: Match) -> list[Path]:
    """Every path takes a fixed match."""
    place, end = match.candidate_start, match.candidate_start + match.candidate_length
    return [
        (rank + CHUNK if at not in (CLOSED, place) else rank, end, used_candidate, used, link)
        for rank, at, used_candidate, used, link in paths
    ]


def _branch(paths: list[Path], start: int, row: Sequence[Match]) -> list[Path]:
    """Every path with each match it still has words for, then without any."""
    bit = 1 << start
    options = [
        (
            match.candidate_mask,
            match.mask,
            match.candidate_start,
            match.candidate_start + match.candidate_length,
            match.search_words * WORD,
            abs(match.start - match.candidate_start),
            match,
        )
        for match in row
    ]
    following: list[Path] = []
    for path in paths:
        rank, at, used_candidate, used, link = path
        if used & bit:
            following.append(path)
            continue
        for candidate_mask, mask, place, end, words, distance, match in options:
            if used_candidate & candidate_mask or used & mask:
                continue
            broken = CHUNK if at not in (CLOSED, place) else 0
            following.append((rank - words + broken, end, used_candidate | candidate_mask, used | mask, (match, link)))
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
