"""Captions that stand where they should not: the same list on two images, the same sentence in two splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rscap.data.audit.findings import Finding, about, crosses, leaking
from rscap.records import Example


def same_captions(examples: Sequence[Example]) -> Iterator[Finding]:
    """One finding a list of captions, in whatever order, that more than one image has."""
    for members in groups_of_equal_captions(examples):
        where = "across splits" if leaking(members) else "within a split"
        captions = tuple(sorted(members[0].captions))
        detail = f"{len(members)} images have the same {len(captions)} captions, {where}"
        severity = "error" if leaking(members) else "note"
        yield about(members, "same-captions", severity, detail, captions=captions)  # type: ignore[arg-type]


def groups_of_equal_captions(examples: Sequence[Example]) -> list[list[Example]]:
    """The images that share their list of captions, in whatever order, with another; by first appearance."""
    first: dict[tuple[str, ...], int] = {}
    groups: dict[int, list[Example]] = {}
    for index, example in enumerate(examples):
        original = first.setdefault(tuple(sorted(example.captions)), index)
        if original != index:
            groups.setdefault(original, [examples[original]]).append(example)
    return [groups[original] for original in sorted(groups)]


def repeated_captions(examples: Sequence[Example]) -> Iterator[Finding]:
    """One finding a caption that several images have, upper and lower case alike; the most frequent first.

    `shared-caption` where the images are on two sides of a split, else `repeated-caption`. A short true sentence may
    well be said twice, so this is a note; what it does to scores is in the counts.
    """
    first: dict[str, int] = {}
    holders: dict[str, dict[int, None]] = {}
    for index, example in enumerate(examples):
        for caption in map(str.lower, example.captions):
            original = first.setdefault(caption, index)
            if original != index:
                holders.setdefault(caption, {original: None})[index] = None
    for caption, places in sorted(holders.items(), key=lambda item: (-len(item[1]), item[0])):
        members = [examples[place] for place in places]
        counts = Counter(example.split for example in members)
        told = ", ".join(f"{count} {split}" for split, count in counts.items())
        kind = "shared-caption" if crosses(counts) else "repeated-caption"
        yield about(members, kind, "note", f"said of {told} images", captions=(caption,))


def one_caption(examples: Sequence[Example]) -> Iterator[Finding]:
    """One finding an image whose several captions are all the same sentence."""
    for example in examples:
        if len(example.captions) > 1 and len(set(example.captions)) == 1:
            detail = f"all {len(example.captions)} captions are one sentence"
            yield about([example], "one-caption", "note", detail, captions=example.captions[:1])
