"""What a training batch supervises, and who sees whom in it."""

from __future__ import annotations

from collections.abc import Iterator

from rscap.doctor.evidence import Evidence, Sight, Targets
from rscap.doctor.findings import Finding, found


def image_targets(evidence: Evidence) -> Iterator[Finding]:
    """`<image>` placeholders among the labels."""
    if (targets := evidence.targets) and targets.image:
        yield found("image-targets", _share(targets, targets.image, "are <image> placeholders"), where=targets.where)


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
    """Captions of which nothing is supervised."""
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
    """A caption token that sees what comes after it, or a batch that leaves that to its padding."""
    if not (sight := evidence.sight):
        return
    if sight.future_seen:
        seen = f"changing the last token of the caption changes {sight.future_seen} of the {sight.earlier} outputs"
        yield found("answer-visible", f"{seen} before it, expected none{_types(sight)}", where=sight.where)
    elif sight.token_types in ("absent", "zero on the caption"):
        yield found("answer-visible", f"token_type_ids: {sight.token_types}", where=sight.where)


def causal_prefix(evidence: Evidence) -> Iterator[Finding]:
    """A prefix whose early tokens do not see its late ones."""
    if (sight := evidence.sight) and sight.before and sight.prefix_reach == 0:
        seen = f"changing the last token of the prefix changes none of the {sight.before} outputs before it"
        yield found("prefix-causal", f"{seen}, expected all{_types(sight)}", where=sight.where)


def _types(sight: Sight) -> str:
    return "" if sight.token_types in ("right", "unknown") else f"; token_type_ids: {sight.token_types}"
