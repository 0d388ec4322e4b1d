"""Findings about captions: the same list on two images, one sentence in two splits, noise in the text, likely typos."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

from rscap.data.audit.findings import AuditFinding, about, crosses, leaking
from rscap.data.text import INVISIBLE, words
from rscap.records import Example


def same_captions(examples: Sequence[Example]) -> Iterator[AuditFinding]:
    """One finding for each list of captions, in any order, that more than one image has."""
    for members in groups_of_equal_captions(examples):
        where = "across splits" if leaking(members) else "within a split"
        captions = tuple(sorted(members[0].captions))
        detail = f"{len(members)} images have the same {len(captions)} captions, {where}"
        severity = "error" if leaking(members) else "note"
        yield about(members, "same-captions", severity, detail, captions=captions)  # type: ignore[arg-type]


def groups_of_equal_captions(examples: Sequence[Example]) -> list[list[Example]]:
    """The images that share their list of captions, in whatever order, with another; by first appearance."""
    first: dict[tuple[str, ...], int] = {}
    groups: dict[int, list[Example]] = {}
    for index, example in enumerate(examples):
        original = first.setdefault(tuple(sorted(example.captions)), index)
        if original != index:
            groups.setdefault(original, [examples[original]]).append(example)
    return [groups[original] for original in sorted(groups)]


def repeated_captions(examples: Sequence[Example]) -> Iterator[AuditFinding]:
    """One finding for each caption that several images have, case ignored; the most frequent first.

    The kind is `shared-caption` where the images are in different splits, else `repeated-caption`. A short true
    sentence may well describe two images, so this is a note.
    """
    first: dict[str, int] = {}
    holders: dict[str, dict[int, None]] = {}
    for index, example in enumerate(examples):
        for caption in map(str.lower, example.captions):
            original = first.setdefault(caption, index)
            if original != index:
                holders.setdefault(caption, {original: None})[index] = None
    for caption, places in sorted(holders.items(), key=lambda item: (-len(item[1]), item[0])):
        members = [examples[place] for place in places]
        counts = Counter(example.split for example in members)
        places_told = ", ".join(f"{count} {split}" for split, count in counts.items())
        kind = "shared-caption" if crosses(counts) else "repeated-caption"
        yield about(members, kind, "note", f"the caption of {places_told} images", captions=(caption,))


def one_caption(examples: Sequence[Example]) -> Iterator[AuditFinding]:
    """One finding for each image whose several captions are all the same sentence."""
    for example in examples:
        if len(example.captions) > 1 and len(set(example.captions)) == 1:
            detail = f"all {len(example.captions)} captions are one sentence"
            yield about([example], "one-caption", "note", detail, captions=example.captions[:1])


_SPECIAL = re.compile(r"<(?:image|bos|eos|pad|unk|mask|s|/s|loc\d{4}|seg\d{3}|\|[^|<>\s]+\|)>")
"""Spellings of special tokens of common tokenizers, which training refuses or learns as something else than words."""
_FEWEST_WORDS = 3
_ENDINGS = ("s", "es", "d", "ed", "r", "er", "n", "en", "y", "ly", "e", "al", "ing")
"""A word with one of these endings is another form of the word, not a typo."""


def caption_noise(examples: Sequence[Example]) -> Iterator[AuditFinding]:
    """Findings about characters, spaces, full stops and repeated words; each distinct caption of an image once."""
    stops = most_end_with_a_stop(examples)
    for example in examples:
        for caption in dict.fromkeys(example.captions):
            for kind, severity, detail in _judge(caption, stops):
                yield about([example], kind, severity, detail, captions=(caption,))  # type: ignore[arg-type]


def special_tokens(caption: str) -> list[str]:
    """The special tokens that a caption spells, in order."""
    return _SPECIAL.findall(caption)


def _judge(caption: str, stops: bool) -> Iterator[tuple[str, str, str]]:
    hidden = INVISIBLE.findall(caption)
    strange = sorted({letter for letter in caption if ord(letter) > 126 and letter not in hidden})
    found = words(caption)
    if special := special_tokens(caption):
        yield "special-token", "warning", f"{', '.join(dict.fromkeys(special))} would be read as a token of the model"
    if hidden:
        yield (
            "invisible",
            "warning",
            f"invisible: {', '.join(f'U+{ord(letter):04X}' for letter in sorted(set(hidden)))}",
        )
    if strange:
        names = ", ".join(_named(letter) for letter in strange[:5])
        yield "non-ascii", "note", names
    if caption != " ".join(caption.split()):
        yield "spaces", "note", "leading, trailing or doubled white space"
    if stops and not caption.rstrip().endswith("."):
        yield "no-full-stop", "note", f"ends with {caption.rstrip()[-12:]!r}"
    if len(found) < _FEWEST_WORDS:
        yield "too-short", "warning", f"{len(found)} words"
    doubled = [one for one, other in pairwise(found) if one == other and not one.isdigit()]
    if doubled:
        yield "repeated-word", "warning", f"{doubled[0]} {doubled[0]}"


def _named(letter: str) -> str:
    """A character with its Unicode name; a control character is what a wrong encoding leaves."""
    code = f"U+{ord(letter):04X}"
    if 0x80 <= ord(letter) <= 0x9F:
        meant = bytes([ord(letter)]).decode("windows-1252", "replace")
        return f"{code}, a control character: {meant} read as Latin-1 instead of windows-1252"
    return f"{letter} ({unicodedata.name(letter, code)})"


def caption_kinds(caption: str, stops: bool) -> list[str]:
    """The kinds of noise in one caption; `stops` says whether captions of its source end with a full stop."""
    return [kind for kind, _, _ in _judge(caption, stops)]


def most_end_with_a_stop(examples: Sequence[Example]) -> bool:
    """Do more than half of all captions end with a full stop?"""
    captions = [caption for example in examples for caption in example.captions]
    return 2 * sum(caption.rstrip().endswith(".") for caption in captions) > len(captions)


def likely_typos(examples: Sequence[Example]) -> Iterator[AuditFinding]:
    """One finding for each rare word that is one letter away from a word at least 50 times as frequent.

    No dictionary is needed. Deleted, added, changed and swapped letters after the first one count (Damerau, 1964);
    forms of one word (`plane`, `planes`) do not. Real but rare words are found, too: hence "likely".
    """
    counts = Counter(word for example in examples for caption in example.captions for word in words(caption))
    typos = _typos(counts)
    holders: dict[str, list[Example]] = {word: [] for word in typos}
    for example in examples:
        for word in {word for caption in example.captions for word in words(caption)} & typos.keys():
            holders[word].append(example)
    for word, meant in sorted(typos.items()):
        detail = f"{word!r} ({counts[word]} times): {meant!r} ({counts[meant]} times)?"
        yield about(holders[word], "likely-typo", "note", detail, extra={"word": word, "meant": meant})


def _typos(counts: Counter[str]) -> dict[str, str]:
    frequent = [word for word, n in counts.items() if n >= 50 and len(word) >= 4]
    near: dict[str, list[str]] = {}
    for word in frequent:
        for key in {word, *_shortened(word)}:
            near.setdefault(key, []).append(word)
    found = {}
    for word, n in counts.items():
        if len(word) < 5 or not word.isalpha():
            continue
        meant = {other for key in (word, *_shortened(word)) for other in near.get(key, [])} - {word}
        likely = [other for other in meant if counts[other] >= 50 * n and _one_edit(word, other)]
        likely = [other for other in likely if word[0] == other[0] and not _forms(word, other)]
        if likely:
            found[word] = max(likely, key=lambda other: (counts[other], other))
    return found


def _shortened(word: str) -> list[str]:
    """The word with one letter left out, each once."""
    return [word[:i] + word[i + 1 :] for i in range(len(word))]


def _one_edit(one: str, other: str) -> bool:
    """Is one letter added, left out, changed, or swapped with its neighbour?"""
    if len(one) > len(other):
        one, other = other, one
    start = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
    if len(one) < len(other):
        return one[start:] == other[start + 1 :]
    swapped = (
        one[start + 1 : start + 2] == other[start : start + 1]
        and one[start : start + 1] == other[start + 1 : start + 2]
    )
    return one[start + 1 :] == other[start + 1 :] or (swapped and one[start + 2 :] == other[start + 2 :])


def _forms(one: str, other: str) -> bool:
    """Are these two forms of one word: the same stem with and without an ending?"""
    short, long = sorted((one, other), key=len)
    if any(long == short + ending for ending in _ENDINGS):
        return True
    return short[:-1] == long[:-1] and {short[-1], long[-1]} <= set("sdryne")
