"""`rscap verify`: what follows from its files passes, and every planted change is named."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import rscap
import study_folder as make
from rscap import scoring
from rscap.cli import app
from rscap.data import open_source
from rscap.errors import StoreError
from rscap.provenance import file_digest
from rscap.reports import write_report
from rscap.reports.card import read_card_scores, score_lines
from rscap.reports.study import write_study_report
from rscap.store import CARRIED, RunFolder

Change = Callable[[Path], None]


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with scores, one baseline, and its page: nothing differs."""
    folder = tmp_path_factory.mktemp("intact") / "mine"
    examples = open_source("sample").subset("test", 31, 0)
    make.write_run(folder, examples, make.predict(examples, 0.3, 1), minutes=2)
    make.write_scores(RunFolder(folder).baseline("constant"), "test", examples, make.predict(examples, 0.7, 2))
    write_report([folder], folder / "report.html")
    return folder


def edit(path: Path, change: Callable[[Any], None]) -> None:
    """Change a JSON file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def of_sheet(change: Callable[[Any], None], name: str = "scores/test.json") -> Change:
    return lambda run: edit(run / name, change)


def of_line(kind: str, change: Callable[[dict[str, Any]], None] | None, *, forged: bool = False) -> Change:
    """Change or drop the third line of predictions or references; `forged`: with its digest in the sheet."""

    def carry_out(run: Path) -> None:
        path = run / kind / "test.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines()
        row = json.loads(lines.pop(2))
        if change is not None:
            change(row)
            lines.insert(2, json.dumps(row, ensure_ascii=False))
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        if forged:
            edit(run / "scores/test.json", lambda sheet: sheet["digests"].update({kind: file_digest(path)}))

    return carry_out


def of_text(name: str, before: str, after: str) -> Change:
    """Change the first of these words in a text file."""

    def carry_out(run: Path) -> None:
        text = (run / name).read_text(encoding="utf-8")
        assert before in text
        (run / name).write_text(text.replace(before, after, 1), encoding="utf-8")

    return carry_out


def other_caption(row: dict[str, Any]) -> None:
    row["caption"] = "a caption that no model wrote"


def other_reference(row: dict[str, Any]) -> None:
    row["captions"][0] = "a reference that nobody wrote"


def first(table: dict[str, Any]) -> dict[str, Any]:
    return next(iter(table.values()))


def signed(before: str, after: str) -> Change:
    return of_sheet(lambda sheet: sheet.update(signature=sheet["signature"].replace(before, after)))


PLANTED: dict[str, tuple[Change, str]] = {
    "a caption": (
        of_line("predictions", other_caption),
        "predictions/test.jsonl: not the predictions that were scored",
    ),
    "a caption with its digest": (of_line("predictions", other_caption, forged=True), "scores/test.json, items."),
    "how a caption ended": (
        of_line("predictions", lambda row: row.update(stopped="length")),
        "predictions/test.jsonl: not the predictions",
    ),
    "a caption taken out": (of_line("predictions", None, forged=True), "scores/test.json, signature.n"),
    "a reference": (of_line("references", other_reference), "references/test.jsonl: not the references"),
    "a reference with its digest": (
        of_line("references", other_reference, forged=True),
        "scores/test.json, signature.idf",
    ),
    "an image's references taken out": (
        of_line("references", None, forged=True),
        "scores/test.json: captions and references cannot be scored as it says",
    ),
    "a corpus score": (of_sheet(lambda sheet: sheet["corpus"].update(CIDEr=2.5)), "scores/test.json, corpus.CIDEr"),
    "the last digit of a score": (
        of_sheet(lambda sheet: sheet["corpus"].update({"BLEU-4": sheet["corpus"]["BLEU-4"] + 1e-7})),
        "scores/test.json, corpus.BLEU-4",
    ),
    "an item score": (of_sheet(lambda sheet: first(sheet["items"]).update(CIDEr=9.0)), "scores/test.json, items."),
    "a metric taken out": (of_sheet(lambda sheet: sheet["corpus"].pop("CIDEr")), "scores/test.json, corpus.CIDEr"),
    "an interval": (
        of_sheet(lambda sheet: sheet["intervals"]["CIDEr"].__setitem__(0, 0.0)),
        "scores/test.json, intervals.CIDEr[0]",
    ),
    "the signature's n": (signed("n:31", "n:310"), "scores/test.json, signature.n"),
    "the signature's protocol": (signed("protocol:coco", "protocol:raw"), "scores/test.json, signature.protocol"),
    "the signature's decoding": (signed("greedy-64", "beam5-64"), "scores/test.json, signature.decode"),
    "the signature's version": (signed("rscap:", "rscap:9."), "scores/test.json, signature: it says rscap:9."),
    "a part of the signature twice": (
        of_sheet(lambda sheet: sheet.update(signature=sheet["signature"] + "|n:31")),
        "scores/test.json, signature",
    ),
    "a digest": (
        of_sheet(lambda sheet: sheet["digests"].update(references="0" * 64)),
        "references/test.jsonl: not the references that were scored",
    ),
    "n": (of_sheet(lambda sheet: sheet.update(n=32)), "scores/test.json, n"),
    "images without a caption": (of_sheet(lambda sheet: sheet.update(unscored=2)), "scores/test.json, unscored"),
    "a kept statistic": (
        of_sheet(lambda sheet: first(sheet["statistics"])[4].__setitem__(0, 77)),
        "scores/test.json, statistics.",
    ),
    "a rate of content errors": (
        of_sheet(lambda sheet: first(sheet["content"]["rates"]).update(wrong=99)),
        "scores/test.json, content.rates.",
    ),
    "a diagnostic": (
        of_sheet(lambda sheet: sheet["diagnostics"].update(distinct_captions=3)),
        "scores/test.json, diagnostics.distinct_captions",
    ),
    "a score of a source": (
        of_sheet(lambda sheet: first(sheet["diagnostics"]["by_source"]).update(CIDEr=1.0)),
        "scores/test.json, diagnostics.by_source.",
    ),
    "a baseline's score": (
        of_sheet(lambda sheet: sheet["corpus"].update(CIDEr=0.0), "baselines/constant/scores/test.json"),
        "baselines/constant/scores/test.json, corpus.CIDEr",
    ),
    "a figure of the page": (of_text("report.html", 'class="value">0.', 'class="value">9.'), "report.html, scores, "),
    "a figure of its CSV": (of_text("report.csv", "finished,31", "finished,32"), "report.csv, line 2"),
    "a figure of its JSON": (
        lambda run: edit(run / "report.json", lambda page: page["tables"][0]["rows"][0]["scores"].update(CIDEr=3.0)),
        "report.json, tables[0].rows[0].scores.CIDEr",
    ),
}


def test_a_run_whose_figures_follow_passes(intact: Path) -> None:
    """Sheets of run and baseline and the page with its tables: nothing differs, and it says what it recomputed."""
    found = rscap.verify(intact)
    assert found.holds, found
    assert found.kind == "run"
    assert [line.partition(":")[0] for line in found.checked] == [
        "scores/test.json",
        "baselines/constant/scores/test.json",
        "report.html, report.json, report.csv",
    ]
    assert found.unchecked == ()


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_change_is_named(planted: str, intact: Path, tmp_path: Path) -> None:
    """The first finding names the file, and the figure in it, that was changed."""
    change, named = PLANTED[planted]
    run = shutil.copytree(intact, tmp_path / "mine")
    change(run)
    if not named.startswith("report."):
        (run / "report.html").unlink()  # saves making it again
    found = rscap.verify(run)
    assert not found.holds
    assert str(found.findings[0]).startswith(named), str(found.findings[0])


def test_a_caption_that_was_forged_with_its_digest_is_named_by_its_image(intact: Path, tmp_path: Path) -> None:
    """The finding names the image whose caption was changed."""
    run = shutil.copytree(intact, tmp_path / "mine")
    of_line("predictions", other_caption, forged=True)(run)
    changed = json.loads((run / "predictions/test.jsonl").read_text(encoding="utf-8").splitlines()[2])["id"]
    assert rscap.verify(run).findings[0].where.startswith(f"items.{changed}.")


def test_a_page_elsewhere_finds_its_runs(intact: Path, tmp_path: Path) -> None:
    """A page names its runs relative to itself; moved alone it cannot be verified, unless they are named."""
    folder = tmp_path / "all"
    for name in ("a", "b"):
        shutil.copytree(intact, folder / name)
    write_report([folder / "a", folder / "b"], folder / "pages" / "both.html")
    assert rscap.verify(folder / "pages" / "both.html").holds
    moved = shutil.copytree(folder, tmp_path / "moved")
    assert rscap.verify(moved / "pages" / "both.html").holds
    alone = shutil.copy(folder / "pages" / "both.html", tmp_path / "alone.html")
    with pytest.raises(StoreError, match="cannot be verified") as refused:
        rscap.verify(alone)
    assert "--files" in str(refused.value)
    assert rscap.verify(alone, files=[folder / "a", folder / "b"]).holds
    edit(folder / "b/scores/test.json", lambda sheet: sheet["corpus"].update(CIDEr=1.0))
    assert str(rscap.verify(folder / "pages" / "both.html").findings[0]).startswith("b/scores/test.json, corpus.CIDEr")


def test_a_study_and_its_reports_follow(tmp_path: Path) -> None:
    """Every finished run, zero-shot and baseline, and the page with its tables; a changed verdict is named."""
    study = make.write_study(tmp_path / "study", images=8, seeds=2)
    write_study_report(study, study / "report.html")
    found = rscap.verify(study)
    assert found.holds, found
    assert found.kind == "study"
    assert len(found.checked) == 3 * 2 + 2 + 1
    assert any("report.pdf" in line for line in found.unchecked)
    assert rscap.verify(study / "report.html").holds
    of_text("report.tex", r"\caption{spoilt", r"\caption{unspoilt")(study)
    edit(study / "runs/same/seed-1/scores/test.json", lambda sheet: sheet["corpus"].update(CIDEr=9.0))
    named = [str(one).partition(":")[0] for one in rscap.verify(study).findings]
    assert named[0] == "runs/same/seed-1/scores/test.json, corpus.CIDEr"
    assert any(name.startswith("report.tex") for name in named)


def test_scores_of_another_program_are_taken_and_their_mean_is_checked(intact: Path, tmp_path: Path) -> None:
    """Item scores that rscap cannot compute are told as unchecked; mean and interval follow from them."""
    run = RunFolder(shutil.copytree(intact, tmp_path / "mine"))
    (run.path / "report.html").unlink()
    sheet = scoring.read_sheet(run.scores("test"))
    spice = scoring.ForeignMetric(
        name="SPICE", source="a judge", low=0, high=1, scores={name: i / 40 for i, name in enumerate(sheet.items)}
    )
    scoring.write_sheet(run.scores("test"), scoring.add_foreign(sheet, [spice]))
    found = rscap.verify(run)
    assert found.holds, found
    assert any("SPICE was computed by a judge" in line for line in found.unchecked)
    edit(run.scores("test"), lambda table: table["corpus"].update(SPICE=0.9))
    assert str(rscap.verify(run).findings[0]).startswith("scores/test.json, corpus.SPICE")


def test_marks_of_seen_images_are_checked_against_each_other(intact: Path, tmp_path: Path) -> None:
    """A mark that was taken out of the signature alone is named; counting the images again is told as unchecked."""
    run = RunFolder(shutil.copytree(intact, tmp_path / "mine"))
    (run.path / "report.html").unlink()
    sheet = scoring.read_sheet(run.scores("test"))
    marked = scoring.with_seen(sheet, {"of": 31, "trained": 4, "selected": 0, "alike": 0})
    scoring.write_sheet(run.scores("test"), marked)
    found = rscap.verify(run)
    assert found.holds, found
    assert any("has seen" in line for line in found.unchecked)
    signed("|seen:4/31", "")(run.path)
    assert str(rscap.verify(run).findings[0]).startswith("scores/test.json, signature.seen")


def write_card(run: Path, export: Path) -> Path:
    """An export of which there is only the card and what travels with it."""
    carried = RunFolder(export / CARRIED)
    for part in ("predictions", "references", "scores", "baselines"):
        shutil.copytree(run / part, carried.path / part)
    lines = "\n".join(score_lines(read_card_scores(carried, "test")))
    (export / "README.md").write_text(f"# mine\n\n## Scores\n\nMeasured.\n\n{lines}\n\n## Limits\n", encoding="utf-8")
    return export


def test_a_card_follows_from_the_evaluation_that_travels_with_it(intact: Path, tmp_path: Path) -> None:
    """Table, signature and warnings of the card; a changed figure, a warning taken out and a line put in are named."""
    card = write_card(intact, tmp_path / "export")
    found = rscap.verify(card)
    assert found.holds, found
    assert found.kind == "card"
    text = (card / "README.md").read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if line.startswith("| CIDEr"))
    for changed in (
        text.replace(row, row.replace("| CIDEr-D | ", "| CIDEr-D | 1")),
        text.replace("`protocol:coco", "`protocol:raw"),
        text.replace(row, f"{row}\n| SPICE | 0.9 | 0.1 |"),
        text.replace(f"{row}\n", ""),
    ):
        assert changed != text
        (card / "README.md").write_text(changed, encoding="utf-8")
        assert str(rscap.verify(card).findings[0]).startswith("README.md, scores")


def test_a_card_alone_cannot_be_verified(intact: Path, tmp_path: Path) -> None:
    """Without the evaluation: exit code 2, with its address where the card has one; named elsewhere it is used."""
    card = write_card(intact, tmp_path / "export")
    elsewhere = shutil.move(card / CARRIED, tmp_path / "downloaded")
    result = CliRunner().invoke(app, ["verify", str(card)])
    assert isinstance(result.exception, StoreError)
    assert "cannot be verified" in str(result.exception)
    address = "The captions and references that these scores follow from: <https://example.org/mine>"
    of_text("README.md", "\n\n## Limits", f"\n{address}\n\n## Limits")(card)
    with pytest.raises(StoreError) as refused:
        rscap.verify(card)
    assert "https://example.org/mine" in str(refused.value)
    assert rscap.verify(card, files=[elsewhere]).holds


def test_what_is_missing_or_nothing_at_all_cannot_be_verified(intact: Path, tmp_path: Path) -> None:
    """A run without its captions, without scores, a page of another program, an empty folder: an error that says so."""
    run = RunFolder(shutil.copytree(intact, tmp_path / "mine"))
    run.predictions("test").unlink()
    (tmp_path / "page.html").write_text("<html></html>", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    unscored = RunFolder.create(tmp_path / "unscored")
    for thing, said in (
        (run.path, "does not exist"),
        (unscored.path, "has no scores"),
        (tmp_path / "page.html", "does not say what it was made from"),
        (tmp_path / "empty", "cannot be verified"),
        (tmp_path / "nothing", "it does not exist"),
    ):
        with pytest.raises(StoreError, match=said):
            rscap.verify(thing)


def test_a_score_sheet_follows_from_the_two_files_that_it_was_computed_from(tmp_path: Path) -> None:
    """What `rscap score --out` wrote passes with its captions and references, of one split too; another caption is
    named by its image; a sheet alone, and a file that is no sheet, cannot be verified."""
    captions, references, sheet = tmp_path / "captions.json", tmp_path / "references.csv", tmp_path / "scores.json"
    given = {"1.jpg": "two planes on the apron", "2.jpg": "a river"}
    captions.write_text(json.dumps(given), encoding="utf-8")
    rows = "1.jpg,test,two planes .,planes on an apron .\n2.jpg,test,a river .,\n3.jpg,train,a field .,\n"
    references.write_text("image,split,caption_1,caption_2\n" + rows, encoding="utf-8")
    files = ["--candidates", str(captions), "--references", str(references), "--split", "test"]
    scored = CliRunner().invoke(app, ["score", *files, "--out", str(sheet)], catch_exceptions=False)
    assert scored.exit_code == 0
    passed = CliRunner().invoke(app, ["verify", str(sheet), *files], catch_exceptions=False)
    assert (passed.exit_code, "checked: scores.json: 7 scores of 2 images" in passed.stdout) == (0, True)
    captions.write_text(json.dumps({**given, "2.jpg": "a brown river"}), encoding="utf-8")
    found = rscap.verify(sheet, candidates=captions, references=references, split="test")
    assert str(found.findings[0]).startswith("scores.json, items.2.jpg.BLEU-1: it says ")
    for thing, options, said in (
        (sheet, {}, "it is a score sheet"),
        (sheet, {"candidates": captions}, "--candidates and --references together"),
        (tmp_path, {"candidates": captions, "references": references}, "are for a score sheet"),
        (captions, {}, "it is no run, evaluation, study"),
        (tmp_path / "none.json", {"candidates": captions, "references": references}, "it does not exist"),
    ):
        with pytest.raises(StoreError, match=said):
            rscap.verify(thing, **options)


def test_a_changed_cell_of_a_long_line_is_shown_with_its_column(intact: Path, tmp_path: Path) -> None:
    """A figure behind the two hundredth character of a line of report.csv is told apart from the true one."""
    run = shutil.copytree(intact, tmp_path / "mine")
    table = list(csv.reader((run / "report.csv").read_text(encoding="utf-8").splitlines()))
    column = table[0].index("CIDEr")
    of_text("report.csv", table[1][column], "9.5")(run)
    assert str(rscap.verify(run).findings[0]) == (
        f"report.csv, line 2, CIDEr: it says “9.5”, and its files give “{table[1][column]}”"
    )


def test_the_command_says_what_it_proves_and_ends_with_one_where_something_differs(
    intact: Path, tmp_path: Path
) -> None:
    """Exit code 0 and the reach of the proof; 1 and the figure; JSON holds the same."""
    passed = CliRunner().invoke(app, ["verify", str(intact)], catch_exceptions=False)
    assert passed.exit_code == 0
    assert "does not show that a model wrote these captions" in " ".join(passed.stdout.split())
    run = shutil.copytree(intact, tmp_path / "mine")
    edit(run / "scores/test.json", lambda sheet: sheet["corpus"].update(CIDEr=2.5))
    failed = CliRunner().invoke(app, ["verify", str(run)], catch_exceptions=False)
    assert failed.exit_code == 1
    assert "corpus.CIDEr: it says 2.5, and its files give" in failed.stdout
    told = json.loads(CliRunner().invoke(app, ["verify", str(run), "--json"], catch_exceptions=False).stdout)
    assert told["holds"] is False
    assert told["findings"][0] == asdict(rscap.verify(run).findings[0])
