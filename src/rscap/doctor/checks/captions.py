"""The generated captions themselves."""

from __future__ import annotations

from collections.abc import Iterator

from rscap.doctor.checks.evaluation import SAME
from rscap.doctor.evidence import Evaluation, Evidence
from rscap.doctor.findings import Finding, found
from rscap.score import degenerate

_TOLERATED = 0.02  # human captions: 2 of 22,365 look degenerate
_IMAGES_TO_COMPARE = 10
_CUT = 0.05

_CODES = {"loop": "captions-loop", "prompt-echo": "prompt-echoed", "empty": "no-caption", "non-language": "no-caption"}


def degenerate_captions(evidence: Evidence) -> Iterator[Finding]:
    """Captions that loop, repeat the prompt, or are none."""
    for one in evidence.evaluations or ():
        ill: dict[str, list[str]] = {}
        for name, caption in one.captions.items():
            for code in {
                _CODES[kind] for kind in _kinds(caption.text, caption.prefix, evidence.asked.training_prompts)
            }:
                ill.setdefault(code, []).append(name)
        for code, names in ill.items():
            if len(names) > _TOLERATED * len(one.captions):
                first = one.captions[names[0]].text
                text = f"{len(names)} of {len(one.captions)} captions, such as {first!r:.100}"
                yield found(code, text, where=one.at(names[0]))


def _kinds(text: str, prefix: str | None, training_prompts: tuple[str, ...]) -> set[str]:
    prompts: tuple[str | None, ...] = (prefix, *training_prompts)
    return {kind for words in prompts for kind in degenerate(text, words)}


def same_caption(evidence: Evidence) -> Iterator[Finding]:
    """One sentence for half of the images or more."""
    for one in evidence.evaluations or ():
        if len(one.captions) >= _IMAGES_TO_COMPARE:
            yield from _same(one)


def _same(one: Evaluation) -> Iterator[Finding]:
    text, count = one.most_common
    if count >= SAME * len(one.captions):
        first = next(name for name, caption in one.captions.items() if caption.text == text)
        yield found("one-caption", f"{count} of {len(one.captions)} captions read {text!r:.80}", where=one.at(first))


def cut_captions(evidence: Evidence) -> Iterator[Finding]:
    """Captions that the length limit ended."""
    for one in evidence.evaluations or ():
        cut = [name for name, caption in one.captions.items() if caption.cut]
        if len(cut) > _CUT * len(one.captions):
            text = f"{len(cut)} of {len(one.captions)} captions end at the length limit"
            yield found("captions-cut", text, where=one.at(cut[0]))
