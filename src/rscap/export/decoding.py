"""A recipe's decode settings as transformers' `generate` takes them."""

from __future__ import annotations

from typing import Any

from rscap.recipe import GenerateSection


def generate_arguments(settings: GenerateSection) -> dict[str, Any]:
    """Keyword arguments of `generate` that decode as the recipe does; what is at its neutral value is left out.

    Draws are seeded per example in rscap and from torch's own generator there, so sampled captions differ.
    """
    arguments: dict[str, Any] = {"max_new_tokens": settings.max_new_tokens, "do_sample": settings.temperature > 0}
    if settings.beams > 1:
        arguments |= {"num_beams": settings.beams, "length_penalty": settings.length_penalty}
    if settings.repetition_penalty != 1.0:
        arguments["repetition_penalty"] = settings.repetition_penalty
    if settings.no_repeat_ngram:
        arguments["no_repeat_ngram_size"] = settings.no_repeat_ngram
    if settings.temperature > 0:
        arguments |= {"temperature": settings.temperature, "top_k": settings.top_k, "top_p": settings.top_p}
    return arguments
