"""Errors of content: counts, colours, directions and things in which a caption contradicts all its references.

A caption that names a river where no reference has one may score a fine CIDEr: n-grams do not weigh what is wrong.
Here a claim of a caption is held against the union of the claims of its references (`claims`, `lexicon`), so that it is
wrong only where no reference bears it out. Four kinds:

* thing: it names a scene noun that no reference names, nor a synonym, nor a kind of it; or denies one that they name.
* count: it tells a number of a thing, references tell how many there are, and none of them can be that number.
* colour: it gives a thing a colour, references colour the same thing, and none in that colour.
* direction: left or right, top or bottom, north or south, east or west, where references have the other alone.

A claim that the references neither bear out nor contradict (the colour of a roof that they leave uncoloured) is not
counted. A rate is the wrong claims over all that could be checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rscap.scoring.content import lexicon
from rscap.scoring.content.claims import SOME, Said, colours_of, said
from rscap.scoring.content.lexicon import VERSION as CONTENT_VERSION
from rscap.scoring.corpus import Floats
from rscap.scoring.measures import Statistics, Summed
from rscap.scoring.resampling import intervals

KINDS = ("thing", "count", "colour", "direction")
"""The kinds of claims; the rate of each is `<kind>-errors`, as `rscap compare --metric` calls it."""
RATES = tuple(f"{kind}-errors" for kind in KINDS)


@dataclass(slots=True)
class Checked:
    """The claims of one caption that its references allow to check."""

    claims: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    """By kind, how many."""
    wrong: dict[str, list[str]] = field(default_factory=dict)
    """By kind, the words of those that are wrong; only kinds that have any."""

    def add(self, kind: str, text: str, *, right: bool) -> None:
        self.claims[kind] += 1
        if not right:
            self.wrong.setdefault(kind, []).append(text)

    @property
    def row(self) -> list[int]:
        """The statistics of an image: wrong claims of each kind, then all of each."""
        return [*(len(self.wrong.get(kind, ())) for kind in KINDS), *self.claims.values()]


def check_content(caption: str, references: Sequence[str]) -> Checked:
    """Hold the claims of a caption against all references of its image."""
    own, theirs, found = said(caption), [said(reference) for reference in references], Checked()
    _check_things(own, theirs, found)
    _check_counts(own, theirs, found)
    _check_colours(own, theirs, found)
    _check_directions(own, theirs, found)
    return found


def _check_things(own: Said, theirs: Sequence[Said], found: Checked) -> None:
    there = {thing for one in theirs for thing in one.named}
    absent = {thing for one in theirs for thing in one.denied}
    for thing, text in own.named.items():
        found.add("thing", text, right=bool(_shown_by(thing) & there))
    for thing, text in own.denied.items():
        if thing in there or thing in absent:
            found.add("thing", f"no {text}", right=thing in absent)


def _check_counts(own: Said, theirs: Sequence[Said], found: Checked) -> None:
    for claim in own.amounts:
        told = {amount.number for one in theirs for amount in one.amounts if amount.thing == claim.thing}
        if claim.told and told:
            found.add("count", claim.text, right=claim.number in told or (SOME in told and claim.number > 1))


def _check_colours(own: Said, theirs: Sequence[Said], found: Checked) -> None:
    given = [(colour.thing, colours_of(colour.word)) for one in theirs for colour in one.colours]
    for claim in own.colours:
        alike, meant = _shown_by(claim.thing), colours_of(claim.word)
        borne_out = any(thing in alike and colours & meant for thing, colours in given)
        if borne_out or any(thing == claim.thing for thing, _ in given):
            found.add("colour", claim.text, right=borne_out)


def _check_directions(own: Said, theirs: Sequence[Said], found: Checked) -> None:
    given = {direction for one in theirs for direction in one.directions}
    axes = {lexicon.DIRECTIONS[direction] for direction in given}
    for claim in dict.fromkeys(own.directions):
        if lexicon.DIRECTIONS[claim] in axes:
            found.add("direction", claim, right=claim in given)


def _shown_by(thing: str) -> set[str]:
    """The thing, and what else bears a claim of it out."""
    return {thing, *(other.strip() for other in lexicon.IS_SHOWN_BY.get(thing, thing).split(","))}


# The rates of many images.


def error_rates(captions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Wrong claims over all that could be checked, by the names of `RATES`; kinds without claims are left out."""
    rows = [check_content(caption, own).row for caption, own in zip(captions, references, strict=True)]
    sums = np.array(rows, dtype=np.float64).reshape(-1, 2 * len(KINDS)).sum(axis=0)
    return {name: float(_rates(sums)[name]) for name, claims in zip(RATES, sums[len(KINDS) :], strict=True) if claims}


def _rates(sums: Floats) -> Mapping[str, Floats]:
    wrong, claims = sums[..., : len(KINDS)], sums[..., len(KINDS) :]
    rates = np.divide(wrong, claims, out=np.zeros_like(wrong), where=claims > 0)
    return {name: rates[..., place] for place, name in enumerate(RATES)}


CONTENT = Summed(
    key="content",
    names=RATES,
    columns=(*(f"wrong {kind}" for kind in KINDS), *(f"claims of {kind}" for kind in KINDS)),
    statistics=None,
    scores=_rates,
)
"""The rates follow from sums over images, so that they get intervals and paired tests as BLEU does."""


@dataclass(frozen=True, slots=True)
class ContentErrors:
    """The content errors of a set of captions."""

    statistics: Statistics
    """`CONTENT` of each image."""
    wrong: Mapping[str, Mapping[str, Sequence[str]]]
    """By image and kind, the words of the wrong claims; images without any are left out."""
    version: str = CONTENT_VERSION

    @classmethod
    def of(
        cls, ids: Sequence[str], candidates: Mapping[str, str], references: Mapping[str, Sequence[str]]
    ) -> ContentErrors:
        """Of the captions of these images, as they were given: no protocol changes them."""
        checked = {example: check_content(candidates[example], references[example]) for example in ids}
        rows = np.array([one.row for one in checked.values()], dtype=np.float64).reshape(len(ids), 2 * len(KINDS))
        return cls(
            statistics=Statistics(ids=tuple(ids), sums={CONTENT: rows}),
            wrong={example: dict(one.wrong) for example, one in checked.items() if one.wrong},
        )

    def content(self, *, draws: int, seed: int) -> dict[str, Any]:
        """As a score sheet holds them: `version`, `rates` of the kinds that have claims, and `wrong` by image."""
        totals = self.statistics.sums[CONTENT].sum(axis=0).astype(int).tolist()
        scores, bounds = self.statistics.corpus_scores(), intervals(self.statistics, draws=draws, seed=seed)
        rates = {
            name: {
                "rate": scores[name],
                "wrong": wrong,
                "claims": claims,
                **({"interval": list(bounds[name])} if name in bounds else {}),
            }
            for name, wrong, claims in zip(RATES, totals[: len(KINDS)], totals[len(KINDS) :], strict=True)
            if claims
        }
        return {"version": self.version, "rates": rates, "wrong": {**self.wrong}}
