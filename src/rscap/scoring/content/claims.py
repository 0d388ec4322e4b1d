"""What a caption claims: things it names or denies, how many, of which colour, and directions in the image.

Rules on words, no parser: a thing is a word or phrase of the lexicon; what describes it stands before it, or behind a
form of "to be"; a denial reaches to the end of its clause. The rules err towards fewer claims.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from rscap.scoring.content import lexicon as words

_TOKEN = re.compile(r"[a-z]+(?:['’][a-z]+)*|\d+|[^\s\w]")
_TO_BE = frozenset({"is", "are", "was", "were"})
_SKIPPED = frozenset(
    {"very", "all", "mostly", "also", "in", "dark", "light", "deep", "bright", "a", "an", "the", "of", "mainly", "both"}
)
_FARTHEST = 6
"""Words before a thing that may describe it."""
_REACH = 8
"""Words that a denial reaches at most."""
SOME = 0
"""A quantity above one that is not told."""


@dataclass(frozen=True, slots=True)
class Amount:
    """That there are so many of a thing."""

    thing: str
    number: int
    """SOME: more than one."""
    told: bool
    """By a number, and not only by an article or the form of the word."""
    text: str


@dataclass(frozen=True, slots=True)
class Colour:
    """That a thing has a colour, by its word."""

    thing: str
    word: str
    text: str


@dataclass(frozen=True, slots=True)
class Said:
    """All claims of one caption."""

    named: Mapping[str, str]
    """The things that it says there are, with the words it uses."""
    denied: Mapping[str, str]
    """The things that it says are absent."""
    amounts: tuple[Amount, ...]
    colours: tuple[Colour, ...]
    directions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Mention:
    """A thing at some place of a caption."""

    thing: str
    start: int
    end: int
    plural: bool


@lru_cache(maxsize=65_536)
def said(caption: str) -> Said:
    """The claims of a caption; case is ignored."""
    tokens = _TOKEN.findall(caption.lower().replace("-", " "))
    mentions, denied = list(_mentions(tokens)), _denied(tokens)
    named: dict[str, str] = {}
    absent: dict[str, str] = {}
    amounts: list[Amount] = []
    colours: list[Colour] = []
    taken = {place for one in mentions for place in range(one.start, one.end)}
    for one in mentions:
        text = " ".join(tokens[one.start : one.end])
        if one.start in denied:
            absent.setdefault(one.thing, text)
            continue
        if one.thing in words.SCENE:
            named.setdefault(one.thing, text)
        described, amount = _described(tokens, one, taken)
        if amount and one.thing in words.SCENE:
            amounts.append(amount)
        colours += [Colour(one.thing, colour, f"{colour} {text}") for colour in described]
        colours += [Colour(one.thing, colour, f"{text}: {colour}") for colour in _is_of_colour(tokens, one.end)]
    absent = {thing: text for thing, text in absent.items() if thing in words.SCENE and thing not in named}
    return Said(named, absent, tuple(amounts), tuple(colours), tuple(_directions(tokens)))


def colours_of(word: str) -> frozenset[str]:
    """The colours that a word may mean; none if it is no colour."""
    return _colours().get(word, frozenset())


def _mentions(tokens: Sequence[str]) -> Iterator[_Mention]:
    """The things of a caption in order, the longest phrase at each place."""
    phrases, place = _phrases(), 0
    while place < len(tokens):
        for phrase, thing, plural in phrases.get(tokens[place], ()):
            if tuple(tokens[place : place + len(phrase)]) == phrase:
                yield _Mention(thing, place, place + len(phrase), plural)
                place += len(phrase)
                break
        else:
            place += 1


def _denied(tokens: Sequence[str]) -> set[int]:
    """Places that a denial reaches."""
    found: set[int] = set()
    for start, token in enumerate(tokens):
        if token not in _set(words.DENIALS) and not token.endswith(("n't", "n’t")):
            continue
        behind = tokens[start + 1 : start + 1 + _REACH]
        if behind and behind[0] in _set(words.WEAK):
            continue
        for step, word in enumerate(behind):
            after = behind[step + 1] if step + 1 < len(behind) else ""
            begins = word == "and" and after in _set(words.DETERMINERS)
            if not word.isalnum() or begins or (step and word in _set(words.CLAUSE_ENDS)):
                break
            found.add(start + 1 + step)
    return found


def _described(tokens: Sequence[str], one: _Mention, taken: set[int]) -> tuple[list[str], Amount | None]:
    """The colours that stand before a thing, and how many of it there are, if the caption says."""
    colours: list[str] = []
    number: int | None = SOME if one.plural else None
    told, place = False, one.start - 1
    while place >= max(0, one.start - _FARTHEST) and place not in taken:
        word, before = tokens[place], tokens[place - 1] if place else ""
        if word in words.NUMBERS or word.isdigit():
            number = words.NUMBERS.get(word, int(word) if word.isdigit() else 0)
            told = before not in _set("the other, another, no") and number > 0
            break
        if word in _set(words.SEVERAL):
            number = SOME
            break
        if word in _set("a, an, the, this, its") and not one.plural:
            number = 1
        elif word in _set("another, other, each, every"):
            number = SOME
        if word == "of" and (before.rstrip("s") in _set(words.UNITS) or before in _set(words.SEVERAL)):
            if before in _set(words.SEVERAL):
                number = SOME
                break
            place -= 2
            continue
        if colours_of(word):
            colours.append(word)
        elif word == "and":
            if not (colours and colours_of(before)):
                break
        elif word in _set(words.STOPS) or not word.isalnum() or word in _set("this, its, another, other, each, every"):
            break
        place -= 1
    if number is None:
        return colours, None
    text = f"{tokens[place]} {' '.join(tokens[one.start : one.end])}" if told else " ".join(tokens[one.start : one.end])
    return colours, Amount(one.thing, number, told, text)


def _is_of_colour(tokens: Sequence[str], end: int) -> list[str]:
    """Colours behind a thing and a form of "to be": "the roofs are red and white"."""
    if end >= len(tokens) or tokens[end] not in _TO_BE:
        return []
    found: list[str] = []
    for word in tokens[end + 1 : end + 7]:
        if colours_of(word):
            found.append(word)
        elif word not in _SKIPPED and not (found and word in ("and", ",")):
            break
    after = end + 1 + next((n for n, word in enumerate(tokens[end + 1 : end + 8]) if word in found[-1:]), 0) + 1
    describes_another = (
        found and after < len(tokens) and tokens[after].isalpha() and tokens[after] not in _set(words.STOPS)
    )
    return [] if describes_another and tokens[after] != "and" else found


def _directions(tokens: Sequence[str]) -> Iterator[str]:
    for place, token in enumerate(tokens):
        if token not in words.DIRECTIONS:
            continue
        before, behind = tokens[place - 1] if place else "", tokens[place + 1] if place + 1 < len(tokens) else ""
        name = words.SAME_DIRECTION.get(token, token)
        if words.DIRECTIONS[token] in ("north", "east"):
            yield name
        elif behind in _set(words.NO_DIRECTION):
            continue
        elif words.DIRECTIONS[token] == "up":
            of_image = behind == "of" and {"image", "picture", "photo"} & set(tokens[place + 2 : place + 5])
            if behind in _set("left, right, corner, part, half, side, edge") or of_image:
                yield name
        elif before in _set(words.DIRECTION_BEFORE) or behind in _set(words.DIRECTION_BEHIND):
            yield name


@cache
def _set(listed: str) -> frozenset[str]:
    return frozenset(word.strip() for word in listed.split(","))


@cache
def _colours() -> Mapping[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for colour, listed in words.COLOURS.items():
        for word in _set(listed):
            found.setdefault(word, set()).add(colour)
    return {word: frozenset(colours) for word, colours in found.items()}


@cache
def _phrases() -> Mapping[str, Sequence[tuple[tuple[str, ...], str, bool]]]:
    """By first word: phrases with their thing and whether they are plural, longest first."""
    found: dict[str, list[tuple[tuple[str, ...], str, bool]]] = {}
    things = [*words.SCENE.items(), *((part, part) for part in sorted(_set(words.PARTS)))]
    for thing, listed in things:
        for form in sorted(_set(listed)):
            *head, last = form.replace("'", "'").split()
            ends_plural = last.endswith("s") and not last.endswith("ss") and last != "bus"
            forms = {last: ends_plural} if ends_plural else {last: False, _plural(last): True}
            for word, plural in forms.items():
                phrase = (*head, word)
                found.setdefault(phrase[0], []).append((phrase, thing, plural))
    return {first: sorted(own, key=lambda one: -len(one[0])) for first, own in found.items()}


def _plural(word: str) -> str:
    """The regular plural; aircraft, people and the like are listed or do not matter."""
    if word == "man":
        return "men"
    if word.endswith(("s", "x", "ch", "sh")):
        return f"{word}es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return f"{word[:-1]}ies"
    return f"{word}s"
