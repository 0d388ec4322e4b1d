"""Checks of generated captions and of their scores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rscap.doctor.evidence import Evidence, ScoredCaptions
from rscap.doctor.findings import Finding, found
from rscap.scoring import SEEN, degenerate, seen_sentences

_TOLERATED = 0.02  # human captions: 2 of 22,365 look degenerate
_IMAGES_TO_COMPARE = 10
_CUT = 0.05

_CODES = {"loop": "captions-loop", "prompt-echo": "prompt-echoed", "empty": "no-caption", "non-language": "no-caption"}


def degenerate_captions(evidence: Evidence) -> Iterator[Finding]:
    """Captions that loop, repeat the prompt, or hold no language."""
    for one in evidence.evaluations or ():
        ill: dict[str, list[str]] = {}
        for name, caption in one.captions.items():
            for code in {
                _CODES[kind] for kind in _kinds(caption.text, caption.prefix, evidence.expected.training_prompts)
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


def _same(one: ScoredCaptions) -> Iterator[Finding]:
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


# Scores: on how many images, on all of them, on the same ones as other systems.

TEST_IMAGES = 100
SAME = 0.5
"""Share of images with the same caption that makes a finding."""

_UNCERTAIN = 0.5  # width of the interval over the score
_MILD = 0.01  # a share of images left out up to this is a warning
_SHUFFLED = 0.8  # share of the score that remains when captions are shuffled among images
_IMAGES_TO_SHUFFLE = 30


def seen_images(evidence: Evidence) -> Iterator[Finding]:
    """Scores on images that the run was trained on, or may have been."""
    for one in evidence.evaluations or ():
        seen: Any = one.sheet.extra.get(SEEN) if one.sheet else None
        for sentence in seen_sentences(seen):
            yield found(
                "seen-images",
                f"the run {sentence}",
                where=one.scores_where or one.where,
                severity="error" if seen.get("trained") else "warning",
            )


def few_images(evidence: Evidence) -> Iterator[Finding]:
    """Few test images, or an interval half as wide as the score."""
    for one in evidence.evaluations or ():
        n = one.reported if one.reported is not None else len(one.captions)
        score, low, high = _cider(one)
        width = high - low
        if n < TEST_IMAGES or (width > 0.1 and width > _UNCERTAIN * score):
            interval = f"; CIDEr is {score:.2f} with a 95 % interval of {low:.2f} to {high:.2f}" if width else ""
            yield found("few-test-images", f"{n} images were scored{interval}", where=one.scores_where or one.where)
    data = evidence.data
    if data and not evidence.evaluations and data.test_images is not None and data.test_images < TEST_IMAGES:
        yield found("few-test-images", f"the test split has {data.test_images} images", where=data.where)


def _cider(one: ScoredCaptions) -> tuple[float, float, float]:
    if one.sheet is None or "CIDEr" not in one.sheet.intervals:
        return 0.0, 0.0, 0.0
    low, high = one.sheet.intervals["CIDEr"]
    return one.sheet.corpus.get("CIDEr", 0.0), low, high


def single_reference(evidence: Evidence) -> Iterator[Finding]:
    """One reference per image."""
    for one in evidence.evaluations or ():
        if one.references and max(map(len, one.references.values())) == 1:
            yield found("single-reference", f"{len(one.references)} images with one reference each", where=one.where)


def left_out(evidence: Evidence) -> Iterator[Finding]:
    """Images with a reference or a caption, and without a score."""
    for one in evidence.evaluations or ():
        everybody = set(one.references) | set(one.captions)
        scored = one.reported if one.scored is None else len(one.scored & everybody)
        missing = len(everybody) - scored if scored is not None else len(everybody) - len(one.captions)
        if missing <= 0:
            continue
        names = sorted(everybody - one.scored if one.scored is not None else everybody - set(one.captions))
        which = f": {', '.join(names[:3])}{', …' if len(names) > 3 else ''}" if names else ""
        text = f"{missing} of {len(everybody)} images have no score{which}{_kinds_of(one, names)}"
        mild = missing <= _MILD * len(everybody)
        yield found("unscored", text, where=one.scores_where or one.where, severity="warning" if mild else None)


def _kinds_of(one: ScoredCaptions, names: list[str]) -> str:
    """The first of the captions that were left out, word for word."""
    there = [one.captions[name].text for name in names if name in one.captions]
    return f"; the first of them reads {there[0]!r:.80}" if there else ""


def other_images(evidence: Evidence) -> Iterator[Finding]:
    """Other systems of the same evaluation that were scored on other images."""
    for one in evidence.evaluations or ():
        mine = one.scored if one.scored is not None else frozenset(one.captions)
        for name, theirs in one.others.items():
            if theirs != mine:
                text = f"{len(mine)} images here, {len(theirs)} of {name}, {len(mine & theirs)} of them the same"
                yield found("subset-differs", text, where=one.scores_where or one.where)
                break


def images_ignored(evidence: Evidence) -> Iterator[Finding]:
    """Captions that score as high on other images."""
    if not evidence.expected.trains:
        return
    for one in evidence.evaluations or ():
        if one.sheet is None or one.sheet.n < _IMAGES_TO_SHUFFLE or one.most_common[1] >= SAME * len(one.captions):
            continue  # few images, or reported by `same_caption`
        score = one.sheet.corpus.get("CIDEr", 0.0)
        if one.shuffled is not None and one.shuffled > _SHUFFLED * score:
            text = f"CIDEr is {score:.3f}, and {one.shuffled:.3f} with the captions shuffled among the images"
            yield found("image-ignored", text, where=one.scores_where or one.where)


def below_constant(evidence: Evidence) -> Iterator[Finding]:
    """A trained model that one sentence for all images matches."""
    if not evidence.expected.trains:
        return
    for one in evidence.evaluations or ():
        score = one.sheet.corpus.get("CIDEr") if one.sheet else None
        if score is not None and one.constant is not None and score <= one.constant:
            text = f"CIDEr is {score:.3f}, that of one sentence for all images {one.constant:.3f}"
            yield found("no-better-than-constant", text, where=one.scores_where or one.where)
