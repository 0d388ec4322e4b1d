"""The temporary memory of a training step and of generation: when it peaks, and for what.

A training step is a row of segments, walked forward and back. What a segment needs while it computes is the largest set
of short-lived tensors, in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rscap.model.decoding import PREFIXES, TOGETHER
from rscap.planning.kept import mlp_kept, vision_mlp_kept
from rscap.planning.parameters import Component, Setting
from rscap.planning.shapes import Linear, Shapes, TextShape, VisionShape
from rscap.recipe import Tower

if TYPE_CHECKING:
    from rscap.planning.sequence import DrawnCaptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A part of the model that is computed as one; sizes in bytes."""

    component: Component
    name: str
    inputs: int = 0
    """The batch's own tensors; held through the step, but not by autograd."""
    kept: int = 0
    """Held by autograd from the forward to the backward pass."""
    past: int = 0
    """Held as long, but outside autograd's hooks: checkpointing does not free it."""
    inside: int = 0
    """Kept again while a checkpointed segment is recomputed."""
    working: int = 0
    """Short-lived, in either pass."""
    casts: int = 0
    """16-bit copies of its trainable weights, held until all forward passes end and with what is kept."""
    checkpointed: bool = False
    outside_autocast: bool = False
    """True if it is computed after the copies of checkpointed segments are freed."""
    gradients: int = 0
    """Left by its backward pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Memory at one point of a step, without what stays from step to step."""

    when: str
    component: Component
    """The component that is computing."""
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


def text_working(shape: TextShape, setting: Setting, *, queries: int) -> int:
    """Bytes per image of a block of Gemma, in its forward or backward pass, whichever takes more.

    Both have their peak at the MLP, the widest part. Backward through the product of gate and up: the three that were
    kept, the gradient that comes and the two that go, less what is no longer kept.
    """
    wide, stream = setting.inner, setting.residual * shape.width
    backward = max(6 * wide, 3 * wide + _dropped(setting, wide)) * shape.mlp
    forward = _input_of(setting, "language_model", shape.linears["down_proj"], wide) + 2 * wide * shape.width
    forward = max(forward, _weighed(setting, "language_model", shape.linears))
    return queries * (stream + max(forward, backward - mlp_kept(shape, setting)))


def vision_working(shape: VisionShape, setting: Setting) -> int:
    """Bytes per image of a trainable block of SigLIP; backward through GELU: its input and two gradients."""
    product, stream = setting.product, setting.vision_residual * shape.width
    backward = max(3 * product, product + _dropped(setting, product)) * shape.mlp
    forward = _input_of(setting, "vision_tower", shape.linears["fc2"], product) + 2 * product * shape.width
    forward = max(forward, _weighed(setting, "vision_tower", shape.linears))
    return shape.tokens * (stream + max(forward, backward - vision_mlp_kept(shape, setting)))


def frozen_vision(shape: VisionShape, setting: Setting) -> int:
    """Bytes per image while a frozen tower computes: stream, norm, and GELU's input and output."""
    product = setting.product
    return shape.tokens * (2 * product * shape.mlp + (setting.vision_residual + setting.vision_norm) * shape.width)


def weight_working(linears: Mapping[str, Linear], setting: Setting, tower: Tower) -> int:
    """Bytes that do not grow with the batch: a matrix unpacked from 4 or 8 bits, and matrices that adapters compute.

    DoRA multiplies an identity through its adapter and adds up weights in float32 for their norms; composed matrices
    have factors, and gradients as large as themselves.
    """
    unpacked = max(one.weights for one in linears.values()) * setting.product if setting.quantised(tower) else 0
    adapted = setting.adapted(tower, linears)
    prints = [setting.footprint(one) for one in adapted]
    made = [setting.product * (2 * one.composed + (one.sliced if setting.autocast else 0)) for one in prints]
    identity = 4 + (setting.product if setting.autocast else 0)
    if setting.decomposed:
        made += [one.inputs * max(identity * one.inputs, 16 * one.outputs) for one in adapted]
    return max([unpacked, *made])


def _input_of(setting: Setting, tower: Tower, down: Linear, given: int) -> int:
    """Bytes per token at the last layer of an MLP: its input, and what an adapter's dropout makes of it."""
    if setting.state(tower) == "trained":
        return 0
    dropped = setting.dropout and down.name in setting.targets(tower)
    return given * down.inputs * (2 if dropped else 1)


def _weighed(setting: Setting, tower: Tower, linears: Mapping[str, Linear]) -> int:
    """Bytes per token while an adapter multiplies its output by float32 numbers: three of them, less the output itself.

    DoRA does the same to the output of the layer.
    """
    weighing = [one.outputs for one in setting.adapted(tower, linears) if setting.footprint(one).weighs]
    return (3 * 4 - setting.product) * max(weighing, default=0)


def _dropped(setting: Setting, given: int) -> int:
    """Bytes per number of `given` bytes while the gradient passes an adapter's dropout: mask, gradient, result."""
    return setting.mask(given) + 2 * given if setting.dropout else 0


def generation_moving(shapes: Shapes, setting: Setting, *, prefix: int, drawn: DrawnCaptions | None = None) -> int:
    """Peak bytes besides weights while captions are generated, or `drawn` to learn from: no gradients, but a cache.

    An estimate: within 13 % of what was measured at bench-7M (docs/plan.md).
    """
    decode, shape = setting.recipe.generate, shapes.text
    branches, limit = (decode.beams, decode.max_new_tokens) if drawn is None else (drawn.captions, drawn.limit)
    room = prefix + limit * branches
    cache = 2 * shape.layers * shape.groups * shape.head_width * room * setting.product
    reading = prefix * _reading(shapes, setting)
    if shape.capped:  # scores of all heads in float32 and in the precision of products
        reading += prefix * prefix * shape.heads * (4 + 2 * setting.product)
    wide = (
        setting.autocast and decode.logits == "float32" and drawn is None
    )  # training computes logits as the model does
    answer = 4 if wide else 4 + setting.product  # float32 at once, or 16 bits and then float32
    choosing = branches * shape.vocabulary * answer * (3 if shape.capped else 1)
    if drawn is not None:  # the logits, their scores, and two of softmax, its logarithm or its sums in float64
        choosing = max(choosing, branches * shape.vocabulary * (4 + 4 + 8 + 8))
    seeing = frozen_vision(shapes.vision, setting)
    unpacked = weight_working(shape.linears, setting, "language_model")
    if setting.autocast and setting.state("language_model") == "trained":  # one copy at a time, the head's the largest
        unpacked = setting.product * shape.embedding_parameters
    if setting.autocast:  # weights of adapters, cast once
        copied = sum(setting.footprint(one).copied for one in setting.adapted("language_model", shape.linears))
        unpacked += setting.product * shape.layers * copied
    if wide and setting.device == "cpu":  # the head, cast once
        unpacked += 4 * shape.embedding_parameters
    images = decode.least_batch if drawn is None else setting.recipe.train.micro_batch
    at_once = min(images, TOGETHER if setting.device == "cpu" else PREFIXES)
    held = images * (shapes.vision.pixels * 4 + cache)
    return held + max(at_once * max(seeing, reading), images * choosing) + unpacked


def _reading(shapes: Shapes, setting: Setting) -> int:
    """Bytes per token where a block's `up` adds its adapter's output: stream, normed stream, four numbers of MLP."""
    numbers = 3 if setting.state("language_model") == "trained" else 4
    narrow = 2 * setting.residual + setting.product
    return numbers * setting.inner * shapes.text.mlp + narrow * shapes.text.width
