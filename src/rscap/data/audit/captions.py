"""Captions that stand where they should not: the same list on two images, the same sentence in two splits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from rscap.data.audit.findings import Finding, about, leaking
from rscap.records import Example


def same_captions(examples: Sequence[Example]) -> Iterator[Finding]:
    """One finding a list of captions, in whatever order, that more than one image has."""
    groups: dict[tuple[str, ...], list[Example]] = defaultdict(list)
    for example in examples:
        groups[tuple(sorted(example.captions))].append(example)
    for captions, members in groups.items():
        if len(members) > 1:
            where = "across splits" if leaking(members) else "within a split"
            detail = f"{len(members)} images have the same {len(captions)} captions, {where}"
            severity = "error" if leaking(members) else "note"
            yield about(members, "same-captions", severity, detail, captions=captions)  # type: ignore[arg-type]


def shared_captions(examples: Sequence[Example]) -> Iterator[Finding]:
    """One finding a caption that stands in several splits, upper and lower case alike; the most frequent first.

    A short true sentence may well be said twice, so this is a note; what it does to scores is in the counts.
    """
    holders: dict[str, dict[str, Example]] = defaultdict(dict)
    for example in examples:
        for caption in example.captions:
            holders[caption.lower()][example.id] = example
    crossing = [(caption, list(members.values())) for caption, members in holders.items()]
    crossing = [(caption, members) for caption, members in crossing if leaking(members)]
    for caption, members in sorted(crossing, key=lambda item: (-len(item[1]), item[0])):
        splits = [example.split for example in members]
        told = ", ".join(f"{splits.count(split)} {split}" for split in dict.fromkeys(splits))
        yield about(members, "shared-caption", "note", f"said of {told} images", captions=(caption,))


def one_caption(examples: Sequence[Example]) -> Iterator[Finding]:
    """One finding an image whose several captions are all the same sentence."""
    for example in examples:
        if len(example.captions) > 1 and len(set(example.captions)) == 1:
            detail = f"all {len(example.captions)} captions are one sentence"
            yield about([example], "one-caption", "note", detail, captions=example.captions[:1])
