"""Compare a run with its export: captions word by word, logits by their largest difference, and near-ties."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from rscap.errors import ExportError
from rscap.exporting.reading import Asking, Plain, Reading

AgreementVerdict = Literal["same", "near-tie", "different"]

TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.0625, torch.bfloat16: 0.5}
"""Logits closer than this are a tie. In 16 bits: four units in the last place of a logit between 16 and 32, which the
order of sums alone can change; in float32 a margin for deep models (nano: up to 2e-5)."""

EFFECT_SHARE = {torch.float32: 0.01, torch.float16: 0.25, torch.bfloat16: 0.25}
"""Rounding adds up over layers, so logits may also differ by this share of the effect of the adapter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One image with the captions of the run and of the export."""

    example_id: str
    before: str
    after: str
    verdict: AgreementVerdict
    margin: float | None
    """At the first token that differs, the run's logit of its own token minus that of the export's token; None if none
    differs, or if that token is not among the run's hundred likeliest."""
    logit_difference: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AsTrained:
    """The quantised model of the run, compared with the unquantised export."""

    quantisation: str
    same: int | None
    """Captions that are the same in the export; None if the model cannot be loaded here."""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far an export agrees with its run."""

    origin: str
    precision: torch.dtype
    """The coarser one of run and export."""
    items: tuple[Compared, ...]
    effect: float | None
    """The largest change of these logits if the adapter is switched off."""
    as_trained: AsTrained | None = None

    @property
    def n(self) -> int:
        return len(self.items)

    def count(self, verdict: AgreementVerdict) -> int:
        return Counter(item.verdict for item in self.items)[verdict]

    @property
    def tolerance(self) -> float:
        """Two logits closer than this are tied."""
        return TOLERANCE[self.precision]

    @property
    def limit(self) -> float:
        """Rounding explains logit differences up to this; infinite if the effect of the adapter is unknown."""
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
                f"{len(ties)} differ at a near-tie: at the first token that differs, the run's own logits of both are "
                f"within {max(ties):.2g}, so that rounding decides."
            )
        if different := self.count("different"):
            words.append(f"{different} differ by more than a near-tie (closer than {self.tolerance:g} of a logit).")
        words.append(f"The largest logit difference is {self.logit_difference:.2g}{self._effect()}.")
        return [*words, *self._quantised()]

    def beside(self, quantisation: str, said: Mapping[str, str] | str) -> Agreement:
        """The same, with the captions of the quantised run by id, or with the reason why there are none."""
        same = None if isinstance(said, str) else sum(said.get(item.example_id) == item.after for item in self.items)
        reason = said if isinstance(said, str) else ""
        return replace(self, as_trained=AsTrained(quantisation=quantisation, same=same, reason=reason))

    def require(self, share: float) -> None:
        """Refuse an export that disagrees with its run; a share of 0 accepts everything.

        Raises:
            ExportError: fewer than `share` of the captions are the same or differ at a near-tie, or logits differ by
                more than rounding explains; shows the worst image.
        """
        agreeing = self.n - self.count("different")
        if agreeing >= share * self.n and (self.logit_difference <= self.limit or share == 0):
            return
        worst = max(self.items, key=lambda item: (item.verdict == "different", item.logit_difference))
        raise ExportError(
            f"the export disagrees with the run: {agreeing} of {self.n} captions agree, {share:.0%} are "
            f"required; the largest logit difference is {self.logit_difference:.2g}{self._allowed()}; "
            f"{worst.example_id}: {worst.before!r} became {worst.after!r}",
            hint="nothing was written; --dtype float32 rounds least, --adapter-only leaves the base model as it is, "
            "--agree lowers the share (0 accepts everything)",
        )

    def _allowed(self) -> str:
        return "" if self.limit == torch.inf else f", rounding explains {self.limit:.2g}"

    def _effect(self) -> str:
        if self.effect is None:
            return ""
        words = f"; switching the adapter off moves the same logits by up to {self.effect:.2g}"
        if self.effect <= self.logit_difference:
            words += (
                ", no more than rounding does: training changed too little for captions to show that it was exported"
            )
        return words

    def _quantised(self) -> list[str]:
        if (trained := self.as_trained) is None:
            return []
        if trained.same is None:
            return [f"The run as it was trained ({trained.quantisation}) could not be compared: {trained.reason}"]
        return [
            f"The run as it was trained ({trained.quantisation}) gives the captions of the export on {trained.same} of "
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
    """Caption with the export the images that the run has captioned; `coarsest` is the coarser precision of the two.

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
    verdict: AgreementVerdict = "same"
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
    """At the first token that differs, the run's logit of its own token minus that of the other."""
    parting = next(
        (place for place, (ours, theirs) in enumerate(zip(reading.tokens, other, strict=False)) if ours != theirs), None
    )
    if parting is None:
        return None
    logits = dict(zip(reading.entries[parting].tolist(), reading.logits[parting].tolist(), strict=True))
    ours, theirs = logits.get(reading.tokens[parting]), logits.get(other[parting])
    return None if ours is None or theirs is None else ours - theirs
