"""The gradients of an update, in whatever pieces fit in memory.

Where memory runs out, the allocator's cache is emptied and the update tried again as it was: often only gaps between
blocks were too small. If that does not help, or was necessary a few updates ago already, activations are recomputed (if
the recipe leaves that open) or micro batches are halved, from then on. The update itself stays the same in any case.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from rscap.captioner.batch import Batch
from rscap.data.draw import key
from rscap.errors import OutOfMemory, TrainingError
from rscap.model.activations import noting_overflow
from rscap.model.memory import is_out_of_memory, memory_size, release
from rscap.model.packed import PackedModel
from rscap.progress import Say
from rscap.recipe import Recipe
from rscap.store import REJECTED
from rscap.training.checkpoints import TrainingState
from rscap.training.team import Team

_LARGER = 1.1
"""Cards of one kind differ by less."""

_SPELL = 20
"""Updates. Memory that runs out again within so many is too small, and not only fragmented."""


@dataclass(slots=True, kw_only=True)
class Gradients:
    """Computes the gradients of updates, and remembers in `state` what fits in memory."""

    packed: PackedModel
    parameters: Sequence[nn.Parameter]
    recipe: Recipe
    team: Team
    scaler: torch.amp.GradScaler
    state: TrainingState
    say: Say
    spare: Batch | None = None
    """The last micro batch, for passes with weight 0."""
    emptied: int | None = None
    """The last update of this session for which emptying the cache was tried."""

    def __call__(self, micro_batches: Sequence[Batch], *, step: int, divisor: int) -> float:
        """Set the gradients of the whole update; returns its loss, for likelihood in nats a token.

        Args:
            micro_batches: those of this process.
            step: the number of the update, from 1.
            divisor: of the summed loss of all processes; for likelihood, the supervised tokens of the whole update.

        Raises:
            OutOfMemory: a single image does not fit.
        """
        while True:
            loss = self._attempt(micro_batches, step=step, divisor=divisor)
            if not self.team.sums([loss is None])[0]:
                assert loss is not None
                self.team.sum_gradients(self.parameters)
                return float(self.team.sum(loss))
            for parameter in self.parameters:
                parameter.grad = None
            release(self.team.device)
            if self.emptied is None or step - self.emptied > _SPELL:
                self.emptied = step
                self.say(f"step {step}: out of memory; trying the same update again with an empty cache")
            else:
                self._make_room(step)

    def _attempt(self, micro_batches: Sequence[Batch], *, step: int, divisor: int) -> torch.Tensor | None:
        """Add up the gradients of this process's micro batches; None if memory ran out.

        The error held all tensors of a failed attempt, and is gone when this returns.
        """
        total = torch.zeros((), device=self.team.device)
        try:
            for number, place, piece, weight in self._passes(micro_batches, step):
                self._seed(step, number, place)
                loss = self.packed(piece.to(self.team.device)) * weight / divisor  # the mean over the whole update
                self.scaler.scale(loss).backward()
                total += loss.detach()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if self.team.sharded:  # the other processes wait in the middle of this pass, so it cannot start again
                raise OutOfMemory(
                    f"step {step}: out of memory, from which a sharded run cannot recover",
                    hint="start another run with a smaller train.micro_batch and a larger train.accumulation",
                ) from error
            return None
        return total

    def _seed(self, step: int, number: int, place: int) -> None:
        """Dropout is a pure function of the place."""
        torch.manual_seed(key("dropout", self.recipe.seed, step, number, *([place] if self.state.halvings else [])))

    def _passes(self, micro_batches: Sequence[Batch], step: int) -> Iterator[tuple[int, int, Batch, float]]:
        """Every pass: the number of its micro batch in the update, its place in that, its piece, and its weight.

        All processes gather sharded weights together, so a process with fewer passes repeats one with weight 0.
        """
        team = self.team
        mine = [
            (team.share.number(index), place, piece, 1.0)
            for index, batch in enumerate(micro_batches)
            for place, piece in enumerate(pieces(batch, self.state.halvings))
        ]
        if team.sharded:
            self.spare = mine[-1][2] if mine else self.spare
            if any(team.gather([self.spare is None])):
                raise TrainingError(f"step {step}: a process has no usable image to take part with; see {REJECTED}")
            assert self.spare is not None
            missing = max(team.gather([len(mine)])) - len(mine)
            mine += [(team.rank, 0, self.spare, 0.0)] * missing
        yield from mine

    @torch.no_grad()
    def overflowing(self, micro_batches: Sequence[Batch], *, step: int) -> str | None:
        """The module where numbers of this update stop being finite, and how many; None if the forward pass is finite.

        Every process must call it; the passes are those of the update.
        """
        with noting_overflow(self.packed) as found:
            for number, place, piece, _ in self._passes(micro_batches, step):
                self._seed(step, number, place)
                self.packed(piece.to(self.team.device))
        return next(iter(self.team.gather(found)), None)

    def _make_room(self, step: int) -> None:
        """Recompute activations if the recipe leaves that open; where that is done already, halve micro batches."""
        self.state.short_at = min(self.team.gather([memory_size(self.team.device)]))
        if self.recipe.train.gradient_checkpointing == "auto" and not self.packed.recomputes:
            self.packed.checkpoint_activations()
            self.state.recomputes = True
            self.say(f"step {step}: out of memory; turned gradient checkpointing on, the update stays the same")
        else:
            self._halve(step)

    def _halve(self, step: int) -> None:
        if micro_batch_size(self.recipe, self.state) <= 1:
            checkpointing = "" if self.packed.recomputes else "train.gradient_checkpointing = true, "
            raise OutOfMemory(
                f"step {step}: a single image with its captions does not fit in memory",
                hint=f"start another run with {checkpointing}model.quantisation = 'nf4' or fewer captions per image; "
                "`rscap plan` shows what fits",
            )
        self.state.halvings += 1
        now = micro_batch_size(self.recipe, self.state)
        self.say(
            f"step {step}: out of memory; reduced micro batches to {now} image{'s' * (now > 1)}, the update stays the "
            "same"
        )


def restore_room(state: TrainingState, memory: int, say: Say) -> None:
    """Take back what was given up where memory ran out, if the run resumes on a card with clearly more of it.

    Args:
        state: of the checkpoint; changed in place.
        memory: bytes of the smallest card at hand.
    """
    if state.short_at is None or memory <= _LARGER * state.short_at:
        return
    before, now = (f"{size / 2**30:.1f} GiB" for size in (state.short_at, memory))
    say(f"memory ran out on a card of {before}; on this one, of {now}, the run continues as its recipe says")
    state.halvings, state.recomputes, state.short_at = 0, False, None


def micro_batch_size(recipe: Recipe, state: TrainingState) -> int:
    """How many images go through the model together, after micro batches were halved."""
    return math.ceil(recipe.train.micro_batch / 2**state.halvings)


def pieces(batch: Batch, halvings: int) -> list[Batch]:
    """A micro batch, halved `halvings` times, down to single images."""
    cut = [batch]
    for _ in range(halvings):
        cut = [half for piece in cut for half in piece.halves()]
    return cut
