"""Two processes give the update of one, whether each holds the base whole or they share its weights out (FSDP)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from recipes import small_recipe
from rscap.captioner.batch import Batch
from rscap.errors import RecipeError
from rscap.recipe import Recipe, dump_recipe
from rscap.store import RunFolder, read_jsonl
from rscap.training import loop
from rscap.training.session import train
from rscap.training.team import Team, check_shares

FSDP = """
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
use_cpu: true
fsdp_config:
  fsdp_version: 2
num_machines: 1
num_processes: 2
mixed_precision: 'no'
"""
WHOLE = ("--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no")


def recipe(**changes: Any) -> Recipe:
    """Ten images in updates of four: every third update has a micro batch for one of the two processes alone."""
    return small_recipe(
        {
            "data": {"train_limit": 10},
            "adapter": {"dropout": 0.1},
            "train": {"max_steps": 4, "micro_batch": 2, "accumulation": 2, "learning_rate": 1e-3},
            "generate": {"max_new_tokens": 4},
        },
        changes,
    )


def launch(made: Recipe, folder: Path, *options: str, sharded: bool) -> RunFolder:
    """`accelerate launch … -m rscap train`, two processes on CPU (gloo)."""
    folder.parent.mkdir(exist_ok=True)
    (folder.parent / "recipe.toml").write_text(dump_recipe(made), encoding="utf-8")
    (folder.parent / "fsdp.yaml").write_text(FSDP, encoding="utf-8")
    how = ("--config_file", str(folder.parent / "fsdp.yaml")) if sharded else (*WHOLE, "--dynamo_backend", "no")
    command = [sys.executable, "-m", "accelerate.commands.launch", *how, "-m", "rscap", "train"]
    done = subprocess.run(
        [*command, str(folder.parent / "recipe.toml"), "--out", str(folder), *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return RunFolder(folder)


def same(one: RunFolder, other: RunFolder) -> None:
    """The logs agree to rounding, and so do the adapters."""
    for a, b in zip(read_jsonl(one.train_log), read_jsonl(other.train_log), strict=True):
        assert a.keys() == b.keys()
        assert (a["step"], a.get("supervised_tokens"), a.get("images")) == (
            b["step"],
            b.get("supervised_tokens"),
            b.get("images"),
        )
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
        assert a.get("grad_norm", 0.0) == pytest.approx(b.get("grad_norm", 0.0), rel=1e-4)
    name = "adapter/adapter_model.safetensors" if one.adapter.exists() else "model/model.safetensors"
    left, right = load_file(one.path / name), load_file(other.path / name)
    for key, value in left.items():
        assert torch.allclose(value.float(), right[key].float(), atol=1e-4), key


def test_two_processes_give_the_update_of_one(tmp_path: Path) -> None:
    """Losses, gradient norms, adapter and the panel's scores; the epoch's last, uneven update loses nothing."""
    made = recipe(train={"evaluate_every": 2, "evaluate_images": 3})
    alone = train(made, tmp_path / "alone", say=lambda _: None)
    two = launch(made, tmp_path / "two", sharded=False)
    same(alone, two)
    metrics = [
        [row["metrics"] for row in read_jsonl(one.train_log) if row["event"] == "evaluation"] for one in (alone, two)
    ]
    assert metrics[0] == metrics[1]


def test_sharded_weights_give_the_update_of_one_and_resume_another_s_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FSDP goes on from the checkpoint of one process, and ends where one process ends."""
    made = recipe(train={"checkpoint_every": 1})
    alone = train(made, tmp_path / "alone", say=lambda _: None)
    step = loop.TrainLog.step

    def dying(self: loop.TrainLog, **values: Any) -> None:
        step(self, **values)
        if values["step"] == 2:
            raise KeyError

    with monkeypatch.context() as patch:
        patch.setattr(loop.TrainLog, "step", dying)
        with pytest.raises(KeyError):
            train(made, tmp_path / "two", say=lambda _: None)
    same(alone, launch(made, tmp_path / "two", "--resume", sharded=True))


@pytest.mark.slow  # shares of adapters and their base: test_sharded_weights_give_the_update_of_one…
def test_sharded_full_fine_tuning_with_checkpointed_activations(tmp_path: Path) -> None:
    """All weights learn, shared out over two processes, layers computed again in the backward pass."""
    towers = {"vision_tower": "trained", "projector": "trained", "language_model": "trained"}
    made = recipe(adapter=None, towers=towers, train={"max_steps": 3, "gradient_checkpointing": True})
    alone = train(made, tmp_path / "alone", say=lambda _: None)
    same(alone, launch(made, tmp_path / "two", sharded=True))


def test_idle_processes_and_what_cannot_be_sharded_are_refused() -> None:
    """Three processes for two micro batches: the error gives the override that keeps the update."""
    cpu = torch.device("cpu")
    with pytest.raises(RecipeError, match="would be idle") as caught:
        check_shares(recipe(), Team(cpu, 0, 3), print)
    assert "4 images per update: --set train.micro_batch=1 --set train.accumulation=4" in str(caught.value.hint)
    with pytest.raises(RecipeError) as caught:
        check_shares(recipe(), Team(cpu, 0, 5), print)
    assert "at most 4 processes" in str(caught.value.hint)
    with pytest.raises(RecipeError, match=r"model\.quantisation"):
        check_shares(recipe(model={"quantisation": "nf4"}), Team(cpu, 0, 2, sharded=True), print)


def test_a_batch_in_halves_has_the_loss_of_the_whole() -> None:
    """Rows, sources and targets stay together when a batch is cut."""
    from rscap.captioner.batch import Encoder
    from rscap.data import open_source
    from rscap.model.load import load_base
    from rscap.model.packed import PackedModel
    from rscap.training.updates import updates

    made = recipe(train={"micro_batch": 5, "accumulation": 1})
    base = load_base(made.model)
    packed = PackedModel(base.model, compute_dtype=torch.float32)
    (batch,) = next(updates(open_source("sample").subset("train", 5, 1), made, Encoder.of(base)))
    halves: list[Batch] = batch.halves()
    assert [half.images for half in halves] == [2, 3]
    assert sum(half.captions for half in halves) == batch.captions == 25
    with torch.no_grad():
        parts = [float(packed(half)) for half in halves]
        assert sum(parts) == pytest.approx(float(packed(batch)), rel=1e-5)
