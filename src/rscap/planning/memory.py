"""The memory of a training step: a recipe, a shape and a batch become segments; their peak becomes a table of bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rscap.model.loss import chunk_rows
from rscap.planning.kept import SCORE, eight_bit_inputs, norm, text_layer, vision_layer
from rscap.planning.parameters import COMPONENTS, TRAINABLE, Component, Resident, Setting, residents
from rscap.planning.shapes import Linear, Shapes
from rscap.planning.timeline import (
    Moment,
    Segment,
    frozen_vision,
    peak,
    text_working,
    vision_working,
    weight_working,
)
from rscap.recipe import Tower


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """The size of a packed micro batch: B images padded to N tokens each, S supervised tokens in all."""

    images: int
    tokens: int
    """N, of the longest row; the others are padded to it."""
    queries: int
    """M, the most supervised tokens of any row."""
    supervised: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes that tensors take at the peak of a training step."""

    residents: dict[Component, Resident]
    moment: Moment
    logits: int
    """Peak bytes of logits, in the head; part of `short-lived` if that is the peak of the step."""

    def row(self, component: Component) -> dict[str, int]:
        """One component's bytes by kind."""
        resident = self.residents[component]
        return {
            "weights": resident.weights + resident.adapters,
            "optimiser": resident.optimiser,
            "gradients": self.moment.gradients.get(component, 0),
            "activations": self.moment.activations.get(component, 0),
            "short-lived": self.moment.working if component == self.moment.component else 0,
        }

    @property
    def fixed(self) -> int:
        """Weights, adapters and optimiser states."""
        return sum(one.weights + one.adapters + one.optimiser for one in self.residents.values())

    @property
    def moving(self) -> int:
        """Peak of what a step allocates and frees."""
        return self.moment.total

    @property
    def total(self) -> int:
        return self.fixed + self.moving


def training_memory(shapes: Shapes, setting: Setting, batch: MicroBatch) -> Memory:
    """Peak bytes of a step once the optimiser has its states."""
    held = residents(shapes, setting)
    row = segments(shapes, setting, batch, held)
    return Memory(residents=held, moment=peak(row, accumulates=setting.accumulates), logits=row[-1].working)


def kept_bytes(shapes: Shapes, setting: Setting, batch: MicroBatch) -> int:
    """Bytes that autograd holds when the forward pass ends, without weights."""
    row = segments(shapes, setting, batch, residents(shapes, setting))
    casts = sum(one.casts for one in row if not one.checkpointed)
    return sum(one.kept for one in row) + casts


def segments(shapes: Shapes, setting: Setting, batch: MicroBatch, held: dict[Component, Resident]) -> list[Segment]:
    """The step in the order of its forward pass."""
    return [
        *_vision(shapes, setting, batch, held["vision tower"]),
        _projector(shapes, setting, batch, held["projector"]),
        _embeddings(shapes, setting, batch, held["embeddings"]),
        *_layers(shapes, setting, batch, held["language model"]),
        _head(shapes, setting, batch, held["head"]),
    ]


def _vision(shapes: Shapes, setting: Setting, batch: MicroBatch, held: Resident) -> list[Segment]:
    shape, component = shapes.vision, COMPONENTS[0]
    if setting.cached_features:
        return []
    pixels = Segment(component=component, name="pixels", inputs=batch.images * shape.pixels * 4)
    unpacked = weight_working(shape.linears, setting, "vision_tower")
    if not setting.trainable("vision_tower"):
        seen = batch.images * frozen_vision(shape, setting) + unpacked
        return [pixels, Segment(component=component, name="vision tower", working=seen)]
    trained = setting.state("vision_tower") == "trained"
    stream, whole = shape.tokens * shape.width * setting.vision_residual, vision_layer(shape, setting)
    own = stream if setting.vision_norm == setting.vision_residual else 0  # a norm keeps its input without a copy
    casts = _casts(setting, "vision_tower", shape.linears)
    composed = _composed(setting, "vision_tower", shape.linears)
    trainable_here = _trainable(setting, "vision_tower", shape.linears, extra=4 * shape.width)
    layers = [
        Segment(
            component=component,
            name=f"vision layer {index}",
            kept=batch.images * stream if setting.checkpointing else batch.images * whole + composed,
            inside=batch.images * (whole - own) + composed if setting.checkpointing else 0,
            working=batch.images * vision_working(shape, setting) + unpacked,
            casts=casts,
            checkpointed=setting.checkpointing,
            gradients=TRAINABLE * trainable_here,
        )
        for index in range(shape.layers)
    ]
    patches = Segment(
        component=component,
        name="patches",
        kept=batch.images * shape.pixels * setting.product if trained and setting.autocast else 0,  # else the pixels
        casts=setting.product * shape.embedding_parameters if trained and setting.autocast else 0,
        gradients=held.gradients - sum(one.gradients for one in layers),
    )
    normed = shape.tokens * (shape.width * setting.vision_norm + 2 * SCORE)
    return [pixels, patches, *layers, Segment(component=component, name="vision norm", kept=batch.images * normed)]


def _projector(shapes: Shapes, setting: Setting, batch: MicroBatch, held: Resident) -> Segment:
    trained = setting.state("projector") == "trained"
    seen = batch.images * shapes.vision.tokens * shapes.vision.width * setting.product
    return Segment(
        component="projector",
        name="projector",
        kept=seen if trained else 0,
        working=0 if trained else seen,
        casts=setting.product * shapes.projector.weights if trained and setting.autocast else 0,
        gradients=held.gradients,
    )


def _embeddings(shapes: Shapes, setting: Setting, batch: MicroBatch, held: Resident) -> Segment:
    """Masks and rotations that all layers share; the gradient of a tied head waits here for that of the embeddings."""
    shape = shapes.text
    pairs = batch.tokens * batch.tokens
    masks = pairs * (1 + setting.residual if shape.capped and not setting.flex else 1)
    if shape.window is not None and shape.window < batch.tokens:
        masks *= 2
    rotation = 2 * batch.tokens * shape.head_width * setting.residual
    waits = shape.tied and setting.state("language_model") == "trained"
    table = TRAINABLE * shape.embedding_parameters if waits else 0
    return Segment(
        component="embeddings",
        name="embeddings",
        inputs=batch.images * masks,
        kept=batch.images * rotation + table,
        working=table if setting.accumulates else 0,
        gradients=held.gradients,
    )


def _layers(shapes: Shapes, setting: Setting, batch: MicroBatch, held: Resident) -> list[Segment]:
    shape, component, count = shapes.text, COMPONENTS[3], shapes.text.layers
    unpacked = weight_working(shape.linears, setting, "language_model")
    casts = _casts(setting, "language_model", shape.linears)
    trainable_here = _trainable(setting, "language_model", shape.linears, extra=shape.norms * shape.width)
    fed = (
        setting.trainable("vision_tower")
        or setting.trainable("projector")
        or setting.state("language_model") == "trained"
    )
    stream = batch.tokens * shape.width * setting.residual
    own = stream if setting.residual == SCORE else 0  # a norm keeps a float32 input without a copy
    every = eight_bit_inputs(shape, setting, queries=batch.tokens, keys=batch.tokens, again=True)
    more = eight_bit_inputs(shape, setting, queries=batch.tokens, keys=batch.tokens, again=False)
    composed = _composed(setting, "language_model", shape.linears)
    found = []
    for index in range(count - 1):
        whole = text_layer(shape, setting, queries=batch.tokens, keys=batch.tokens, fed=fed or index > 0)
        found.append(
            Segment(
                component=component,
                name=f"layer {index}",
                kept=batch.images * stream if setting.checkpointing else batch.images * whole + composed,
                past=batch.images * (every if setting.checkpointing else more),
                inside=batch.images * (whole + more - own) + composed if setting.checkpointing else 0,
                working=batch.images * text_working(shape, setting, queries=batch.tokens) + unpacked,
                casts=casts,
                checkpointed=setting.checkpointing,
                gradients=TRAINABLE * trainable_here,
            )
        )
    last = Segment(
        component=component,
        name=f"layer {count - 1}",
        kept=batch.images * text_layer(shape, setting, queries=batch.queries, keys=batch.tokens) + composed,
        past=batch.images * eight_bit_inputs(shape, setting, queries=batch.queries, keys=batch.tokens, again=False),
        working=batch.images * text_working(shape, setting, queries=batch.queries) + unpacked,
        casts=casts,
        gradients=held.gradients - TRAINABLE * trainable_here * (count - 1),
    )
    return [*found, last]


def _head(shapes: Shapes, setting: Setting, batch: MicroBatch, held: Resident) -> Segment:
    """The last norm, and the loss, which computes logits a few rows at a time and keeps only their gradient."""
    shape, trained = shapes.text, setting.state("language_model") == "trained"
    rows = min(batch.supervised, chunk_rows(shape.vocabulary))
    logits = rows * shape.vocabulary * SCORE * (3 if shape.capped else 2)
    gradient = shape.embedding_parameters * TRAINABLE if trained else 0
    chunks = -(-batch.supervised // rows)
    copy = shape.embedding_parameters * setting.product if trained and setting.autocast else 0
    return Segment(
        component="head",
        name="head and loss",
        kept=batch.supervised * (norm(shape.width, setting) + shape.width * setting.residual),
        working=copy + max(logits, copy + (gradient if chunks > 1 else 0)),
        outside_autocast=True,
        gradients=held.gradients,
    )


def _casts(setting: Setting, tower: Tower, linears: Mapping[str, Linear]) -> int:
    """Bytes of autocast's copies of a block's trainable matrices."""
    if not setting.autocast:
        return 0
    if setting.state(tower) == "trained":
        return setting.product * sum(one.parameters for one in linears.values())
    return setting.product * sum(setting.footprint(one).copied for one in setting.adapted(tower, linears))


def _composed(setting: Setting, tower: Tower, linears: Mapping[str, Linear]) -> int:
    """Bytes of the matrices that a block's adapters compute or copy in every forward pass."""
    prints = [setting.footprint(one) for one in setting.adapted(tower, linears)]
    return setting.product * sum(one.composed + (one.sliced if setting.autocast else 0) for one in prints)


def _trainable(setting: Setting, tower: Tower, linears: Mapping[str, Linear], *, extra: int) -> int:
    """Trainable parameters of a block; `extra` are those of its norms."""
    if setting.state(tower) == "trained":
        return sum(one.parameters for one in linears.values()) + extra
    return sum(setting.footprint(one).trainable for one in setting.adapted(tower, linears))
