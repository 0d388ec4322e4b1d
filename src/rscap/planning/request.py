"""`rscap plan`: what a recipe needs and what fits a card, as a `Plan` and as a record for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rscap.methods import METHODS
from rscap.model.card import STANDARD, build_for
from rscap.model.load import CHECKPOINTS
from rscap.planning.cards import CARDS, Card
from rscap.planning.drawing import described
from rscap.planning.parameters import COMPONENTS
from rscap.planning.search import WORTH, Candidate, Situation, best, candidates, settled, with_precision, with_settings
from rscap.planning.sequence import Lengths, lengths
from rscap.planning.shapes import Shapes, shapes_of_base
from rscap.recipe import Recipe

KEYS = (
    "model.dtype",
    "model.quantisation",
    "model.quantise",
    "train.micro_batch",
    "train.accumulation",
    "train.gradient_checkpointing",
    "generate.batch_size",
)
"""Keys that a plan may change; apart from precision, none changes the result of an update."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The largest micro batch that fits one precision and checkpointing setting, and how short the next one falls."""

    quantisation: str
    checkpointing: bool
    largest: int | None
    next: int | None
    shortfall: int | None
    """Bytes by which the card is too small for `next`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The answer: the recipe as written, and the settings proposed for the card."""

    card: Card
    shapes: Shapes
    rows: Lengths
    written: Candidate
    proposed: Candidate | None
    closest: Candidate
    """The proposal, or the smallest configuration if nothing fits."""
    changes: Mapping[str, object]
    """Keys of `closest` that differ from the recipe."""
    limits: tuple[Limit, ...]
    """For every precision tried, up to the proposed one."""
    notes: tuple[str, ...]


def plan_recipe(recipe: Recipe, card: Card, *, achieved_tflops: float | None = None) -> Plan:
    """Predict a recipe's memory and time on a card and propose settings that fit.

    Raises:
        ModelError: the shape of the base model is unknown.
        DataError: the data are local and cannot be used.
    """
    shapes = shapes_of_base(recipe.model.base, split=bool(recipe.model.image_splitting))
    rows = lengths(recipe, shapes=shapes)
    situation = Situation(shapes=shapes, rows=rows, card=card, achieved_tflops=achieved_tflops)
    asked, recipe = recipe, settled(with_precision(recipe, card), situation)
    written = Candidate(recipe=recipe, situation=situation)
    levels, proposed = [], None
    for level in candidates(_for_card(recipe, card), situation):
        levels.append(level)
        if (proposed := best(level)) is not None:
            break
    if proposed is not None and _as_good(written, proposed, card):
        proposed = written
    closest = proposed or min((one for level in levels for one in level), key=lambda one: one.needed)
    return Plan(
        card=card,
        shapes=shapes,
        rows=rows,
        written=written,
        proposed=proposed,
        closest=closest,
        changes=differences(recipe, closest.recipe),
        limits=tuple(limit for level in levels for limit in _limits(level)),
        notes=tuple(_notes(asked, card, closest)),
    )


def differences(before: Recipe, after: Recipe) -> dict[str, object]:
    """The keys that a plan changes, with their new values."""
    found: dict[str, object] = {}
    for key in KEYS:
        section, name = key.split(".")
        value = getattr(getattr(after, section), name)
        if value != getattr(getattr(before, section), name):
            found[key] = value
    if (
        "model.quantise" in found
        and before.model.quantisation == "none"
        and after.model.quantise == ("language_model",)
    ):
        del found["model.quantise"]
    return found


def _for_card(recipe: Recipe, card: Card) -> Recipe:
    """float16 in place of bfloat16 if the card has no bfloat16."""
    if recipe.model.dtype == "bfloat16" and not card.bfloat16:
        return with_settings(recipe, "model", dtype="float16")
    return recipe


def _as_good(written: Candidate, proposed: Candidate, card: Card) -> bool:
    """True if the recipe as written fits and takes hardly longer than the proposal."""
    if not written.fits or _for_card(written.recipe, card) != written.recipe:
        return False
    return proposed.seconds_per_image > WORTH * written.seconds_per_image


def _limits(level: list[Candidate]) -> list[Limit]:
    found = []
    for checkpointing in (False, True):
        ways = [one for one in level if one.recipe.train.gradient_checkpointing == checkpointing]
        ways.sort(key=lambda one: one.recipe.train.micro_batch)
        fitting = [one for one in ways if one.fits]
        beyond = next((one for one in ways if not one.fits), None)
        found.append(
            Limit(
                quantisation=describe_quantisation(ways[0].recipe),
                checkpointing=checkpointing,
                largest=fitting[-1].recipe.train.micro_batch if fitting else None,
                next=beyond.recipe.train.micro_batch if beyond else None,
                shortfall=beyond.shortfall if beyond else None,
            )
        )
    return found


def describe_quantisation(recipe: Recipe) -> str:
    """`bfloat16`, or `nf4 language_model` with the towers that are quantised."""
    if recipe.model.quantisation == "none":
        return recipe.model.dtype
    return f"{recipe.model.quantisation} {' + '.join(recipe.model.quantise)}"


def _notes(recipe: Recipe, card: Card, closest: Candidate) -> list[str]:
    """What the figures leave out or assume."""
    found = _of_the_base(recipe, closest) + _of_the_card(recipe, card)
    typical = next((one for one in CARDS.values() if card.name.endswith(f": {one.name})") and not one.bfloat16), None)
    if closest.recipe.model.dtype == "bfloat16" and card.bfloat16 and typical is not None:
        found.append(f"a {typical.name} has no bfloat16: for one, plan with --gpu {typical.name}")
    if recipe.model.dtype == "bfloat16" and closest.recipe.model.dtype == "float16":
        found.append(f"a {card.name} has no bfloat16: float16, with a scaled loss and a float32 residual stream")
    if recipe.adapter is not None and METHODS[recipe.adapter.method].residual:
        found.append(
            f"method {recipe.adapter.method!r} starts from unquantised weights: loading needs more memory than training"
        )
    if recipe.model.image_splitting:
        shapes = closest.situation.shapes
        one = shapes.image_tokens // shapes.vision.crops
        found.append(f"images are split: {shapes.image_tokens:,} image tokens in place of {one}")
    if closest.situation.rows.drawn is not None:
        found.append(described(closest.situation.rows.drawn, closest.drawing_share))
    if recipe.data.quality is not None:
        found.append("includes captions that [data.quality] removes")
    if recipe.train.evaluate_every is not None:
        found.append("the time does not include evaluations")
    return found


def _of_the_card(recipe: Recipe, card: Card) -> list[str]:
    """What precision `auto` comes to, and the build of torch that an older card needs."""
    found = []
    if recipe.model.dtype == "auto":
        found.append(f"model.dtype = 'auto' is {card.best_dtype} here")
    if card.capability is not None and card.capability < STANDARD:
        major, minor = card.capability
        found.append(f"a {card.name} has compute capability {major}.{minor}: {build_for(card.capability)}")
    return found


def _of_the_base(recipe: Recipe, closest: Candidate) -> list[str]:
    """A branch of the base model that is half as large to download."""
    known, dtype = CHECKPOINTS.get(recipe.model.base), closest.recipe.model.dtype
    if known is None or dtype not in known.branches or recipe.model.revision is not None:
        return []
    whole = 4 * closest.situation.shapes.parameters / 1e9
    return [
        f"the main branch of {recipe.model.base} is float32, {whole:.1f} GB to download: --set model.revision={dtype} "
        f"takes the publisher's branch in {dtype}, {whole / 2:.1f} GB; the run records its commit"
    ]


def record(plan: Plan) -> dict[str, Any]:
    """A plan as a table for JSON: every figure in bytes and seconds, and its source."""
    return {
        "fits": plan.proposed is not None,
        "card": asdict(plan.card),
        "base": plan.shapes.name,
        "parameters": plan.shapes.parameters,
        "rows": asdict(plan.rows),
        "written": _candidate(plan.written),
        "proposed": None if plan.proposed is None else _candidate(plan.proposed),
        "closest": _candidate(plan.closest),
        "changes": {key: list(value) if isinstance(value, tuple) else value for key, value in plan.changes.items()},
        "limits": [asdict(limit) for limit in plan.limits],
        "notes": list(plan.notes),
    }


def _candidate(one: Candidate) -> dict[str, Any]:
    train, memory = one.recipe.train, one.memory
    return {
        "precision": describe_quantisation(one.recipe),
        "micro_batch": train.micro_batch,
        "accumulation": train.accumulation,
        "gradient_checkpointing": train.gradient_checkpointing,
        "generate_batch_size": one.recipe.generate.least_batch,
        "needed_bytes": one.needed,
        "shortfall_bytes": max(0, one.shortfall),
        "fits": one.fits,
        "peak": memory.moment.when,
        "components": {name: memory.row(name) for name in COMPONENTS},
        "logits_bytes": memory.logits,
        "generation_bytes": one.generating,
        "drawing_bytes": one.drawing,
        "drawing_share_of_time": one.drawing_share,
        "reserve_bytes": one.reserve,
        "context_bytes": one.situation.card.overhead,
        "trainable_parameters": sum(resident.trainable for resident in memory.residents.values()),
        "trainable": {name: resident.trainable for name, resident in memory.residents.items()},
        "time": asdict(one.duration),
    }
