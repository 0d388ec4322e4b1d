"""Do a run and its export say the same? Captions word by word, logits by their largest difference, ties explained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from rscap.errors import ExportError
from rscap.exporting.reading import Asking, Plain, Reading

Verdict = Literal["same", "near-tie", "different"]

TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.0625, torch.bfloat16: 0.5}
"""Logits closer than this are a tie. In 16 bits: four units in the last place of a logit between 16 and 32, which the
order of sums alone changes; in float32 there is room for deep models (nano: up to 2e-5)."""

EFFECT_SHARE = {torch.float32: 0.01, torch.float16: 0.25, torch.bfloat16: 0.25}
"""Rounding adds up over the layers, so logits may also differ by this share of what the adapter does to them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One image: what the run says of it and what the export says."""

    example_id: str
    before: str
    after: str
    verdict: Verdict
    margin: float | None
    """Where they part, how far the run's logit of its own token lies above that of the export's; None if they do not,
    or if that token is not among the run's likeliest hundred."""
    logit_difference: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AsTrained:
    """The quantised model itself, beside the unquantised one that is exported."""

    quantisation: str
    same: int | None
    """Captions it shares with the export; None where it cannot be loaded here."""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far an export says what its run says."""

    origin: str
    precision: torch.dtype
    """The coarser one of run and export."""
    items: tuple[Compared, ...]
    effect: float | None
    """The largest difference that switching the adapter off makes to the same logits."""
    as_trained: AsTrained | None = None

    @property
    def n(self) -> int:
        return len(self.items)

    def count(self, verdict: Verdict) -> int:
        return Counter(item.verdict for item in self.items)[verdict]

    @property
    def tolerance(self) -> float:
        """Two logits closer than this are tied."""
        return TOLERANCE[self.precision]

    @property
    def limit(self) -> float:
        """A larger logit difference than this is no rounding; infinite where nothing tells what would be."""
        if self.effect is None:
            return self.tolerance if self.precision == torch.float32 else torch.inf
        return max(self.tolerance, EFFECT_SHARE[self.precision] * self.effect)

    @property
    def logit_difference(self) -> float:
        return max(item.logit_difference for item in self.items)

    def sentences(self) -> list[str]:
        """The comparison in words."""
        words = [f"{self.count('same')} of {self.n} captions are the same, word for word, on {self.origin}."]
        if ties := [abs(item.margin) for item in self.items if item.verdict == "near-tie" and item.margin is not None]:
            words.append(
                f"{len(ties)} part at a near-tie: at the first token that differs, the run itself held both within "
                f"{max(ties):.2g} of a logit, which rounding decides."
            )
        if different := self.count("different"):
            words.append(f"{different} differ by more than a near-tie (closer than {self.tolerance:g} of a logit).")
        words.append(f"The largest logit difference is {self.logit_difference:.2g}{self._effect()}.")
        return [*words, *self._quantised()]

    def beside(self, quantisation: str, said: Mapping[str, str] | str) -> Agreement:
        """The same with the quantised run's captions by id, or with the reason why there are none."""
        same = None if isinstance(said, str) else sum(said.get(item.example_id) == item.after for item in self.items)
        reason = said if isinstance(said, str) else ""
        return replace(self, as_trained=AsTrained(quantisation=quantisation, same=same, reason=reason))

    def require(self, share: float) -> None:
        """Refuse an export that says something else than its run.

        A share of 0 lets everything pass.

        Raises:
            ExportError: fewer than `share` of the captions are the same or part at a near-tie, or logits differ by
                more than rounding changes; shows the worst image.
        """
        agreeing = self.n - self.count("different")
        if agreeing >= share * self.n and (self.logit_difference <= self.limit or share == 0):
            return
        worst = max(self.items, key=lambda item: (item.verdict == "different", item.logit_difference))
        raise ExportError(
            f"the export does not say what the run says: {agreeing} of {self.n} captions agree, {share:.0%} are "
            f"required; the largest logit difference is {self.logit_difference:.2g}{self._allowed()}; "
            f"{worst.example_id}: {worst.before!r} became {worst.after!r}",
            hint="nothing was written; --dtype float32 rounds least, --adapter-only leaves the base model as it is, "
            "--agree lowers the share (0: whatever comes)",
        )

    def _allowed(self) -> str:
        return "" if self.limit == torch.inf else f", rounding explains {self.limit:.2g}"

    def _effect(self) -> str:
        if self.effect is None:
            return ""
        words = f"; switching the adapter off moves the same logits by up to {self.effect:.2g}"
        if self.effect <= self.logit_difference:
            words += ", no more than rounding does: too little was learned for captions to show that it was kept"
        return words

    def _quantised(self) -> list[str]:
        if (trained := self.as_trained) is None:
            return []
        if trained.same is None:
            return [f"The run as it was trained ({trained.quantisation}) could not be compared: {trained.reason}"]
        return [
            f"The run as it was trained ({trained.quantisation}) says the same as the export on {trained.same} of "
            f"{self.n}: quantisation rounds the weights, and the export has them unrounded."
        ]


def compare(
    readings: Sequence[Reading],
    plain: Plain,
    asking: Asking,
    *,
    origin: str,
    coarsest: torch.dtype,
) -> Agreement:
    """Ask the export for the images that the run has captioned; `coarsest` is the coarser precision of the two.

    Raises:
        ExportError: the exported processor has other tokens.
    """
    items = tuple(_compared(reading, plain, asking, TOLERANCE[coarsest]) for reading in readings)
    effects = [reading.effect for reading in readings if reading.effect is not None]
    return Agreement(
        origin=origin,
        precision=coarsest,
        items=items,
        effect=max(effects, default=None),
    )


def _compared(reading: Reading, plain: Plain, asking: Asking, tolerance: float) -> Compared:
    image = reading.example.image.load()
    tokens, logits = plain.token_logits(image, asking.prefix, reading.caption)
    if tokens != reading.tokens:
        raise ExportError(f"the exported processor cuts {reading.caption!r} into other tokens than the run's")
    difference = float((logits.cpu().gather(-1, reading.entries) - reading.logits).abs().nan_to_num(torch.inf).max())
    after = plain.caption(image, asking)
    margin = None if after == reading.caption else _margin(reading, plain.tokens(image, asking.prefix, after))
    verdict: Verdict = "same"
    if after != reading.caption:
        verdict = "near-tie" if margin is not None and abs(margin) <= tolerance else "different"
    return Compared(
        example_id=reading.example.id,
        before=reading.caption,
        after=after,
        verdict=verdict,
        margin=margin,
        logit_difference=difference,
    )


def _margin(reading: Reading, other: Sequence[int]) -> float | None:
    """How far the run preferred its own token where another caption parts from its caption."""
    parting = next(
        (place for place, (ours, theirs) in enumerate(zip(reading.tokens, other, strict=False)) if ours != theirs), None
    )
    if parting is None:
        return None
    logits = dict(zip(reading.entries[parting].tolist(), reading.logits[parting].tolist(), strict=True))
    ours, theirs = logits.get(reading.tokens[parting]), logits.get(other[parting])
    return None if ours is None or theirs is None else ours - theirs
