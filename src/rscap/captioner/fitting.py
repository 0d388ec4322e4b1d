"""Split batches into parts that fit in memory: for beam search, for sampling, and for training on sampled captions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from rscap.captioner.batch import Batch
from rscap.errors import OutOfMemory
from rscap.model.memory import is_out_of_memory, release
from rscap.model.packed import PackedModel
from rscap.progress import Say

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What decides how much memory each image of a batch needs."""

    branches: int
    """Captions that grow at the same time: beams, or captions that are drawn."""
    tokens: int
    """The longest caption."""
    what: str
    """For messages, such as `with generate.beams = 3`."""
    way_out: str
    """What to change when a single image does not fit."""


@dataclass(slots=True)
class Fitting:
    """Works through batches, and remembers for each kind of demand how many images fit in memory at a time."""

    limits: dict[tuple[int, int], int] = field(default_factory=dict)
    """(branches, tokens) to images."""

    def __call__(
        self, packed: PackedModel, batch: Batch, *, demand: Demand, attempt: Callable[[Batch], T], say: Say
    ) -> Iterator[tuple[Batch, T]]:
        """Every image of the batch once, in its order: parts of the batch, with what `attempt` made of each.

        When memory runs out for the first time in a batch, the cache is emptied and the same part tried again. When it
        runs out once more, the part is halved, and so is every later one; `say` reports it.

        Raises:
            OutOfMemory: a single image does not fit.
        """
        waiting, size, emptied = [batch], (demand.branches, demand.tokens), False
        while waiting:
            part = waiting.pop(0)
            if part.images > self.limits.get(size, part.images):
                waiting[:0] = part.halves()
                continue
            made = _tried(attempt, part)
            if made is None:
                make_room(packed)
                if emptied:
                    self.limits[size] = _half(part, demand)
                    many, few = part.images, self.limits[size]
                    say(f"out of memory decoding {many} images together; continuing with {few} at a time")
                emptied = True  # perhaps only gaps were too small: once more as it was
                waiting.insert(0, part)
                continue
            yield part, made


def _tried(attempt: Callable[[Batch], T], part: Batch) -> T | None:
    """The result, or None if memory ran out. The error held all tensors of a failed attempt, and is gone when this
    returns."""
    try:
        return attempt(part)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None


def make_room(packed: PackedModel) -> None:
    """Release what a failed attempt held, the graphs of earlier batches included."""
    packed.stills.drop()
    release(packed.device)


def _half(part: Batch, demand: Demand) -> int:
    if part.images == 1:
        raise OutOfMemory(
            f"{part.example_ids[0]}: a single image does not fit in memory {demand.what}", hint=demand.way_out
        )
    return (part.images + 1) // 2
