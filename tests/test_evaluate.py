"""Evaluation: a zero-shot base, a run in its own folder, files; nothing is overwritten and nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rscap import score
from rscap.data import Rejected
from rscap.errors import DataError, StoreError
from rscap.evaluate.files import caption_files
from rscap.evaluate.request import Request, evaluate, plan
from rscap.evaluate.subject import Subject
from rscap.recipe import parse_recipe
from rscap.records import Prediction
from rscap.store import RunFolder, read_json, read_jsonl
from rscap.train.run import train


def silent(*_: Any) -> None:
    """Neither progress nor messages."""


def carry_out(**fields: Any) -> tuple[RunFolder, dict]:
    return evaluate(plan(Request(**fields)), progress=silent, say=silent)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps on eight images of the sample."""
    recipe = parse_recipe(
        {
            "data": {"source": "sample", "train_limit": 8},
            "model": {"base": "nano", "dtype": "float32"},
            "adapter": {"rank": 2},
            "train": {"max_steps": 2, "micro_batch": 4, "learning_rate": 1e-2},
            "generate": {"max_new_tokens": 6},
        }
    )
    return train(recipe, tmp_path_factory.mktemp("runs") / "small", say=silent).path


def test_a_base_model_is_evaluated_without_training(tmp_path: Path) -> None:
    """A zero-shot evaluation is a run folder of its own: predictions, references, scores, panel, baselines."""
    run, sheets = carry_out(model="nano", source="sample", limit=5, dtype="float32", out=tmp_path / "zero")
    assert set(sheets) == {"zero", "constant", "nearest"}
    assert all(sheet.n == 5 for sheet in sheets.values())
    assert run.status()["state"] == "finished"
    predictions = read_jsonl(run.predictions("test"))
    assert [row["id"] for row in predictions] == [row["id"] for row in read_jsonl(run.references("test"))]
    assert all(row["prefix"] == "caption en" and row["stopped"] in ("eos", "length") for row in predictions)
    written = json.loads(run.scores("test").read_text(encoding="utf-8"))
    assert {"signature", "n", "corpus", "intervals", "items", "unscored"} <= set(written)
    panel = read_json(run.panel("test") / "panel.json")
    assert all((run.panel("test") / entry["file"]).is_file() for entry in panel)
    assert {folder.name for folder in run.baselines()} == {"constant", "nearest"}


def test_whoever_scores_needs_only_the_files(tmp_path: Path) -> None:
    """Scoring the written predictions against the written references gives the written sheet."""
    run, sheets = carry_out(
        model="nano", source="sample", limit=6, dtype="float32", out=tmp_path / "z", baselines=False
    )
    again = score.score_captions(
        score.load_candidates(run.predictions("test")), score.load_references(run.references("test"))
    )
    for metric, value in sheets["z"].corpus.items():
        assert again.corpus[metric] == pytest.approx(value, abs=1e-12)


def test_a_run_is_evaluated_in_its_own_folder_once(trained: Path) -> None:
    """Its own data and words go into the run folder; a second evaluation is refused, elsewhere is allowed."""
    run, _ = carry_out(model=str(trained), split="val", baselines=False)
    assert run.path == trained
    assert run.scores("val").is_file()
    with pytest.raises(StoreError, match="evaluated on val already"):
        plan(Request(model=str(trained), split="val"))
    assert plan(Request(model=str(trained), split="val", out=trained / "again")).out == trained / "again"


def test_an_adapted_model_says_something_else_than_its_base(trained: Path, tmp_path: Path) -> None:
    """Loading a run applies its adapter: captions differ from the base model's."""
    adapted, _ = carry_out(model=str(trained), limit=8, out=tmp_path / "a", baselines=False)
    base, _ = carry_out(model="nano", source="sample", limit=8, dtype="float32", out=tmp_path / "b", baselines=False)
    ours, theirs = ([row["caption"] for row in read_jsonl(run.predictions("test"))] for run in (adapted, base))
    assert ours != theirs


def test_a_base_model_without_data_is_refused() -> None:
    """A zero-shot evaluation has no data of its own; the error says how to name some."""
    with pytest.raises(DataError, match="no data named") as caught:
        plan(Request(model="nano"))
    assert "--source" in str(caught.value.hint)


def test_a_folder_that_trained_nothing_is_refused(tmp_path: Path) -> None:
    """A zero-shot folder is no model."""
    RunFolder.create(tmp_path / "zero")
    with pytest.raises(StoreError, match="trained no model"):
        plan(Request(model=str(tmp_path / "zero")))


def test_a_failed_evaluation_says_so(tmp_path: Path) -> None:
    """The folder of an evaluation that broke is marked failed with the reason and holds no scores."""
    with pytest.raises(Exception, match="neither a folder nor a Hub name"):
        carry_out(model="no-such-model", source="sample", limit=2, out=tmp_path / "x")
    status = RunFolder(tmp_path / "x").status()
    assert status["state"] == "failed"
    assert "no-such-model" in status["error"]
    assert not RunFolder(tmp_path / "x").scores("test").exists()


def test_files_are_captioned_in_order_and_a_broken_one_is_named(tmp_path: Path) -> None:
    """Image files need no data set; what is no image is told by name and the rest is captioned."""
    from rscap.data.sample import sample_examples

    paths = []
    for index, example in enumerate(sample_examples()[:2]):
        path = tmp_path / f"{index}.png"
        example.image.load().save(path)
        paths.append(path)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"not an image")
    found = list(caption_files(Subject.of("nano", dtype="float32"), [paths[0], broken, paths[1]]))
    captions = [item for item in found if isinstance(item, Prediction)]
    assert [item.example_id for item in captions] == [str(path) for path in paths]
    assert all(item.caption for item in captions)
    assert [item.row for item in found if isinstance(item, Rejected)] == [str(broken)]
