"""Make the folders beside this file, with the rscap that wrote them: see README.md.

    python tests/frozen/v01/make.py SRC WORK

SRC is the `src` folder of a checkout of that commit, WORK a new folder whose name may stand in the files.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
KEPT = ("run", "interrupted", "evaluation", "study", "unfinished")
PROMISED = ("run", "evaluation", "study")
NOT_KEPT = shutil.ignore_patterns(".lock*", "logs", "report.*")

RUN = """
prompt.training_prefixes = ["caption en", "describe en"]
model = { base = "nano", dtype = "float32" }
adapter = { rank = 2, dropout = 0.1, language_targets = ["q_proj"] }
selection = {}
generate.max_new_tokens = 20
[data]
source = "sample"
captions = "random"
augment = "turns"
train_limit = 16
quality = { max_words = 17, full_consensus = 0.5 }
[train]
max_steps = 8
epochs = 9
micro_batch = 2
accumulation = 2
learning_rate = 1e-2
evaluate_every = 4
evaluate_images = 8
checkpoint_every = 2
keep_checkpoints = 1
"""
BASE = """
data = { source = "sample", train_limit = 16 }
model = { base = "nano", dtype = "float32" }
adapter = { rank = 2, language_targets = ["q_proj"] }
train = { micro_batch = 2, learning_rate = 1e-2, keep_checkpoints = 1 }
generate.max_new_tokens = 20
"""
STUDY = """
name = "study"
base = "base.toml"
seeds = [0, 1]
reference = "rank-2"
budget.steps = 4
evaluation.limit = 6
[[rows]]
name = "rank-2"
[[rows]]
name = "rank-4"
set = { adapter.rank = 4, adapter.alpha = 8.0 }
[[rows]]
name = "no-such-layer"
set = { adapter.language_targets = ["no_such_layer"] }
[[rows]]
name = "test-images"
set = { data.splits = "seed42" }
[[rows]]
name = "left-out"
set = { train.learning_rate = 1e-3 }
[[exclude]]
rows = ["left-out"]
reason = "an example"
"""
UNFINISHED = """
name = "unfinished"
base = "base.toml"
seeds = [0, 1]
zero_shot = false
baselines = false
budget.steps = 10
evaluation.limit = 4
[[rows]]
name = "rank-2"
"""


def main(source: Path, work: Path) -> None:
    work.mkdir()
    for name, text in (("run", RUN), ("base", BASE), ("study", STUDY), ("unfinished", UNFINISHED)):
        (work / f"{name}.toml").write_text(text, encoding="utf-8")
    rscap(source, work, "train run.toml --out run")
    rscap(source, work, "evaluate run --split val")
    rscap(source, work, "evaluate run --limit 6 --set generate.beams=2 --out evaluation")
    rscap(source, work, "train run.toml --out interrupted", stopped_at="interrupted/checkpoints/step-000002")
    rscap(source, work, "ablate study.toml --out study --jobs 1 --threads 1", ends=1)
    last = "unfinished/runs/rank-2/seed-1/speed.jsonl"
    rscap(source, work, "ablate unfinished.toml --out unfinished --jobs 1 --threads 1", stopped_at=last)
    for name in ("interrupted", "unfinished/runs/rank-2/seed-1"):
        state = json.loads((work / name / "status.json").read_text(encoding="utf-8"))["state"]
        assert state == "interrupted", f"{name} is {state}; once more"
    rscap(source, work, "report run --split val --out expected/run.html")
    rscap(source, work, "report evaluation --out expected/evaluation.html")
    rscap(source, work, "report study --out expected/study.html")
    keep(work)


def rscap(source: Path, work: Path, command: str, *, stopped_at: str | None = None, ends: int = 0) -> None:
    """Run a command in `work` on one thread; ask it to stop as Ctrl-C does once there is `stopped_at`."""
    environment = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen([sys.executable, "-m", "rscap.cli", *command.split()], cwd=work, env=environment)
    if stopped_at:
        while not (work / stopped_at).exists():
            assert process.poll() is None, f"{command} ended before it was stopped; once more"
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
    ended = process.wait()
    assert ended == (130 if stopped_at else ends), f"{command} ended with {ended}"


def keep(work: Path) -> None:
    """Copy what is test data: no locks, no logs, no checkpoints of finished runs, and of the reports the tables."""
    for name in KEPT:
        shutil.rmtree(HERE / name, ignore_errors=True)
        shutil.copytree(work / name, HERE / name, ignore=NOT_KEPT)
        for status in (HERE / name).rglob("status.json"):
            if json.loads(status.read_text(encoding="utf-8"))["state"] == "finished":
                shutil.rmtree(status.parent / "checkpoints", ignore_errors=True)
    (HERE / "expected").mkdir(exist_ok=True)
    for name in PROMISED:
        for suffix in (".json", ".csv"):
            shutil.copy(work / "expected" / f"{name}{suffix}", HERE / "expected")
    shutil.copy(work / "run" / "train.jsonl", HERE / "expected")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
