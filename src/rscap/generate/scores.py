"""What happens to the scores of the next token before one is chosen, by transformers' own processors.

The tokens that count as "said already" are those of the prompt too: <image>, <bos>, its words and the newline.
"""

from __future__ import annotations

from typing import Any

from transformers import (
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from rscap.recipe import GenerateSection


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
