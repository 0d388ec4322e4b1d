"""The report of a study: what failed is never counted, every number carries its signature, and all formats agree."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest

import study_folder as make
from rscap import scoring
from rscap.data import open_source
from rscap.errors import StoreError
from rscap.reports.study import load_study, study_markdown, summarise, write_study_report
from rscap.reports.study.formats import baseline_sentence
from rscap.reports.study.images import browser_of_study
from rscap.store import (
    RunFolder,
    StudyFolder,
    read_sheet,
    write_jsonl,
    write_panel,
    write_sheet,
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make.write_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def written(study: Path) -> dict[str, Path]:
    return {path.suffix: path for path in write_study_report(study, study / "report.html")}


def test_the_planted_difference_is_found_and_the_null_one_is_not(study: Path) -> None:
    """`better` keeps every word, `same` loses as many as the reference."""
    judged = summarise(load_study(study)).judgement
    assert judged is not None
    assert {row.name: row.verdict for row in judged.rows} == {
        "better": "better",
        "reference": "reference",
        "same": "undecided",
    }


def test_the_page_says_first_whether_any_row_beats_the_baselines(study: Path, tmp_path: Path) -> None:
    """The base model and the constant caption lose most words: all rows beat both. Rows that lose more beat neither."""
    good = summarise(load_study(study))
    assert baseline_sentence(good).startswith("All 3 rows are better than every baseline: better, the best row (")
    assert len(good.beside) == 3 * 2
    bad = summarise(load_study(make.write_study(tmp_path, seeds=2, rows={"one": 0.9, "two": 0.9}, failed=None)))
    sentence = baseline_sentence(bad)
    assert sentence.startswith("No row is better than every baseline: ")
    assert " the best row (CIDEr " in sentence
    assert "is worse than constant (" in sentence
    write_study_report(tmp_path, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert 0 < text.index("No row is better than") < text.index("varies between seeds")


def test_failed_missing_and_excluded_rows_stand_apart(study: Path) -> None:
    """They have a status and a reason, and no score."""
    rows = {one.row.name: one for one in summarise(load_study(study)).rows}
    assert (rows["broken"].row.status, rows["broken"].row.reason) == ("refused", "AdapterError: EVA wants activations")
    assert rows["missing"].row.status == "missing"
    assert (rows["left-out"].row.status, rows["left-out"].row.reason) == ("excluded", "no 4-bit form")
    assert not any(rows[name].means for name in ("broken", "missing", "left-out"))


def test_a_run_that_did_not_finish_is_never_counted(tmp_path: Path) -> None:
    """Scores in the folder of an interrupted run do not enter the mean."""
    folder = make.write_study(tmp_path, seeds=2, failed=None)
    status = folder / "runs" / "same" / "seed-1" / "status.json"
    status.write_text(json.dumps({"state": "interrupted"}), encoding="utf-8")
    rows = {one.row.name: one for one in summarise(load_study(folder)).rows}
    assert len(rows["same"].row.finished) == 1
    assert rows["same"].row.status == "interrupted"
    assert not rows["same"].deviations


def test_a_row_that_has_seen_its_images_says_so(tmp_path: Path) -> None:
    """A run of the study whose sheet is marked is told on the page and in the JSON; a study without any is silent."""
    folder = make.write_study(tmp_path, seeds=2, failed=None)
    assert load_study(folder).seen() == []
    scores = RunFolder(folder / "runs" / "same" / "seed-1").scores("test")
    sheet = read_sheet(scores)
    write_sheet(scores, scoring.with_seen(sheet, {"of": sheet.n, "trained": 3}))
    files = {path.suffix: path.read_bytes() for path in write_study_report(folder, folder / "report.html")}
    said = f"same, seed 1, was trained on 3 of the {sheet.n} images scored"
    assert said.encode() in files[".html"]
    assert said in json.loads(files[".json"])["seen"][0]


def test_all_formats_hold_the_same_scores(study: Path, written: dict[str, Path]) -> None:
    """HTML, Markdown and LaTeX print the means of the JSON; the CSV holds every run and its signature."""
    content = json.loads(written[".json"].read_text(encoding="utf-8"))
    texts = {suffix: written[suffix].read_text(encoding="utf-8") for suffix in (".html", ".md", ".tex")}
    for row in content["rows"]:
        for value in row["scores"].values():
            assert all(f"{value:.3f}" in text for text in texts.values())
    lines = list(csv.DictReader(io.StringIO(written[".csv"].read_text(encoding="utf-8"))))
    runs = [line for line in lines if line["state"] == "finished"]
    assert len(runs) == 9
    assert all("greedy-64" in line["signature"] for line in runs)
    for row in content["rows"][:3]:
        mine = [float(line["CIDEr"]) for line in runs if line["row"] == row["name"]]
        assert sum(mine) / 3 == pytest.approx(row["scores"]["CIDEr"])
    texts[".tex"] = texts[".tex"].replace(r"\textbar{}", "|").replace("\\", "")
    assert all(content["signature"] in text for text in texts.values())


def test_the_page_is_whole_and_safe(written: dict[str, Path]) -> None:
    """Nothing is fetched, the embedded data parse, no caption can end the script, and every image has its picture."""
    text = written[".html"].read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href)=["']https?:""", text)
    (embedded,) = re.findall(r'<script type="application/json" id="browser-data">(.*?)</script>', text, re.DOTALL)
    data = json.loads(embedded)
    assert len(data["images"]) == 40
    assert len(data["systems"]) == 11
    assert (data["subject"], data["against"]) == ("better · seed 0", "reference · seed 0")
    assert all(image["picture"].startswith("/9j/") for image in data["images"])
    assert all(len(image["captions"]) == len(image["scores"]) == 11 for image in data["images"])


def test_captions_cannot_break_out_of_the_page(tmp_path: Path) -> None:
    """A caption that holds a closing script tag is text."""
    folder = make.write_study(tmp_path, images=5, seeds=1, failed=None)
    path = folder / "runs" / "same" / "seed-0" / "predictions" / "test.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows[0]["caption"] = "</script><script>alert(1)</script><!-- <b>"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    write_study_report(folder, folder / "report.html")
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert text.count("</script>") == 2


def test_the_pdf_is_one_page(written: dict[str, Path]) -> None:
    """A PDF, with one page object."""
    content = written[".pdf"].read_bytes()
    assert content.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type /Page\b(?!s)", content)) == 1


def test_latex_is_escaped(tmp_path: Path) -> None:
    """Row names with underscores and per cents cannot break the table."""
    folder = make.write_study(tmp_path, images=5, seeds=1, rows={"a_b": 0.3, "50 %": 0.2}, failed=None)
    write_study_report(folder, folder / "report.html")
    text = (folder / "report.tex").read_text(encoding="utf-8")
    assert r"a\_b" in text
    assert r"50 \%" in text
    assert text.count(r"\begin{") == text.count(r"\end{")


def test_one_seed_is_not_judged(tmp_path: Path) -> None:
    """With one seed a row the report says that nothing is decided."""
    folder = make.write_study(tmp_path, images=8, seeds=1, failed=None)
    assert "nothing is decided" in study_markdown(summarise(load_study(folder)))


def test_a_plan_that_leads_outside_is_refused(tmp_path: Path) -> None:
    """Folders in plan.json stay inside the study; a plan without its keys is named."""
    folder = make.write_study(tmp_path, images=5, seeds=1, failed=None)
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    plan["baselines"] = ["../elsewhere"]
    (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    with pytest.raises(StoreError, match="outside"):
        load_study(folder)
    (folder / "plan.json").write_text("{}", encoding="utf-8")
    with pytest.raises(StoreError, match="split"):
        load_study(folder)


def test_the_page_needs_no_data(tmp_path: Path) -> None:
    """With the data set gone every image has its picture, for the study keeps them itself."""
    folder = make.write_study(tmp_path, images=5, seeds=1, failed=None)
    take_data_away(folder)
    found = browser_of_study(summarise(load_study(folder)))
    assert found is not None
    assert found["note"] == ""
    assert [image["picture"] for image in found["images"]] == ["/9j/AAAA"] * 5


@pytest.mark.parametrize("thumbnails", ["", "{"])
def test_a_study_without_pictures_shows_the_panel_and_says_so(tmp_path: Path, thumbnails: str) -> None:
    """A study of rscap 0.1 keeps no pictures, and their file may be damaged: those of the runs' panels are shown."""
    folder = make.write_study(tmp_path, images=5, seeds=1, failed=None, thumbnails=False)
    take_data_away(folder)
    if thumbnails:
        StudyFolder(folder).thumbnails_file.write_text(thumbnails + "\n", encoding="utf-8")
    first = open_source("sample").subset("test", 5, 0)[:1]
    write_panel(RunFolder(folder / "runs" / "same" / "seed-0").panel("test"), first)
    found = browser_of_study(summarise(load_study(folder)))
    assert found is not None
    assert "panels are shown" in found["note"]
    assert [bool(image["picture"]) for image in found["images"]] == [True, False, False, False, False]


def test_a_job_that_was_refused_before_it_made_a_folder_is_told(tmp_path: Path) -> None:
    """Its attempt is all that is left of it; 0.1 called a job that was asked to stop `partial`."""
    folder = make.write_study(tmp_path, images=5, seeds=1)
    attempts = {"runs/missing/seed-0": ("refused", "DataError: test images"), "runs/broken/seed-0": ("partial", "")}
    rows = [
        {"folder": place, "progress": progress, "reason": reason, "seconds": 1.0}
        for place, (progress, reason) in attempts.items()
    ]
    write_jsonl(StudyFolder(folder).attempts_file, rows)
    rows_by_name = {row.name: row for row in load_study(folder).rows}
    assert (rows_by_name["missing"].status, rows_by_name["missing"].reason) == ("refused", "DataError: test images")
    assert [attempt.progress for attempt in StudyFolder(folder).attempts()] == ["refused", "interrupted"]


def take_data_away(folder: Path) -> None:
    """Have the plan name a data set that is not there."""
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    plan["evaluation"]["source"] = str(folder / "gone")
    (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
