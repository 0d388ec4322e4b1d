"""Outside `rscap.store` nobody names a file of a run or study folder: neither to read it nor in prose or advice."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import rscap
from rscap import store
from rscap.store import checkpoint, study

PACKAGE = Path(rscap.__file__).parent
STORE = PACKAGE / "store"
NAMES = {name: getattr(store, name) for name in dir(store) if name.isupper() and isinstance(getattr(store, name), str)}
"""What the store calls files and folders."""
FILES = sorted(value for value in NAMES.values() if "." in value)
FOLDERS = sorted(value for value in NAMES.values() if "." not in value)
PATH_CALLS = {
    "Path",
    "joinpath",
    "glob",
    "rglob",
    "with_name",
    "RunFolder",
    "StudyFolder",
    "exists",
    "is_file",
    "is_dir",
}


def sources() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if not path.is_relative_to(STORE)]


def named_files(text: str) -> Iterator[tuple[int, str]]:
    """Names of files in any string, f-string or comment: in code, docstrings, messages and help."""
    pattern = re.compile(rf"(?<![\w.-])({'|'.join(map(re.escape, FILES))})\b")
    for number, line in enumerate(text.split("\n"), start=1):
        yield from ((number, match[1]) for match in pattern.finditer(line))


def named_folders(text: str) -> Iterator[tuple[int, str]]:
    """Names of folders where they are part of a path: `x / "scores"`, `"scores/…"`, `.glob("scores/*")`."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            yield from _folder(node.right, part=True)
        elif isinstance(node, ast.Call) and _called(node) in PATH_CALLS:
            for argument in node.args:
                yield from _folder(argument, part=True)
        elif isinstance(node, ast.Constant):
            yield from _folder(node, part=False)


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def _folder(node: ast.AST, *, part: bool) -> Iterator[tuple[int, str]]:
    """A constant that is a folder's name where it is `part` of a path, or that holds one with its slash anywhere."""
    for constant in (one for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)):
        for name in FOLDERS:
            slash = rf"(?<![\w/.-]){re.escape(name)}/(?=[\w<*{{]|$|\s|…)"
            if (part and constant.value == name) or re.search(slash, constant.value):
                yield constant.lineno, name


def test_the_store_has_names() -> None:
    """The names that this test looks for are the store's own, and they are those of the documented layout."""
    assert len(FILES) > 12
    assert {"status.json", "train.jsonl", "plan.json"} <= set(FILES)
    assert {"predictions", "scores"} <= set(FOLDERS)
    documented = (store.__doc__ or "") + (study.__doc__ or "") + (checkpoint.__doc__ or "")
    assert [name for name in FILES if name not in documented] == []


def test_no_other_room_names_a_file_of_the_store() -> None:
    """No source file outside the store spells a name that the store has: it takes it from there."""
    found = []
    for path in sources():
        text = path.read_text(encoding="utf-8")
        hits = sorted({*named_files(text), *named_folders(text)})
        found += [f"{path.relative_to(PACKAGE)}:{line} names {name}" for line, name in hits]
    assert found == []


@pytest.mark.parametrize(
    ("code", "caught"),
    [
        ('read(run / "status.json")', {"status.json"}),
        ('say(f"see {run}/train.jsonl")', {"train.jsonl"}),
        ('"""Reads predictions/<split>.jsonl."""', {"predictions"}),
        ('files = folder.glob("scores/*.json")', {"scores"}),
        ('folder / "adapter"', {"adapter"}),
        ('kind = "adapter"; key = row["references"]', set()),
        ('name = "trainer_state.json"', set()),
    ],
)
def test_the_search_finds_what_it_should(code: str, caught: set[str]) -> None:
    """Code, prose and patterns are caught; keys, kinds and other programs' files are not."""
    assert {name for _, name in [*named_files(code), *named_folders(code)]} == caught
