"""Images to captions: batched greedy decoding, one prefix pass per image.

Every prompt of a call has the same words, hence the same length, so a batch needs no padding and its captions are those
of one-by-one decoding. Floating-point sums still depend on the shape of a batch; where the two best tokens lie closer
than `NEAR_TIE` the choice is not the model's, and the prediction counts it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from rscap.batch import Batch, Encoder, batches
from rscap.data import Rejected
from rscap.model.captioner import Captioner
from rscap.model.decoding import prefill, step
from rscap.prompt import Prompter
from rscap.recipe import GenerateSection
from rscap.records import Example, Prediction

NEAR_TIE = 1e-4
"""Logits; below this margin between the two best tokens, greedy decoding is a coin toss of rounding errors."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """Generated ids of one image, `<eos>` included where it was reached."""

    ids: list[int]
    near_ties: int


@torch.inference_mode()
def decode(captioner: Captioner, batch: Batch, *, eos: int, max_new_tokens: int) -> list[Decoded]:
    """Greedy decoding of a batch of prefixes."""
    logits, state = prefill(captioner, batch)
    chosen, margins = [], []
    done = torch.zeros(batch.images, dtype=torch.bool, device=logits.device)
    while True:
        best = logits.topk(2, dim=-1)
        tokens = best.indices[:, 0]
        chosen.append(tokens)
        margins.append(best.values[:, 0] - best.values[:, 1])
        done |= tokens == eos
        if len(chosen) == max_new_tokens or bool(done.all()):
            break
        logits = step(captioner, tokens, state)
    ids, close = torch.stack(chosen, dim=1).tolist(), (torch.stack(margins, dim=1) < NEAR_TIE).tolist()
    return [_until(row, ties, eos) for row, ties in zip(ids, close, strict=True)]


def generate(
    captioner: Captioner,
    encoder: Encoder,
    examples: Sequence[Example],
    *,
    prefix: str,
    settings: GenerateSection,
    workers: int = 0,
) -> Iterator[Prediction | Rejected]:
    """Caption examples in their order; an image that cannot be decoded is told as `Rejected` and never lost."""
    was_training = captioner.training
    captioner.eval()
    prompter: Prompter = encoder.prompter
    encode = partial(encoder, prefix=prefix, captions=())
    try:
        for batch in batches(examples, encode, size=settings.batch_size, pad=prompter.pad, workers=workers):
            yield from batch.rejected
            if not batch.images:
                continue
            decoded = decode(
                captioner, batch.to(captioner.device), eos=prompter.eos, max_new_tokens=settings.max_new_tokens
            )
            for example_id, result in zip(batch.example_ids, decoded, strict=True):
                yield _prediction(example_id, result, prefix, prompter)
    finally:
        captioner.train(was_training)


def _until(row: list[int], ties: list[bool], eos: int) -> Decoded:
    end = row.index(eos) + 1 if eos in row else len(row)
    return Decoded(ids=row[:end], near_ties=sum(ties[:end]))


def _prediction(example_id: str, decoded: Decoded, prefix: str, prompter: Prompter) -> Prediction:
    return Prediction(
        example_id=example_id,
        caption=prompter.caption(decoded.ids),
        prefix=prefix,
        tokens=len(decoded.ids),
        stopped="eos" if decoded.ids[-1] == prompter.eos else "length",
        near_ties=decoded.near_ties,
    )
