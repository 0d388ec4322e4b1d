"""Prior work A's run, rebuilt with its mistakes, is diagnosed on each count."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from rscap.doctor import Diagnosis, diagnose
from rscap.store import write_json


@pytest.fixture(scope="module")
def diagnosis(prior_work_a: Path) -> Diagnosis:
    return diagnose(prior_work_a)


MISTAKES = {
    "image-targets": "labels = input_ids",
    "prompt-targets": "labels = input_ids",
    "no-eos": "no suffix, so no <eos>",
    "answer-visible": "no token_type_ids",
    "uniform-loss": "its loss sat at ln V",
    "loss-flat": "for five epochs",
    "always-clipped": "a learning rate of 5e-4",
    "frozen-tower-learns": "a bare list of modules",
    "dtype-not-as-asked": "float16 was asked for, float32 was there",
    "prompt-differs": "trained and tested in other words",
    "captions-unused": "caption_1 only",
    "few-training-images": "100 images",
    "few-test-images": "scored on 10 images",
    "single-reference": "against one reference",
    "captions-loop": "caption caption caption",
    "unscored": "loops were skipped",
}


@pytest.mark.parametrize("code", MISTAKES)
def test_each_mistake_is_named(code: str, diagnosis: Diagnosis) -> None:
    """Every mistake of prior work A is a finding with its evidence, its place, its reason and its cure."""
    (finding,) = [finding for finding in diagnosis.findings if finding.code == code]
    assert all((finding.evidence, finding.where, finding.why, finding.cure))


def test_nothing_else_is_named(diagnosis: Diagnosis) -> None:
    """What A did right is not blamed."""
    assert {finding.code for finding in diagnosis.findings} == set(MISTAKES)
    assert not diagnosis.sound


@pytest.mark.parametrize(
    ("code", "numbers", "where"),
    [
        ("image-targets", "64 of 87 supervised tokens (74%)", "batch.safetensors"),
        ("answer-visible", "changes 86 of the 86 outputs", "model.json"),
        (
            "frozen-tower-learns",
            "8 of its modules have an adapter and 24,576 of its parameters are trainable",
            "adapter/",
        ),
        ("always-clipped", "at a learning rate of 0.0005 are clipped in 10 of 10", "log.csv line 11"),
        ("unscored", "2 of 10 images have no score", "scores.json"),
        ("captions-loop", "2 of 10 captions, such as 'caption caption caption'", "predictions.jsonl line 1"),
        ("few-test-images", "8 images were scored", "scores.json"),
    ],
)
def test_the_evidence_has_numbers_and_a_place(code: str, numbers: str, where: str, diagnosis: Diagnosis) -> None:
    """Evidence is what was counted, and where it can be looked up."""
    (finding,) = [finding for finding in diagnosis.findings if finding.code == code]
    assert numbers in finding.evidence
    assert finding.where.startswith(where)


@pytest.fixture
def without_snapshot(prior_work_a: Path, tmp_path: Path) -> Path:
    """A's folder as somebody would have it who never heard of a snapshot: the batch as JSON, nothing measured."""
    folder = Path(shutil.copytree(prior_work_a, tmp_path / "a"))
    (folder / "model.json").unlink()
    batch = load_file(folder / "batch.safetensors")
    write_json(folder / "batch.json", {name: tensor.tolist() for name, tensor in batch.items()})
    (folder / "batch.safetensors").unlink()
    return folder


def test_without_a_snapshot_only_the_precision_is_unknown(without_snapshot: Path) -> None:
    """Labels are read from the saved batch, sight from its lack of token types; what cannot be told is listed."""
    diagnosis = diagnose(without_snapshot)
    assert {finding.code for finding in diagnosis.findings} == set(MISTAKES) - {"dtype-not-as-asked"}
    assert "precision of the weights" in diagnosis.not_looked_at
    (visible,) = [finding for finding in diagnosis.findings if finding.code == "answer-visible"]
    assert visible.evidence == "token_type_ids: absent"


def test_without_a_word_from_its_author_the_files_still_speak(without_snapshot: Path) -> None:
    """With no doctor.toml the base model is found in adapter_config.json, and the bare list of modules tells itself."""
    (without_snapshot / "doctor.toml").unlink()
    said = {"prompt-differs", "captions-unused", "few-training-images", "always-clipped", "dtype-not-as-asked"}
    assert {finding.code for finding in diagnose(without_snapshot).findings} == set(MISTAKES) - said
