"""A batch of prefixes to the ids of its captions, token by token, in parts that fit in memory.

Every prompt of a call has the same words, hence the same length, so a batch needs no padding and its captions are those
of one-by-one decoding. Scores are processed as transformers' `generate` processes them, with its own processors.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from rscap.captioner.batch import Batch
from rscap.captioner.beams import search
from rscap.captioner.choice import Decoded, Leaving, best, cuts, drawn, logprobs, near_tie, penalties
from rscap.captioner.fitting import Demand, Fitting
from rscap.data.draw import uniform
from rscap.errors import NotFinite
from rscap.model.activations import stopping_at_overflow
from rscap.model.decoding import Decoding, prefill, step
from rscap.model.families import ImageSpec
from rscap.model.packed import PackedModel
from rscap.progress import Say
from rscap.recipe import GenerateSection


@torch.inference_mode()
def decode(
    packed: PackedModel, batch: Batch, *, settings: GenerateSection, eos: int, scored: bool = False
) -> list[Decoded]:
    """Decode prefixes of one length, in their order. Images whose caption is finished leave the computation.

    `scored` also gives the log-probability of every token, and how close the choice was.

    Raises:
        NotFinite: an activation overflowed; names the layer.
    """
    way = search if settings.beams > 1 else partial(_extend, replay=True)
    with packed.held_for_captions():
        try:
            return way(packed, batch, settings=settings, eos=eos, scored=scored)
        except NotFinite:
            packed.stills.drop()
            again = search if settings.beams > 1 else partial(_extend, replay=False)
            with stopping_at_overflow(packed):  # once more, to name the layer
                again(packed, batch, settings=settings, eos=eos, scored=False)
            raise


def _extend(
    packed: PackedModel, batch: Batch, *, settings: GenerateSection, eos: int, replay: bool, scored: bool
) -> list[Decoded]:
    """One caption an image, greedily or by draws."""
    limit = settings.max_new_tokens
    logits, state = prefill(packed, batch, room=limit - 1, logits_in=settings.logits, replay=replay)
    near = near_tie(packed.compute_dtype, settings)
    choose = _Choice(settings, batch.example_ids)
    ids, said = batch.tokens, batch.tokens.new_full((batch.images, limit), eos)
    rows = torch.arange(batch.images, device=ids.device)  # places in the batch of the captions that still grow
    close, done = torch.zeros_like(rows), torch.zeros_like(rows, dtype=torch.bool)
    scores = logits.new_zeros(2, batch.images, limit if scored else 0)
    for length in range(limit):
        tokens, margin = choose(ids, logits, rows, length)
        said[rows, length] = tokens
        close[rows] += (margin < near) & ~done
        if scored:
            scores[0, rows, length], scores[1, rows, length] = logprobs(logits, tokens), margin.to(scores.dtype)
        done |= tokens == eos
        if length + 1 == limit or (who := _leaving(done, length, state)) is Leaving.ALL:
            break
        ids = torch.cat([ids, tokens.unsqueeze(1)], dim=1)
        if who is Leaving.DONE:
            kept = (~done).nonzero().squeeze(1)
            state.keep(kept)
            ids, tokens, rows, done = ids[kept], tokens[kept], rows[kept], done[kept]
        logits = step(packed, tokens.unsqueeze(1), state).squeeze(1)
    state.check_finite()
    found = zip(said.tolist(), close.tolist(), *scores.tolist(), strict=True)
    return [Decoded.until(eos, *one) for one in found]


_LOOK_EVERY = 4
"""Where steps are replayed no image leaves, and rscap checks only every so many tokens whether all are done, because
each check waits for the GPU."""


def _leaving(done: Tensor, length: int, state: Decoding) -> Leaving:
    if state.still is None:
        return Leaving.of(done)
    if (length + 1) % _LOOK_EVERY:
        return Leaving.NONE
    return Leaving.ALL if bool(done.all()) else Leaving.NONE


class _Choice:
    """How the next token is chosen. A draw depends on (seed, example id, step) and the scores alone."""

    def __init__(self, settings: GenerateSection, example_ids: tuple[str, ...]) -> None:
        self.settings, self.example_ids = settings, example_ids
        self.penalties = penalties(settings)
        self.cuts = cuts(settings) if settings.temperature else None

    def __call__(self, ids: Tensor, logits: Tensor, rows: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Tokens int[B] and margins float[B] from ids int[B, L] and logits float[B, V] of some rows of the batch."""
        scores = self.penalties(ids, logits)
        if self.cuts is None:
            return best(scores)
        names = [self.example_ids[row] for row in rows.tolist()]
        return drawn(self.cuts(ids, scores), [uniform("token", self.settings.seed, name, length) for name in names])


_MEMORY_SHARE = 0.5
"""Share of a GPU's free memory that the caches and logits of a batch may take; activations need the rest."""
_MOST = 256
"""The most images that `auto` decodes together. With more, computing a step takes longer than starting its kernels, so
larger batches gain nothing."""


def images_together(packed: PackedModel, settings: GenerateSection, image: ImageSpec) -> int:
    """How many images are decoded together: as the settings say, or for `auto` as many as a GPU has room for.

    An estimate from keys, values, logits and pixels of an image, all its squares if it is split; where it is too high,
    `Fitting` halves batches. A decoding step costs a GPU hardly more for 128 images than for 16 (docs/speed.md); a CPU
    gains nothing beyond 16.
    """
    if settings.batch_size != "auto" or packed.device.type != "cuda":
        return settings.least_batch
    config = packed.text_config
    branches = settings.samples if settings.choose == "consensus" else settings.beams
    slots = packed.family.image_tokens(packed.bare.config, image) + 64 + branches * settings.max_new_tokens
    width = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    cache = width * slots * packed.products(packed.stream).itemsize
    logits = 4 * 4 * branches * config.vocab_size  # in float32: scores, their softmax, and copies of both
    pixels = 4 * 3 * image.crops * image.resolution_px**2
    free, _ = torch.cuda.mem_get_info(packed.device)
    free += torch.cuda.memory_reserved(packed.device) - torch.cuda.memory_allocated(packed.device)
    fitting = int(_MEMORY_SHARE * free / (cache + logits + pixels))
    return max(settings.least_batch, min(_MOST // branches, fitting))


def decode_in_parts(
    packed: PackedModel,
    batch: Batch,
    *,
    settings: GenerateSection,
    eos: int,
    fitting: Fitting,
    say: Say,
    scored: bool = False,
) -> Iterator[tuple[str, Decoded]]:
    """As `decode`, with the id of every image, in parts that fit in memory.

    Raises:
        OutOfMemory: a single image does not fit.
        NotFinite: an activation overflowed; names the layer.
    """

    def attempt(part: Batch) -> list[Decoded]:
        return decode(packed, part.to(packed.device), settings=settings, eos=eos, scored=scored)

    demand = Demand(
        branches=settings.beams,
        tokens=settings.max_new_tokens,
        what=f"with generate.beams = {settings.beams} and generate.max_new_tokens = {settings.max_new_tokens}",
        way_out="lower these two, or load the model in bfloat16 or quantised",
    )
    for part, decoded in fitting(packed, batch, demand=demand, attempt=attempt, say=say):
        if packed.stills.failure and not packed.stills.told:
            say(f"decoding without CUDA graphs, at a lower speed: {packed.stills.failure}")
            packed.stills.told = True
        yield from zip(part.example_ids, decoded, strict=True)
