"""Kill training at random moments, resume it, and compare its end with that of a run that nobody disturbed.

    python benchmarks/faults.py --kills 50
    python benchmarks/faults.py --kills 20 --reward      a run that trains on a reward
    python benchmarks/faults.py --kills 10 --inside         other commands, each killed so often: disturbed.py

That many runs are each killed at least once, and every end is compared. A kill is a `kill -9` of the command at a
moment drawn between its first breath and its end, so that it also falls into the writing of a checkpoint, of a log
line, or of the adapter; a run may be killed several times over. Moments are counted in the command's own processor
time, so that a busy machine does not move all of them to its beginning. The adapter, the weights, the optimiser's
state, the progress and train.jsonl must be the same bytes. Exits with 1 if any differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

from common import environment
from disturbed import JOBS
from disturbed import study as inside
from rscap.store import RunFolder, read_json, write_json
from rscap.training.checkpoints import Checkpoints

RESULTS = Path(__file__).parent / "results"
_LOOK_S = 0.005
"""Between two looks at how long a command has worked."""
RECIPE = """
seed = 3
[data]
source = "sample"
train_limit = 24
captions = "random"
augment = "full"
[model]
base = "nano"
dtype = "float32"
[adapter]
rank = 4
dropout = 0.1
lora_plus_ratio = 4.0
[train]
max_steps = 24
micro_batch = 2
accumulation = 2
epochs = 9
learning_rate = 1e-3
checkpoint_every = 1
evaluate_every = 6
evaluate_images = 2
[selection]
patience = 9
[generate]
max_new_tokens = 6
"""

REWARD = (
    RECIPE.replace("dropout = 0.1", "dropout = 0.0").replace("max_steps = 24", "max_steps = 12")
    + """
[objective]
samples = 3
likelihood_share = 0.1
"""
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reward", action="store_true")
    parser.add_argument(
        "--inside", nargs="*", choices=list(JOBS), help="other commands in place of training; without names all"
    )
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # the bits of a sum depend on how many threads share it
    with tempfile.TemporaryDirectory() as folder:
        asked = REWARD if arguments.reward else RECIPE
        result = RESULTS / ("faults_reward.json" if arguments.reward else "faults.json")
        draw = random.Random(arguments.seed)
        if arguments.inside is not None:
            same = inside(
                arguments.inside or list(JOBS), Path(folder), RECIPE, kills=arguments.kills, seed=arguments.seed
            )
            sys.exit(0 if same else 1)
        sys.exit(0 if study(Path(folder), asked, result, kills=arguments.kills, draw=draw) else 1)


def study(folder: Path, asked: str, result: Path, *, kills: int, draw: random.Random) -> bool:
    """Run whole once, then as many runs with kills as asked; True if every end is the same."""
    recipe = folder / "recipe.toml"
    recipe.write_text(asked, encoding="utf-8")
    before = os.times().children_user + os.times().children_system
    train(recipe, folder / "whole")
    seconds = os.times().children_user + os.times().children_system - before
    expected = end_of(folder / "whole")
    begun, runs, same, moments = 0, 0, 0, []
    while runs < kills:
        out = folder / f"run-{begun}"
        begun += 1
        disturbed = kill_and_kill_again(recipe, out, seconds=seconds, draw=draw)
        train(recipe, out)
        if not set(disturbed) - {"start", "end"}:  # before there was anything to lose, or after: no evidence
            continue
        moments += disturbed
        runs += 1
        same += end_of(out) == expected
        print(f"{len(moments)} kills, {runs} runs, {same} of them end bit for bit as the undisturbed run", flush=True)
    write_json(
        result,
        {
            **environment(threads=1),
            "kills": len(moments),
            "runs": runs,
            "identical": same,
            "processor_seconds_of_a_run": round(seconds, 1),
            "killed_while": dict(Counter(moments).most_common()),
        },
    )
    return same == runs


def kill_and_kill_again(recipe: Path, out: Path, *, seconds: float, draw: random.Random) -> list[str]:
    """Kill a run once, or several times over as a coin falls; what it was at, each time."""
    moments: list[str] = []
    while (moment := killed(recipe, out, after=draw.uniform(0.0, 1.0) * seconds)) is not None:
        moments.append(moment)
        if draw.random() < 0.5:
            break
    return moments


def command(recipe: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "rscap", "train", str(recipe), "--out", str(out), "--resume"]


def train(recipe: Path, out: Path) -> None:
    """Train to the end, from wherever `out` stands."""
    done = subprocess.run(command(recipe, out), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{out} did not finish:\n{done.stderr}")


def killed(recipe: Path, out: Path, *, after: float) -> str | None:
    """Begin or go on, and kill -9 after seconds of processor time; what it was at, or None if it ended before."""
    process = psutil.Popen(command(recipe, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        if sum(process.cpu_times()[:2]) >= after:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return moment_of(RunFolder(out))
        time.sleep(_LOOK_S)
    return None


def moment_of(run: RunFolder) -> str:
    """Where a killed run was, as its folder tells."""
    if not run.status_file.exists():
        return "start"
    if run.status().state == "finished":
        return "end"
    if list(run.checkpoints.glob(".saving-*")):
        return "writing a checkpoint"
    if list(run.path.glob(".saving-*")) or run.adapter.exists():
        return "writing the adapter"
    steps = Checkpoints(run.checkpoints, 1).steps()
    return f"after the checkpoint of step {steps[-1]}" if steps else "before the first checkpoint"


def end_of(out: Path) -> dict[str, bytes]:
    run = RunFolder(out)
    last = Checkpoints(run.checkpoints, 1).at(Checkpoints(run.checkpoints, 1).steps()[-1])
    files = (
        run.train_log,
        run.adapter / "adapter_model.safetensors",
        last / "weights.safetensors",
        last / "optimiser.safetensors",
    )
    progress = {**read_json(last / "progress.json"), "seconds": None, "sha256": None}
    return {path.name: path.read_bytes() for path in files} | {"progress": json.dumps(progress).encode()}


if __name__ == "__main__":
    main()
