"""The records of run and study folders: what is written is read, what is damaged is named, what 0.1 wrote is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from checkout import ROOT
from rscap import errors
from rscap.errors import StoreError
from rscap.records import Rejected
from rscap.store import (
    WORST_FIRST,
    Attempt,
    EvaluationSettings,
    FolderState,
    PredictionRow,
    Provenance,
    Quality,
    Record,
    Reference,
    Removed,
    RunFolder,
    SpeedStep,
    Status,
    StudyFolder,
    StudyRecord,
    TrainStep,
    Weighted,
    explained,
    is_refusal,
    read_json,
    read_numbered_rows,
    read_panel,
    read_parameters,
    read_rejected,
    read_rows,
    read_sheet,
    read_train_log,
    write_json,
    write_parameters,
    write_rejected,
    write_rows,
    write_sheet,
)

V01 = ROOT / "tests" / "frozen" / "v01"
"""Folders that rscap 0.1 wrote."""

Rewrite = Callable[[Path, Path], object]


def record(kind: type[Record]) -> Rewrite:
    return lambda old, new: kind.read(old).write(new)


def rows(kind: type[Record]) -> Rewrite:
    return lambda old, new: write_rows(new, read_rows(old, kind))


REWRITES: dict[str, Rewrite] = {
    "**/status.json": record(Status),
    "**/provenance.json": record(Provenance),
    "**/quality.json": record(Quality),
    "**/evaluation.json": record(EvaluationSettings),
    "**/plan.json": record(StudyRecord),
    "**/removed.jsonl": rows(Removed),
    "**/weighted.jsonl": rows(Weighted),
    "**/speed.jsonl": rows(SpeedStep),
    "**/attempts.jsonl": rows(Attempt),
    "**/predictions/*.jsonl": rows(PredictionRow),
    "**/references/*.jsonl": rows(Reference),
    "**/train.jsonl": lambda old, new: write_rows(new, (row for _, row in read_train_log(old))),
    "**/rejected.jsonl": lambda old, new: write_rejected(new, read_rejected(old)),
    "**/parameters.json": lambda old, new: write_parameters(new, read_parameters(old)),
    "**/scores/*.json": lambda old, new: write_sheet(new, read_sheet(old)),
}


@pytest.mark.parametrize("pattern", REWRITES)
def test_what_0_1_wrote_is_written_again_byte_for_byte(pattern: str, tmp_path: Path) -> None:
    """Every file of a folder of 0.1 goes through its record without losing or changing a byte."""
    files = sorted(V01.glob(pattern))
    assert files
    for file in files:
        REWRITES[pattern](file, tmp_path / file.name)
        assert (tmp_path / file.name).read_bytes() == file.read_bytes(), file


def test_unknown_keys_are_kept(tmp_path: Path) -> None:
    """A key of another version, or of somebody's own, survives when the file is written again."""
    run = RunFolder.create(tmp_path / "run")
    write_json(run.status_file, {**read_json(run.status_file), "mood": {"is": ["good"]}})
    run.close("finished", steps=3)
    assert read_json(run.status_file)["mood"] == {"is": ["good"]}
    assert run.status().steps == 3


@pytest.mark.parametrize(
    ("kind", "content"),
    [(Status, {"state": "dreaming"}), (Status, {"state": "finished"}), (Provenance, {"packages": ["a", "list"]})],
)
def test_a_newer_rscap_is_named(kind: type[Record], content: dict[str, Any], tmp_path: Path) -> None:
    """A version that this rscap does not know is said, whether or not the rest could be read."""
    write_json(tmp_path / "file.json", {"version": 2, **content})
    with pytest.raises(StoreError, match=r"file\.json was written by a newer rscap: its format is version 2"):
        kind.read(tmp_path / "file.json")
    write_json(tmp_path / "file.json", {"version": 1, "state": "finished"})
    kind.read(tmp_path / "file.json")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not JSON"),
        ("[1]", "expected a JSON object, found"),
        ("{}", "'state' is missing"),
        ('{"state": "lost"}', "'state' should be 'started', 'finished', 'interrupted' or 'failed', found 'lost'"),
        ('{"state": "finished", "steps": "12"}', "'steps' should be a valid integer, found '12'"),
        ('{"state": "finished", "selected": {"step": 1, "metric": "CIDEr"}}', "'selected.value' is missing"),
        ('{"state": "finished", "weights": {"a": 1}}', "'weights.a' should be a valid string, found 1"),
    ],
)
def test_damage_is_named_with_file_and_key(content: str, words: str, tmp_path: Path) -> None:
    """The error names the file and the key, says what it should be and what was found, and what to do."""
    run = RunFolder.create(tmp_path / "run")
    run.status_file.write_text(content, encoding="utf-8")
    with pytest.raises(StoreError) as caught:
        run.status()
    assert str(run.status_file) in caught.value.message
    assert words in caught.value.message
    assert caught.value.hint


def test_a_damaged_line_is_named_and_a_cut_off_one_forgiven(tmp_path: Path) -> None:
    """In a growing file the last line may be cut off; any other damage names its line, and so does every file that
    is written in one move."""
    log = tmp_path / "log.jsonl"
    whole = (
        '{"event": "step", "step": 1, "loss": 2.5}\n{"event": "evaluation", "step": 1, "metrics": {"CIDEr": null}}\n'
    )
    log.write_text(whole + '{"event": "step", "st', encoding="utf-8")
    assert [(line, row.step) for line, row in read_train_log(log)] == [(1, 1), (2, 1)]
    log.write_text(whole + '{"event": "step", "st\n', encoding="utf-8")
    with pytest.raises(StoreError, match=r"log\.jsonl, line 3 is damaged: not JSON"):
        read_train_log(log)
    log.write_text(whole + '\n{"event": "step", "step": "two"}', encoding="utf-8")
    with pytest.raises(StoreError, match=r"line 4 is damaged: 'step' should be a valid integer"):
        read_train_log(log)
    log.write_text('{"row": "1", "reason": "torn"}\n{"row": "2", "rea', encoding="utf-8")
    with pytest.raises(StoreError, match="line 2"):
        read_rejected(log)


def test_events_of_another_version_are_passed_over(tmp_path: Path) -> None:
    """A log with an event that this rscap does not know is read for those that it does."""
    (tmp_path / "log.jsonl").write_text('{"event": "nap"}\n{"event": "step", "step": 7}\n', encoding="utf-8")
    [(line, row)] = read_train_log(tmp_path / "log.jsonl")
    assert (line, row.step) == (2, 7)
    assert isinstance(row, TrainStep)


def test_line_numbers_are_those_of_the_file(tmp_path: Path) -> None:
    """Blank lines count, and a line separator inside a caption is no end of a line."""
    path = tmp_path / "p.jsonl"
    path.write_text('{"id": "a", "caption": "x\u2028y"}\n\n{"id": "b", "caption": "z"}\n', encoding="utf-8")
    assert [(line, row.id) for line, row in read_numbered_rows(path, PredictionRow)] == [(1, "a"), (3, "b")]


def test_refusals_of_every_version_are_known() -> None:
    """The seven names that 0.1 wrote stay refusals, and so is every class of the tree that is one today."""
    of_0_1 = ["RecipeError", "DataError", "ImageError", "ModelError", "AdapterError", "BrokenTargets", "ScoreError"]
    today = [name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.Refusal)]
    assert all(is_refusal(f"{name}: no") for name in [*of_0_1, *today])
    assert not any(is_refusal(f"{name}: no") for name in ("StoreError", "OutOfMemory", "KeyError", "", "Path"))


def scored(run: RunFolder) -> None:
    run.scores("test").parent.mkdir()
    run.scores("test").touch()


def test_a_folder_says_how_far_it_is(tmp_path: Path) -> None:
    """Each state of the one vocabulary is told from the folder alone."""
    run = RunFolder(tmp_path / "run")
    found = [run.state("test").state]
    run.path.mkdir()
    (run.path / "leftover").touch()
    found.append(run.state("test").state)
    run.start()
    found.append(run.state("test").state)
    for state, error in (
        ("interrupted", "stopped by SIGTERM"),
        ("failed", "OutOfMemory: one image"),
        ("failed", "AdapterError: no such layer"),
    ):
        run.close(state, error=error)
        found.append(run.state("test").state)
    run.start()
    run.close("finished")
    run.recipe_file.touch()
    found.append(run.state("test").state)
    scored(run)
    found.append(run.state("test").state)
    assert found == ["missing", "started", "started", "interrupted", "failed", "refused", "trained", "finished"]
    assert set(found) == set(WORST_FIRST)


def test_an_evaluation_that_lost_its_scores_is_done_again(tmp_path: Path) -> None:
    """It trained nothing, so it is not `trained`: it failed, and says why."""
    run = RunFolder.create(tmp_path / "zero-shot")
    EvaluationSettings(model="nano").write(run.evaluation_file)
    run.close("finished")
    found = run.state("test")
    assert (found.state, "no scores for the test split" in found.reason) == ("failed", True)


def test_attempts_of_0_1_speak_todays_words(tmp_path: Path) -> None:
    """`partial` is `interrupted` now; the last attempt explains a folder that is not finished, and no other."""
    study = StudyFolder(tmp_path)
    study.attempts_file.write_text('{"folder": "a", "progress": "partial", "seconds": 1.5}\n', encoding="utf-8")
    study.add_attempt(Attempt(folder="b", progress="refused", reason="DataError: no", seconds=2.0))
    first, last = study.attempts()
    assert (first.progress, last.progress) == ("interrupted", "refused")
    assert json.loads(study.attempts_file.read_text().splitlines()[1]).keys() == {
        "folder", "progress", "reason", "seconds", "cpu_seconds",
    }  # fmt: skip
    assert explained(FolderState("missing"), last) == FolderState("refused", "DataError: no")
    assert explained(FolderState("finished"), last) == FolderState("finished")


@pytest.mark.parametrize("folder", ["../elsewhere", "/etc", "runs/../../x"])
def test_a_plan_stays_inside_its_study(folder: str, tmp_path: Path) -> None:
    """A folder of a plan that leads out of the study is refused."""
    plan = {"name": "s", "reference": "r", "split": "test", "evaluation": {}, "rows": [], "zero_shot": []}
    write_json(StudyFolder(tmp_path).plan_file, {**plan, "baselines": [folder]})
    with pytest.raises(StoreError, match="outside the study"):
        StudyFolder(tmp_path).plan()


def test_a_panel_stays_inside_its_folder(tmp_path: Path) -> None:
    """A picture that lies elsewhere is not followed, and a list that is none is named."""
    for content, words in (
        ([{"id": "a", "file": "../secret.jpg"}], "leads out of the panel folder"),
        ({"id": "a"}, "expected a list of images"),
        ([{"id": "a"}], "image 0 is damaged: 'file' is missing"),
    ):
        write_json(tmp_path / "panel.json", content)
        with pytest.raises(StoreError, match=words):
            read_panel(tmp_path)


def test_rejected_rows_come_back(tmp_path: Path) -> None:
    """What could not be used is read as it was written."""
    told: Iterable[Rejected] = [Rejected("captions.csv line 3", "no caption"), Rejected("x.jpg", "torn ☂")]
    write_rejected(tmp_path / "r.jsonl", told)
    assert read_rejected(tmp_path / "r.jsonl") == told
