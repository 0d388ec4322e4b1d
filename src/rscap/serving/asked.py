"""What a request asks for in the words of decoding, whichever route it came by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rscap.captioner.choice import decode_name
from rscap.recipe import GenerateSection, with_decoding
from rscap.records import Answer
from rscap.serving.models import ServedModel
from rscap.serving.problems import Problem, problem_of
from rscap.serving.settings import ServeSettings

DECODING = tuple(name for name in GenerateSection.model_fields if name not in ("batch_size", "logits"))
"""Decode settings that a client may change."""
WORDS = ("choose", "similarity")
"""Those of them that are words; the others are numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which model, with which words, decoding how."""

    model: ServedModel
    prompt: str
    settings: GenerateSection
    lowered: bool = False
    """A limit of the server lowered the number of tokens that was asked for."""

    def described(self) -> dict[str, Any]:
        """What the captions were made with: the part of `rscap` in an answer that all of its captions share."""
        model = self.model
        return {
            "run": model.name,
            "digest": model.digest,
            "base": dict(model.base),
            "prompt": self.prompt,
            "decode": decode_name(self.settings),
        }

    def of_caption(self, answer: Answer) -> dict[str, Any]:
        """What is known of one caption."""
        flags = [*self.model.flags(answer, self.prompt), *(["max_tokens_lowered"] if self.lowered else [])]
        return {
            "tokens": answer.prediction.tokens,
            "near_ties": answer.prediction.near_ties,
            "confidence": round(answer.confidence, 6) if answer.tokens else None,
            "margin": round(answer.margin, 6) if math.isfinite(answer.margin) else None,
            "flags": flags,
        }


def asked(
    model: ServedModel, prompt: str | None, changes: Mapping[str, Any], limits: ServeSettings, *, param: str = "prompt"
) -> Asked:
    """A request's own words and settings over those of the model, within the limits of the server.

    Raises:
        Problem: 400, settings that contradict each other or go beyond a limit.
    """
    words = (prompt or "").strip()
    if len(words) > limits.max_prompt:
        raise Problem(400, f"a prompt of {len(words):,} characters; at most {limits.max_prompt:,}", param=param)
    wanted = {name: value for name, value in changes.items() if value is not None}
    lowered = isinstance(count := wanted.get("max_new_tokens"), int) and count > limits.max_tokens
    if lowered:
        wanted["max_new_tokens"] = limits.max_tokens
    if isinstance(beams := wanted.get("beams"), int) and beams > limits.max_beams:
        raise Problem(400, f"beams = {beams}; this server searches with at most {limits.max_beams}", param="beams")
    if isinstance(drawn := wanted.get("samples"), int) and drawn > limits.max_samples:
        raise Problem(400, f"samples = {drawn}; this server draws at most {limits.max_samples}", param="samples")
    own = model.settings
    if wanted.get("temperature"):  # a draw takes the place of the model's own search
        own = with_decoding(own, {"beams": 1, "length_penalty": 1.0})
    elif own.temperature and (wanted.get("temperature") == 0 or wanted.get("beams", 1) > 1):
        own = with_decoding(own, {"temperature": 0.0, "top_k": 0, "top_p": 1.0, "seed": 0})
    if wanted.get("beams") == 1:
        own = with_decoding(own, {"beams": 1, "length_penalty": 1.0})
    try:
        settings = with_decoding(own, wanted)
    except Exception as error:
        raise problem_of(error) from error
    return Asked(model=model, prompt=words or model.prompt, settings=settings, lowered=lowered)


def words_of(answer: Answer) -> list[dict[str, Any]]:
    """The words of a caption with the probability of each, the product of its tokens', and its smallest margin."""
    words: list[dict[str, Any]] = []
    tokens = answer.tokens
    for token in tokens:
        if not token.text:
            continue
        if not words or token.text[:1].isspace():
            words.append({"text": "", "logprob": 0.0, "margin": None})
        word = words[-1]
        word["text"] += token.text
        word["logprob"] += token.logprob
        if token.margin is not None:
            word["margin"] = min(token.margin, word["margin"] if word["margin"] is not None else token.margin)
    if not tokens:  # a consensus is chosen among captions, not token by token
        return [{"text": word, "logprob": None, "margin": None} for word in answer.prediction.caption.split()]
    for word in words:
        word["text"], word["logprob"] = word["text"].strip(), round(word["logprob"], 6)
    return [word for word in words if word["text"]]
