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
    activations: dict[Component, int]
    """Kept for the backward pass, casts included."""
    gradients: dict[Component, int]
    working: int

    @property
    def total(self) -> int:
        return sum(self.activations.values()) + sum(self.gradients.values()) + self.working


def moments(segments: Sequence[Segment], *, accumulates: bool) -> list[Moment]:
    """Every segment's forward pass, then every segment's backward pass, in the order of time."""
    forward = [
        _moment(f"forward: {one.name}", segments, segments[: place + 1], accumulates=accumulates, done=len(segments))
        for place, one in enumerate(segments)
    ]
    backward = [
        _moment(
            f"backward: {segments[place].name}", segments, segments[: place + 1], accumulates=accumulates, done=place
        )
        for place in reversed(range(len(segments)))
    ]
    return [*forward, *backward]


def peak(segments: Sequence[Segment], *, accumulates: bool) -> Moment:
    """The first moment with the most bytes."""
    return max(moments(segments, accumulates=accumulates), key=lambda moment: moment.total)


def _moment(
    when: str, segments: Sequence[Segment], alive: Sequence[Segment], *, accumulates: bool, done: int
) -> Moment:
    """`alive` segments hold what they keep; those from `done` on have left their gradients."""
    back = when.startswith("backward")
    activations: dict[Component, int] = {}
    gradients: dict[Component, int] = {}
    for place, one in enumerate(segments):
        current = place == len(alive) - 1
        if place < len(alive):
            held = one.inputs + one.kept + one.past + (one.inside if back and current else 0)
            if current or not (one.checkpointed and (back or alive[-1].outside_autocast)):
                held += one.casts
            activations[one.component] = activations.get(one.component, 0) + held
        if accumulates or place >= done:
            gradients[one.component] = gradients.get(one.component, 0) + one.gradients
    return Moment(when=when, activations=activations, gradients=gradients, working=alive[-1].working)
