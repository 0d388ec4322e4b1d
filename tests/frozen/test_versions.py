"""What another version of rscap computed is told apart from what this one computes: caches are made anew with a line,
and scores are compared with a note."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import rscap
from recipes import small_recipe
from rscap import provenance, scoring
from rscap.captioner.batch import Encoder
from rscap.captioner.table import CaptionTable
from rscap.cli import app
from rscap.data import open_source
from rscap.data.images import FileImage
from rscap.evaluation.request import Request, evaluate, prepare
from rscap.model.adapters import prepare as adapted
from rscap.model.load import load_base
from rscap.model.packed import PackedModel
from rscap.records import Picture, Prediction
from rscap.store import Journal
from rscap.training.features import cached_encoder
from rscap.training.team import Team

OLD = "0.1.0"
FROZEN = Path(__file__).parent / "v01"


def test_features_of_another_version_are_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They have a folder of their own, and a line names the one that is of no use any more; a third run finds those of
    its own version and says nothing."""
    base = load_base((made := small_recipe({"train": {"cache_features": True}})).model)
    net = adapted(base.model, made.towers, made.adapter, seed=0, model=made.model)
    packed, encoder = PackedModel(net, compute_dtype=base.compute_dtype), Encoder.of(base)
    examples = open_source("sample").subset("train", 2, 3)
    said: list[list[str]] = []
    for version in (OLD, rscap.__version__, rscap.__version__):
        said.append([])
        with monkeypatch.context() as patch:
            patch.setattr(rscap, "__version__", version)
            cached_encoder(
                packed,
                encoder,
                examples,
                folder=tmp_path,
                team=Team(torch.device("cpu")),
                workers=0,
                say=said[-1].append,
            )
    folders = {
        json.loads(path.read_bytes())["depends_on"]["rscap"]: path.parent for path in tmp_path.glob("*/index.json")
    }
    assert folders.keys() == {OLD, rscap.__version__}
    assert [len(lines) for lines in said] == [1, 2, 0]
    assert (
        said[1][0] == f"the features in {folders[OLD]} are of rscap {OLD} and are not used; the folder may be deleted"
    )
    assert str(folders[rscap.__version__]) in said[1][1]


def test_captions_of_an_evaluation_that_another_version_began_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A score is of one version's captions: nothing of the other's journal is kept, and a line says why."""
    request = Request(model="nano", source="sample", limit=3, out=tmp_path / "test", baselines=False)
    add = Journal.add

    def cut_off(self: Journal, item: Prediction) -> None:
        add(self, item)
        raise KeyError("the process died")

    with monkeypatch.context() as patch:
        patch.setattr(rscap, "__version__", OLD)
        patch.setattr(Journal, "add", cut_off)
        with pytest.raises(KeyError):
            evaluate(prepare(request), progress=lambda *_: None, say=lambda _: None)
    said: list[str] = []
    evaluate(prepare(request), progress=lambda *_: None, say=said.append)
    reason = f"rscap was {OLD} and is {rscap.__version__}"
    assert f"captions of an interrupted evaluation are made again: {reason}" in said
    assert not [line for line in said if line.startswith("resuming")]


def test_a_table_that_another_version_began_is_begun_again(tmp_path: Path) -> None:
    """`rscap caption --out` goes on with captions of its own version alone; the reason names both."""
    open_source("sample").examples[0].image.load().save(tmp_path / "a.png")
    picture = Picture(id="a", image=FileImage(tmp_path / "a.png"))
    asked = {"model": "nano", "rscap": OLD}
    before = CaptionTable(tmp_path / "captions.csv", asked)
    before.begin([picture])
    before.add(Prediction(example_id="a", caption="a plane", prefix="", tokens=2, stopped="eos"))
    same = CaptionTable(tmp_path / "captions.csv", asked)
    assert (same.begin([picture]), same.set_aside) == ([], "")
    now = CaptionTable(tmp_path / "captions.csv", {**asked, "rscap": rscap.__version__})
    assert now.begin([picture]) == [picture]
    assert now.set_aside == f"rscap was {OLD} and is {rscap.__version__}"


def test_scores_of_another_version_are_compared_with_a_note(tmp_path: Path) -> None:
    """The same captions scored by 0.1.0 and today: `rscap compare` compares them and names both versions; two sheets of
    one version have no such note."""
    old = shutil.copytree(FROZEN / "evaluation", tmp_path / "before")
    rows = {
        kind: [json.loads(line) for line in (old / kind / "test.jsonl").read_text(encoding="utf-8").splitlines()]
        for kind in ("predictions", "references")
    }
    sheet = scoring.score_captions(
        {row["id"]: row["caption"] for row in rows["predictions"]},
        {row["id"]: row["captions"] for row in rows["references"]},
        decode=json.loads((old / "scores" / "test.json").read_bytes())["decode"],
    )
    scoring.write_sheet(tmp_path / "now.json", sheet)
    assert sheet.signature.endswith(f"|rscap:{provenance.collect()['rscap']}")
    done = CliRunner().invoke(app, ["compare", str(old), str(tmp_path / "now.json"), "--draws", "100"])
    assert done.exit_code == 0, done.output
    told = " ".join(done.output.split())
    assert f"different versions of rscap, whose scores may differ: {OLD} (before), {rscap.__version__} (now)" in told
    shutil.copyfile(tmp_path / "now.json", tmp_path / "again.json")
    done = CliRunner().invoke(
        app, ["compare", str(tmp_path / "now.json"), str(tmp_path / "again.json"), "--draws", "100"]
    )
    assert "versions" not in done.output
