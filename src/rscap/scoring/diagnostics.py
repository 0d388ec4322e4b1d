"""What one score does not show: lengths, variety, degenerate outputs, and scores of groups of images."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from rscap.scoring.bleu import BLEU
from rscap.scoring.corpus import Corpus, Ints
from rscap.scoring.measures import Statistics
from rscap.scoring.resampling import Paired

KINDS = ("empty", "prompt-echo", "loop", "non-language")
"""Kinds of output that are no caption: flagged and scored, never skipped."""

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_SPECIAL = re.compile(r"<(?:image|loc\d+|seg\d+|pad|bos|eos|unk|unused\d+|s|/s|mask)>|�")
_PLAIN_WORD = re.compile(r"\w+")
LENGTHS = ((0, 7), (8, 10), (11, 13), (14, 17), (18, None))
"""Candidate lengths in words that are scored apart, both ends included."""


def describe(
    statistics: Statistics,
    corpus: Corpus,
    paired: Paired,
    *,
    prefix: str | None,
    sources: Mapping[str, str],
    scene_classes: Mapping[str, str | None],
    training_captions: Collection[str] | None,
) -> dict[str, Any]:
    """All diagnostics, as a score sheet holds them under `diagnostics`."""
    found: dict[str, Any] = {
        **variety(corpus),
        "length_ratio": length_ratio(statistics),
        "degenerate": degenerate_outputs(paired, prefix),
        "by_source": by_group(statistics, sources),
        "by_scene_class": by_group(statistics, scene_classes),
        "by_length": by_length(statistics, corpus),
    }
    return (
        found
        if training_captions is None
        else {**found, "verbatim_training": verbatim(paired.captions, training_captions)}
    )


def variety(corpus: Corpus) -> dict[str, float]:
    """Lengths in words, and how many captions and words are distinct, of candidates and of references."""
    candidate, reference = corpus.lengths(corpus.candidate), corpus.lengths(corpus.reference)
    return {
        "candidate_words": float(candidate.mean()),
        "reference_words": float(reference.mean()),
        "distinct_captions": len(np.unique(corpus.candidate)),
        "vocabulary": _vocabulary(corpus, corpus.candidate),
        "reference_vocabulary": _vocabulary(corpus, corpus.reference),
    }


def _vocabulary(corpus: Corpus, texts: Ints) -> int:
    places, _ = corpus.bags.rows(np.unique(texts))
    grams = np.unique(corpus.bags.grams[places])
    return int((grams < len(corpus.table.words)).sum())


def length_ratio(statistics: Statistics) -> float | None:
    """Words of all candidates over those of their closest references; BLEU penalises a ratio below 1."""
    if BLEU not in statistics.sums:
        return None
    sums = statistics.sums[BLEU].sum(axis=0)
    return float(sums[4] / sums[8]) if sums[8] else None


def verbatim(captions: Sequence[str], training: Collection[str]) -> dict[str, float]:
    """How many captions repeat a training caption word for word; case, punctuation and spaces are ignored."""
    known = {_plain(text) for text in training}
    count = sum(_plain(caption) in known for caption in captions)
    return {"count": count, "share": count / len(captions)}


def _plain(text: str) -> str:
    return " ".join(_PLAIN_WORD.findall(text.lower()))


def degenerate_outputs(paired: Paired, prefix: str | None) -> dict[str, dict[str, Any]]:
    """Count and ids of the outputs of each kind of `degenerate`."""
    kinds = {caption: degenerate(caption, prefix) for caption in set(paired.captions)}
    ids = {
        kind: [i for i, caption in zip(paired.ids, paired.captions, strict=True) if kind in kinds[caption]]
        for kind in KINDS
    }
    return {kind: {"count": len(found), "ids": found} for kind, found in ids.items()}


def by_group(statistics: Statistics, group: Mapping[str, str | None]) -> dict[str, dict[str, float]]:
    """Corpus scores, and n, of the images of every group; images of no group are left out."""
    members: dict[str, list[int]] = {}
    for place, example in enumerate(statistics.ids):
        if (name := group.get(example)) is not None:
            members.setdefault(name, []).append(place)
    return {
        name: {"n": len(members[name]), **statistics.corpus_scores(np.array(members[name]))} for name in sorted(members)
    }


def by_length(statistics: Statistics, corpus: Corpus) -> dict[str, dict[str, float]]:
    """Corpus scores of candidates of similar length, see LENGTHS."""
    words = corpus.lengths(corpus.candidate)
    groups = {}
    for low, high in LENGTHS:
        rows = np.flatnonzero((words >= low) & (words <= (high if high is not None else np.inf)))
        if len(rows):
            name = f"{low}-{high}" if high is not None else f"{low}+"
            groups[name] = {"n": len(rows), **statistics.corpus_scores(rows)}
    return groups


def degenerate(caption: str, prefix: str | None = None) -> tuple[str, ...]:
    """Which of KINDS this output is; empty for a caption.

    `empty`: no letter or digit. `prompt-echo`: it begins with the words of `prefix` (two words or more, or the whole
    output is the prefix). `loop`: one word all along, three times or more; a word four times in a row; two to eight
    words three times in a row; or a phrase of three words or more that, repeated, makes up the whole output.
    `non-language`: special tokens, or letters are less than half of the characters, or a word has more than 40.

    An output in another language is language. Of 22,365 distinct human captions of RISC, UCM-Captions and
    Sydney-Captions two are flagged, both of them loops.
    """
    words = [word.lower() for word in _WORD.findall(caption)]
    if not words:
        return ("non-language",) if caption.strip() and _SPECIAL.search(caption) else ("empty",)
    found = {
        "prompt-echo": prefix is not None and _echoes(words, [w.lower() for w in _WORD.findall(prefix)]),
        "loop": _loops(words),
        "non-language": _is_noise(caption, words),
    }
    return tuple(kind for kind, holds in found.items() if holds)


def _echoes(words: list[str], prompt: list[str]) -> bool:
    return bool(prompt) and words[: len(prompt)] == prompt and (len(prompt) > 1 or words == prompt)


def _loops(words: list[str]) -> bool:
    if len(words) - len(set(words)) < 2:  # too few repeated words for any loop; true of most captions
        return False
    if len(set(words)) == 1:
        return True
    for size in range(1, min(8, len(words) // 2) + 1):
        run = 0  # words in a row that equal the word `size` places before
        for place in range(size, len(words)):
            run = run + 1 if words[place] == words[place - size] else 0
            if run >= (3 if size == 1 else 2 * size):
                return True
    return any(words[size:] == words[:-size] for size in range(3, len(words) // 2 + 1))


def _is_noise(caption: str, words: list[str]) -> bool:
    letters = sum(map(str.isalpha, caption))
    return 2 * letters < len("".join(caption.split())) or max(map(len, words)) > 40 or bool(_SPECIAL.search(caption))
