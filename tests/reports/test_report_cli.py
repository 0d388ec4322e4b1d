"""`rscap report` on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import study_folder
from rscap import scoring
from rscap.cli.report import report
from rscap.errors import StoreError
from rscap.store import RunFolder

APP = typer.Typer()
APP.command()(report)


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    references = {name: (f"a {name} .", f"the {name} is red .") for name in ("plane", "boat", "house")}
    for run, captions in (
        ("one", dict.fromkeys(references, "a boat .")),
        ("two", {n: f"a {n} ." for n in references}),
    ):
        folder = RunFolder.create(tmp_path / run)
        scoring.write_sheet(folder.scores("test"), scoring.score_captions(captions, references, draws=100))
        folder.close("finished")
    return [tmp_path / "one", tmp_path / "two"]


def called(*arguments: Path | str) -> list[str]:
    result = CliRunner().invoke(APP, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout.splitlines()


def test_the_page_lies_in_the_run_or_beside_the_runs(runs: list[Path], tmp_path: Path) -> None:
    """Without --out, one run gets its own report and several runs of a folder share one in that folder."""
    assert called(runs[0])[0] == str(runs[0] / "report.html")
    assert called(*runs) == [str(tmp_path / f"report.{kind}") for kind in ("html", "csv", "json")]
    assert called(*runs, "--out", tmp_path / "elsewhere" / "page.html")[0] == str(tmp_path / "elsewhere" / "page.html")
    assert (tmp_path / "elsewhere" / "page.csv").is_file()


def test_markdown_goes_to_standard_output_alone(runs: list[Path], tmp_path: Path) -> None:
    """--markdown prints the table and writes nothing."""
    lines = called(*runs, "--markdown")
    assert lines[0].startswith("| | BLEU-1 |")
    assert lines[2].startswith("| one |")
    assert not list(tmp_path.rglob("report.*"))


def test_options_that_would_do_nothing_are_refused(runs: list[Path], tmp_path: Path) -> None:
    """A metric judges studies and a split shows runs: given to the other, each is an error with the way out."""
    study = study_folder.write_study(tmp_path / "study", images=8, seeds=1, failed=None)
    with pytest.raises(StoreError, match="a report about runs shows all metrics; 'METEOR' can only judge a study"):
        called(runs[0], "--metric", "METEOR")
    with pytest.raises(StoreError, match="is a study, and its runs were evaluated on a split of its own"):
        called(study, "--split", "val")
    assert called(study, "--metric", "ROUGE-L", "--markdown")


def test_another_split_is_not_made_up(runs: list[Path]) -> None:
    """A split without scores gives a page that says so."""
    [page, *_] = called(runs[0], "--split", "val")
    assert "no scores for this split" in Path(page).read_text(encoding="utf-8")
