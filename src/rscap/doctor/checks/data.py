"""Checks of prompts, training data, the first batch, and how a run ended."""

from __future__ import annotations

from collections.abc import Iterator

from rscap.doctor.evidence import AttentionReach, Evidence, Targets
from rscap.doctor.findings import Finding, found

TRAINING_IMAGES = 250
"""Half of what Sydney-Captions, the smallest data set of the field, trains on."""

_REJECTED, _TOO_LONG = 0.01, 0.01
_SPLIT = 4


def prompts(evidence: Evidence) -> Iterator[Finding]:
    """A test prompt that is not among the training prompts."""
    expected = evidence.expected
    if not expected.trains or not expected.training_prompts:
        return
    known = set(expected.training_prompts)
    learned = " or ".join(repr(words) for words in expected.training_prompts[:3])
    for evaluation in evidence.evaluations or ():
        strange = [name for name, caption in evaluation.captions.items() if caption.prefix not in (None, *known)]
        if strange:
            asked_with = evaluation.captions[strange[0]].prefix
            text = f"{len(strange)} of {len(evaluation.captions)} captions were generated with {asked_with!r}"
            yield found("prompt-differs", f"{text}; training used {learned}", where=evaluation.at(strange[0]))
            return
    for words in expected.test_prompts:
        if words not in known:
            text = f"the test asks with {words!r}; training uses {learned}"
            yield found("prompt-differs", text, where=expected.at("prompt.prefix"))
            return


def few_training_images(evidence: Evidence) -> Iterator[Finding]:
    """A training set smaller than half of the smallest published one."""
    if (data := evidence.data) and data.training_images is not None and data.training_images < TRAINING_IMAGES:
        yield found("few-training-images", f"{data.training_images} training images", where=data.where)


def caption_scheme(evidence: Evidence) -> Iterator[Finding]:
    """Captions that are not used, or are joined into one."""
    scheme, where = evidence.expected.captions, evidence.expected.at("data.captions")
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


def special_tokens(evidence: Evidence) -> Iterator[Finding]:
    """Captions that spell what the tokenizer reads as a token of its own."""
    if (data := evidence.data) and data.special:
        text = f"captions of {data.special_images:,} training images spell {', '.join(data.special)}"
        yield found("special-tokens", text, where=data.where)


def length_limit(evidence: Evidence) -> Iterator[Finding]:
    """A limit on new tokens below the length of training captions."""
    if (data := evidence.data) and data.too_long is not None and data.too_long > _TOO_LONG:
        text = f"{data.too_long:.1%} of the training captions have more than {data.longest_allowed} tokens"
        yield found("captions-cut", text, where=evidence.expected.at("generate.max_new_tokens"))


# What a training batch supervises, and its attention mask.


def image_targets(evidence: Evidence) -> Iterator[Finding]:
    """`<image>` placeholders among the labels."""
    if (targets := evidence.targets) and targets.image:
        yield found("image-targets", _share(targets, targets.image, "are <image> placeholders"), where=targets.where)


def split_images(evidence: Evidence) -> Iterator[Finding]:
    """Images that were enlarged and cut into squares."""
    targets = evidence.targets
    if targets and targets.one_square and targets.image_tokens > _SPLIT * targets.one_square:
        text = f"an image takes {targets.image_tokens:,} tokens; one square takes {targets.one_square}"
        yield found("image-split", text, where=targets.where)


def prompt_targets(evidence: Evidence) -> Iterator[Finding]:
    """`<bos>`, words of the prompt or its newline among the labels."""
    if (targets := evidence.targets) and targets.prompt:
        least = "" if targets.prompt_known else "; <bos> alone was counted, the rest of the prompt looks like a caption"
        text = _share(targets, targets.prompt, "belong to the prompt") + least
        yield found("prompt-targets", text, where=targets.where)


def padding_targets(evidence: Evidence) -> Iterator[Finding]:
    """Padding among the labels."""
    if (targets := evidence.targets) and targets.padding:
        yield found("padding-targets", _share(targets, targets.padding, "are padding"), where=targets.where)


def _share(targets: Targets, count: int, what: str) -> str:
    return f"{count:,} of {targets.supervised:,} supervised tokens ({count / targets.supervised:.0%}) {what}"


def missing_targets(evidence: Evidence) -> Iterator[Finding]:
    """Captions without any label."""
    if (targets := evidence.targets) and targets.unsupervised:
        evidence_text = f"{targets.unsupervised} of {targets.captions} captions have no label at all"
        yield found("no-targets", evidence_text, where=targets.where)


def caption_ends(evidence: Evidence) -> Iterator[Finding]:
    """One `<eos>` per caption, neither none nor several."""
    if not (targets := evidence.targets):
        return
    for code, count, what in (
        ("no-eos", targets.without_eos, "have no <eos> among their labels"),
        ("many-eos", targets.several_eos, "have more than one <eos> among their labels"),
    ):
        if count:
            yield found(code, f"{count} of {targets.captions} captions {what}", where=targets.where)


def visible_answer(evidence: Evidence) -> Iterator[Finding]:
    """A caption token that sees later ones, or a batch in which that depends on padding."""
    if not (attention := evidence.attention):
        return
    if attention.future_seen:
        seen = (
            f"changing the last token of the caption changes {attention.future_seen} of the {attention.earlier} outputs"
        )
        yield found("answer-visible", f"{seen} before it, expected none{_types(attention)}", where=attention.where)
    elif attention.token_types in ("absent", "zero on the caption"):
        yield found("answer-visible", f"token_type_ids: {attention.token_types}", where=attention.where)


def causal_prefix(evidence: Evidence) -> Iterator[Finding]:
    """A prefix whose early tokens do not see its late ones."""
    attention = evidence.attention
    if attention and not attention.causal and attention.before and attention.prefix_reach == 0:
        seen = f"changing the last token of the prefix changes none of the {attention.before} outputs before it"
        yield found("prefix-causal", f"{seen}, expected all{_types(attention)}", where=attention.where)


def _types(attention: AttentionReach) -> str:
    return "" if attention.token_types in ("right", "unknown") else f"; token_type_ids: {attention.token_types}"


# How far a run got, and what it left.


def unfinished(evidence: Evidence) -> Iterator[Finding]:
    """A run that failed, was interrupted, or is not at its last step."""
    if not (state := evidence.state) or state.state == "finished":
        return
    reached = f" after {state.steps:,} steps" if state.steps is not None else ""
    planned = f" of {state.planned_steps:,}" if state.planned_steps is not None else ""
    message = f": {state.message}" if state.message else ""
    yield found("not-finished", f"the run is {state.state!r}{reached}{planned}{message}", where=state.where)


def lost_result(evidence: Evidence) -> Iterator[Finding]:
    """A finished run without weights."""
    if (state := evidence.state) and state.state == "finished" and state.result is False:
        yield found("result-missing", "the run is finished and holds neither adapter nor model", where=state.where)
