"""The English (Porter2) stemmer, as Snowball published it before 2018.

Written from the description at snowballstem.org/algorithms/english/stemmer.html. Later editions of the algorithm
changed some words; METEOR 1.5 carries an early one, and this file follows it.
"""

from __future__ import annotations

VOWELS = frozenset("aeiouy")
DOUBLES = frozenset(("bb", "dd", "ff", "gg", "mm", "nn", "pp", "rr", "tt"))
LI_ENDINGS = frozenset("cdeghkmnrt")
R1_PREFIXES = ("gener", "commun", "arsen")

WHOLE_WORDS = {
    "skis": "ski",
    "skies": "sky",
    "dying": "die",
    "lying": "lie",
    "tying": "tie",
    "idly": "idl",
    "gently": "gentl",
    "ugly": "ugli",
    "early": "earli",
    "only": "onli",
    "singly": "singl",
} | dict.fromkeys(("sky", "news", "howe", "atlas", "cosmos", "bias", "andes"))
"""Words with a stem of their own; None keeps the word."""

FINISHED_AFTER_1A = frozenset(("inning", "outing", "canning", "herring", "earring", "proceed", "exceed", "succeed"))

STEP_2 = {
    "ational": "ate",
    "fulness": "ful",
    "iveness": "ive",
    "ization": "ize",
    "ousness": "ous",
    "biliti": "ble",
    "lessli": "less",
    "tional": "tion",
    "alism": "al",
    "aliti": "al",
    "ation": "ate",
    "entli": "ent",
    "fulli": "ful",
    "iviti": "ive",
    "ousli": "ous",
    "abli": "able",
    "alli": "al",
    "anci": "ance",
    "ator": "ate",
    "enci": "ence",
    "izer": "ize",
    "bli": "ble",
    "ogi": "og",
    "li": "",
}
STEP_3 = {
    "ational": "ate",
    "tional": "tion",
    "alize": "al",
    "ative": "",
    "icate": "ic",
    "iciti": "ic",
    "ical": "ic",
    "ness": "",
    "ful": "",
}
STEP_4 = (
    *("ement", "able", "ance", "ence", "ible", "ment"),
    *("ant", "ate", "ent", "ion", "ism", "iti", "ive", "ize", "ous", "al", "er", "ic"),
)


def stem(word: str) -> str:
    """The Porter2 stem of one lower-case word."""
    if word in WHOLE_WORDS:
        return WHOLE_WORDS[word] or word
    if len(word) <= 2:
        return word
    word = _mark_consonant_y(word.removeprefix("'"))
    r1, r2 = _regions(word)
    word = _step_1a(_step_0(word))
    if word not in FINISHED_AFTER_1A:
        word = _step_1c(_step_1b(word, r1))
        word = _step_2(word, r1)
        word = _step_3(word, r1, r2)
        word = _step_4(word, r2)
        word = _step_5(word, r1, r2)
    return word.replace("Y", "y")


def _mark_consonant_y(word: str) -> str:
    """Write `Y` for a y that begins the word or follows a vowel: there it is a consonant."""
    letters = list(word)
    for position, letter in enumerate(letters):
        if letter == "y" and (position == 0 or letters[position - 1] in VOWELS):
            letters[position] = "Y"
    return "".join(letters)


def _after_vowel_consonant(word: str, start: int) -> int:
    """Where the part after the first consonant that follows a vowel begins, searched from `start`."""
    for position in range(start + 1, len(word)):
        if word[position] not in VOWELS and word[position - 1] in VOWELS:
            return position + 1
    return len(word)


def _regions(word: str) -> tuple[int, int]:
    """The starts of the regions R1 and R2."""
    prefix = next((prefix for prefix in R1_PREFIXES if word.startswith(prefix)), None)
    r1 = len(prefix) if prefix else _after_vowel_consonant(word, 0)
    return r1, _after_vowel_consonant(word, r1)


def _has_vowel(part: str) -> bool:
    return not VOWELS.isdisjoint(part)


def _ends_in_short_syllable(word: str) -> bool:
    if len(word) == 2:
        return word[0] in VOWELS and word[1] not in VOWELS
    return (
        len(word) > 2
        and word[-3] not in VOWELS
        and word[-2] in VOWELS
        and word[-1] not in VOWELS
        and word[-1] not in "wxY"
    )


def _step_0(word: str) -> str:
    for suffix in ("'s'", "'s", "'"):
        if word.endswith(suffix):
            return word[: -len(suffix)]
    return word


def _step_1a(word: str) -> str:
    if word.endswith("sses"):
        return word[:-2]
    if word.endswith(("ied", "ies")):
        return word[:-2] if len(word) > 4 else word[:-1]
    if word.endswith("s") and not word.endswith(("us", "ss")) and _has_vowel(word[:-2]):
        return word[:-1]
    return word


def _step_1b(word: str, r1: int) -> str:
    for suffix in ("eedly", "eed"):
        if word.endswith(suffix):
            return word[: -len(suffix)] + "ee" if len(word) - len(suffix) >= r1 else word
    for suffix in ("ingly", "edly", "ing", "ed"):
        if word.endswith(suffix):
            kept = word[: -len(suffix)]
            return _mend(kept, r1) if _has_vowel(kept) else word
    return word


def _mend(kept: str, r1: int) -> str:
    """What is left after -ed or -ing: hop(p), hat(e), …"""
    if kept.endswith(("at", "bl", "iz")):
        return kept + "e"
    if kept[-2:] in DOUBLES:
        return kept[:-1]
    if r1 >= len(kept) and _ends_in_short_syllable(kept):
        return kept + "e"
    return kept


def _step_1c(word: str) -> str:
    if len(word) > 2 and word[-1] in "yY" and word[-2] not in VOWELS:
        return word[:-1] + "i"
    return word


def _step_2(word: str, r1: int) -> str:
    for suffix, replacement in STEP_2.items():
        if word.endswith(suffix):
            kept = word[: -len(suffix)]
            if len(kept) < r1:
                return word
            if suffix == "ogi" and not kept.endswith("l"):
                return word
            if suffix == "li" and kept[-1:] not in LI_ENDINGS:
                return word
            return kept + replacement
    return word


def _step_3(word: str, r1: int, r2: int) -> str:
    for suffix, replacement in STEP_3.items():
        if word.endswith(suffix):
            kept = word[: -len(suffix)]
            return kept + replacement if len(kept) >= (r2 if suffix == "ative" else r1) else word
    return word


def _step_4(word: str, r2: int) -> str:
    for suffix in STEP_4:
        if word.endswith(suffix):
            kept = word[: -len(suffix)]
            if len(kept) < r2 or (suffix == "ion" and not kept.endswith(("s", "t"))):
                return word
            return kept
    return word


def _step_5(word: str, r1: int, r2: int) -> str:
    kept = word[:-1]
    if word.endswith("e") and (len(kept) >= r2 or (len(kept) >= r1 and not _ends_in_short_syllable(kept))):
        return kept
    if word.endswith("ll") and len(kept) >= r2:
        return kept
    return word
