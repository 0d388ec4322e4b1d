"""docs/extending.md is followed to the letter: what it says suffices to add a metric."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import rscap
from checkout import ROOT
from rscap.metrics import METRICS, headline_of

PAGE = ROOT / "docs" / "extending.md"
CAPTIONS = {f"{i}": "two planes on the runway" if i % 3 else "a river" for i in range(12)}
REFERENCES = {f"{i}": [f"{i} planes on a long runway", "planes"] for i in range(12)}


def block(kind: str) -> str:
    """The text of the page's Python block that is marked so."""
    (found,) = re.findall(rf"```python {re.escape(kind)}\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    return str(found)


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with the two changes that the page describes, and captions beside it."""
    folder = tmp_path_factory.mktemp("extended")
    source = Path(rscap.__file__).parent
    shutil.copytree(source, folder / "rscap", ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    (folder / "rscap" / "scoring" / "length_ratio.py").write_text(block("file=scoring/length_ratio.py"))
    table = folder / "rscap" / "metrics.py"
    before, end, after = table.read_text().partition('\n)\n"""All metrics')
    table.write_text(f"{before}\n    {block('line=metrics.py').strip()},{end}{after}")
    (folder / "candidates.json").write_text(json.dumps(CAPTIONS))
    (folder / "references.json").write_text(json.dumps(REFERENCES))
    return folder


def python(folder: Path, code: str, *arguments: str) -> str:
    """What a fresh interpreter prints that finds the copy."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


RUN = "from rscap.cli import main; main()"


def test_a_metric_takes_one_module_and_one_line(extended: Path) -> None:
    """The command line scores with the new metric: its own table row, item scores, an interval, kept statistics, a row
    in the shuffled control; and compares by it. The other metrics score as before."""
    options = ["--candidates", "candidates.json", "--references", "references.json", "--no-meteor", "--draws", "100"]
    assert "length ratio" in python(extended, RUN, "score", *options, "--json", "sheet.json")
    sheet = json.loads((extended / "sheet.json").read_text())
    words, closest = 8 * 5 + 4 * 2, 8 * 6 + 4 * 1
    assert sheet["corpus"]["length ratio"] == pytest.approx(words / closest)
    assert sheet["items"]["0"]["length ratio"] == pytest.approx(1 / 2)
    assert len(sheet["intervals"]["length ratio"]) == 2
    assert len(sheet["statistics"]["length"]) == 12
    assert "length ratio" in sheet["diagnostics"]["shuffled"]
    ours = rscap_sheet()
    assert {name: sheet["corpus"][name] for name in ours} == ours
    shutil.copy(extended / "sheet.json", extended / "other.json")
    systems = ["one=sheet.json", "other=other.json"]
    assert "length ratio" in python(extended, RUN, "compare", *systems, "--metric", "length ratio")


def rscap_sheet() -> dict[str, float]:
    """Corpus scores without the new metric."""
    from rscap import scoring

    names = [name for name in METRICS if name != "METEOR"]
    return dict(scoring.score_captions(CAPTIONS, REFERENCES, metrics=names, draws=0).corpus)


def test_recipes_training_and_reports_know_it(extended: Path) -> None:
    """A recipe may select by it, an evaluation during training computes it, and reports are still headed by CIDEr."""
    code = """
from pathlib import Path
from rscap.metrics import METRICS, headline_of, in_training
from rscap.recipe import read_recipe
recipe = read_recipe(Path("risc-mini-nano"), ["data.source=sample", "selection.metric=length ratio"])
print(recipe.selection.metric, "length ratio" in in_training(), METRICS[-1], headline_of(METRICS), sep="|")
"""
    assert python(extended, code).strip() == "length ratio|True|length ratio|CIDEr"


def test_the_headline_does_not_depend_on_a_place_in_a_list() -> None:
    """By declaration CIDEr comes first, then ROUGE-L and METEOR, in whatever order and beside whatever else."""
    for names in (METRICS, METRICS[::-1], ("length ratio", *METRICS), (*METRICS, "SPICE")):
        assert headline_of(names) == "CIDEr"
    assert headline_of(["SPICE", "METEOR", "BLEU-4"]) == "METEOR"
    assert headline_of(["SPICE", "judge"]) == "SPICE"
    assert headline_of([]) is None


def test_a_function_needs_no_file() -> None:
    """The page's example of a metric of one's own runs as it stands."""
    exec(block("own-metric"), {"__name__": "page"})
