"""Several processes give the update of one, whether each holds the base whole or they share its weights out (FSDP)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from checkout import ROOT
from recipes import small_recipe
from rscap.captioner.batch import Batch, Encoder
from rscap.data import open_source
from rscap.errors import RecipeError
from rscap.model.adapters import prepare
from rscap.model.load import load_base
from rscap.model.packed import PackedModel
from rscap.recipe import Recipe, dump_recipe
from rscap.store import RunFolder, read_json, read_jsonl
from rscap.training import loop
from rscap.training.session import train
from rscap.training.team import Team, check_shares
from rscap.training.updates import Share, bucketed, updates

FSDP = """
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
use_cpu: true
fsdp_config:
  fsdp_version: 2
num_machines: 1
mixed_precision: 'no'
"""
WHOLE = ("--multi_gpu", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no")


def recipe(**changes: Any) -> Recipe:
    """Ten images in updates of four, micro batches of two at most; every third update has two images."""
    return small_recipe(
        {
            "data": {"train_limit": 10},
            "train": {"max_steps": 4, "micro_batch": 2, "accumulation": 2, "learning_rate": 1e-3},
            "generate": {"max_new_tokens": 4},
        },
        changes,
    )


def launch(made: Recipe, folder: Path, *options: str, sharded: bool, processes: int = 2) -> RunFolder:
    """`accelerate launch … -m rscap train`, several processes on CPU (gloo)."""
    folder.parent.mkdir(exist_ok=True)
    (folder.parent / "recipe.toml").write_text(dump_recipe(made), encoding="utf-8")
    (folder.parent / "fsdp.yaml").write_text(FSDP, encoding="utf-8")
    how = ("--config_file", str(folder.parent / "fsdp.yaml")) if sharded else WHOLE
    accelerate(
        "launch",
        *how,
        "--num_processes",
        str(processes),
        "-m",
        "rscap",
        "train",
        str(folder.parent / "recipe.toml"),
        "--out",
        str(folder),
        *options,
    )
    return RunFolder(folder)


def accelerate(*arguments: str) -> str:
    """The command, on one thread a process; what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.accelerate_cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout + done.stderr


def same(one: RunFolder, other: RunFolder, *, loss: float = 1e-5, norm: float = 1e-4) -> None:
    """The logs agree to rounding."""
    for a, b in zip(read_jsonl(one.train_log), read_jsonl(other.train_log), strict=True):
        assert a.keys() == b.keys()
        assert (a["step"], a.get("supervised_tokens"), a.get("images")) == (
            b["step"],
            b.get("supervised_tokens"),
            b.get("images"),
        )
        assert a["loss"] == pytest.approx(b["loss"], rel=loss)
        assert a.get("grad_norm", 0.0) == pytest.approx(b.get("grad_norm", 0.0), rel=norm)


def same_weights(one: RunFolder, other: RunFolder) -> None:
    """Adapters, or models, agree to rounding."""
    for name, (left, right) in learned(one, other).items():
        assert torch.allclose(left, right, atol=1e-4), name


def learned(one: RunFolder, other: RunFolder) -> dict[str, tuple[Tensor, Tensor]]:
    """What two runs have learned, by name."""
    name = "adapter/adapter_model.safetensors" if one.adapter.exists() else "model/model.safetensors"
    left, right = load_file(one.path / name), load_file(other.path / name)
    return {key: (value.float(), right[key].float()) for key, value in left.items()}


def test_two_processes_give_the_update_of_one(tmp_path: Path) -> None:
    """Losses, gradient norms, adapter and the panel's scores; the epoch's last, uneven update loses nothing."""
    made = recipe(train={"evaluate_every": 2, "evaluate_images": 3})
    alone = train(made, tmp_path / "alone", say=lambda _: None)
    two = launch(made, tmp_path / "two", sharded=False)
    same(alone, two)
    same_weights(alone, two)
    metrics = [
        [row["metrics"] for row in read_jsonl(one.train_log) if row["event"] == "evaluation"] for one in (alone, two)
    ]
    assert metrics[0] == metrics[1]


@pytest.mark.slow
@pytest.mark.parametrize("sharded", [False, True])
def test_two_processes_train_another_family_as_one_does(sharded: bool, smolnano: Path, tmp_path: Path) -> None:
    """SmolVLM2's twin, whose head is a matrix of its own: adapters and projector, whole and with sharded weights."""
    model = {"base": str(smolnano), "pretrained": False}
    made = recipe(model=model, towers={"projector": "trained"}, train={"max_steps": 3})
    alone = train(made, tmp_path / "alone", say=lambda _: None)
    two = launch(made, tmp_path / "two", sharded=sharded)
    same(alone, two)
    same_weights(alone, two)


@pytest.mark.slow  # two processes: test_two_processes_give_the_update_of_one; the deal itself: the tests of deals below
@pytest.mark.parametrize("processes", [3, 4])
def test_three_and_four_processes_give_the_update_of_one(processes: int, tmp_path: Path) -> None:
    """Updates of five images in one micro batch, which no number of processes here divides; every second has four."""
    made = recipe(data={"train_limit": 9}, train={"max_steps": 4, "micro_batch": 5, "accumulation": 1})
    alone = train(made, tmp_path / "alone", say=lambda _: None)
    many = launch(made, tmp_path / "many", sharded=False, processes=processes)
    same(alone, many)
    same_weights(alone, many)


@pytest.mark.slow  # float32: test_sharded_weights_give_the_update_of_one…
def test_sharded_bfloat16_gives_the_update_of_one(tmp_path: Path) -> None:
    """FSDP with frozen weights in bfloat16 and adapters in float32: apart by roundings of 8 bits.

    AdamW's first steps follow the sign of a gradient, so that numbers whose gradient is next to 0 may go either way.
    """
    made = recipe(model={"dtype": "bfloat16"})
    alone = train(made, tmp_path / "alone", say=lambda _: None)
    two = launch(made, tmp_path / "two", sharded=True)
    same(alone, two, loss=2e-3, norm=2e-2)
    pairs = [pair for name, pair in learned(alone, two).items() if "lora_B" in name]
    apart, length = (
        torch.cat([values.flatten() for values in made]).norm()
        for made in zip(*((a - b, a) for a, b in pairs), strict=True)
    )
    assert apart <= 0.1 * length


@pytest.mark.slow  # in one process: tests/training/test_features.py, tests/data
def test_processes_share_decoding_and_vision_features_out(tmp_path: Path) -> None:
    """A folder with a broken image, features cached: the same data, examples and losses as one process finds."""
    pictures = tmp_path / "pictures" / "resized"
    pictures.mkdir(parents=True)
    lines = ["source,split,image,caption_1,caption_2"]
    for number, example in enumerate(open_source("sample").subset("train", 8, 3)):
        example.image.load().save(pictures / f"{number}.png")
        lines.append(f"x,{'val' if number > 6 else 'train'},{number}.png,{example.captions[0]},{example.captions[1]}")
    (pictures / "3.png").write_bytes((pictures / "3.png").read_bytes()[:200])
    (pictures.parent / "captions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    data = {"source": str(pictures.parent), "max_rejected_share": 0.2, "train_limit": None}
    made = recipe(data=data, train={"cache_features": True, "max_steps": 2})
    alone = train(made, tmp_path / "one" / "run", say=lambda _: None)
    two = launch(made, tmp_path / "two" / "run", sharded=False)
    same(alone, two)
    same_weights(alone, two)
    assert read_jsonl(alone.rejected_file) == read_jsonl(two.rejected_file)
    assert alone.seen_file.read_bytes() == two.seen_file.read_bytes()
    assert read_json(two.provenance_file)["data"] == read_json(alone.provenance_file)["data"]


@pytest.mark.slow  # one process: tests/training/test_self_critical.py
def test_two_processes_train_on_a_reward_as_one_does(tmp_path: Path) -> None:
    """Drawn captions, rewards and updates are those of one process, updates of five images included."""
    changes: dict[str, Any] = {"data": {"train_limit": 9}, "objective": {"samples": 3}}
    made = recipe(train={"max_steps": 3, "micro_batch": 5, "accumulation": 1, "learning_rate": 1e-3}, **changes)
    alone = train(made, tmp_path / "alone", say=lambda _: None)
    two = launch(made, tmp_path / "two", sharded=False)
    same(alone, two)
    same_weights(alone, two)
    rewards = [[row["reward"] for row in read_jsonl(one.train_log)] for one in (alone, two)]
    assert rewards[0] == pytest.approx(rewards[1], rel=1e-6)


@pytest.mark.slow
def test_the_documented_command_starts_the_recommended_recipe(tmp_path: Path) -> None:
    """docs/training.md's command with two processes, and a base and data that a CPU can train on in a test."""
    (line,) = {one for one in (ROOT / "docs/training.md").read_text().splitlines() if "launch --multi_gpu" in one}
    command = line.replace("--num_processes 8", "--num_processes 2").split()[1:]
    small = ["data.source=sample", "model.base=nano", "data.train_limit=16", "train.max_steps=1", "train.epochs=1"]
    small += ["data.workers=0", "train.evaluate_images=2", "generate.max_new_tokens=4"]
    sets = [part for one in small for part in ("--set", one)]
    said = accelerate(*command, "--out", str(tmp_path / "run"), *sets)
    assert "of an update's 16 images" in said
    assert RunFolder(tmp_path / "run").status().state == "finished"


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
    many = launch(made, tmp_path / "two", "--resume", sharded=True)
    same(alone, many)
    same_weights(alone, many)


@pytest.mark.slow  # shares of adapters and their base: test_sharded_weights_give_the_update_of_one…
def test_sharded_full_fine_tuning_with_checkpointed_activations(tmp_path: Path) -> None:
    """All weights learn, shared out over two processes, layers computed again in the backward pass."""
    towers = {"vision_tower": "trained", "projector": "trained", "language_model": "trained"}
    made = recipe(adapter=None, towers=towers, train={"max_steps": 3, "gradient_checkpointing": True})
    alone = train(made, tmp_path / "alone", say=lambda _: None)
    many = launch(made, tmp_path / "two", sharded=True)
    same(alone, many)
    same_weights(alone, many)


def test_idle_processes_and_what_cannot_be_sharded_are_refused() -> None:
    """Five processes for four images are refused; three are told how many images each takes."""
    cpu = torch.device("cpu")
    said: list[str] = []
    check_shares(recipe(), Team(cpu, 0, 3), said.append)
    assert said == ["each process takes 1 or 2 of an update's 4 images"]
    with pytest.raises(RecipeError, match="would be idle") as caught:
        check_shares(recipe(), Team(cpu, 0, 5), print)
    assert "at most 4 processes" in str(caught.value.hint)
    with pytest.raises(RecipeError, match=r"model\.quantisation"):
        check_shares(recipe(model={"quantisation": "nf4"}), Team(cpu, 0, 2, sharded=True), print)


@given(
    lengths=st.lists(st.integers(1, 80), min_size=1, max_size=70), size=st.integers(1, 20), processes=st.integers(1, 8)
)
def test_a_deal_is_exact(lengths: list[int], size: int, processes: int) -> None:
    """Every image of an update is in one micro batch of one process; shares differ by one image at most."""
    update = list(enumerate(lengths))
    dealt = [bucketed(update, size, lambda one: one[1], Share(rank, processes)) for rank in range(processes)]
    assert sorted(one for mine in dealt for batch in mine for one in batch) == update
    taken = [sum(len(batch) for batch in mine) for mine in dealt]
    assert max(taken) - min(taken) <= 1
    assert all(1 <= len(batch) <= size for mine in dealt for batch in mine)


@pytest.mark.parametrize(("micro_batch", "accumulation"), [(5, 2), (10, 1)])
def test_shares_of_eight_processes_add_up_to_the_update_of_one(micro_batch: int, accumulation: int) -> None:
    """Loss and gradients of ten images, dealt to eight processes one after the other; so does a last, short update."""
    made = recipe(train={"micro_batch": micro_batch, "accumulation": accumulation}, data={"train_limit": 13})
    base = load_base(made.model)
    packed = PackedModel(prepare(base.model, made.towers, made.adapter, seed=0), compute_dtype=torch.float32)
    encoder, examples = Encoder.of(base), open_source("sample").subset("train", 13, 1)

    def learned(shares: Sequence[Share]) -> list[tuple[float, list[Tensor]]]:
        dealt = [list(islice(updates(examples, made, encoder, share=share), 2)) for share in shares]
        found = []
        for parts in zip(*dealt, strict=True):
            packed.zero_grad()
            losses = [packed(batch) for mine in parts for batch in mine]
            for loss in losses:
                loss.backward()
            gradients = [one.grad.clone() for one in packed.parameters() if one.grad is not None]
            found.append((sum(loss.item() for loss in losses), gradients))
        return found

    for (one, ones), (many, manys) in zip(
        learned([Share()]), learned([Share(rank, 8) for rank in range(8)]), strict=True
    ):
        assert many == pytest.approx(one, rel=1e-5)
        for left, right in zip(ones, manys, strict=True):
            assert (left - right).norm() <= 1e-5 * left.norm() + 1e-7


def test_a_batch_in_halves_has_the_loss_of_the_whole() -> None:
    """Rows, sources and targets stay together when a batch is cut."""
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
