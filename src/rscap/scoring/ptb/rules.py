"""The kinds of token, as regular expressions.

The longest match wins and, among equals, the earlier rule. Where a rule looks at what follows, group 1 is the token and
the whole match counts as its length: this is how "it's" beats a word, and "J. The" an initial. Each rule was inferred
from what the Java program printed for enumerated and random strings; see `docs/ptb.md`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from rscap.scoring.ptb.characters import (
    BEFORE_NUMBERS,
    CAPITALISED_CLOSERS,
    CLOSERS,
    DIGIT,
    FILE_ENDINGS,
    LETTER,
    MARK,
    QUOTE,
    SENTENCE_STARTERS,
    SOFT_HYPHEN,
    SPACE,
    SPLIT_WORDS,
    SYMBOL,
    TITLES,
)


class Rule(NamedTuple):
    """`needs`: a text in which this expression is nowhere found cannot hold the token, so the rule is not tried.

    `verbatim`: the token is printed with its brackets and soft hyphens.
    """

    pattern: str
    needs: str = ""
    verbatim: bool = False


def _any_case(words: Iterable[str]) -> str:
    return "(?i:" + "|".join(words) + ")"


def _capitalised(words: Iterable[str]) -> str:
    return "(?:" + "|".join(f"{word[0].upper()}(?i:{word[1:]})" for word in words) + ")"


_ALNUM = f"[{LETTER}{DIGIT}]"
_ACCENTED = "&[aeiouAEIOU](?:acute|grave|uml);"
_HYPHEN = "[-\u058a\u2010\u2011]"
_WS = f"[{SPACE}\n\u0085]"

_WORD = f"(?:[{LETTER}{MARK}{SOFT_HYPHEN}]|{_ACCENTED})(?:[{LETTER}{MARK}{DIGIT}{SOFT_HYPHEN}]|{_ACCENTED})*"
_DOTTED_WORD = f"{_WORD}(?:[.!?]{_WORD})*"

_APOSTROPHE = "(?:['\u2019\x92]|&apos;)"
_ANY_APOSTROPHE = "(?:['`\u2018\u2019\u201b\x91\x92]|&apos;)"
_HAS_APOSTROPHE = "['`\u2018\u2019\u201b\x91\x92&]"
SUFFIX = f"{_APOSTROPHE}(?i:s|d|m|ll|re|ve)"
NOT = f"[nN]{_ANY_APOSTROPHE}[tT]"

_PIECE = f"(?:[dDlLoO]{_ANY_APOSTROPHE}{_ALNUM}{{2,}}|{_ALNUM}+)"
_COMPOUND = f"{_PIECE}(?:(?:_|{_HYPHEN}){_PIECE})*"
_DOTTED_COMPOUND = rf"[A-Za-z0-9][A-Za-z0-9.,{SOFT_HYPHEN}]*(?:-(?:(?:[A-Za-z]\.){{2,}}|[A-Za-z0-9{SOFT_HYPHEN}]+))+"
_SLASHED = "[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}"

_CLOSER = (
    rf"(?:{_any_case(CLOSERS)}|{_capitalised(CAPITALISED_CLOSERS)}"
    r"|[pP]h\.[dD]|[eE]d\.[dD]|[pP]{1,2}t[ey]|[pP]t[ey][sS])"
)

_NAME = "[A-Za-z][A-Za-z0-9_:.-]*"
_TAG = (
    rf"""(?:<{_NAME}(?: +{_NAME}(?: *= *(?:'[^']*'|"[^"]*"))?)* */? *>|</{_NAME} *>"""
    r"|<[!?][A-Za-z-][^>\r\n]*>)"
)

_DIGITS = f"(?:{SOFT_HYPHEN}?[{DIGIT}])"
_NUMBER = f"(?:{_DIGITS}*(?:[.,:\u066b\u066c][{DIGIT}]{_DIGITS}*)+|{_DIGITS}+)"

_LINK = r'[^ \t\n\f\r"<>|(){}]'
_LINK_END = r'[^ \t\n\f\r"<>|.!?(){},-]'
_HOST = r"""[^ \t\n\f\r"`'<>|.!?(){},\-$/:;=@\[\]^_\\A-Z0-9]"""
_WWW_HOST = r'[^ \t\n\f\r"<>|.!?(){},]'
_PATH = rf'/[^ \t\n\f\r"<>|()]+{_LINK_END}'
_MAIL = r'[^ \t\n\f\r"<>|(){}\u00a0]'
_MAIL_HOST = r'[^ \t\n\f\r"<>|(){}.\u00a0]'
_FILE_PART = f"[{LETTER}{MARK}{DIGIT}{SOFT_HYPHEN}]+"

MARKUP = (
    Rule(_TAG, "<", verbatim=True),
    Rule("&(?i:amp|lt|gt|quot|apos|nbsp|md|mdash|ndash|ht|tl|ur|lr|qc|ql|qr|odq|cdq);", "&"),
    Rule(_ACCENTED, "&"),
    Rule("&#[0-9]+;", "&"),
)

CONTRACTIONS = tuple(
    Rule(pattern, _HAS_APOSTROPHE)
    for pattern in (
        rf"([A-Za-z{SOFT_HYPHEN}]*[A-MO-Za-mo-z]{SOFT_HYPHEN}?){NOT}",
        NOT,
        f"({_DOTTED_WORD}){SUFFIX}",
        f"({SUFFIX})[^A-Za-z]",
        "('[tT])(?i:is|was)",
        f"([jJyY]{_APOSTROPHE})[{LETTER}]",
        f"{_APOSTROPHE}[nN]{_APOSTROPHE}?",
        f"{_APOSTROPHE}(?i:em|cause|till?)",
        f"{_APOSTROPHE}[2-9]0s",
        rf"({_APOSTROPHE}[0-9][0-9]){_WS}",
        f"(?i:ol|somethin){_APOSTROPHE}",
        "(?i:li'l|c'mon|c'est|e'er|cap'n|nat'l)",
        r"(?i:cont'd)\.",
        f"[dDlLoO]{_ANY_APOSTROPHE}{_ALNUM}{{2,}}",
        f"[A-HJ-XZn]{_ANY_APOSTROPHE}[{LETTER}]{{2,}}",
        f"[dDlLjJ]{_APOSTROPHE}",
        f"[{LETTER}]+[aeiouyAEIOUY]{_ANY_APOSTROPHE}[aeiouA-Z][{LETTER}]*",
        f"[oO]{_ANY_APOSTROPHE}[oO]",
        r"(['\u2018\u201b\x91])[A-Za-z][^ \t\n\f\r\u00a0]",  # an opening quote
        SUFFIX,
    )
)

WORDS = (
    Rule(rf"({_CLOSER}\.)(?:[A-Za-z0-9][^{LETTER}{MARK}{DIGIT}{SOFT_HYPHEN}]|-[A-Za-z0-9]|[^{SPACE}\n\u0085])", r"\."),
    Rule(_WORD),
    *(Rule(f"((?i:{first}))(?i:{second})[^A-Za-z]") for first, second in SPLIT_WORDS),
    Rule(_DOTTED_WORD, "[.!?]"),
    Rule(_COMPOUND),
    Rule(_DOTTED_COMPOUND, "-"),
    Rule(rf"{_SLASHED}(?:\\?/{_SLASHED}){{1,2}}", "/"),
    Rule(r"[A-Z]+(?:(?:&(?:(?i:amp);)?|\+)[A-Z]+)+", "[&+]"),
    Rule(r"[cC]\+\+|[cCfF]#", "[+#]"),
    Rule(r"[A-Z]+\$", r"\$"),
)

ABBREVIATIONS = (
    Rule(rf"(?:{_any_case(TITLES)}|[mM][ft][gG])\.", r"\."),
    Rule(rf"{_CLOSER}\.", r"\."),
    Rule(rf"({_any_case(BEFORE_NUMBERS)}\.){_WS}?[0-9]", r"\."),
    Rule(r"[A-Za-z](?:\.[A-Za-z])*\.", r"\."),
    Rule(rf"([A-Za-z])\.{_WS}+(?:{_capitalised(SENTENCE_STARTERS)}|M[rRsS]\.|{_TAG}){_WS}", r"\."),
    Rule(rf"((?:{_COMPOUND}|{_DOTTED_WORD}|{_DOTTED_COMPOUND})\.)[,:;]", r"\.[,:;]"),
)

NUMBERS = tuple(
    Rule(pattern, f"[{DIGIT}]")
    for pattern in (
        f"[-+]?{_NUMBER}",
        rf"(?:[{DIGIT}]{{1,4}}[- \u00a0])?[{DIGIT}]{{1,4}}(?:\\?/|\u2044)[{DIGIT}]{{1,4}}",
        "[0-9]{1,2}[-/][0-9]{1,2}[-/][0-9]{2,4}",
        r"(?:\([0-9]{2,3}\)[ \u00a0]?|(?:\+\+?)?(?:[0-9]{2,4}[- \u00a0])?[0-9]{2,4}[- \u00a0])"  # telephone
        r"[0-9]{3,4}[- \u00a0]?[0-9]{3,5}",
    )
)

ADDRESSES = tuple(
    Rule(pattern, needs, verbatim=True)
    for pattern, needs in (
        (rf"(?i:https?)://{_LINK}+{_LINK_END}", "://"),
        (rf"(?:{_HOST}+\.)+(?i:com|net|org|edu)(?:{_PATH})?", r"\.(?i:com|net|org|edu)"),
        (rf"(?i:www)\.(?:{_WWW_HOST}+\.)+[A-Za-z]{{2,4}}", r"(?i:www)\."),
        (rf"(?i:www)\.(?:{_WWW_HOST}+?\.)+?[A-Za-z]{{2,4}}{_PATH}", r"(?i:www)\."),
        (rf"(?:<|&lt;|&tl;)?[A-Za-z0-9]{_MAIL}*@(?:{_MAIL_HOST}+\.)*{_MAIL_HOST}+(?:>|&gt;)?", "@"),
        ("@[A-Za-z_][A-Za-z0-9_]*", "@"),
        (f"#(?:[{LETTER}{MARK}{SOFT_HYPHEN}]|{_ACCENTED})+", "#"),
        (rf"({_FILE_PART}(?:\.{_FILE_PART})*\.{_any_case(FILE_ENDINGS)})(?:{_WS}|[,.!?])", r"\."),
    )
)

EMOTICONS = (
    Rule(r"([<>]?[:;=][-o*']?[DPdpO()\[\]{|\\@])[^A-Za-z0-9]", "[:;=]"),
    Rule("[-<=>^~'x]_[-<=>^~'x]", "_"),
    Rule(r"\([-<=>^~'x][_.]?[-<=>^~'x]\)|\([<=>^~'x]-[<=>^~'x]\)", r"\("),
)

PUNCTUATION = (
    Rule(f"{QUOTE}{{1,2}}"),
    Rule("[\u00b2\u00b3\u00b9\u2070\u2074-\u2079]+|[\u2080-\u2089]+"),
    Rule(r"[!?]+|#+|\*+|@+|_+|-----+|-{1,4}|\.{3,5}|\. \. \.|<<|>>|''|(?:\\\*)+"),
    Rule(f"[{SYMBOL}]"),
)

ALL_RULES = (
    Rule(f"[{SPACE}]+"),
    *MARKUP,
    *CONTRACTIONS,
    *WORDS,
    *ABBREVIATIONS,
    *NUMBERS,
    *ADDRESSES,
    *EMOTICONS,
    *PUNCTUATION,
)
