"""Match candidates with references by id; ids on one side only are an error that lists them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rscap.errors import ScoreError
from rscap.scoring.protocol import prepare

_SHOWN = 10


@dataclass(frozen=True)
class Paired:
    """The n images that are scored, by id ascending, as given and as the protocol's metrics see them.

    Under `sentence` the references are the first one alone. Sorting makes the figures independent of the order of
    files, but for what coco-caption itself makes of it: see "Order" in docs/scoring.md.
    """

    ids: tuple[str, ...]
    captions: tuple[str, ...]
    candidates: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]
    references_per_image: float
    distinct_per_image: float
    unscored: int


def pair(
    candidates: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    *,
    protocol: str,
    duplicates: str,
    allow_missing: bool,
) -> Paired:
    """Match ids and prepare the texts.

    Raises:
        ScoreError: an id is on one side only, a caption is not a string, an image has no reference, or nothing is left.
    """
    check_ids(candidates, references, allow_missing=allow_missing)
    check_captions(candidates)
    scored = {example: own for example, own in references.items() if example in candidates}
    check_references(scored)
    if protocol == "sentence":
        scored = {example: own[:1] for example, own in scored.items()}
    # Tokenised in the order in which they were given, as two files: see `prepare`.
    captions = dict(zip(candidates, prepare(protocol, list(candidates.values())), strict=True))
    texts = iter(prepare(protocol, [text for own in scored.values() for text in own]))
    prepared = {example: tuple(next(texts) for _ in own) for example, own in scored.items()}
    ids = sorted(candidates)
    groups = [prepared[example] for example in ids]
    distinct = [tuple(dict.fromkeys(group)) for group in groups]
    return Paired(
        ids=tuple(ids),
        captions=tuple(candidates[example] for example in ids),
        candidates=tuple(captions[example] for example in ids),
        references=tuple(distinct if duplicates == "distinct" else groups),
        references_per_image=sum(map(len, groups)) / len(ids),
        distinct_per_image=sum(map(len, distinct)) / len(ids),
        unscored=len(references) - len(ids),
    )


def check_ids(candidates: Iterable[str], references: Iterable[str], *, allow_missing: bool) -> None:
    """Raise ScoreError where ids differ, listing the first ten."""
    mine, theirs = set(candidates), set(references)
    odd = next((example for example in mine | theirs if not isinstance(example, str)), None)
    if odd is not None:
        raise ScoreError(f"an id is a string, found {odd!r} ({type(odd).__name__})")
    missing, extra = sorted(theirs - mine), sorted(mine - theirs)
    problems = []
    if missing and not allow_missing:
        problems.append(f"{len(missing):,} of {len(theirs):,} references have no candidate: {listed(missing)}")
    if extra:
        problems.append(f"{len(extra):,} of {len(mine):,} candidates have no reference: {listed(extra)}")
    if problems:
        hint = "ids must be equal strings on both sides; `--split` chooses the references of one split"
        raise ScoreError("; ".join(problems), hint=hint)
    if not mine:
        raise ScoreError("there are no candidates to score")


def listed(ids: Sequence[str]) -> str:
    """The first ten ids, and an ellipsis where there are more."""
    return ", ".join(map(repr, ids[:_SHOWN])) + (", …" if len(ids) > _SHOWN else "")


def check_references(references: Mapping[str, Sequence[str]] | Mapping[int, Sequence[str]]) -> None:
    """Raise ScoreError where references are not a sequence of one string or more."""
    for example, own in references.items():
        if isinstance(own, str):  # would be taken for a list of letters
            raise ScoreError(f"the references of {example!r} are one string, not a list of strings")
        wrong = [text for text in own if not isinstance(text, str)]
        if wrong:
            raise ScoreError(f"a reference of {example!r} is a {type(wrong[0]).__name__}, not a string")
    bare = [str(example) for example, own in references.items() if len(own) == 0]
    if bare:
        raise ScoreError(f"{len(bare)} images have no reference: {listed(bare)}")


def check_captions(candidates: Mapping[str, str] | Mapping[int, str]) -> None:
    """Raise ScoreError where a candidate is not a string."""
    for example, caption in candidates.items():
        if not isinstance(caption, str):
            raise ScoreError(f"the candidate of {example!r} is a {type(caption).__name__}, not a string")
