"""Beam search: the W best beginnings of a caption grow together, and the best finished caption is the result.

The rules are those of transformers' `generate` with `early_stopping=False`, to the token:

* A step looks at the 2 W best continuations over all beams of an image, by summed log-probability.
* One that ends (`<eos>`, or the length limit) is finished if it is among the W best; its mark, by which finished
  captions are ranked, is the sum divided by its number of tokens to the power of the length penalty. The W best
  finished captions are kept.
* The W best that do not end are the beams of the next step.
* An image is done when W captions are finished and the best beam, marked as if it ended now, is not above the worst
  of them.

The beams of an image share its prefix; a beam that takes another parent moves nothing (`rscap.model.decoding`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from rscap.captioner.batch import Batch
from rscap.captioner.choice import Decoded, Leaving, near_tie, penalties
from rscap.model.decoding import prefill, step
from rscap.model.packed import PackedModel
from rscap.recipe import GenerateSection

NEVER = -torch.inf


@dataclass(slots=True)
class _Search:
    """B images under search with W beams each, limit T; one beam before the first step."""

    rows: Tensor
    """int[B]: which image of the batch."""
    prefix: Tensor
    """int[B, P]"""
    said: Tensor
    """int[B, W, T]: tokens of the beams so far, `<eos>` behind them."""
    sums: Tensor
    """float[B, W]: their summed log-probabilities, best first."""
    finished: Tensor
    """int[B, W, T]: finished captions."""
    marks: Tensor
    """float[B, W]: their marks, best first; -inf where there is none yet."""
    open: Tensor
    """bool[B]: whether a better caption may be found."""
    close: Tensor
    """int[B]: near-ties."""
    near: Tensor
    """float[B]: a choice with a smaller margin is a near-tie."""
    margin: Tensor
    """float[B]: the closest choice so far."""
    sure: Tensor
    """float[B, W, T]: log-probabilities of the beams' tokens, before penalties; T = 0 unless asked for."""
    finished_sure: Tensor
    """float[B, W, T]: of the finished captions."""

    @classmethod
    def of(cls, prefix: Tensor, settings: GenerateSection, eos: int, near: float, scored: bool) -> _Search:
        rows = torch.arange(len(prefix), device=prefix.device)
        texts = prefix.new_full((len(prefix), settings.beams, settings.max_new_tokens), eos)
        marks = torch.full(texts.shape[:2], NEVER, device=prefix.device)
        sure = marks.new_zeros(*marks.shape, settings.max_new_tokens if scored else 0)
        return cls(
            rows=rows,
            prefix=prefix,
            said=texts[:, :1].clone(),
            sums=torch.zeros_like(marks[:, :1]),
            finished=texts,
            marks=marks,
            open=torch.ones_like(rows, dtype=torch.bool),
            close=torch.zeros_like(rows),
            near=torch.full_like(marks[:, 0], near),
            margin=torch.full_like(marks[:, 0], torch.inf),
            sure=sure[:, :1],
            finished_sure=sure,
        )

    def ids(self, length: int) -> Tensor:
        """int[B * W, P + length]: prompts and what the beams said."""
        prompts = self.prefix.unsqueeze(1).expand(-1, self.said.shape[1], -1)
        return torch.cat([prompts, self.said[:, :, :length]], dim=2).flatten(0, 1)

    def at(self, rows: Tensor) -> _Search:
        """The same for some of the images, bool[B]."""
        return _Search(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def results(self, eos: int) -> dict[int, Decoded]:
        """The best captions, by row of the batch; a second best of nearly the same mark is one more near-tie."""
        ahead = self.marks[:, 0] - self.marks[:, 1]
        ties, margins = self.close + (ahead < self.near), torch.minimum(self.margin, ahead).unsqueeze(1)
        found = (self.rows, self.finished[:, 0], ties, self.finished_sure[:, 0], margins)
        best = zip(*(one.tolist() for one in found), strict=True)
        return {row: Decoded.until(eos, *decoded) for row, *decoded in best}


def search(packed: PackedModel, batch: Batch, *, settings: GenerateSection, eos: int, scored: bool) -> list[Decoded]:
    """Decode prefixes of one length by beam search, in their order."""
    limit, penalise = settings.max_new_tokens, penalties(settings)
    logits, state = prefill(packed, batch, room=settings.beams * (limit - 1), logits_in=settings.logits)
    near = near_tie(packed.compute_dtype, settings)
    logits, found = logits.unsqueeze(1), _Search.of(batch.tokens, settings, eos, near, scored)
    results: dict[int, Decoded] = {}
    for length in range(1, limit + 1):
        values, sure, parents, tokens = _continuations(found, logits, length, settings, penalise)
        parents, tokens = _advance(found, values, sure, parents, tokens, length, settings, eos)
        if length == limit or (who := Leaving.of(~found.open)) is Leaving.ALL:
            break
        if who is Leaving.DONE:
            results |= found.at(~found.open).results(eos)
            parents, tokens = parents[found.open], tokens[found.open]
            state.keep(found.open.nonzero().squeeze(1))
            found = found.at(found.open)
        logits = step(packed, tokens, state, parents=parents)
    state.check_finite()
    results |= found.results(eos)
    return [results[row] for row in range(batch.images)]


def _continuations(
    found: _Search, logits: Tensor, length: int, settings: GenerateSection, penalise: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The 2 W best continuations, best first: sums float[B, 2W], the log-probability before penalties, the beam
    int[B, 2W] and the token of each."""
    width, vocabulary = logits.shape[1:]
    plain = logits.log_softmax(dim=-1)
    scores = penalise(found.ids(length - 1), plain.flatten(0, 1)).view(-1, width, vocabulary)
    values, places = (scores + found.sums.unsqueeze(2)).flatten(1).topk(2 * settings.beams)
    return values, plain.flatten(1).gather(1, places), places // vocabulary, places % vocabulary


def _advance(
    found: _Search,
    values: Tensor,
    sure: Tensor,
    parents: Tensor,
    tokens: Tensor,
    length: int,
    settings: GenerateSection,
    eos: int,
) -> tuple[Tensor, Tensor]:
    """Update the search with the continuations: keep finished captions, choose the next beams, close images that are
    done. Returns parents and tokens of the beams, int[B, W] each."""
    beams, divisor = settings.beams, length**settings.length_penalty
    texts = _pick(found.said, parents)
    texts[:, :, length - 1] = tokens
    known = _pick(found.sure, parents)
    known[:, :, length - 1 : length] = sure.unsqueeze(2)[:, :, : known.shape[2]]
    ends = (tokens == eos) | (length == settings.max_new_tokens)

    marks = (values / divisor).masked_fill(~ends | ~found.open.unsqueeze(1), NEVER)
    marks = torch.cat([found.marks, marks[:, :beams]], dim=1)
    found.marks, places = marks.topk(beams)
    found.finished = _pick(torch.cat([found.finished, texts[:, :beams]], dim=1), places)
    found.finished_sure = _pick(torch.cat([found.finished_sure, known[:, :beams]], dim=1), places)

    going = values.masked_fill(ends, NEVER)
    best, places = going.topk(beams + 1)
    edges = torch.stack([values[:, beams - 1] - values[:, beams], best[:, beams - 1] - best[:, beams]])
    edge = edges.amin(dim=0)
    found.close += (edge < found.near) & found.open
    found.margin = torch.where(found.open, torch.minimum(found.margin, edge), found.margin)
    places = places[:, :beams]
    found.sums, found.said, found.sure = best[:, :beams], _pick(texts, places), _pick(known, places)
    found.open &= found.sums[:, 0] / divisor > found.marks[:, -1]
    return parents.gather(1, places), tokens.gather(1, places)


def _pick(texts: Tensor, places: Tensor) -> Tensor:
    """texts[b, places[b, m]]: int[B, W, T] and int[B, M] to int[B, M, T]."""
    return texts.gather(1, places.unsqueeze(2).expand(-1, -1, texts.shape[2]))
