"""What decoding gives for one image, and when images leave the computation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from rscap.recipe import GenerateSection, Logits

LEAVING_SHARE = 0.25
"""Finished images leave a batch once they are this share of it. Each time the rest of the cache is copied, which costs
about as much as the attention of a step."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """Generated ids of one image, `<eos>` included where it was reached."""

    ids: list[int]
    near_ties: int
    """Choices that rounding errors could turn; see `near_tie`."""
    logprobs: tuple[float, ...] = ()
    """Of each token, where they were asked for: the natural logarithm of its probability to the model, before penalties
    and temperature."""
    margins: tuple[float, ...] = ()
    """How far the next best choice was from each token, if it was computed; `near_tie` gives the limit. Beam search has
    one for the whole caption."""

    @classmethod
    def until(
        cls, eos: int, ids: list[int], near_ties: int, logprobs: Sequence[float] = (), margins: Sequence[float] = ()
    ) -> Decoded:
        """Ids up to the first `eos`, with the log-probability and margin of each."""
        length = ids.index(eos) + 1 if eos in ids else len(ids)
        return cls(ids[:length], near_ties, tuple(logprobs[:length]), tuple(margins[:length]))


class Leaving(Enum):
    """Which images of a batch leave before the next step."""

    NONE, DONE, ALL = "none", "done", "all"

    @classmethod
    def of(cls, done: Tensor) -> Leaving:
        """Decided from bool[B], the images that are done. Only here does the host wait for the device within a step."""
        count = int(done.sum())
        if count == len(done):
            return cls.ALL
        return cls.DONE if count >= LEAVING_SHARE * len(done) else cls.NONE


# The next token of each row, and how close the choice was: the best one, or one drawn.

NEAR_TIE = 1e-4
"""The margin of a near-tie in float32: ten times what was measured."""
NEAR_TIES: Mapping[tuple[torch.dtype, Logits], float] = {
    (torch.bfloat16, "float32"): 2**-5,
    (torch.bfloat16, "model"): 2**-3,
    (torch.float16, "float32"): 2**-8,
    (torch.float16, "model"): 2**-5,
}
"""Margins by the precision of the model and of its logits: the most by which summing in another order changed the
distance between the two best logits, rounded up to a power of two (224 choices of nano: docs/decoding.md)."""


def near_tie(dtype: torch.dtype, settings: GenerateSection) -> float:
    """The margin below which rounding may turn a choice of a model whose products are in `dtype`.

    Two scores (logits, log-probabilities), or a draw and the edge of a token's share, no further apart than this may
    come out the other way round on another machine or in a batch of another shape, where sums are taken in another
    order. Logits that move by d move the edge of a share by d / 4 / temperature at most.
    """
    found = NEAR_TIES.get((dtype, settings.logits), NEAR_TIE)
    return max(NEAR_TIE, found / (4 * settings.temperature)) if settings.temperature else found


def best(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The best token of each row of float[B, V]: int[B], and float[B], by how much the second best scored less."""
    first, second = scores.topk(2, dim=-1).values.unbind(-1)
    return scores.argmax(dim=-1), first - second


def drawn(scores: Tensor, at: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Tokens drawn in proportion to softmax(scores), by the inverse of the cumulative distribution.

    `at` holds one number in [0, 1) a row. Tokens lie in the order of their ids, not of their scores: rounding errors
    then move the edges of their shares a little and swap none. Returns the tokens int[B], and float[B], how far each
    number lay from the nearer edge of its token's share.
    """
    wide = scores.cpu() if scores.device.type == "mps" else scores  # which knows no float64
    reached = wide.double().softmax(dim=-1).cumsum(dim=-1)
    total = reached[:, -1:].contiguous()
    threshold = torch.tensor(at, dtype=torch.float64, device=wide.device).unsqueeze(1) * total
    # No token beyond the last that has a share, even where the product was rounded up to the total.
    tokens = torch.minimum(torch.searchsorted(reached, threshold, right=True), torch.searchsorted(reached, total))
    above = reached.gather(1, tokens)
    below = torch.where(tokens > 0, reached.gather(1, (tokens - 1).clamp(min=0)), 0.0)
    margin = torch.minimum(above - threshold, threshold - below)
    return tokens.squeeze(1).to(scores.device), margin.squeeze(1).to(scores.device)


def logprobs(logits: Tensor, tokens: Tensor) -> Tensor:
    """The logarithm of each token's probability: float[…] of float[…, V] and int[…]."""
    return logits.gather(-1, tokens.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(dim=-1)


# What happens to the scores of the next token before one is chosen, by transformers' own processors.
#
# The tokens that count as "said already" are those of the prompt too: <image>, <bos>, its words and the newline.


def penalties(settings: GenerateSection) -> Any:
    """Called with ids int[N, L] and scores float[N, V]: scores of tokens that would repeat something are lowered."""
    chain: list[Any] = []
    if settings.repetition_penalty != 1.0:
        chain.append(RepetitionPenaltyLogitsProcessor(settings.repetition_penalty))
    if settings.no_repeat_ngram:
        chain.append(NoRepeatNGramLogitsProcessor(settings.no_repeat_ngram))
    return LogitsProcessorList(chain)


def cuts(settings: GenerateSection) -> Any:
    """Called like `penalties`: scores by temperature, -inf for tokens that are not drawn (top k, then top p)."""
    chain: list[Any] = [TemperatureLogitsWarper(settings.temperature)]
    if settings.top_k:
        chain.append(TopKLogitsWarper(settings.top_k))
    if settings.top_p < 1.0:
        chain.append(TopPLogitsWarper(settings.top_p))
    return LogitsProcessorList(chain)


def decode_name(settings: GenerateSection) -> str:
    """Decode settings as a signature names them: all that differ from greedy decoding, and the length limit.

    `greedy-64`, `beam3-50-lp0.8-rp1.2-nr3`, `sample-64-t0.7-k50-p0.9-s1`, `consensus16cider-64-t0.5-s0`; the parts are
    explained in docs/decoding.md.
    """
    way = "sample" if settings.temperature else "greedy" if settings.beams == 1 else f"beam{settings.beams}"
    if settings.choose == "consensus":
        way = f"consensus{settings.samples}{settings.similarity.lower().replace('-', '')}"
    parts = [f"{way}-{settings.max_new_tokens}"]
    if settings.temperature:
        parts.append(f"t{_number(settings.temperature)}")
    for letters, name in (
        ("k", "top_k"),
        ("p", "top_p"),
        ("lp", "length_penalty"),
        ("rp", "repetition_penalty"),
        ("nr", "no_repeat_ngram"),
    ):
        if (value := getattr(settings, name)) != GenerateSection.model_fields[name].default:
            parts.append(f"{letters}{_number(value)}")
    if settings.temperature:
        parts.append(f"s{settings.seed}")
    if settings.logits != "float32":
        parts.append(f"{settings.logits}-logits")
    return "-".join(parts)


def _number(value: float) -> str:
    return repr(value).removesuffix(".0")
