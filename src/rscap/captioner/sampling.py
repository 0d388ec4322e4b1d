"""Several captions of each image, drawn behind one prefix, with the probability of every token.

As in training and in beam search, the K branches of an image read the same keys and values of its prefix. A draw is a
pure function of (purpose, image, number of the sample, position) and of the scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rscap.captioner.batch import Batch
from rscap.captioner.choice import Leaving, drawn
from rscap.captioner.fitting import Demand, Fitting
from rscap.captioner.prompt import Prompter
from rscap.data.draw import uniform
from rscap.model.decoding import prefill, step
from rscap.model.loss import Draw
from rscap.model.packed import PackedModel
from rscap.progress import Say, to_stderr
from rscap.recipe import Logits


@dataclass(frozen=True, slots=True)
class Sample:
    """One drawn caption."""

    ids: tuple[int, ...]
    """Closed by `<eos>`, unless the length limit cut it off."""
    logprobs: tuple[float, ...]
    """Of each token: the natural logarithm of the probability with which it was drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How captions are drawn."""

    count: int
    """Captions of each image."""
    limit: int
    """Tokens, `<eos>` included."""
    temperature: float
    purpose: tuple[str | int, ...]
    """What makes these draws differ from others: a name, a seed, the number of an update."""
    logits_in: Logits = "model"
    """How the head computes, see `PackedModel.head`; the loss that learns from draws computes as the model does."""


def forbidden_ids(prompter: Prompter, vocabulary: int) -> list[int]:
    """Ids that no caption may hold: image tokens, all other special tokens except `<eos>`, and ids without a token."""
    tokenizer, layout = prompter.layout.tokenizer, prompter.layout
    special = {*tokenizer.all_special_ids, *layout.special, *range(len(tokenizer), vocabulary)}
    return sorted(one for one in special - {prompter.eos} if one < vocabulary)


def with_features(packed: PackedModel, batch: Batch) -> Batch:
    """The batch with the output of a frozen vision tower, so that several passes share it; unchanged if the tower is
    trained."""
    if batch.features is not None or packed.vision_learns:
        return batch
    with torch.no_grad(), packed.autocast():
        return replace(batch, features=packed.seen(batch.pixel_values), pixel_values=torch.empty(0))


@torch.no_grad()
def sample(packed: PackedModel, batch: Batch, *, sampling: Sampling, forbidden: Tensor, eos: int) -> list[list[Sample]]:
    """Draw `sampling.count` captions of each prefix, all of one length; forbidden ids, int[F], are never drawn.

    Raises:
        NotFinite: an activation overflowed.
    """
    count, limit = sampling.count, sampling.limit
    logits, state = prefill(packed, batch, room=count * (limit - 1), logits_in=sampling.logits_in)
    logits = logits.unsqueeze(1)
    rows = torch.arange(batch.images, device=logits.device)  # places in the batch of the images that still grow
    said = torch.full((batch.images, count, limit), eos, device=logits.device)
    logprobs = torch.zeros(said.shape, device=logits.device)
    done = torch.zeros(said.shape[:2], dtype=torch.bool, device=logits.device)
    parents: Tensor | None = torch.zeros_like(done, dtype=torch.long)  # at first, all continue the prefix
    for length in range(limit):
        names = [batch.example_ids[row] for row in rows.tolist()]
        at = [uniform(*sampling.purpose, name, one, length) for name in names for one in range(count)]
        tokens, chances = _draw(logits, count, at, sampling.temperature, forbidden)
        said[rows, :, length] = tokens.masked_fill(done, eos)
        logprobs[rows, :, length] = chances.masked_fill(done, 0.0)
        done = done | (tokens == eos)
        if length + 1 == limit or (who := Leaving.of(done.all(dim=1))) is Leaving.ALL:
            break
        if who is Leaving.DONE:
            kept = (~done.all(dim=1)).nonzero().squeeze(1)
            state.keep(kept)
            tokens, rows, done = tokens[kept], rows[kept], done[kept]
            parents = None if parents is None else parents[kept]
        logits = step(packed, tokens, state, parents=parents)
        parents = None
    state.check_finite()
    return [
        [_until(eos, *one) for one in zip(texts, chances, strict=True)]
        for texts, chances in zip(said.tolist(), logprobs.tolist(), strict=True)
    ]


def _draw(
    logits: Tensor, count: int, at: Sequence[float], temperature: float, forbidden: Tensor
) -> tuple[Tensor, Tensor]:
    """Tokens int[B, K] and their log-probabilities float[B, K] from logits float[B, 1 or K, V]."""
    images, width, vocabulary = logits.shape
    flat = logits.reshape(-1, vocabulary)
    rows = torch.ones(len(flat), dtype=torch.bool, device=flat.device)
    scores = Draw(temperature, forbidden, rows).scores(flat.clone()).view(images, width, vocabulary)
    tokens, _ = drawn(scores.expand(-1, count, -1).reshape(-1, vocabulary), at)
    tokens = tokens.view(images, count)
    chances = scores.log_softmax(dim=-1).expand(-1, count, -1).gather(2, tokens.unsqueeze(2)).squeeze(2)
    return tokens, chances


def _until(eos: int, ids: list[int], logprobs: list[float]) -> Sample:
    """Ids up to the first `<eos>`."""
    length = ids.index(eos) + 1 if eos in ids else len(ids)
    return Sample(tuple(ids[:length]), tuple(logprobs[:length]))


def sample_in_parts(
    packed: PackedModel,
    batch: Batch,
    *,
    sampling: Sampling,
    forbidden: Tensor,
    eos: int,
    fitting: Fitting,
    say: Say = to_stderr,
) -> list[list[Sample]]:
    """As `sample`, in parts that fit in memory.

    Raises:
        OutOfMemory: a single image does not fit.
        NotFinite: an activation overflowed.
    """

    def attempt(part: Batch) -> list[list[Sample]]:
        with torch.inference_mode(), packed.held_for_captions():
            return sample(packed, part, sampling=sampling, forbidden=forbidden, eos=eos)

    demand = Demand(
        branches=sampling.count,
        tokens=sampling.limit,
        what=f"with {sampling.count} captions of up to {sampling.limit} tokens",
        way_out="draw fewer or shorter captions, or load the model in bfloat16 or quantised",
    )
    parts = fitting(packed, batch, demand=demand, attempt=attempt, say=say)
    return [own for _, made in parts for own in made]
