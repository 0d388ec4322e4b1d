"""A training step as a row of segments, walked forward and back: when is most memory in use, and for what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rscap.plan.parameters import Component


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A part of the model that is computed as one; all in bytes."""

    component: Component
    name: str
    inputs: int = 0
    """What the batch brings here; held through the step, but not by autograd."""
    kept: int = 0
    """By autograd, from its forward pass to its backward pass."""
    past: int = 0
    """Held likewise, but past autograd's hooks: checkpointing does not let it go."""
    inside: int = 0
    """Kept anew when a checkpointed segment is computed again."""
    working: int = 0
    """Short-lived, in either pass."""
    casts: int = 0
    """16-bit copies of its learning weights: to the end of all forward passes, and with what is kept."""
    checkpointed: bool = False
    outside_autocast: bool = False
    """Computed when the copies of checkpointed segments are gone."""
    gradients: int = 0
    """Left by its backward pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The state of the memory at one point of a step, without what stays from step to step."""

    when: str
    component: Component
    """At work."""
    activations: dict[Component, int]
    """Kept for the backward pass, casts included."""
    gradients: dict[Component, int]
    working: int

    @property
    def total(self) -> int:
        return sum(self.activations.values()) + sum(self.gradients.values()) + self.working


def moments(segments: Sequence[Segment], *, accumulates: bool) -> list[Moment]:
    """Every segment's forward pass, then every segment's backward pass, in the order of time."""
    order = _order(segments)
    return [_moment(segments, place, back=back, accumulates=accumulates) for place, back in order]


def peak(segments: Sequence[Segment], *, accumulates: bool) -> Moment:
    """The first moment with the most bytes."""
    totals = _totals(segments, accumulates=accumulates)
    place, back = _order(segments)[totals.index(max(totals))]
    return _moment(segments, place, back=back, accumulates=accumulates)


def _order(segments: Sequence[Segment]) -> list[tuple[int, bool]]:
    """Places forward, then backward."""
    places = range(len(segments))
    return [*((place, False) for place in places), *((place, True) for place in reversed(places))]


def _totals(segments: Sequence[Segment], *, accumulates: bool) -> list[int]:
    """The bytes of all moments, by running sums: the same as the sums over what `_moment` lists."""
    held = cast = again = 0
    forward, backward = [], []
    gradients = sum(one.gradients for one in segments)
    for one in segments:
        held += one.inputs + one.kept + one.past
        cast += one.casts
        before, again = again, again + (one.casts if one.checkpointed else 0)
        gone = before if one.outside_autocast else 0
        forward.append(held + cast - gone + one.working + (gradients if accumulates else 0))
        backward.append(held + cast - before + one.inside + one.working + gradients)
        gradients -= 0 if accumulates else one.gradients
    return [*forward, *reversed(backward)]


def _moment(segments: Sequence[Segment], place: int, *, back: bool, accumulates: bool) -> Moment:
    """Segments up to `place` hold what they keep; on the way back, those from there on have left their gradients."""
    now = segments[place]
    activations: dict[Component, int] = {}
    gradients: dict[Component, int] = {}
    for index, one in enumerate(segments):
        if index <= place:
            held = one.inputs + one.kept + one.past + (one.inside if back and index == place else 0)
            if index == place or not (one.checkpointed and (back or now.outside_autocast)):
                held += one.casts
            activations[one.component] = activations.get(one.component, 0) + held
        if accumulates or (back and index >= place):
            gradients[one.component] = gradients.get(one.component, 0) + one.gradients
    when = f"{'backward' if back else 'forward'}: {now.name}"
    return Moment(when=when, component=now.component, activations=activations, gradients=gradients, working=now.working)
