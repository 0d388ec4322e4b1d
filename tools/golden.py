"""Make the same folders with two versions of rscap on one machine and compare them.

    python tools/golden.py OLD NEW [--keep FOLDER]      exit code 1, and a list, where something differs
    python tools/golden.py --make FOLDER VERSION        make the folders of one version and keep them

OLD, NEW and VERSION are commits, checkouts (a folder with src/rscap) or folders that `--make` made:

    python tools/golden.py --make /tmp/before HEAD
    python tools/golden.py /tmp/before .                after each change, before it is committed

The command line alone makes them: a run that learns an adapter; the same run, killed and resumed; an evaluation of it
and a zero-shot evaluation; a run that learns all weights, on data with a broken image; a study of two rows and two
seeds, with a third row that rscap refuses; score sheets under every protocol; the pages and tables of all of it.
Everything computes in float32 on one thread, so the bytes depend only on the code, the packages and the processor.
`golden_rules.py` says what must be equal.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from golden_rules import compare

ROOT = Path(__file__).resolve().parents[1]
MADE = "golden.json"

FILES = {
    "recipe.toml": """
        seed = 3
        prompt.training_prefixes = ["caption en", "describe en"]
        model = { base = "nano", dtype = "float32" }
        towers = { vision_tower = "adapted", projector = "trained" }
        adapter = { rank = 2, dropout = 0.1 }
        selection = {}
        generate.max_new_tokens = 16
        [data]
        source = "sample"
        captions = "random"
        augment = "full"
        train_limit = 24
        quality = { max_words = 11, full_consensus = 0.5 }
        [train]
        max_steps = 8
        epochs = 9
        micro_batch = 2
        accumulation = 2
        learning_rate = 1e-3
        evaluate_every = 3
        evaluate_images = 8
        checkpoint_every = 2
    """,
    "full.toml": """
        data = { source = "pictures", captions = "cycle", max_rejected_share = 0.1 }
        model = { base = "nano", dtype = "float32" }
        towers = { vision_tower = "trained", projector = "trained", language_model = "trained" }
        train = { max_steps = 3, micro_batch = 4, weight_decay = 0.05, checkpoint_every = 2, keep_checkpoints = 1 }
        generate.max_new_tokens = 12
    """,
    "base.toml": """
        data = { source = "pictures", max_rejected_share = 0.1 }
        model = { base = "nano", dtype = "float32" }
        adapter = { rank = 2 }
        train = { micro_batch = 4, learning_rate = 1e-2 }
        generate.max_new_tokens = 12
    """,
    "study.toml": """
        name = "golden"
        base = "base.toml"
        seeds = [0, 1]
        reference = "lora"
        budget.steps = 3
        evaluation.limit = 6
        [[rows]]
        name = "lora"
        [[rows]]
        name = "dora"
        set = { adapter.weight_decomposed = true }
        [[rows]]
        name = "refused"
        set = { adapter.language_targets = ["no_such_layer"] }
    """,
}


@dataclass(frozen=True, slots=True)
class Step:
    """One command, without the name of the program."""

    command: str
    killed_at: str | None = None
    """Kill it as soon as this file is there."""
    ends: int = 0
    """The expected exit code."""
    prints: str | None = None
    """The file that its standard output goes to."""


WORK = (
    Step("train recipe.toml --out run"),
    Step("train recipe.toml --out resumed", killed_at="resumed/checkpoints/step-000002/progress.json"),
    Step("train resumed --resume"),
    Step("evaluate run --limit 24 --set generate.beams=2 --out evaluated"),
    Step("evaluate nano --source sample --limit 24 --dtype float32 --out zero-shot"),
    Step("train full.toml --out full"),
    Step("evaluate full"),
    Step("ablate study.toml --out study --jobs 1 --threads 1", ends=1),  # a row is refused
    Step(
        "score --candidates evaluated/predictions/test.jsonl --references evaluated/references/test.jsonl "
        "--protocol all --json scores/score.json"
    ),
)
PAGES = (
    Step("report run evaluated zero-shot --out pages/runs.html"),
    Step("report run evaluated zero-shot --markdown", prints="pages/runs.md"),
    Step("report full --out pages/full.html"),
    Step("report study --out pages/study.html"),
    Step("report study --metric METEOR --out pages/study-meteor.html"),
)
REPORTED = ("run", "evaluated", "zero-shot", "full", "study", "pictures")
CLOCK: dict[str, Any] = {
    "started": "2026-01-01T12:00:00+00:00",
    "ended": "2026-01-01T12:01:00+00:00",
    "loop_seconds": 30.0,
    "seconds": 1.0,
    "cpu_seconds": 1.0,
    "images_per_s": 4.0,
    "captions_per_s": 20.0,
    "memory_bytes": 2**29,
    "commit": "0" * 40,
    "dirty": False,
}
"""Fixed values for times, speeds and the commit: pages made from them have comparable figures."""


class Trouble(Exception):
    """The folders cannot be made or compared."""


@dataclass(frozen=True, slots=True)
class Maker:
    """Runs the commands of one version of rscap."""

    source: Path
    """The `src` folder of a checkout."""
    python: str

    def make(self, folder: Path, commit: str | None) -> None:
        """Make all folders; golden.json comes last, so a folder that has one is complete."""
        self._check_import()
        write_inputs(folder)
        for step in WORK:
            self.carry_out(step, folder)
        self._make_pages(folder)
        said = json.loads((folder / "run" / "provenance.json").read_text(encoding="utf-8"))
        if commit is not None and said.get("commit") != commit:
            raise Trouble(f"the run's provenance.json names the commit {said.get('commit')}, not {commit}")
        made = {
            "commit": commit,
            "package": str(self.source / "rscap"),
            "work": work_digest(),
            "machine": {name: said.get(name) for name in ("platform", "python", "packages")},
        }
        (folder / MADE).write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")

    def _make_pages(self, folder: Path) -> None:
        """Make the pages from copies of the folders, without weights and with CLOCK's times, speeds and commit."""
        with tempfile.TemporaryDirectory() as place:
            heavy = shutil.ignore_patterns("checkpoints", "model", "*.safetensors")
            for name in REPORTED:
                shutil.copytree(folder / name, Path(place) / name, ignore=heavy)
            stop_the_clock(Path(place))
            (Path(place) / "pages").mkdir()
            for step in PAGES:
                self.carry_out(step, Path(place))
            shutil.copytree(Path(place) / "pages", folder / "pages")

    def carry_out(self, step: Step, folder: Path) -> None:
        """Run one command in `folder`.

        Raises:
            Trouble: the command does not end with the expected exit code; quotes the end of the log.
        """
        begun = time.perf_counter()
        log = folder / "log.txt"
        prints = folder / step.prints if step.prints else log
        with log.open("ab") as said, prints.open("ab") as out:
            process = subprocess.Popen(
                [self.python, "-m", self._module(), *step.command.split()],
                cwd=folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=said,
            )
            try:
                ends = -signal.SIGKILL if step.killed_at else step.ends
                if step.killed_at:
                    _wait_for(folder / step.killed_at, process)
                    process.kill()
                ended = process.wait()
            finally:
                process.kill()
        if ended != ends:
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:]
            raise Trouble(f"`rscap {step.command}` ended with {ended}, not {ends}:\n" + "\n".join(lines))
        killed = ", killed" if step.killed_at else ""
        print(f"{time.perf_counter() - begun:6.1f} s  rscap {step.command}{killed}", file=sys.stderr, flush=True)

    def _check_import(self) -> None:
        """Refuse to run another rscap than the one in the checkout."""
        command = [self.python, "-c", "import rscap; print(rscap.__file__)"]
        done = subprocess.run(command, env=self._environment(), capture_output=True, text=True, check=False)
        if Path(done.stdout.strip()) != self.source / "rscap" / "__init__.py":
            raise Trouble(f"{self.python} imports rscap from {done.stdout or done.stderr}, not from {self.source}")

    def _module(self) -> str:
        return "rscap" if (self.source / "rscap" / "__main__.py").is_file() else "rscap.cli"

    def _environment(self) -> dict[str, str]:
        fixed = {
            "PYTHONPATH": str(self.source),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "HF_HUB_OFFLINE": "1",
        }
        return os.environ | fixed


def _wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    while not path.exists():
        if process.poll() is not None:
            raise Trouble(f"the command ended before it made {path}")
        time.sleep(0.005)


def write_inputs(folder: Path) -> None:
    """Recipes, the study, and a data set of noise: 12 training and 8 test images, one of them broken."""
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "scores").mkdir()
    images = folder / "pictures" / "resized"
    images.mkdir(parents=True)
    kinds = ("plane", "river", "bridge", "red house", "parking lot")
    rows = []
    for number in range(20):
        name, kind = f"P_{number:02}.png", kinds[number % len(kinds)]
        Image.frombytes("RGB", (32, 32), random.Random(number).randbytes(32 * 32 * 3)).save(images / name)
        captions = [f"A {kind} is near a green field .", f"There is one {kind} with {number} trees ."]
        rows.append(["P", "train" if number < 12 else "test", name, *captions])
    (images / "P_19.png").write_bytes(b"no picture")
    with (folder / "pictures" / "captions.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([["source", "split", "image", "caption_1", "caption_2"], *rows])


def stop_the_clock(folder: Path) -> None:
    """Set every key of CLOCK to its value, in the files that hold times, speeds and commits."""
    for name in ("status.json", "provenance.json", "speed.jsonl", "attempts.jsonl"):
        for path in folder.rglob(name):
            text = path.read_text(encoding="utf-8")
            parts = [line for line in text.split("\n") if line] if path.suffix == ".jsonl" else [text]
            stopped = [json.dumps(json.loads(part, object_hook=_stopped)) for part in parts]
            path.write_text("\n".join(stopped) + "\n", encoding="utf-8")


def _stopped(table: dict[str, Any]) -> dict[str, Any]:
    return {key: CLOCK.get(key, value) for key, value in table.items()}


def work_digest() -> str:
    """A digest of inputs and commands: folders can be compared only if both were made from the same."""
    return hashlib.sha256(repr((FILES, WORK, PAGES, REPORTED, CLOCK)).encode()).hexdigest()[:12]


def made_here(folder: Path) -> dict[str, Any]:
    """golden.json of a folder that was made.

    Raises:
        Trouble: it was made from other inputs or by other commands.
    """
    made = json.loads((folder / MADE).read_text(encoding="utf-8"))
    if made["work"] != work_digest():
        raise Trouble(f"{folder} was made from other inputs or by other commands; make it again")
    return made


def folder_of(version: str, scratch: Path, keep: Path | None, python: str) -> Path:
    """The folder of a version: one made before, or else a new one in `scratch`, or in `keep` where it stays."""
    if (Path(version) / MADE).is_file():
        return Path(version)
    if keep is None or _is_checkout(version):
        make(version, scratch, python)
        return scratch
    kept = keep / f"{commit_of(version)[:12]}-{work_digest()}"
    if not kept.exists():
        keep.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=keep, prefix=".making-") as place:
            make(version, Path(place) / "made", python)
            (Path(place) / "made").rename(kept)
    return kept


def make(version: str, folder: Path, python: str) -> None:
    """Make the folders of a commit or a checkout.

    Raises:
        Trouble: `folder` is not empty, or a command does not end with the expected exit code.
    """
    if folder.exists() and any(folder.iterdir()):
        raise Trouble(f"{folder} is not empty")
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    print(f"making {version} in {folder}", file=sys.stderr)
    if _is_checkout(version):
        Maker(Path(version).resolve() / "src", python).make(folder, None)
        return
    commit = commit_of(version)
    with checked_out(commit) as checkout:
        Maker(checkout / "src", python).make(folder, commit)


def _is_checkout(version: str) -> bool:
    return (Path(version) / "src" / "rscap").is_dir()


def commit_of(version: str) -> str:
    """The full hash of a commit.

    Raises:
        Trouble: git knows no commit of this name.
    """
    done = _git("rev-parse", "--verify", "--quiet", f"{version}^{{commit}}")
    if done.returncode:
        raise Trouble(f"{version} is neither a commit, nor a checkout, nor a folder that --make made")
    return done.stdout.strip()


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """A worktree of the commit in a temporary folder, which is removed afterwards."""
    with tempfile.TemporaryDirectory() as place:
        checkout = Path(place).resolve() / "rscap"
        done = _git("worktree", "add", "--detach", str(checkout), commit)
        if done.returncode:
            raise Trouble(f"git cannot check {commit} out: {done.stderr}")
        try:
            yield checkout
        finally:
            _git("worktree", "remove", "--force", str(checkout))


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)


def compare_versions(old: str, new: str, keep: Path | None, python: str) -> bool:
    """Print what differs and what is new; true where nothing differs."""
    with ExitStack() as stack:
        scratch = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(2)]
        folders = [folder_of(version, place, keep, python) for version, place in zip((old, new), scratch, strict=True)]
        made = [made_here(folder) for folder in folders]
        if made[0]["machine"] != made[1]["machine"]:
            print(f"made with different packages, so bytes may differ: {made[0]['machine']}, {made[1]['machine']}")
        found = compare(*folders, packages=(made[0]["package"], made[1]["package"]))
    for heading, new_ones in (("new", True), ("different", False)):
        for one in found:
            if one.new is new_ones:
                print(f"{heading}: {one.text}")
    differ = sum(not one.new for one in found)
    print(f"{differ} differences" if differ else "no difference")
    return not differ


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("versions", nargs="+", metavar="VERSION", help="OLD and NEW, or with --make the one to make")
    parser.add_argument("--make", type=Path, metavar="FOLDER", help="make one version's folders there, compare nothing")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep the folders of commits here, and use them again"
    )
    parser.add_argument("--python", default=sys.executable, help="the Python that runs rscap; this one by default")
    given = parser.parse_args(arguments)
    if len(given.versions) != (1 if given.make else 2):
        parser.error("give two versions to compare, or --make FOLDER and one version")
    python = os.path.abspath(given.python)  # not resolved: the Python of a virtual environment is a link
    try:
        if given.make is None:
            return 0 if compare_versions(*given.versions, given.keep, python) else 1
        make(given.versions[0], given.make, python)
        return 0
    except Trouble as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
