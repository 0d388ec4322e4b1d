"""Time and memory of `rscap score` against pycocoevalcap, whole processes in turn, on the same files.

    python benchmarks/score.py [--golden FILE] [--rounds 5] [--out FILE] [--busy-ok]

Each round starts every variant once, in an order that alternates, so that a machine that warms up or slows down treats
all alike; medians are compared. A variant is a fresh process from interpreter start to exit: reading JSON, tokenising,
BLEU, (METEOR,) ROUGE-L and CIDEr, and for rscap also diagnostics and the score sheet, with and without 10,000 bootstrap
resamples, METEOR in one process and in two. pycocoevalcap needs Java. A busy machine is refused without --busy-ok, and
the load is recorded either way. Peak memory is that of the largest single process.

Measured too: ten times the images (rscap alone), and CIDEr rewards of a batch of 64 x 5 against a saved pool.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common import check_load
from rscap import __version__
from rscap.errors import ScoreError
from rscap.scoring import IdfPool, cider_rewards
from rscap.store import write_json

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "data" / "metrics-golden" / "risc_test_neighbour.json"
THREADS = {"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}
PUBLISHED = """
import json, sys
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.cider.cider import Cider
candidates, references, meteor = json.load(open(sys.argv[1])), json.load(open(sys.argv[2])), sys.argv[3] == "meteor"
tokenizer = PTBTokenizer()
res = tokenizer.tokenize({i: [{"caption": text}] for i, text in candidates.items()})
gts = tokenizer.tokenize({i: [{"caption": text} for text in own] for i, own in references.items()})
scorers = [Bleu(4), Rouge(), Cider()]
if meteor:
    from pycocoevalcap.meteor.meteor import Meteor
    scorers.append(Meteor())
print(json.dumps([np_score if isinstance(np_score, list) else float(np_score)
                  for np_score in (scorer.compute_score(gts, res)[0] for scorer in scorers)]))
"""


@dataclass(frozen=True)
class Run:
    seconds: float
    peak_mib: float


def run(command: list[str]) -> Run:
    """Start a process, wait for it, and say how long it took and how much memory it and its children held."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, **THREADS}
    )
    assert process.stderr is not None
    complaint = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began
    if process.returncode != 0:
        raise SystemExit(f"{command[:3]} failed with {process.returncode}:\n{complaint[-2000:]}")
    return Run(seconds, usage.ru_maxrss / 1024)


def ours(folder: Path, *options: str, name: str = "") -> list[str]:
    """The command line of `rscap score` on the files of `folder`."""
    start = "from rscap.cli import main; main()"
    files = ["--candidates", f"{folder}/candidates{name}.json", "--references", f"{folder}/references{name}.json"]
    return [sys.executable, "-c", start, "score", *files, "--out", f"{folder}/sheet{name}.json", *options]


def theirs(folder: Path, meteor: str) -> list[str]:
    """pycocoevalcap on the same files."""
    return [sys.executable, "-c", PUBLISHED, f"{folder}/candidates.json", f"{folder}/references.json", meteor]


def variants(folder: Path) -> dict[str, list[str]]:
    """What is timed in turn; pycocoevalcap only where Java is."""
    found = {
        "rscap": ours(folder, "--processes", "1"),
        "rscap, no intervals": ours(folder, "--processes", "1", "--draws", "0"),
        "rscap, two processes": ours(folder, "--processes", "2"),
        "rscap, two processes, no intervals": ours(folder, "--processes", "2", "--draws", "0"),
        "rscap, no METEOR": ours(folder, "--no-meteor"),
        "rscap, no METEOR, no intervals": ours(folder, "--no-meteor", "--draws", "0"),
    }
    if shutil.which("java"):
        found |= {"pycocoevalcap": theirs(folder, "meteor"), "pycocoevalcap, no METEOR": theirs(folder, "none")}
    return found


def write_inputs(folder: Path, golden: Path) -> int:
    """The captions as two JSON files, once and ten times over."""
    content = json.loads(golden.read_text(encoding="utf-8"))
    for part in ("candidates", "references"):
        (folder / f"{part}.json").write_text(json.dumps(content[part]), encoding="utf-8")
        tenfold = {f"{copy}-{i}": value for copy in range(10) for i, value in content[part].items()}
        (folder / f"{part}10.json").write_text(json.dumps(tenfold), encoding="utf-8")
    return len(content["candidates"])


def reward_milliseconds(golden: Path, rounds: int) -> float:
    """Median time of one batch of 64 candidates x 5 references that were not seen before."""
    content = json.loads(golden.read_text(encoding="utf-8"))
    candidates, references = list(content["candidates"].values()), list(content["references"].values())
    pool = IdfPool.build(references)
    cider_rewards(candidates[:64], references[:64], pool)
    times = []
    for start in range(64, min(64 * (rounds + 1), len(candidates) - 64), 64):
        began = time.perf_counter()
        cider_rewards(candidates[start : start + 64], references[start : start + 64], pool)
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times)


def summary(runs: dict[str, list[Run]]) -> dict[str, Any]:
    """Medians, all seconds, and how many times faster we are."""
    medians = {name: statistics.median(one.seconds for one in own) for name, own in runs.items()}
    result: dict[str, Any] = {
        "seconds": {name: round(seconds, 3) for name, seconds in medians.items()},
        "peak_mib": {name: round(max(one.peak_mib for one in own)) for name, own in runs.items()},
        "all_seconds": {name: [round(one.seconds, 3) for one in own] for name, own in runs.items()},
    }
    if "pycocoevalcap" in medians:
        result["times_faster"] = {
            name: round(medians[f"pycocoevalcap{', no METEOR' * ('METEOR' in name)}"] / seconds, 2)
            for name, seconds in medians.items()
            if name.startswith("rscap")
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--golden", type=Path, default=GOLDEN)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "score.json")
    parser.add_argument("--busy-ok", action="store_true", help="measure on a busy machine, and say so in the record")
    given = parser.parse_args()
    load = check_load(busy_ok=given.busy_ok)
    if not GOLDEN.is_file() and given.golden == GOLDEN:
        print(f"left out: {GOLDEN} is not here; --golden names a file with candidates and references")
        return
    if not given.golden.is_file():
        raise ScoreError(f"{given.golden} does not exist", hint="--golden names a file with candidates and references")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = write_inputs(folder, given.golden)
        commands = variants(folder)
        for command in commands.values():  # once unmeasured: caches on disk, byte code, METEOR's index
            run(command)
        runs: dict[str, list[Run]] = {variant: [] for variant in commands}
        for turn in range(given.rounds):
            for variant in list(commands) if turn % 2 == 0 else list(commands)[::-1]:
                runs[variant].append(run(commands[variant]))
        result = {
            "images": images,
            "rounds": given.rounds,
            "load": {**asdict(load), "after": os.getloadavg()},
            "cores": os.cpu_count(),
            "threads": THREADS,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "rscap": __version__,
            **summary(runs),
            "tenfold_seconds": round(run(ours(folder, name="10")).seconds, 3),
            "tenfold_no_meteor": vars(run(ours(folder, "--no-meteor", name="10"))),
            "reward_batch_ms": round(reward_milliseconds(given.golden, 40), 2),
        }
    write_json(given.out, result)
    print(json.dumps(result, indent=2))
    for name, ratio in result.get("times_faster", {}).items():
        print(f"{name}: {ratio:.2f} times as fast as pycocoevalcap")


if __name__ == "__main__":
    main()
