"""`--json` prints JSON on standard output, `--out` writes a file: the same in every command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rscap.cli import app


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Candidates and references of twelve images."""
    references = {str(n): [f"{n} planes are parked", f"there are {n} planes"] for n in range(12)}
    (tmp_path / "r.json").write_text(json.dumps(references), encoding="utf-8")
    (tmp_path / "c.json").write_text(json.dumps({key: own[0] for key, own in references.items()}), encoding="utf-8")
    return tmp_path


def score(folder: Path, *options: str) -> tuple[str, str]:
    """Standard output and standard error of `rscap score`."""
    files = ("--candidates", str(folder / "c.json"), "--references", str(folder / "r.json"))
    result = CliRunner().invoke(app, ["score", *files, "--no-meteor", "--draws", "0", *options])
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


def test_json_prints_what_out_writes(folder: Path) -> None:
    """The flag prints the very sheet that the file holds, and nothing else."""
    printed, _ = score(folder, "--json", "--out", str(folder / "s.json"))
    assert printed == (folder / "s.json").read_text(encoding="utf-8")
    assert json.loads(printed)["n"] == 12


def test_all_protocols_are_one_object(folder: Path) -> None:
    """With `--protocol all` the sheets stand in one object, by protocol."""
    printed, _ = score(folder, "--json", "--protocol", "all")
    assert set(json.loads(printed)) == {"coco", "raw", "sentence"}


def test_the_older_form_still_writes_with_a_note(folder: Path) -> None:
    """`--json FILE.json` of 0.1 writes the file and says how it is written now."""
    _, told = score(folder, "--json", str(folder / "old.json"))
    assert json.loads((folder / "old.json").read_text(encoding="utf-8"))["n"] == 12
    assert f"--out {folder / 'old.json'}" in told


def test_a_sheet_to_be_compared_is_never_written_over(folder: Path) -> None:
    """`compare --json a.json b.json` reads both: a file that exists is an input, not the old form's output."""
    for name in ("a", "b"):
        score(folder, "--out", str(folder / f"{name}.json"))
    before = (folder / "a.json").read_bytes()
    words = ["compare", "--draws", "100", "--json", str(folder / "a.json"), str(folder / "b.json")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["differences"]
    assert (folder / "a.json").read_bytes() == before


@pytest.mark.parametrize(
    "words",
    [
        ["plan", "risc-qlora", "--gpu", "16GB"],
        ["data", "inspect", "sample", "--no-images"],
        ["data", "audit", "sample", "--no-images", "--fail-on", "never"],
    ],
    ids=lambda words: words[0] if words[0] == "plan" else words[1],
)
def test_every_command_prints_json_alone(words: list[str], tmp_path: Path) -> None:
    """Standard output is one JSON value; `--out` writes the same value."""
    result = CliRunner().invoke(app, [*words, "--json", "--out", str(tmp_path / "x.json")])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))


def test_help_names_the_extra_that_meteor_needs() -> None:
    """Brackets are markup in help texts; the name of the extra stands without them."""
    shown = CliRunner().invoke(app, ["score", "--help"], env={"COLUMNS": "200"}).output
    assert "needs the extra `meteor`" in shown
