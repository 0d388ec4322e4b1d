"""Commands beside training, killed at random moments and given again as they were: `faults.py --inside` calls this.

What is left must be the same bytes as of a command that nobody disturbed: of an evaluation predictions and scores, of a
study those of all its runs, of an export the weights, of a conversion every file. Nothing unfinished may lie beside it.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from common import RESULTS, environment
from rscap.provenance import file_digest
from rscap.store import RunFolder, write_json

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
}


def same_ends(job: str, folder: Path, recipe: str, *, kills: int, draw: random.Random) -> bool:
    """Run a command whole once, then as often with kills as asked; True if every end is the same."""
    place = folder / job
    place.mkdir()
    (place / "recipe.toml").write_text(recipe, encoding="utf-8")
    (place / "study.toml").write_text(STUDY, encoding="utf-8")
    if job == "export":
        trained = [sys.executable, "-m", "rscap", "train", "recipe.toml", "--out", "trained"]
        subprocess.run(trained, cwd=place, capture_output=True, check=True)
    before = time.monotonic()
    to_its_end(job, place, "whole")
    seconds = time.monotonic() - before
    expected = files_of(place / "whole")
    moments, begun, runs, same = 0, 0, 0, 0
    while runs < kills:
        out, before_it = f"run-{begun}", moments
        begun += 1
        while killed_job(job, place, out, after=draw.uniform(0.05, 0.9) * seconds):
            moments += 1
            if draw.random() < 0.5:
                break
        if not is_whole(job, place / out):
            to_its_end(job, place, out)
        if moments == before_it:  # it ended before its kill: no evidence
            continue
        runs += 1
        left = [path.name for path in place.iterdir() if path.name.startswith(f".{out}.")]
        same += files_of(place / out) == expected and not left
        print(f"{job}: {moments} kills, {runs} runs, {same} end as the undisturbed one {left or ''}", flush=True)
    found = {"kills": moments, "runs": kills, "identical": same, "seconds_of_a_run": round(seconds, 1)}
    write_json(RESULTS / f"faults_{job}.json", {**environment(threads=1), **found})
    return same == kills


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
