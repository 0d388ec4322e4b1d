"""Studies are carried out: what is there is kept, what fails is told and not counted, what is killed goes on."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tomli_w
from PIL import Image

from rscap.ablation import work
from rscap.ablation.engines import LocalEngine
from rscap.ablation.plan import Job, make_plan
from rscap.ablation.runner import RowStatus, StudyStatus, carry_out, estimate
from rscap.ablation.study import Study, read_study
from rscap.cli.ablate import print_table
from rscap.errors import DataError, RecipeError, RscapError, StoreError
from rscap.recipe import dump_recipe
from rscap.records import ScoreSheet
from rscap.store import (
    Attempt,
    RunFolder,
    StudyFolder,
    read_json,
    read_jsonl,
    write_jsonl,
    write_sheet,
    write_text,
)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight training and four test images of noise, with a caption each."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "resized").mkdir()
    lines = ["source,split,image,caption_1,caption_2"]
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "resized" / f"T_{number}.png")
        split = "train" if number < 8 else "test"
        lines.append(f"T,{split},T_{number}.png,a plane number {number} .,many trees are around plane {number} .")
    (folder / "captions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def write_study(folder: Path, data: Path, **changes: Any) -> Path:
    """A study of two ranks, one seed, two steps, four evaluation images, without zero-shot and baselines."""
    base = {
        "data": {"source": str(data), "captions": "first"},
        "model": {"base": "nano", "dtype": "float32"},
        "adapter": {"rank": 2},
        "train": {"micro_batch": 2, "learning_rate": 1e-3},
        "generate": {"max_new_tokens": 4},
    }
    table: dict[str, Any] = {
        "name": "tiny",
        "base": "base.toml",
        "seeds": [0],
        "budget": {"steps": 2},
        "axes": {"adapter.rank": [2, 4]},
        "zero_shot": False,
        "baselines": False,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "base.toml").write_text(tomli_w.dumps(base), encoding="utf-8")
    table |= changes
    path = folder / "study.toml"
    path.write_text(tomli_w.dumps({key: value for key, value in table.items() if value is not None}), encoding="utf-8")
    return path


def opened(path: Path, *overrides: str) -> tuple[Study, StudyStatus]:
    made = read_study(path, overrides)
    return made, StudyStatus(make_plan(made), StudyFolder(path.parent / "out"))


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder: when it was written, and what it holds."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def adapters(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("adapter_model.safetensors")}


def by_name(lines: Sequence[RowStatus]) -> dict[str, RowStatus]:
    return {line.name: line for line in lines}


@dataclass(slots=True)
class Pretend:
    """An engine that writes what a run leaves behind, without training; `broken` runs fail, `cut` ones are killed."""

    at_once: int = 1
    broken: tuple[str, ...] = ()
    cut: tuple[str, ...] = ()
    done: list[str] = field(default_factory=list)

    def run(self, jobs: Sequence[Job]) -> Generator[Attempt, None, None]:
        for job in jobs:
            self.done.append(job.folder)
            run = job.run
            if not run.status_file.exists():
                RunFolder.create(run.path)
            write_text(run.recipe_file, dump_recipe(job.recipe))
            if job.folder in self.broken:
                run.close("failed", error="AdapterError: DoRA was asked for and not applied")
                yield Attempt(folder=job.folder, progress="refused", reason="AdapterError: not applied", seconds=1.0)
            elif job.folder in self.cut:
                yield Attempt(folder=job.folder, progress="failed", reason="killed by SIGKILL", seconds=1.0)
            else:
                write_jsonl(run.references("test"), [{"id": "T_9", "captions": ["a plane ."]}])
                sheet = ScoreSheet(signature="", n=1, corpus={}, intervals={}, items={})
                write_sheet(run.scores("test"), sheet)
                run.close("finished")
                yield Attempt(folder=job.folder, progress="finished", seconds=10.0)


def pretend(path: Path, engine: Pretend, *overrides: str, only: Sequence[str] = ()) -> dict[str, RowStatus]:
    made, place = opened(path, *overrides)
    carry_out(made, place.plan, place.folder, engine, place.missing(threads=1, only=only), say=lambda _: None)
    return by_name(place.table())


def test_failed_and_cut_off_runs_are_told_not_counted_and_done_again(tmp_path: Path, tiny_data: Path) -> None:
    """One seed that fails makes a row that is not finished, whatever the others did; the next call does that one."""
    path = write_study(tmp_path, tiny_data, seeds=[0, 1])
    first = Pretend(broken=("runs/rank-2/seed-1",), cut=("runs/rank-4/seed-0",))
    lines = pretend(path, first)
    assert first.done == [f"runs/rank-{rank}/seed-{seed}" for seed in (0, 1) for rank in (2, 4)]
    assert (lines["rank-2"].progress, lines["rank-2"].finished, lines["rank-2"].total) == ("refused", 1, 2)
    assert "DoRA was asked for and not applied" in lines["rank-2"].reason
    assert (lines["rank-4"].progress, lines["rank-4"].folders) == ("failed", ("runs/rank-4/seed-1",))
    assert "SIGKILL" in lines["rank-4"].reason
    second = Pretend()
    lines = pretend(path, second)
    assert second.done == ["runs/rank-4/seed-0", "runs/rank-2/seed-1"]
    assert {line.progress for line in lines.values()} == {"finished"}


def test_another_recipe_in_the_folder_is_an_error(tmp_path: Path, tiny_data: Path) -> None:
    """A finished run of another budget is neither counted nor overwritten; the message names the key."""
    path = write_study(tmp_path, tiny_data)
    pretend(path, Pretend())
    before = files(tmp_path / "out")
    with pytest.raises(StoreError, match=r"train\.max_steps is 2, the study says 3"):
        pretend(path, Pretend(), "budget.steps=3")
    assert files(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("override", "message"),
    [("evaluation.limit=3", "limit was None, now 3"), ("evaluation.prefix=caption", "prefix was None, now 'caption'")],
)
def test_a_study_is_measured_in_one_way(tmp_path: Path, tiny_data: Path, override: str, message: str) -> None:
    """Going on with other evaluation images or words is refused: the table would mix two measures."""
    path = write_study(tmp_path, tiny_data)
    pretend(path, Pretend())
    with pytest.raises(StoreError, match=message):
        pretend(path, Pretend(), override)


def test_rows_and_seeds_can_be_added(tmp_path: Path, tiny_data: Path) -> None:
    """More seeds and rows in the same folder run what is new and keep what is there."""
    path = write_study(tmp_path, tiny_data)
    pretend(path, Pretend())
    engine = Pretend()
    lines = pretend(path, engine, "seeds=[0,1]", "axes.adapter.rank=[2,4,8]")
    assert engine.done == ["runs/rank-8/seed-0", *(f"runs/rank-{rank}/seed-1" for rank in (2, 4, 8))]
    assert {line.progress for line in lines.values()} == {"finished"}


def test_only_runs_the_named_row_and_plans_them_all(tmp_path: Path, tiny_data: Path) -> None:
    """`--only` leaves the other rows missing, and a row that there is not is an error."""
    path = write_study(tmp_path, tiny_data)
    lines = pretend(path, Pretend(), only=["rank-4"])
    assert [lines[name].progress for name in ("rank-2", "rank-4")] == ["missing", "finished"]
    assert len(read_json(tmp_path / "out" / "plan.json")["rows"]) == 2
    with pytest.raises(RecipeError, match="no row 'rank-3'"):
        pretend(path, Pretend(), only=["rank-3"])


def test_a_run_measured_on_other_images_is_not_counted(tmp_path: Path, tiny_data: Path) -> None:
    """Should the data change between two runs of a study, the later one is told and not compared."""
    path = write_study(tmp_path, tiny_data)
    pretend(path, Pretend())
    _, place = opened(path)
    other = RunFolder(place.folder.path / "runs" / "rank-4" / "seed-0").references("test")
    write_jsonl(other, [{"id": "T_9", "captions": ["another caption ."]}])
    line = by_name(place.table())["rank-4"]
    assert (line.progress, line.finished) == ("failed", 0)
    assert "other images or references than runs/rank-2/seed-0" in line.reason


def test_missing_data_says_how_to_point_to_it(tmp_path: Path, tiny_data: Path) -> None:
    """Nothing is run when the images are not there or too few; the hint names the override."""
    path = write_study(tmp_path, tmp_path / "nowhere")
    engine = Pretend()
    with pytest.raises(DataError, match="nowhere") as caught:
        pretend(path, engine)
    assert "--set data.source=FOLDER" in str(caught.value.hint)
    with pytest.raises(DataError, match="99 examples of split 'test'"):
        pretend(write_study(tmp_path, tiny_data, evaluation={"limit": 99}), engine)
    assert engine.done == []


def test_time_is_estimated_from_what_finished(tmp_path: Path, tiny_data: Path) -> None:
    """The median of the same row, else of all runs, shared among what runs at once; unknown before one finished."""
    path = write_study(tmp_path, tiny_data, seeds=[0, 1, 2])
    _, place = opened(path)
    jobs = place.missing(threads=1)
    assert estimate(jobs, [], 1) is None
    attempts = [
        Attempt(folder="runs/rank-2/seed-0", progress="finished", seconds=10.0),
        Attempt(folder="runs/rank-2/seed-1", progress="failed", seconds=1.0),
    ]
    assert estimate(jobs, attempts, 2) == pytest.approx(6 * 10.0 / 2)
    slow = Attempt(folder="runs/rank-4/seed-0", progress="finished", seconds=30.0)
    assert estimate(jobs, [*attempts, slow], 1) == pytest.approx(3 * 10.0 + 3 * 30.0)


def test_runs_are_trained_measured_and_kept(
    tmp_path: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Real processes: rows that cannot be done stop no other; zero-shot and baselines beside them; a second call does
    nothing but try the refused rows again and leaves every file of the others as it is."""
    path = write_study(
        tmp_path,
        tiny_data,
        axes=None,
        rows=[
            {"name": "broken", "set": {"adapter.language_targets": ["w_proj"]}},
            {"name": "leaky", "set": {"data.splits": "seed42"}},
            {"name": "r2", "set": {"adapter.rank": 2}},
            {"name": "r4", "set": {"adapter.rank": 4}},
        ],
        reference="r2",
        zero_shot=True,
        baselines=True,
        evaluation={"limit": 3},
    )
    made, place = opened(path)
    engine = LocalEngine(at_once=2)
    carry_out(made, place.plan, place.folder, engine, place.missing(threads=1), say=lambda _: None)
    lines = by_name(place.table())
    assert {name: line.progress for name, line in lines.items()} == {
        **dict.fromkeys(("broken", "leaky"), "refused"),
        **dict.fromkeys(("r2", "r4", "zero-shot", "baselines"), "finished"),
    }
    assert "w_proj" in lines["broken"].reason
    assert "are training images" in lines["leaky"].reason
    expected = {row["id"] for row in read_jsonl(RunFolder(place.folder.path / "zero-shot").references("test"))}
    assert len(expected) == 3
    for folder in ("runs/r2/seed-0", "runs/r4/seed-0", "zero-shot", "baselines/constant", "baselines/nearest"):
        rows = read_jsonl(RunFolder(place.folder.path / folder).predictions("test"))
        assert {row["id"] for row in rows} == expected
        assert set(read_json(RunFolder(place.folder.path / folder).scores("test"))["items"]) == expected
    print_table(place)
    shown = capsys.readouterr().out
    for name in ("zero-shot", "baselines/constant", "baselines/nearest"):
        score = read_json(RunFolder(place.folder.path / name).scores("test"))["corpus"]["CIDEr"]
        assert re.search(rf"{name} +finished +1/1 +{score:.3f}", shown), shown
    kept = {name: files(place.folder.path / name) for name in ("runs/r2", "runs/r4", "zero-shot", "baselines")}
    again = place.missing(threads=1)
    assert [job.folder for job in again] == ["runs/broken/seed-0", "runs/leaky/seed-0"]
    carry_out(made, place.plan, place.folder, engine, again, say=lambda _: None)
    assert by_name(place.table())["broken"].progress == "refused"
    assert {name: files(place.folder.path / name) for name in kept} == kept


def test_copies_of_evaluation_images_are_found_before_training(
    tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that trains on the test images under other names is refused; with `allow_seen` its score is marked."""
    monkeypatch.chdir(tmp_path)
    other = shutil.copytree(tiny_data, tmp_path / "other")
    table = (other / "captions.csv").read_text(encoding="utf-8")
    for number in range(8, 12):
        (other / "resized" / f"T_{number}.png").rename(other / "resized" / f"X_{number}.png")
    renamed = re.sub(r"T,test,T_(\d+)", r"T,train,X_\1", table)
    (other / "captions.csv").write_text(renamed, encoding="utf-8")
    rows = [{"name": "own"}, {"name": "copied", "set": {"data.source": str(other)}}]
    _, place = opened(write_study(tmp_path, tiny_data, axes=None, rows=rows, reference="own"))
    (job,) = [job for job in place.missing(threads=1) if "copied" in job.folder]
    attempt = work.carry_out(job, say=lambda _: None)
    assert attempt.progress == "refused"
    assert "4 images of" in attempt.reason
    assert not job.run.path.exists()
    allowed = replace(job, evaluation=job.evaluation.model_copy(update={"allow_seen": True}))
    assert work.carry_out(allowed, say=lambda _: None).progress == "finished"
    assert read_json(job.run.scores("test"))["signature"].endswith("|seen:4/4")


def test_a_study_that_is_stopped_lets_its_runs_save(tmp_path: Path, tiny_data: Path) -> None:
    """Ctrl-C in the study reaches each run as one request: it finishes its update, saves, and can go on."""
    rows = [{"name": "broken", "set": {"adapter.language_targets": ["w_proj"]}}, {"name": "long"}]
    path = write_study(tmp_path, tiny_data, axes=None, rows=rows, budget={"steps": 5000})
    made, place = opened(path)
    run = RunFolder(place.folder.path / "runs/long/seed-0")

    def interrupt(message: str) -> None:
        wait_for(lambda: run.train_log.exists() and len(read_jsonl(run.train_log)) > 2, what="no step was made")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carry_out(made, place.plan, place.folder, LocalEngine(at_once=2), place.missing(threads=1), say=interrupt)
    assert run.status().state == "interrupted"
    assert by_name(place.table())["long"].progress == "interrupted"
    steps = len(read_jsonl(run.train_log))
    assert 2 < steps < 5000
    assert list((run.path / "checkpoints").glob(f"step-{steps:06}"))


def ablate(path: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "rscap", "ablate", str(path), "--out", str(path.parent / "out"), *options]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd=path.parent, env=environment
    )


def wait_for(condition: Any, *, what: str) -> None:
    deadline = time.monotonic() + 900  # a guard against hanging for ever; nothing is measured
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_killed_studies_go_on_and_end_as_if_they_had_not_been(tmp_path: Path, tiny_data: Path) -> None:
    """`kill -9` of a run's process fails that run and no other; `kill -9` of the study ends its processes; started
    again it finishes both, with the adapters of an undisturbed study bit for bit."""
    path = write_study(tmp_path / "killed", tiny_data, budget={"steps": 6}, set={"train.checkpoint_every": 2})
    statuses = [tmp_path / "killed" / "out" / f"runs/rank-{rank}/seed-0/status.json" for rank in (2, 4)]
    study = ablate(path, "--jobs", "1", "--threads", "1")
    try:
        wait_for(statuses[0].exists, what="no run began")
        next(process for process in psutil.Process(study.pid).children(recursive=True) if is_run(process)).kill()
        wait_for(statuses[1].exists, what="the second run did not begin after the first was killed")
        family = psutil.Process(study.pid).children(recursive=True)
    finally:
        study.send_signal(signal.SIGKILL)
        study.communicate()
    _, alive = psutil.wait_procs(family, timeout=300)
    assert alive == []
    assert [attempt.progress for attempt in StudyFolder(path.parent / "out").attempts()] == ["failed"]
    again = ablate(path, "--jobs", "1", "--threads", "1")
    _, said = again.communicate()
    assert again.returncode == 0, said.decode()
    calm = write_study(tmp_path / "calm", tiny_data, budget={"steps": 6}, set={"train.checkpoint_every": 2})
    made, place = opened(calm)
    carry_out(made, place.plan, place.folder, LocalEngine(at_once=1), place.missing(threads=1), say=lambda _: None)
    assert len(adapters(place.folder.path)) == 2
    assert adapters(path.parent / "out") == adapters(place.folder.path)


def is_run(process: psutil.Process) -> bool:
    """A job's process leads a group of its own; the server it was forked from and the resource tracker do not."""
    return os.getpgid(process.pid) == process.pid


def test_ray_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package, `--engine ray` says which extra brings it."""
    from rscap.ablation.engines import import_ray

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RscapError, match="needs the package ray") as caught:
        import_ray()
    assert "rscap[ray]" in str(caught.value.hint)


@pytest.mark.ray
def test_ray_gives_the_same_adapters(tmp_path: Path, tiny_data: Path) -> None:
    """The same study on a Ray cluster of this machine, threads pinned: the same adapters bit for bit."""
    ray = pytest.importorskip("ray")
    from rscap.ablation.engines import ray_engine

    found = {}
    for name in ("local", "ray"):
        path = write_study(tmp_path / name, tiny_data)
        made, place = opened(path)
        if name == "ray":
            ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        engine = LocalEngine(at_once=2) if name == "local" else ray_engine(at_once=2, threads=1)[0]
        try:
            carry_out(made, place.plan, place.folder, engine, place.missing(threads=1), say=lambda _: None)
        finally:
            if name == "ray":
                ray.shutdown()
        assert {line.progress for line in place.table()} == {"finished"}
        found[name] = adapters(place.folder.path)
    assert len(found["local"]) == 2
    assert found["local"] == found["ray"]
