"""Early stopping and the best checkpoint, and the trackers that follow a run."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from recipes import small_recipe
from rscap.errors import RecipeError
from rscap.recipe import Recipe, SelectionSection, TrackSection
from rscap.records import Prediction
from rscap.store import Best, RunFolder, TrainEvaluation, TrainingState, read_jsonl
from rscap.training import loop, trackers
from rscap.training.panel import PanelResult, consider, passed_over
from rscap.training.session import train


def recipe(**changes: Any) -> Recipe:
    """Eight steps of nano, an evaluation after each."""
    train = {"max_steps": 8, "micro_batch": 2, "evaluate_every": 1, "evaluate_images": 2}
    return small_recipe({"data": {"train_limit": 8}, "train": train, "generate": {"max_new_tokens": 4}}, changes)


def judged(values: list[float], selection: SelectionSection, degenerate: list[float] | None = None) -> TrainingState:
    """The progress of a run whose evaluations, one a step, gave these CIDEr values."""
    progress = TrainingState()
    for step, value in enumerate(values, 1):
        progress.step = step
        bad = degenerate[step - 1] if degenerate else 0.0
        consider(progress, selection, {"CIDEr": value}, loss=-value, degenerate=bad)
        if progress.stopped:
            break
    return progress


def test_patience_counts_evaluations_without_a_new_best() -> None:
    """Best at the second, then two without: stopped at the fourth with patience 2, and the second is the best."""
    progress = judged([0.1, 0.5, 0.4, 0.5, 0.9], SelectionSection(patience=2))
    assert progress.step == 4
    assert progress.best is not None
    assert (progress.best.step, progress.best.value) == (2, 0.5)
    assert "2 evaluations" in str(progress.stopped)


def test_what_was_not_considered_is_not_called_worse() -> None:
    """Lower and lower losses with degenerate captions: the reason to stop says how many were not considered."""
    progress = judged([0.1, 0.5, 0.4, 0.9], SelectionSection(patience=3), degenerate=[0.0, 1.0, 0.0, 1.0])
    assert progress.best == Best(step=3, value=0.4)
    assert progress.vetoed == 1
    progress = judged([0.5, 0.6, 0.4, 0.9], SelectionSection(patience=3), degenerate=[0.0, 1.0, 0.0, 1.0])
    assert "3 evaluations in a row without a better CIDEr" in str(progress.stopped)
    assert "2 of them not considered for more than 50% degenerate captions" in str(progress.stopped)


def test_a_run_says_why_better_evaluations_were_not_kept() -> None:
    """Lower losses with degenerate captions are named with their steps and the reason; higher ones are not."""
    rows = [
        TrainEvaluation(event="evaluation", step=step, metrics={"CIDEr": 0.1}, loss=loss, degenerate=bad)
        for step, loss, bad in ((6, 6.2, 0.0), (12, 5.8, 0.75), (15, 6.9, 1.0), (18, 5.7, 1.0))
    ]
    told = passed_over(SelectionSection(metric="loss"), Best(step=6, value=6.2), rows)
    assert told == "steps 12, 18 had a lower loss, but more than 50% degenerate captions"
    assert passed_over(SelectionSection(metric="loss", max_degenerate=1.0), Best(step=6, value=6.2), rows) == ""
    assert passed_over(SelectionSection(metric="CIDEr"), Best(step=6, value=0.1), rows) == ""


def test_rounding_is_no_gain() -> None:
    """BLEU-4 without a match is some 1e-10, and more of it is no better."""
    progress = judged([1e-10, 3e-10, 5e-10], SelectionSection(patience=2))
    assert progress.best == Best(step=1, value=1e-10)
    assert progress.stopped


def test_a_small_gain_is_none() -> None:
    """A gain up to min_gain does not count; the loss is better when lower."""
    assert judged([0.1, 0.15, 0.3], SelectionSection(min_gain=0.1)).best.step == 3  # type: ignore[union-attr]
    assert judged([0.3, 0.1, 0.2], SelectionSection(metric="loss")).best.step == 1  # type: ignore[union-attr]


def test_degenerate_captions_are_never_the_best() -> None:
    """The highest score with half of the captions looping is passed over."""
    progress = judged([0.2, 0.9, 0.3], SelectionSection(max_degenerate=0.25), degenerate=[0.0, 0.5, 0.25])
    assert progress.best is not None
    assert progress.best.step == 3


def test_a_score_that_is_no_number_is_never_the_best() -> None:
    """A loss that is NaN neither becomes the best nor stands in the way of one."""
    progress = TrainingState(step=1)
    assert not consider(progress, SelectionSection(metric="loss"), {}, loss=float("nan"), degenerate=0.0)
    progress.step = 2
    assert consider(progress, SelectionSection(metric="loss"), {}, loss=2.0, degenerate=0.0)


def scripted(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> None:
    """Evaluations that give these CIDEr values in turn, whatever the model says."""
    stream = iter(values)

    def say(captioner: Any, panel: Any, made: Recipe, team: Any, **_: Any) -> PanelResult:
        predictions = [
            Prediction(example_id=one.id, caption="a pond", prefix="caption en", tokens=3, stopped="eos")
            for one in panel
        ]
        return PanelResult(
            n=len(panel),
            metrics={"CIDEr": next(stream)},
            loss=1.0,
            degenerate=0.0,
            predictions=predictions,
            watch={},
        )

    monkeypatch.setattr(loop, "evaluate_panel", say)


def test_a_run_ends_early_with_its_best_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Best at step 2, patience 3: training ends at step 5, the adapter is that of step 2, and status.json says so."""
    scripted(monkeypatch, [0.1, 0.8, 0.2, 0.3, 0.4, 0.9])
    folder = train(recipe(selection={"patience": 3}), tmp_path / "run", say=lambda _: None)
    status = folder.status()
    assert (status.steps, status.selected.step) == (5, 2)
    assert "3 evaluations" in status.stopped_early
    best = load_file(folder.checkpoints / "step-000002" / "weights.safetensors")
    saved = load_file(folder.adapter / "adapter_model.safetensors")
    last = load_file(folder.checkpoints / "step-000005" / "weights.safetensors")
    name = next(name for name in saved if "lora_B" in name)
    (full,) = [key for key in best if key.replace(".default", "") == name]
    assert saved[name].equal(best[full])
    assert not saved[name].equal(last[full])


def test_early_stopping_survives_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was waited for so far is part of a checkpoint: the resumed run stops where the whole one does."""
    values = [0.1, 0.8, 0.2, 0.3, 0.4, 0.9]
    made = recipe(selection={"patience": 3}, train={"checkpoint_every": 1})
    step = loop.TrainLog.step

    def dying(self: loop.TrainLog, **row: Any) -> None:
        step(self, **row)
        if row["step"] == 4:
            raise KeyError

    with monkeypatch.context() as patch:
        scripted(patch, values)
        patch.setattr(loop.TrainLog, "step", dying)
        with pytest.raises(KeyError):
            train(made, tmp_path / "run", say=lambda _: None)
    scripted(monkeypatch, values[3:])
    status = train(made, tmp_path / "run", say=lambda _: None, resume=True).status()
    assert (status.steps, status.selected.step) == (5, 2)


def test_selection_needs_evaluations() -> None:
    """[selection] without train.evaluate_every is refused when the recipe is read."""
    with pytest.raises(RecipeError, match="evaluate_every"):
        recipe(selection={}, train={"evaluate_every": None})


@pytest.mark.parametrize("budget", [{"max_tokens": 300}, {"max_minutes": 1e-4}])
def test_a_budget_ends_the_run_and_brings_the_rate_down(budget: dict[str, Any], tmp_path: Path) -> None:
    """A run of 300 tokens, or of 6 ms, ends at the first update that passes it."""
    section = {**budget, "max_steps": 50, "schedule": "linear", "warmup_share": 0.0, "evaluate_every": None}
    folder = train(recipe(train=section), tmp_path / "run", say=lambda _: None)
    rows = read_jsonl(folder.train_log)
    assert len(rows) < 10
    tokens = [row["supervised_tokens"] for row in rows]
    if "max_tokens" in budget:
        assert sum(tokens[:-1]) < 300 <= sum(tokens)
        assert rows[-1]["learning_rate"] == pytest.approx(1e-4 * (1 - sum(tokens[:-1]) / 300))


def test_a_budget_that_leaves_adalora_unfinished_says_so(tmp_path: Path) -> None:
    """The ranks come down by the number of steps: the run that ends after a few of fifty has more than it asked for."""
    section = {"max_tokens": 300, "max_steps": 50, "evaluate_every": None}
    said: list[str] = []
    train(recipe(train=section, adapter={"method": "adalora"}), tmp_path / "run", say=said.append)
    assert any("before its ranks came down" in line for line in said)


@pytest.mark.parametrize("base_url", [None, "https://wandb.example.org"])
def test_who_is_logged_in_to_wandb_is_online(
    base_url: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login stands in netrc under the host that the package talks to: its own, or one's own server."""
    from wandb import Settings

    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    if base_url:
        monkeypatch.setenv("WANDB_BASE_URL", base_url)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "netrc").write_text("machine elsewhere.example.org login user password secret\n", encoding="utf-8")
    assert not trackers._wandb_key()
    host = str(Settings().base_url).removeprefix("https://")
    (tmp_path / "netrc").write_text(f"machine {host} login user password secret\n", encoding="utf-8")
    assert trackers._wandb_key()


def test_a_tracker_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known to accelerate but not here: refused before anything is loaded, whichever it is."""
    monkeypatch.setattr(trackers, "get_available_trackers", list)
    for name in ("mlflow", "tensorboard"):
        with pytest.raises(RecipeError, match=f"{name} is not installed"):
            trackers.check_trackers(TrackSection(trackers=(name,)))


def test_unknown_trackers_are_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    """A misspelt tracker names the known ones, and leaves no run folder."""
    with pytest.raises(RecipeError, match="tensorbord"):
        train(recipe(track={"trackers": ["tensorbord"]}), tmp_path / "run", say=lambda _: None)
    assert not (tmp_path / "run").exists()


@pytest.fixture
def tracked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """Two steps followed by TensorBoard and by Weights & Biases, offline since nobody is logged in."""
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    made = recipe(track={"trackers": ["tensorboard", "wandb"], "captions": 2}, train={"max_steps": 2})
    return train(made, tmp_path / "run", say=lambda _: None)


@pytest.mark.filterwarnings("ignore")
def test_trackers_files_are_read_back_by_their_own_libraries(tracked: RunFolder) -> None:
    """Losses, scores, images and captions stand in TensorBoard's events and W&B's offline file, as in train.jsonl."""
    pytest.importorskip("tensorboard")
    pytest.importorskip("wandb")
    rows = [row for row in read_jsonl(tracked.train_log) if row["event"] == "step"]
    losses = [row["loss"] for row in rows]
    assert tensorboard_scalars(tracked.path / "trackers", "train/loss") == pytest.approx(losses)
    assert wandb_values(tracked.path / "trackers", "train/loss") == pytest.approx(losses)
    assert len(tensorboard_scalars(tracked.path / "trackers", "val/CIDEr")) == 2
    assert len(wandb_values(tracked.path / "trackers", "val/CIDEr")) == 2
    tables = list((tracked.path / "trackers").rglob("*.table.json"))
    assert len(tables) == 2
    assert not [path for path in tracked.path.rglob("*") if path.suffix in {".pkl", ".pickle"}]


def tensorboard_scalars(folder: Path, tag: str) -> list[float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    place = folder / "tensorboard"
    events = EventAccumulator(str(place))
    events.Reload()
    assert events.Tags()["images"]
    return [event.value for event in events.Scalars(tag)]


def wandb_values(folder: Path, name: str) -> list[float]:
    """The values of one name in the offline file, whose records wandb's own protocol classes parse."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = folder.rglob("*.wandb")
    found = []
    for data in log_records(file.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        for item in record.history.item:
            if (item.key or "/".join(item.nested_key)) == name:
                found.append(json.loads(item.value_json))
    return found


def log_records(content: bytes) -> Iterator[bytes]:
    """Records of a LevelDB log: blocks of 32 KiB, each record with its checksum, length and type (whole or a part)."""
    assert content[:4] == b":W&B"
    place, parts = 7, b""
    while place + 7 <= len(content):
        left = 32_768 - place % 32_768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + 7])
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


@pytest.mark.filterwarnings("ignore")
def test_a_lost_tracker_is_told_of_once_and_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tracker that fails in the middle is left out; train.jsonl is whole and the run finishes."""
    pytest.importorskip("tensorboard")
    from accelerate.tracking import TensorBoardTracker

    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("gone")

    monkeypatch.setattr(TensorBoardTracker, "log", fail)
    said: list[str] = []
    folder = train(
        recipe(track={"trackers": ["tensorboard"]}, train={"max_steps": 3}), tmp_path / "run", say=said.append
    )
    assert [line for line in said if "tensorboard failed" in line and "gone" in line] == [
        line for line in said if "tensorboard" in line
    ]
    assert sum("tensorboard" in line for line in said) == 1
    assert len([row for row in read_jsonl(folder.train_log) if row["event"] == "step"]) == 3


@pytest.mark.filterwarnings("ignore")
def test_no_secret_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens in the environment appear in no file of the run folder."""
    secret = "hf_" + "s3cr3t" * 6
    for name in ("HF_TOKEN", "WANDB_API_KEY", "OTHER_TOKEN"):
        monkeypatch.setenv(name, secret)
    monkeypatch.setenv("WANDB_MODE", "offline")
    made = recipe(track={"trackers": ["tensorboard", "wandb"]}, train={"max_steps": 1})
    folder = train(made, tmp_path / "run", say=lambda _: None)
    assert not [path for path in folder.path.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
