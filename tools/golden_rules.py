"""Compare two folders that `tools/golden.py` made: which files must be equal, and what equal means for each.

bytes     every byte (the default): train.jsonl, checkpoints/, adapter/, model/, predictions/, references/ …
values    every key of the old file keeps its value; new keys are allowed and listed
keys      every key of the old file is still there; its value depends on the clock, the commit or the command
figures   the numbers in a page or table, in their order; the words between them may change

RULES names each exception from bytes, with the reason.
"""

from __future__ import annotations

import csv
import io
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from fnmatch import fnmatch
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

_MOST_PER_FILE = 5
_FIGURE = re.compile(r"(?:(?<!\w)[-+−])?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it was."""

    text: str
    new: bool = False
    """Only the new folder has it: listed, but no difference."""


@dataclass(frozen=True, slots=True)
class File:
    """One file of one of the two folders."""

    name: str
    """Its path below the folder."""
    content: bytes
    package: str
    """Where the code that made it was imported from: `/…/src/rscap`."""

    @property
    def text(self) -> str:
        return self.content.decode("utf-8")

    def parsed(self) -> Any:
        """JSON, JSON Lines, TOML or CSV as Python values."""
        match Path(self.name).suffix:
            case ".json":
                return json.loads(self.text)
            case ".jsonl":
                return [json.loads(line) for line in self.text.split("\n") if line]
            case ".toml":
                return tomllib.loads(self.text)
            case ".csv":
                return list(csv.DictReader(io.StringIO(self.text)))
        raise ValueError(f"no parser for {self.name}")


Rule = Callable[[File, File], Iterable[Finding]]
"""Compares the old file with the new one."""


def compare(old: Path, new: Path, *, packages: tuple[str, str] = ("", "")) -> list[Finding]:
    """Compare all files below two folders; `packages` says where each side imported rscap from."""
    old_files, new_files = (dict(_files(folder, at)) for folder, at in zip((old, new), packages, strict=True))
    found = []
    for name in sorted({*old_files, *new_files}):
        rule = rule_for(name)
        if rule is None:
            continue
        if name not in new_files:
            told = [Finding("the file is missing")]
        elif name not in old_files:
            told = [Finding("a new file", new=True)]
        else:
            told = _first(rule(old_files[name], new_files[name]))
        found += [replace(one, text=f"{name}: {one.text}") for one in told]
    return found


def _files(folder: Path, package: str) -> Iterator[tuple[str, File]]:
    for path in folder.rglob("*"):
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            yield name, File(name, path.read_bytes(), package)


def _first(findings: Iterable[Finding]) -> list[Finding]:
    """The first few of a file; a file that cannot be read is a difference as well."""
    try:
        told = sorted(findings, key=lambda one: one.new)
    except ValueError as error:
        return [Finding(f"cannot be read: {error}")]
    rest = told[_MOST_PER_FILE:]
    counted = [Finding(f"and {len(rest)} more", new=rest[0].new)] if rest else []
    return told[:_MOST_PER_FILE] + counted


def rule_for(name: str) -> Rule | None:
    """How to compare the file with this path below the folder; None: not at all."""
    return next((rule for pattern, rule in RULES if fnmatch(name, pattern)), same_bytes)


def same_bytes(old: File, new: File) -> Iterator[Finding]:
    """Every byte; tells where the first difference is."""
    if old.content == new.content:
        return
    both = enumerate(zip(old.content, new.content, strict=False))
    place = next((number for number, (one, other) in both if one != other), min(len(old.content), len(new.content)))
    line = "" if b"\0" in old.content else f", line {old.content.count(bytes([10]), 0, place) + 1:,}"
    sizes = f"{len(old.content):,} bytes before, {len(new.content):,} now"
    yield Finding(f"differs at byte {place + 1:,}{line} ({sizes})")


def same_bytes_wherever_nano_lies(old: File, new: File) -> Iterator[Finding]:
    """Every byte, but for the folder of a base model that ships inside the package: of that only the name."""
    return same_bytes(*(replace(file, content=_with_base_by_name(file)) for file in (old, new)))


def _with_base_by_name(file: File) -> bytes:
    inside = re.escape(file.package.encode()) + rb"/(?:\w+/)*(\w+)"
    return re.sub(inside, rb"\1", file.content) if file.package else file.content


def same_values(old: File, new: File) -> Iterator[Finding]:
    """Every key of the old file and its value."""
    yield from _walk(old.parsed(), new.parsed(), _same_value)


def same_keys(old: File, new: File) -> Iterator[Finding]:
    """Every key of the old file."""
    yield from _walk(old.parsed(), new.parsed(), lambda _, __: True)


def same_progress(old: File, new: File) -> Iterator[Finding]:
    """A checkpoint's progress.json: all values but the seconds so far, and its SHA-256, which covers them."""
    timed = ("seconds", "sha256")
    yield from same_keys(old, new)
    both = ({key: value for key, value in file.parsed().items() if key not in timed} for file in (old, new))
    yield from (one for one in _walk(*both, _same_value) if not one.new)


def same_attempts(old: File, new: File) -> Iterator[Finding]:
    """A study's attempts.jsonl: all keys, and how each job ended; the rest is prose and time."""
    yield from same_keys(old, new)
    ends = [[(row.get("folder"), row.get("progress")) for row in file.parsed()] for file in (old, new)]
    if ends[0] != ends[1]:
        yield Finding(f"jobs ended as {ends[0]} before, as {ends[1]} now")


def same_figures(old: File, new: File) -> Iterator[Finding]:
    """Numbers in the text of a page (style, scripts and pictures left out), of Markdown or LaTeX."""
    before, now = _Text.of(old), _Text.of(new)
    yield from _figures(before.words, now.words)
    yield from _walk(before.data, now.data, _same_figures)


def same_figures_of_keys(old: File, new: File) -> Iterator[Finding]:
    """Numbers under every key or column of the old table, those inside sentences included."""
    yield from _walk(old.parsed(), new.parsed(), _same_figures)


def not_empty(old: File, new: File) -> Iterator[Finding]:
    """Something is there."""
    if not new.content:
        yield Finding("the file is empty")


RULES: tuple[tuple[str, Rule | None], ...] = (
    ("golden.json", None),  # what tools/golden.py says of the folder itself
    ("log.txt", None),  # what its commands say
    ("*.lock*", None),  # empty; left behind by the last process that worked there
    ("*/logs/*", None),  # what processes print
    ("*/speed.jsonl", same_keys),  # the clock and the memory
    ("*/status.json", same_keys),  # times
    ("*/provenance.json", same_keys),  # commit and command
    ("*/attempts.jsonl", same_attempts),
    ("*/progress.json", same_progress),
    ("*/adapter/adapter_config.json", same_bytes_wherever_nano_lies),  # PEFT writes the path of the base model
    ("*/adapter/README.md", same_bytes_wherever_nano_lies),  # here too
    ("*/model/*", same_bytes),
    ("pages/*.pdf", not_empty),  # holds the time of its making; its figures are those of the tables beside it
    ("pages/*.json", same_figures_of_keys),
    ("pages/*.csv", same_figures_of_keys),
    ("pages/*", same_figures),
    ("*.json", same_values),  # scores, parameters, quality, evaluation, plan, panel
    ("*.toml", same_values),  # recipes and studies, defaults filled in
)
"""The first pattern that a path matches decides; `*` matches slashes too."""


def _walk(old: Any, new: Any, same: Callable[[Any, Any], bool], where: str = "") -> Iterator[Finding]:
    """Walk two values together: keys that are missing, values that are not the `same`, keys that are new."""
    if isinstance(old, dict) and isinstance(new, dict):
        prefix = f"{where}." if where else ""
        for key, value in old.items():
            if key in new:
                yield from _walk(value, new[key], same, prefix + key)
            else:
                yield Finding(f"{prefix}{key} is missing")
        yield from (Finding(f"{prefix}{key} is a new key", new=True) for key in new if key not in old)
    elif isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            yield Finding(f"{where or 'the file'} had {len(old)} entries and has {len(new)}")
        for number, (one, other) in enumerate(zip(old, new, strict=False)):
            yield from _walk(one, other, same, f"{where}[{number}]")
    elif not same(old, new):
        yield Finding(f"{where} was {_short(old)}, is {_short(new)}")


def _same_value(old: Any, new: Any) -> bool:
    return type(old) is type(new) and old == new


def _same_figures(old: Any, new: Any) -> bool:
    """Numbers, truth values and null alike; of text its numbers, but not those of pictures inside it."""
    if not isinstance(old, str) or not isinstance(new, str):
        return _same_value(old, new)
    return old.startswith("data:") or _FIGURE.findall(old) == _FIGURE.findall(new)


def _figures(old: str, new: str) -> Iterator[Finding]:
    before, now = (list(_FIGURE.finditer(text)) for text in (old, new))
    pair = SequenceMatcher(None, [one[0] for one in before], [one[0] for one in now], autojunk=False)
    for kind, start, end, new_start, new_end in pair.get_opcodes():
        if kind == "insert":
            yield Finding(f"a new figure: {_context(new, now[new_start:new_end])}", new=True)
        elif kind != "equal":
            is_now = _context(new, now[new_start:new_end]) if kind == "replace" else "gone"
            yield Finding(f"was: {_context(old, before[start:end])}; is: {is_now}")


def _context(text: str, found: Sequence[re.Match[str]]) -> str:
    """The first figure among the words around it."""
    start, end = found[0].span()
    return f"“{' '.join(text[max(0, start - 30) : end + 15].split())}”"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:79]}…"


class _Text(HTMLParser):
    """The text that a page shows, and the JSON inside it that its scripts show."""

    def __init__(self) -> None:
        super().__init__()
        self.words = ""
        self.data: list[Any] = []
        self._inside = ""

    @classmethod
    def of(cls, file: File) -> _Text:
        text = cls()
        if file.name.endswith(".html"):
            text.feed(file.text)
        else:
            text.words = file.text
        return text

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = "json" if ("type", "application/json") in attrs else tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""
        self.words += "\n"

    def handle_data(self, data: str) -> None:
        if self._inside == "json":
            self.data.append(json.loads(data))
        elif self._inside not in ("style", "script"):
            self.words += data
