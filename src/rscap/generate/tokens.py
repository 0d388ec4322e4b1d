"""A batch of prefixes to the ids of its captions, token by token, as the settings say."""

from __future__ import annotations

import torch
from torch import Tensor

from rscap.batch import Batch
from rscap.data.draw import uniform
from rscap.generate.beams import search
from rscap.generate.choose import NEAR_TIE, best, drawn
from rscap.generate.decoded import Decoded, Leaving
from rscap.generate.scores import cuts, penalties
from rscap.model.captioner import Captioner
from rscap.model.decoding import prefill, step
from rscap.recipe import GenerateSection

__all__ = ["NEAR_TIE", "Decoded", "decode"]


@torch.inference_mode()
def decode(captioner: Captioner, batch: Batch, *, settings: GenerateSection, eos: int) -> list[Decoded]:
    """Decode prefixes of one length, in their order. Images whose caption is finished leave the computation."""
    way = search if settings.beams > 1 else _extend
    return way(captioner, batch, settings=settings, eos=eos)


def _extend(captioner: Captioner, batch: Batch, *, settings: GenerateSection, eos: int) -> list[Decoded]:
    """One caption an image, greedily or by draws."""
    limit = settings.max_new_tokens
    logits, state = prefill(captioner, batch, room=limit - 1)
    choose = _Choice(settings, batch.example_ids)
    ids, said = batch.tokens, batch.tokens.new_full((batch.images, limit), eos)
    rows = torch.arange(batch.images, device=ids.device)  # of the batch, those that still grow
    close, done = torch.zeros_like(rows), torch.zeros_like(rows, dtype=torch.bool)
    for length in range(limit):
        tokens, near = choose(ids, logits, rows, length)
        said[rows, length] = tokens
        close[rows] += near & ~done
        done |= tokens == eos
        if length + 1 == limit or (who := Leaving.of(done)) is Leaving.ALL:
            break
        ids = torch.cat([ids, tokens.unsqueeze(1)], dim=1)
        if who is Leaving.DONE:
            kept = (~done).nonzero().squeeze(1)
            state.keep(kept)
            ids, tokens, rows, done = ids[kept], tokens[kept], rows[kept], done[kept]
        logits = step(captioner, tokens.unsqueeze(1), state).squeeze(1)
    return [Decoded.until(eos, *found) for found in zip(said.tolist(), close.tolist(), strict=True)]


class _Choice:
    """How the next token is chosen. A draw depends on (seed, example id, step) and the scores alone."""

    def __init__(self, settings: GenerateSection, example_ids: tuple[str, ...]) -> None:
        self.settings, self.example_ids = settings, example_ids
        self.penalties = penalties(settings)
        self.cuts = cuts(settings) if settings.temperature else None

    def __call__(self, ids: Tensor, logits: Tensor, rows: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Tokens int[B] and near-ties bool[B] from ids int[B, L] and logits float[B, V] of some rows of the batch."""
        scores = self.penalties(ids, logits)
        if self.cuts is None:
            return best(scores)
        names = [self.example_ids[row] for row in rows.tolist()]
        return drawn(self.cuts(ids, scores), [uniform("token", self.settings.seed, name, length) for name in names])
