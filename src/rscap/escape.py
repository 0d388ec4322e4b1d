"""Text of other people where it goes: one function a place, so that none of it acts there as anything but text."""

from __future__ import annotations

import json
import os
import re

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""C0 and C1 controls, marks that turn the direction of writing, and bytes of file names that are no UTF-8."""

_SPACES = "\n\t"


def visible(text: str, *, one_line: bool = False) -> str:
    r"""Text for a terminal or a log: control characters stand as `\x1b`, and no sequence of them does anything.

    Line breaks and tabs stay, unless all of it belongs on `one_line`.
    """
    return _CONTROLS.sub(lambda found: _shown(found[0], one_line=one_line), text)


def _shown(character: str, *, one_line: bool) -> str:
    if character in _SPACES and not one_line:
        return character
    return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(
        character, f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{ord(character):04x}"
    )


def for_json(text: str) -> str:
    """JSON for a terminal: the control characters that `json.dumps` leaves in its strings are escaped as in JSON."""
    return _CONTROLS.sub(lambda found: found[0] if found[0] in _SPACES else f"\\u{ord(found[0]):04x}", text)


def for_cell(value: object) -> object:
    """A cell of a table for spreadsheets: a text that they would run as a formula gets an apostrophe before it.

    See "CSV Injection" of OWASP. Numbers stay as they are, negative ones too.
    """
    if not isinstance(value, str):
        return value
    text = visible(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t") and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


_MARKS = re.compile(r"[\\`*<>|]|\](?=[(\[:])")


def for_markdown(text: str) -> str:
    """Text inside a line or a table cell of Markdown: no HTML, link, code or column comes of it."""
    return _MARKS.sub(lambda found: f"\\{found[0]}", visible(text, one_line=True))


def for_code_span(text: str) -> str:
    """Text as code within a line of Markdown, back-ticks inside it included (CommonMark 0.31, section 6.1)."""
    shown = visible(text, one_line=True)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    return f"{fence} {shown} {fence}" if "`" in shown else f"{fence}{shown}{fence}"


def for_python(text: str) -> str:
    """Text as a literal of Python on one line."""
    return for_json(json.dumps(text, ensure_ascii=False))  # every string of JSON is one of Python


_LONGEST_NAME = 120


def for_file_name(text: str) -> str:
    """Text as the name of one file in a folder: short enough for every file system, hidden nowhere."""
    kept = re.sub(r"[^\w.+= -]", "-", text)[:_LONGEST_NAME].strip()
    return kept if kept.strip(".") else f"-{kept}"


# What is kept or handed on holds no secret and does not tell how somebody's disk is laid out.

_TOKEN = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{20,}|api_org_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|sk-[\w-]{20,}"
    r"|AKIA[A-Z0-9]{16}|xox[abprs]-[\w-]{20,})"
)
_SECRET_NAME = re.compile(r"TOKEN|KEY|SECRET|PASSWORD|PASSWD", re.IGNORECASE)
_SHORTEST_SECRET = 12


def secret_in(text: str) -> tuple[int, str] | None:
    """Where a text holds a secret, and what it is in words that do not repeat it; None if it holds none.

    A secret looks like an access token, or is the value of an environment variable whose name says so.
    """
    if found := _TOKEN.search(text):
        return found.start(), f"what looks like an access token ({found[0][:3]}…)"
    for name, secret in os.environ.items():
        if _SECRET_NAME.search(name) and len(secret) >= _SHORTEST_SECRET and secret in text:
            return text.index(secret), f"the value of the environment variable {name}"
    return None


def without_secrets(text: str) -> str:
    """A text with three stars for everything that `secret_in` finds."""
    for name, secret in os.environ.items():
        if _SECRET_NAME.search(name) and len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "***")
    return _TOKEN.sub("***", text)


_FOLDERS = re.compile(r"(?<![\w.:/\\-])(?:~|/|[A-Za-z]:\\)(?:[^\s\"'=,;:]*[/\\])?(?=[^\s\"'/\\])")


def without_folders(text: str) -> str:
    """A text in which every absolute path, or one below a home folder, is cut to its last part."""
    return _FOLDERS.sub("", text)
