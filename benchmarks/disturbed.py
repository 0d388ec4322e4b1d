"""Commands beside training, killed at random moments and given again as they were: `faults.py --inside` calls this.

What they leave must be the same bytes as of a command that nobody disturbed: of an evaluation predictions and scores,
of a study those of all its runs, of an export the weights, of a conversion every file, of a scene its captions in every
format. No unfinished file may be left in the same folder.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

from common import RESULTS, environment
from rscap.provenance import file_digest
from rscap.store import RunFolder, read_json, write_json

STUDY = """
name = "kills"
base = "recipe.toml"
seeds = [0]
reference = "plain"
zero_shot = false
[budget]
steps = 2
[evaluation]
split = "val"
limit = 4
[[rows]]
name = "plain"
[[rows]]
name = "rank"
set = { adapter.rank = 2 }
"""

JOBS: dict[str, tuple[str, ...]] = {
    "evaluate": ("evaluate", "nano", "--source", "sample", "--limit", "12", "--dtype", "float32", "--no-baselines"),
    "ablate": ("ablate", "study.toml", "--jobs", "1", "--threads", "1"),
    "export": ("export", "trained", "--images", "2"),
    "convert": ("data", "convert", "sample"),
    "scene": ("scene", "scene.tif", "--model", "nano", "--dtype", "float32", "--set", "generate.max_new_tokens=6"),
}
RESULT = RESULTS / "faults_inside.json"


@dataclass(frozen=True)
class Whole:
    """A command that nobody disturbed: where it ran, how long, and the files that it left."""

    place: Path
    seconds: float
    files: dict[str, str]


def study(jobs: Sequence[str], folder: Path, recipe: str, *, kills: int, seed: int) -> bool:
    """Kill each command until it was killed `kills` times, one run of each in turn; True if every end is the same.

    The record holds what was done; the same call goes on with it.
    """
    here = environment(threads=1)
    known = read_json(RESULT) if RESULT.exists() else {}
    done = known["commands"] if known.get("commit") == here["commit"] else {}
    wholes: dict[str, Whole] = {}
    while left := [job for job in jobs if done.get(job, {}).get("kills", 0) < kills]:
        for job in left:
            if job not in wholes:
                wholes[job] = undisturbed(job, folder, recipe)
            whole = wholes[job]
            record = done.setdefault(
                job, {"kills": 0, "runs": 0, "identical": 0, "seconds_of_a_run": round(whole.seconds, 1)}
            )
            moments, same, left_over = disturb(job, whole, random.Random(f"{seed} {job} {record['runs']}"))
            record["kills"] += moments
            record["runs"] += 1
            record["identical"] += same
            write_json(RESULT, {**here, **total(done), "commands": done})
            print(f"{job}: {record} {left_over or ''}", flush=True)
    return all(record["identical"] == record["runs"] for record in done.values())


def total(done: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The counts of all commands together."""
    return {name: sum(record[name] for record in done.values()) for name in ("kills", "runs", "identical")}


def undisturbed(job: str, folder: Path, recipe: str) -> Whole:
    """Run a command whole, once."""
    place = folder / job
    place.mkdir()
    (place / "recipe.toml").write_text(recipe, encoding="utf-8")
    (place / "study.toml").write_text(STUDY, encoding="utf-8")
    if job == "export":
        trained = [sys.executable, "-m", "rscap", "train", "recipe.toml", "--out", "trained"]
        subprocess.run(trained, cwd=place, capture_output=True, check=True)
    if job == "scene":
        write_scene(place / "scene.tif")
    before = time.monotonic()
    to_its_end(job, place, "whole")
    return Whole(place, time.monotonic() - before, files_of(place / "whole"))


def disturb(job: str, whole: Whole, draw: random.Random) -> tuple[int, bool, list[str]]:
    """Kill one run at least once, several times as a coin falls, and let it end: kills, sameness, what is left over."""
    moments, out = 0, f"run-{draw.getrandbits(64):016x}"
    while not moments:
        out += "x"
        while killed_job(job, whole.place, out, after=draw.uniform(0.05, 0.9) * whole.seconds):
            moments += 1
            if draw.random() < 0.5:
                break
        if not is_whole(job, whole.place / out):
            to_its_end(job, whole.place, out)
    left = [path.name for path in whole.place.iterdir() if path.name.startswith(f".{out}.")]
    return moments, files_of(whole.place / out) == whole.files and not left, left


def write_scene(path: Path) -> None:
    """Twelve windows of noise with a place on the ground."""
    size = {"width": 896, "height": 672, "count": 3, "dtype": "uint8"}
    place = from_origin(400_000, 5_600_000, 0.5, 0.5)
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32633", transform=place, **size) as file:
        file.write(np.random.default_rng(0).integers(0, 256, (3, 672, 896), dtype=np.uint8))


def words_of(job: str, out: str) -> list[str]:
    target = [out] if job == "convert" else ["--out", out]
    return [sys.executable, "-m", "rscap", *JOBS[job], *target]


def to_its_end(job: str, place: Path, out: str) -> None:
    done = subprocess.run(words_of(job, out), cwd=place, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{job} of {out} did not finish:\n{done.stderr}")


def killed_job(job: str, place: Path, out: str, *, after: float) -> bool:
    """Begin or go on, and kill the command and what it started; False if it ended before."""
    if is_whole(job, place / out):
        return False
    process = subprocess.Popen(
        words_of(job, out), cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        process.wait(timeout=after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def is_whole(job: str, out: Path) -> bool:
    """Whether the command would find its work done."""
    if job == "evaluate":
        return RunFolder(out).exists and RunFolder(out).status().state == "finished"
    return out.exists() and job in ("export", "convert")


_OF_TIMES = ("README.md", "report.html", "status.json", "provenance.json", "speed.jsonl", "evaluation.json")


def files_of(out: Path) -> dict[str, str]:
    """SHA-256 of every file but for logs, locks, and those that tell when, where and how fast they were written."""
    kept = (path for path in sorted(out.rglob("*")) if path.is_file() and path.name not in _OF_TIMES)
    return {
        path.relative_to(out).as_posix(): file_digest(path)
        for path in kept
        if not path.name.startswith(".") and not {"logs", "checkpoints"} & set(path.relative_to(out).parts)
        if path.name not in ("attempts.jsonl", "plan.json")
    }
