"""The tokenizer proper: longest match over the rules, then the spelling that the Penn Treebank gives some tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache, lru_cache

from rscap.errors import ScoreError
from rscap.scoring.ptb.characters import QUOTE, RARE, SHORTER, SOFT_HYPHEN, SPACE
from rscap.scoring.ptb.rules import ALL_RULES, NOT, SUFFIX

DROPPED = frozenset(
    ("''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";")
)
"""coco-caption's punctuation list. The brackets never match, since the tokens come lower-cased: `-lrb-` stays."""

_SPELLINGS = {
    **dict.fromkeys(("---", "----", "\x96", "\x97", "–", "—", "―", "&md;", "&mdash;", "&ndash;"), "--"),
    **dict.fromkeys(("....", ".....", ". . .", "\x85", "…"), "..."),
    **dict.fromkeys(("\x80", "¤", "₠", "€"), "$"),
    **dict(zip("¢£¼½¾⅓⅔", ("cents", "#", "1/4", "1/2", "3/4", "1/3", "2/3"), strict=True)),
    **dict(zip("()[]{}", ("-lrb-", "-rrb-", "-lsb-", "-rsb-", "-lcb-", "-rcb-"), strict=True)),
    **dict(
        zip(
            ("&amp;", "&lt;", "&gt;", "&nbsp;", '"', "&quot;", "&apos;"),
            ("&", "<", ">", "", "''", "''", "'"),
            strict=True,
        )
    ),
    SOFT_HYPHEN: "-",
}
_CASELESS = frozenset(("&md;", "&mdash;", "&ndash;", "&amp;", "&lt;", "&gt;", "&nbsp;"))
_QUOTES = str.maketrans(
    {
        **dict.fromkeys("‘‹‛\x91", "`"),
        **dict.fromkeys("’›\x92", "'"),
        **dict.fromkeys("“«\x93", "``"),
        **dict.fromkeys("”»\x94", "''"),
    }
)
_QUOTED = re.compile(f"{SUFFIX}|{NOT}|{QUOTE}{{1,2}}")
_BLANK = re.compile(f"[{SPACE}]+")
_LINE_BREAK = re.compile("\r\n|[\n\x0b\x0c\r\u2028\u2029]")
_ASTRAL = re.compile("[\U00010000-\U0010ffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")

_NEEDS = tuple(dict.fromkeys(rule.needs for rule in ALL_RULES if rule.needs))


def lex(caption: str, following: str = "\n") -> list[str]:
    """The tokens of one caption, punctuation dropped, in front of the text `following`.

    Raises:
        ScoreError: half of a surrogate pair stands alone in the caption.
    """
    if lone := _SURROGATE.search(caption):
        raise ScoreError(
            f"a caption holds the lone surrogate U+{ord(lone.group()):04X} at position {lone.start()}: {caption!r:.80}",
            hint="the text was cut or decoded badly; decode it with errors='replace'",
        )
    text = _LINE_BREAK.sub(" ", caption)
    if _ASTRAL.search(text):
        tokens = [_joined(token) for token in _tokens(_ASTRAL.sub(_halves, text), following)]
    else:
        tokens = list(_tokens(text, following))
    if tokens:
        tokens[-1] = tokens[-1].rstrip()  # coco-caption strips the line, and with it exotic spaces inside an address
    return [token for token in tokens if token and token not in DROPPED]


def _tokens(text: str, following: str) -> Iterator[str]:
    rare = RARE.search(text + following) is not None
    patterns = _useful_patterns(tuple(_compiled(need, rare).search(text) is not None for need in _NEEDS), rare)
    at, end, text = 0, len(text), text + following
    while at < end:
        longest = stop = at
        verbatim = False
        for pattern, as_it_is in patterns:
            match = pattern.match(text, at)
            if match is not None and match.end() > longest:
                longest, stop, verbatim = match.end(), match.end(pattern.groups), as_it_is
        if stop == at:  # a character that the tokenizer does not know
            at += 1
            continue
        if token := _spelling(text[at:stop], verbatim):
            yield token
        at = stop


@lru_cache(maxsize=4096)
def _useful_patterns(found: tuple[bool, ...], rare: bool) -> tuple[tuple[re.Pattern[str], bool], ...]:
    usable = {"", *(need for need, present in zip(_NEEDS, found, strict=True) if present)}
    return tuple((_compiled(rule.pattern, rare), rule.verbatim) for rule in ALL_RULES if rule.needs in usable)


@cache
def _compiled(expression: str, rare: bool) -> re.Pattern[str]:
    """A regular expression, with short character classes for texts that hold no `rare` character."""
    if not rare:
        for whole, short in SHORTER.items():
            expression = expression.replace(whole, short)
    pattern = re.compile(expression)
    assert pattern.groups <= 1, "group 1 is the token of a rule that looks ahead; other groups must not capture"
    return pattern


def _spelling(token: str, verbatim: bool) -> str:
    """The printed form of a token; empty for white space."""
    key = token.lower() if token[0] == "&" and token.lower() in _CASELESS else token
    if key in _SPELLINGS:
        return _SPELLINGS[key]
    if _BLANK.fullmatch(token):
        return ""
    if _QUOTED.fullmatch(token):
        return token.replace("&apos;", "'").translate(_QUOTES).lower()
    token = token.replace(" ", "\u00a0").lower()
    return token if verbatim else token.replace(SOFT_HYPHEN, "").replace("(", "-lrb-").replace(")", "-rrb-")


def _halves(match: re.Match[str]) -> str:
    """A character beyond U+FFFF as its two UTF-16 units, which is what a Java program sees."""
    high, low = divmod(ord(match.group()) - 0x10000, 0x400)
    return chr(0xD800 + high) + chr(0xDC00 + low)


def _joined(token: str) -> str:
    return token.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
