"""Prompts and data of a run: what it learned from, and whether it is asked in the words it learned."""

from __future__ import annotations

from collections.abc import Iterator

from rscap.doctor.evidence import Evidence
from rscap.doctor.findings import Finding, found

TRAINING_IMAGES = 250
"""Half of what Sydney-Captions, the smallest data set of the field, trains on."""

_REJECTED, _TOO_LONG = 0.01, 0.01


def prompts(evidence: Evidence) -> Iterator[Finding]:
    """A test prompt that was no training prompt."""
    asked = evidence.asked
    if not asked.trains or not asked.training_prompts:
        return
    known = set(asked.training_prompts)
    learned = " or ".join(repr(words) for words in asked.training_prompts[:3])
    for evaluation in evidence.evaluations or ():
        strange = [name for name, caption in evaluation.captions.items() if caption.prefix not in (None, *known)]
        if strange:
            asked_with = evaluation.captions[strange[0]].prefix
            text = f"{len(strange)} of {len(evaluation.captions)} captions were asked for with {asked_with!r}; training"
            yield found("prompt-differs", f"{text} used {learned}", where=evaluation.at(strange[0]))
            return
    for words in asked.test_prompts:
        if words not in known:
            text = f"the test asks with {words!r}; training uses {learned}"
            yield found("prompt-differs", text, where=asked.at("prompt.prefix"))
            return


def few_training_images(evidence: Evidence) -> Iterator[Finding]:
    """A training set smaller than half of the smallest that is published."""
    if (data := evidence.data) and data.training_images is not None and data.training_images < TRAINING_IMAGES:
        yield found("few-training-images", f"{data.training_images} training images", where=data.where)


def caption_scheme(evidence: Evidence) -> Iterator[Finding]:
    """Captions that are never learned, or learned as one."""
    scheme, where = evidence.asked.captions, evidence.asked.at("data.captions")
    each = evidence.data.captions_per_image if evidence.data else None
    if not scheme or each is None or each < 1.5:
        return
    have = f"captions = {scheme!r}; the images have {each:.2g} different captions on average"
    if scheme in ("first", "longest"):
        yield found("captions-unused", have, where=where)
    elif scheme == "concat":
        yield found("captions-joined", have, where=where)


def rejected_rows(evidence: Evidence) -> Iterator[Finding]:
    """Rows that could not be used."""
    if (data := evidence.data) and data.rejected and data.rejected > _REJECTED * (data.rows or 0):
        of = f" of {data.rows:,}" if data.rows else ""
        yield found("many-rejected", f"{data.rejected:,}{of} rows could not be used", where=data.where)


def length_limit(evidence: Evidence) -> Iterator[Finding]:
    """A limit on new tokens below the length of captions that are learned."""
    if (data := evidence.data) and data.too_long is not None and data.too_long > _TOO_LONG:
        text = f"{data.too_long:.1%} of the training captions have more than {data.longest_allowed} tokens"
        yield found("captions-cut", text, where=evidence.asked.at("generate.max_new_tokens"))
