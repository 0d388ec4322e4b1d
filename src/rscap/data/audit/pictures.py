"""Findings about images: unreadable, odd, duplicate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rscap.data.audit.duplicates import Duplicates, Pair
from rscap.data.audit.findings import Finding, about, leaking
from rscap.data.groups import connected
from rscap.data.handles import MissingImage
from rscap.data.measure import ImageFacts, Unreadable
from rscap.records import Example

_FLAT = 2.0
_SMALLEST_PX = 32
_LONGEST_RATIO = 4.0


def picture_findings(examples: Sequence[Example], duplicates: Duplicates) -> Iterator[Finding]:
    """What the measuring of the images and the search for duplicates brought to light."""
    for index, example in enumerate(examples):
        facts = duplicates.facts[index]
        if isinstance(facts, Unreadable):
            yield about([example], "unreadable-image", "error", facts.reason.removeprefix(f"{example.image.name}: "))
        elif detail := _odd(facts):
            yield about([example], "odd-image", "warning", detail)
    for pair in duplicates.pairs:
        yield _duplicate([examples[pair.first], examples[pair.second]], pair)


def missing_images(examples: Sequence[Example]) -> Iterator[Finding]:
    """One finding an image that is named and not there."""
    for example in examples:
        if isinstance(example.image, MissingImage):
            yield about([example], "missing-image", "error", f"{example.image.name} is not there")


def groups_of_duplicates(examples: Sequence[Example], duplicates: Duplicates) -> list[list[Example]]:
    """The examples that duplicate pairs join, chains included; those without a duplicate are left out."""
    pairs = [(pair.first, pair.second) for pair in duplicates.pairs]
    return [[examples[index] for index in members] for members in connected(len(examples), pairs) if len(members) > 1]


def _odd(facts: ImageFacts) -> str | None:
    short, long = sorted((facts.width, facts.height))
    if facts.contrast < _FLAT:
        return f"all of one colour: contrast {facts.contrast:.1f} of 255, brightness {facts.brightness:.0f}"
    if short < _SMALLEST_PX:
        return f"tiny: {facts.width} x {facts.height} pixels"
    if long > _LONGEST_RATIO * short:
        return f"far from square: {facts.width} x {facts.height} pixels"
    return None


def _duplicate(members: list[Example], pair: Pair) -> Finding:
    kind = "exact-duplicate" if pair.exact else "near-duplicate"
    severity = "error" if leaking(members) else "warning"
    right, down = (round(100 * share, 1) for share in pair.shift)
    moved = f", shifted by {right:+g} % right and {down:+g} % down" if (right, down) != (0, 0) else ""
    how = "equal pixel by pixel" if pair.exact else f"similarity {pair.similarity:.3f}; the second {pair.turn}{moved}"
    extra = {"similarity": round(pair.similarity, 4), "turn": pair.turn, "shift": list(pair.shift)}
    return about(members, kind, severity, how, extra=extra)  # type: ignore[arg-type]
