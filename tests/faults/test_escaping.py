"""Text of other people is text wherever it goes; what is handed on tells no path and no token."""

from __future__ import annotations

import csv
import html
import json
import re
from pathlib import Path

import pytest

from command_line import rscap
from rscap.errors import RecipeError
from rscap.escape import (
    for_cell,
    for_code_span,
    for_file_name,
    for_json,
    for_markdown,
    for_python,
    visible,
    without_folders,
    without_secrets,
)
from rscap.recipe import read_recipe

NAMES = {
    "markup": "[lora]",
    "closing markup": "x[/b]",
    "clear the screen": "a\x1b[2Jb",
    "set the title": "a\x1b]0;PWNED\x07",
    "C1": "a\x9b2J",
    "a line break": "a\nerror: forged",
    "a return": "a\rerror: forged",
    "a backspace": "a\x08\x08b",
    "other direction": "a\u202egnp.exe",
    "HTML": "<script>alert(1)</script>",
    "columns": "a | b",
    "a link": "[x](http://evil)",
    "a formula": "=cmd|' !A0",
    "emoji code": ":airplane:",
    "no UTF-8": "a\udcff",
    "back-ticks": "a`b``",
}
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


@pytest.mark.parametrize("kind", NAMES)
def test_a_name_does_nothing_in_a_terminal(place: Path, kind: str) -> None:
    """It is shown whole, as text; rich takes no markup from it, and no control character comes through."""
    name = NAMES[kind]
    words = (f"{name}=run/scores/val.json", "b=run/baselines/nearest/scores/val.json", "--draws", "100")
    done = rscap("compare", *words, cwd=place)
    assert done.code == 0
    assert not CONTROL.search(done.stdout + done.stderr)
    assert "\nerror: forged" not in done.stdout
    if kind in ("markup", "closing markup", "emoji code"):
        assert name in done.stdout


@pytest.mark.parametrize("kind", NAMES)
def test_a_name_does_nothing_in_a_file(place: Path, kind: str) -> None:
    """A run's name in its report, CSV and Markdown."""
    name = NAMES[kind]
    if "/" in name:
        name = name.replace("/", "-")
    (place / "run").rename(place / name)
    done = rscap("report", f"./{name}", "--split", "val", cwd=place)
    assert done.code == 0
    page = (place / name / "report.html").read_text(encoding="utf-8", errors="surrogateescape")
    assert "<script>alert" not in page
    rows = list(csv.reader((place / name / "report.csv").read_text(encoding="utf-8").splitlines()))
    assert not any(cell.startswith(("=", "@", "+")) for row in rows for cell in row)
    markdown = rscap("report", f"./{name}", "--split", "val", "--markdown", cwd=place).stdout
    assert not CONTROL.search(markdown)
    row = next(line for line in markdown.splitlines() if line.startswith("| ") and line.count("|") > 3)
    assert len(re.findall(r"(?<!\\)\|", row)) == len(re.findall(r"(?<!\\)\|", markdown.splitlines()[1]))
    assert not re.search(r"(?<!\\)<script", markdown)


PLACES = {
    "terminal": visible("a\x1b[2J\tb\nc\x9b", one_line=False) == "a\\x1b[2J\tb\nc\\x9b",
    "one line": visible("a\tb\nc", one_line=True) == "a\\tb\\nc",
    "JSON": json.loads(for_json(json.dumps({"a": "\x9b\u202e"}, ensure_ascii=False))) == {"a": "\x9b\u202e"},
    "a formula": for_cell("=1+1") == "'=1+1",
    "a command": for_cell("@SUM(1)") == "'@SUM(1)",
    "a number": for_cell("-1.5") == "-1.5",
    "an int": for_cell(-3) == -3,
    "markdown": for_markdown("<b>|`*x*`") == r"\<b\>\|\`\*x\*\`",
    "a link": for_markdown("[a](b)") == r"[a\](b)",
    "code": for_code_span("a`b") == "`` a`b ``",
    "python": for_python('"; import os; x="') == r'"\"; import os; x=\""',
    "a path": for_file_name("../../etc/passwd\0") == "..-..-etc-passwd-",
    "a long name": len(for_file_name("é" * 999).encode()) < 255,
    "dots": for_file_name("..") == "-..",
}


@pytest.mark.parametrize("place", PLACES)
def test_there_is_one_function_a_place(place: str) -> None:
    """Each escapes what acts in its place, and leaves the rest."""
    assert PLACES[place]


@pytest.mark.parametrize("text", NAMES.values())
def test_a_literal_of_python_is_the_text(text: str) -> None:
    """Whatever it holds, on one line."""
    literal = for_python(text)
    assert "\n" not in literal
    assert eval(literal) == text


PATHS = {
    "/home/me/data/risc": "risc",
    "~/data/risc": "risc",
    "rscap train /a/b.toml --set x=/c/d/e": "rscap train b.toml --set x=e",
    "'/a b/c'": "'a b/c'",
    "C:\\Users\\me\\risc": "risc",
    "runs/mine": "runs/mine",
    "https://huggingface.co/o/n": "https://huggingface.co/o/n",
    "1/2": "1/2",
    "base = '/x/y/z'": "base = 'z'",
    "a,/b/c": "a,c",
}


@pytest.mark.parametrize("text", PATHS)
def test_local_paths_are_cut_to_their_last_part(text: str) -> None:
    """Relative paths, addresses and names of the Hub stay."""
    assert without_folders(text) == PATHS[text]


def test_a_page_tells_no_local_path(place: Path) -> None:
    """Neither of the command nor of the recipe."""
    run = place / "run"
    known = json.loads((run / "provenance.json").read_text(encoding="utf-8"))
    known["command"] = "rscap train /home/somebody/secret-project/r.toml --out /mnt/scratch/somebody/x"
    (run / "provenance.json").write_text(json.dumps(known), encoding="utf-8")
    recipe = (run / "recipe.toml").read_text(encoding="utf-8")
    (run / "recipe.toml").write_text(recipe.replace('"sample"', '"/home/somebody/data/risc"'), encoding="utf-8")
    assert rscap("report", "run", "--split", "val", cwd=place).code == 0
    page = html.unescape((run / "report.html").read_text(encoding="utf-8"))
    assert "r.toml" in page
    assert "somebody" not in page


TOKENS = {
    "the Hub": "hf_" + "a" * 34,
    "an organisation": "api_org_" + "b" * 34,
    "GitHub": "ghp_" + "c" * 36,
    "GitHub, new": "github_pat_" + "d" * 40,
    "OpenAI": "sk-" + "e" * 40,
    "AWS": "AKIA" + "F" * 16,
    "Slack": "xoxb-" + "1" * 30,
    "of the environment": "value-of-a-variable",
}


@pytest.mark.parametrize("kind", TOKENS)
def test_a_token_is_neither_stored_nor_told(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe with one is refused, without repeating it; a recorded command has stars in its place."""
    monkeypatch.setenv("MY_SECRET", TOKENS["of the environment"])
    token = TOKENS[kind]
    with pytest.raises(RecipeError) as caught:
        read_recipe("quickstart", [f"track.project={token}"])
    assert "track.project is" in caught.value.message
    assert token not in str(caught.value)
    assert without_secrets(f"train --set track.project={token} x") == "train --set track.project=*** x"
