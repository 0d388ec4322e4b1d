"""The table of checks: one function for each, with the codes of the findings it may report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rscap.doctor.checks import captions, data, loss, reward, weights
from rscap.doctor.evidence import Evidence
from rscap.doctor.findings import Finding


@dataclass(frozen=True, slots=True)
class Check:
    """One check. It reports nothing if the evidence it needs is missing."""

    look: Callable[[Evidence], Iterator[Finding]]
    codes: tuple[str, ...]


CHECKS: tuple[Check, ...] = (
    Check(data.image_targets, ("image-targets",)),
    Check(data.split_images, ("image-split",)),
    Check(data.prompt_targets, ("prompt-targets",)),
    Check(data.padding_targets, ("padding-targets",)),
    Check(data.missing_targets, ("no-targets",)),
    Check(data.caption_ends, ("no-eos", "many-eos")),
    Check(data.visible_answer, ("answer-visible",)),
    Check(data.causal_prefix, ("prefix-causal",)),
    Check(loss.uniform_guess, ("uniform-loss",)),
    Check(loss.silent_start, ("zero-loss",)),
    Check(loss.spoilt, ("loss-not-finite",)),
    Check(loss.rising, ("loss-rises",)),
    Check(loss.flat, ("loss-flat",)),
    Check(loss.past_its_best, ("past-its-best",)),
    Check(loss.clipped, ("always-clipped",)),
    Check(loss.tried_rate, ("rate-too-high", "rate-too-low")),
    Check(reward.broken_endings, ("captions-break-off",)),
    Check(reward.collapse, ("captions-alike",)),
    Check(reward.falling, ("reward-falls",)),
    Check(reward.by_heart, ("images-by-heart",)),
    Check(weights.frozen_towers, ("frozen-tower-learns",)),
    Check(weights.still_towers, ("tower-does-not-learn",)),
    Check(weights.unmatched_targets, ("target-unmatched",)),
    Check(weights.untouched, ("adapter-untouched",)),
    Check(weights.spoilt_weights, ("adapter-not-finite",)),
    Check(weights.unfit, ("weights-unfit",)),
    Check(weights.nothing_learned, ("nothing-learned",)),
    Check(weights.other_method, ("method-not-as-asked",)),
    Check(weights.other_precision, ("dtype-not-as-asked",)),
    Check(data.prompts, ("prompt-differs",)),
    Check(data.few_training_images, ("few-training-images",)),
    Check(data.caption_scheme, ("captions-unused", "captions-joined")),
    Check(data.rejected_rows, ("many-rejected",)),
    Check(data.special_tokens, ("special-tokens",)),
    Check(data.length_limit, ("captions-cut",)),
    Check(captions.seen_images, ("seen-images",)),
    Check(captions.few_images, ("few-test-images",)),
    Check(captions.single_reference, ("single-reference",)),
    Check(captions.left_out, ("unscored",)),
    Check(captions.other_images, ("subset-differs",)),
    Check(captions.images_ignored, ("image-ignored",)),
    Check(captions.below_constant, ("no-better-than-constant",)),
    Check(captions.degenerate_captions, ("captions-loop", "prompt-echoed", "no-caption")),
    Check(captions.same_caption, ("one-caption",)),
    Check(captions.cut_captions, ("captions-cut",)),
    Check(data.unfinished, ("not-finished",)),
    Check(data.lost_result, ("result-missing",)),
)
