"""Do harm to whole commands, one process each: hostile folders, files, names, outputs and streams.

    python benchmarks/hostile.py                         # as the user who runs it
    python benchmarks/hostile.py --also-as nobody        # as root: the same once more as an ordinary user

Every attack works on copies in a temporary folder and touches no device that it did not make. Its outcome is one of:
`clear error` (an exit code, and a line that says why), `held` (nothing to refuse: the command did its work and harmed
nothing), `traceback`, `hang`, `silent` (what had to be told was not, or a file elsewhere was read or changed). What is
done is kept in the result: the same command goes on where it was stopped. Exits with 1 if any of the last three occurs.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import random
import shutil
import stat
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common import RESULTS, environment
from rscap.store import read_json, write_json

ROOT = Path(__file__).resolve().parents[1]
RESULT = RESULTS / "hostile.json"
RUN = ROOT / "tests" / "frozen" / "v01" / "run"
SECONDS = 120
SECRET = "s3cret-of-somebody-else"
LAST_THREE = ("traceback", "hang", "silent")

Plant = Callable[[Path], None]


@dataclass(frozen=True)
class Attack:
    """One command in a folder that was prepared for it."""

    name: str
    words: tuple[str, ...]
    plant: Plant
    told: str | None = None
    """What the command must say, on a stream or on a page that it writes."""
    privileged: bool | None = None
    """True: only root can do this; False: root is not stopped by it."""
    spared: tuple[str, ...] = ("secret.txt",)
    """Files that must stay as they are."""
    shell: str = ""
    """Redirections behind the command, for an attack on its streams."""
    environment: dict[str, str | None] = field(default_factory=dict)


def nothing(place: Path) -> None:
    """The folder as it is."""


def put(name: str, content: str | bytes) -> Plant:
    def plant(place: Path) -> None:
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))

    return plant


def both(*plants: Plant) -> Plant:
    def plant(place: Path) -> None:
        for one in plants:
            one(place)

    return plant


def instead(name: str, make: Callable[[Path], None]) -> Plant:
    """Something else in the place of a file."""

    def plant(place: Path) -> None:
        path = place / name
        path.unlink(missing_ok=True)
        make(path)

    return plant


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def sparse(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(2**29 + 1)


def linked(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


# What a file of a run folder can be instead of itself.

FILES = (
    "status.json",
    "recipe.toml",
    "provenance.json",
    "parameters.json",
    "train.jsonl",
    "speed.jsonl",
    "rejected.jsonl",
    "scores/val.json",
    "predictions/val.jsonl",
    "references/val.jsonl",
    "baselines/nearest/scores/val.json",
    "panel/val/panel.json",
)
DEEP, LONG = "[" * 100_000, "9" * 5_000
DAMAGES: dict[str, str | bytes | Callable[[Path], None]] = {
    "a link out of the folder": linked(f"/proc/self/cwd/{'secret.txt'}"),
    "a loop of links": lambda path: path.symlink_to(path.name),
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "unreadable": lambda path: (path.write_text("{}"), path.chmod(0))[1],
    "endless": sparse,
    "empty": "",
    "cut": b"",
    "deep": DEEP,
    "a long number": f'{{"step": {LONG}}}',
    "null": "null\n",
    "a list": "[]\n",
    "a text": '"x"\n',
    "no UTF-8": b'{"x": "\xff\xfe"}\n',
    "not a number": '{"x": NaN, "y": Infinity}\n',
    "of a newer version": '{"version": 99}\n',
}


GROWING = ("train.jsonl", "speed.jsonl")
HARMLESS = {
    *((file, "empty") for file in FILES if file.endswith(".jsonl")),  # no rows
    *((file, damage) for file in GROWING for damage in ("cut", "deep", "a long number")),  # a line being written
    ("panel/val/panel.json", "a list"),
    ("provenance.json", "not a number"),  # keys that this version does not know
    ("provenance.json", "of a newer version"),
    ("recipe.toml", "cut"),
    ("rejected.jsonl", "cut"),  # it is empty
}
"""What damages nothing, and need not be told."""


def damaged_runs() -> Iterator[Attack]:
    for file in FILES:
        for damage, how in DAMAGES.items():
            plant: Plant
            if damage == "cut":
                plant = lambda place, file=file: cut(place / "run" / file)  # noqa: E731
            elif callable(how):
                plant = instead(f"run/{file}", how)
            else:
                plant = put(f"run/{file}", how)
            harmless = (file, damage) in HARMLESS
            told = None if harmless else Path(file).name
            root_reads = False if damage == "unreadable" else None
            yield Attack(f"{file}: {damage}", ("report", "run", "--split", "val"), plant, told, root_reads)


# Files that people name: candidates, references, pools, recipes, data.

TEXTS: dict[str, str | bytes | Callable[[Path], None]] = {
    **{key: value for key, value in DAMAGES.items() if key not in ("cut", "of a newer version", "unreadable")},
    "zero bytes": b"\0" * 99,
    "UTF-16": "a,b\n".encode("utf-16"),
    "a page": "<!doctype html><html></html>",
    "a pointer": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    "an archive": b"PK\x03\x04" + b"\0" * 60,
    "absent": lambda path: None,
}
SCORE = ("score", "--no-meteor", "--draws", "0")


def damaged_inputs() -> Iterator[Attack]:
    commands = {
        "hyp.json": (*SCORE, "--candidates", "hyp.json", "--references", "refs.json"),
        "hyp.jsonl": (*SCORE, "--candidates", "hyp.jsonl", "--references", "refs.json"),
        "refs.json": (*SCORE, "--candidates", "hyp.json", "--references", "refs.json"),
        "refs.csv": (*SCORE, "--candidates", "hyp.json", "--references", "refs.csv"),
        "pool.npz": (*SCORE, "--candidates", "hyp.json", "--references", "refs.json", "--pool", "pool.npz"),
        "values.csv": (*SCORE, "--candidates", "hyp.json", "--references", "refs.json", "--foreign", "values.csv"),
        "sheet.json": ("compare", "a=sheet.json", "b=run", "--split", "val", "--draws", "100"),
        "mine.toml": ("train", "mine.toml"),
        "captions.csv": ("data", "inspect", "captions.csv", "--no-images"),
    }
    for file, words in commands.items():
        for damage, how in TEXTS.items():
            plant = instead(file, how) if callable(how) else put(file, how)
            told = "error:"
            if damage == "a link out of the folder":  # files that a user names may be links anywhere
                plant, told = instead(file, linked("nowhere")), "error:"
            yield Attack(f"{file}: {damage}", words, plant, told)


SETTINGS = (
    "seed=100000000000000000000000000",
    "train.micro_batch=100000000000000000000",
    "train.accumulation=1000000000",
    "train.micro_batch=-1",
    "train.learning_rate=nan",
    "train.learning_rate=inf",
    "train.epochs=1e300",
    "adapter.rank=1000000000000",
    "data.workers=1000000",
    "data.source=",
    "data.source=/nowhere/at/all",
    "data.source=a b/c",
    "model.base=/etc",
    "model.base=run",
    "model.base=../../..",
    "model.dtype=int4",
    "generate.max_new_tokens=1000000000000",
    "generate.batch_size=1000000000000",
    "track.project=hf_" + "a" * 34,
    "prompt.prefix=<image>",
    f"data.train_limit={LONG}",
    f"data.x={DEEP}",
    "unknown.key=1",
    "=",
    "a",
)


def settings() -> Iterator[Attack]:
    for setting in SETTINGS:
        yield Attack(f"--set {setting[:60]}", ("train", "quickstart", "--set", setting), nothing, "error:")


# Where results are written.


def outputs() -> Iterator[Attack]:
    commands = {
        "score --out": (*SCORE, "--candidates", "hyp.json", "--references", "refs.json", "--out"),
        "score --items": (*SCORE, "--candidates", "hyp.json", "--references", "refs.json", "--items"),
        "score --save-pool": ("score", "--references", "refs.json", "--save-pool"),
        "compare --out": ("compare", "run", "again", "--split", "val", "--draws", "100", "--out"),
        "report --out": ("report", "run", "--split", "val", "--out"),
    }
    for command, words in commands.items():
        page = command == "report --out"
        name = "x.html" if page else "x.json"
        own = {"compare --out": "run/scores/val.json", "report --out": "run/status.html"}.get(command, "refs.json")
        kept = ("secret.txt", "refs.json", "hyp.json", "run/scores/val.json", "run/status.json")
        targets: dict[str, tuple[str, Plant, str | None, bool | None]] = {
            "its own input": (own, nothing, "error:", None),
            "its input by another name": (name, lambda p, n=name: os.link(p / "run/status.json", p / n), None, None),
            "a link": (name, instead(name, linked("secret.txt")), "is a link to", None),
            "a link to nothing": (name, instead(name, linked("nowhere")), "is a link to", None),
            "a folder": (name, lambda p, n=name: (p / n).mkdir(), "error:", None),
            "a pipe that nobody reads": (name, lambda p, n=name: os.mkfifo(p / n), "nobody reads", None),
            "a device": (name, lambda p, n=name: os.mknod(p / n, 0o666 | stat.S_IFCHR, os.makedev(1, 3)), None, True),
            "a long name": (f"{'n' * 300}{Path(name).suffix}", nothing, "error:", None),
            "below a file": (f"hyp.json/{name}", nothing, "error:", None),
            "a read-only folder": (f"kept/{name}", lambda p: (p / "kept").mkdir(0o555), "error:", False),
            "a zero byte": (f"a\\0{name}", nothing, None, None),
        }
        for target, (path, plant, told, privileged) in targets.items():
            if target == "its input by another name" and command != "compare --out":
                kept_here = tuple(one for one in kept if one != "run/status.json")
            else:
                kept_here = kept
            yield Attack(f"{command}: {target}", (*words, path), plant, told, privileged, kept_here)


# Names that act somewhere.

NAMES = {
    "markup": "[lora]",
    "closing markup": "x[/b]",
    "an escape sequence": "a\x1b[2J\x1b]0;PWNED\x07",
    "a C1 control": "a\x9b2J",
    "a line break": "a\nerror: forged",
    "a formula": "=cmd|' !A0",
    "HTML": "<script>alert(1)</script>",
    "a column": "a | b",
    "other direction": "a\u202egnp.exe",
    "a dash": "-rf",
    "emoji code": ":airplane:",
    "no UTF-8": "a\udcff",
    "spaces": "  ",
}


def names() -> Iterator[Attack]:
    for kind, name in NAMES.items():
        words = ("compare", f"{name}=run/scores/val.json", "b=again/scores/val.json", "--draws", "100")
        yield Attack(f"a system named by {kind}", words, nothing)
        if "/" in name:
            continue

        def move(place: Path, name: str = name) -> None:
            (place / "run").rename(place / "runs" / name)

        yield Attack(f"a run named by {kind}", ("report", f"runs/{name}", "--split", "val"), move)
        yield Attack(f"a table of a run named by {kind}", ("report", f"runs/{name}", "again", "--markdown"), move)
        yield Attack(f"an absent file named by {kind}", ("report", f"runs/{name}"), nothing, "error:")


# Streams and the environment.


def streams() -> Iterator[Attack]:
    score = (*SCORE, "--candidates", "hyp.json", "--references", "refs.json")
    report = ("report", "run", "--split", "val", "--markdown")
    for name, words in {"score": score, "report": report}.items():
        for kind, shell in {
            "whose reader went away": "| true",
            "whose reader leaves early": "| head -c 5",
            "with both streams into a pipe": "2>&1 | head -c 1",
            "closed": ">&-",
            "with closed errors": "2>&-",
            "with both closed": ">&- 2>&-",
            "with a closed input": "<&-",
        }.items():
            yield Attack(f"{name} {kind}", words, nothing, shell=shell)
        for kind, variables in {
            "in ASCII": {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
            "in Latin-1": {"PYTHONIOENCODING": "latin-1"},
            "without HOME": {"HOME": None},
            "with a HOME that is a file": {"HOME": "hyp.json"},
            "with a temporary folder that is not there": {"TMPDIR": "/nowhere"},
            "in one column": {"COLUMNS": "1"},
            "in junk columns": {"COLUMNS": "x"},
            "on a dumb terminal": {"TERM": "dumb"},
            "optimised": {"PYTHONOPTIMIZE": "2"},
        }.items():
            yield Attack(f"{name} {kind}", words, nothing, environment=dict(variables))


ADAPTERS: dict[str, Any] = {
    "rank": {"peft_type": "LORA", "r": 10**9},
    "negative rank": {"peft_type": "LORA", "r": -1},
    "no kind": {"peft_type": None},
    "unknown kind": {"peft_type": "EVIL"},
    "targets": {"peft_type": "LORA", "target_modules": {}},
    "list": [],
    "code": {"peft_type": "LORA", "auto_map": {"x": "evil.M"}},
    "base": {"peft_type": "LORA", "base_model_name_or_path": ["/etc"]},
}


def adapters() -> Iterator[Attack]:
    for kind, config in ADAPTERS.items():
        plant = put("run/adapter/adapter_config.json", json.dumps(config))
        told = None if kind == "unknown kind" else "adapter_config.json"
        yield Attack(f"an adapter's {kind}", ("doctor", "run", "--no-probe"), plant, told)


def attacks() -> list[Attack]:
    groups = (damaged_runs, damaged_inputs, settings, outputs, names, streams, adapters)
    return [attack for group in groups for attack in group()]


# Carrying one out.


@dataclass(frozen=True)
class User:
    """Who runs the commands, and with which interpreter and packages."""

    name: str
    number: int | None
    python: str
    packages: str | None


def prepared(place: Path, attack: Attack) -> None:
    shutil.copytree(RUN, place / "run")
    shutil.copytree(RUN, place / "again")
    (place / "runs").mkdir()
    put("secret.txt", SECRET)(place)
    put("hyp.json", '{"a": "a red car", "b": "two planes"}')(place)
    put("refs.json", '{"a": ["a red car"], "b": ["two planes on grass"]}')(place)
    attack.plant(place)


def owned_by(place: Path, number: int) -> None:
    for folder, names, files in os.walk(place):
        for name in (".", *names, *files):
            os.chown(os.path.join(folder, name), number, number, follow_symlinks=False)


def carried_out(attack: Attack, user: User) -> dict[str, Any]:
    """The outcome of one attack, with the code and the line that the command ended with."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        place = Path(folder)
        prepared(place, attack)
        before = {name: content(place / name) for name in attack.spared}
        if user.number is not None:
            owned_by(place, user.number)
        code, text = ran(attack, user, place)
        pages = "".join(
            page.read_text(errors="replace")
            for page in place.rglob("*.html")
            if page.is_file() and not page.is_symlink()
        )
        changed = [name for name in attack.spared if content(place / name) != before[name]]
        return {
            "outcome": outcome(attack, code, text, pages, changed),
            "code": code,
            "line": next((line for line in text.splitlines() if line.startswith("error:")), text.strip()[:160])[:160],
        }


def content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def ran(attack: Attack, user: User, place: Path) -> tuple[int | None, str]:
    """Exit code (None: it ran past the limit) and both streams of a command."""
    command: Sequence[str] = [user.python, "-m", "rscap", *(word.replace("\\0", "\\x00") for word in attack.words)]
    if attack.shell:
        command = ["bash", "-c", f'set -o pipefail; "$@" {attack.shell}', "bash", *command]
    variables = {**os.environ, "HOME": str(place), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    if user.packages:
        variables["PYTHONPATH"] += os.pathsep + user.packages
    for name, value in attack.environment.items():
        variables.pop(name, None)
        variables |= {name: value} if value is not None else {}
    ids = {} if user.number is None else {"user": user.number, "group": user.number, "extra_groups": []}
    process = subprocess.Popen(
        [os.fsencode(word) for word in command],
        cwd=place,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        **ids,
    )
    try:
        output, _ = process.communicate(timeout=SECONDS)
        return process.returncode, output.decode("utf-8", "replace")
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.communicate()
        return None, ""


def outcome(attack: Attack, code: int | None, text: str, pages: str, changed: Sequence[str]) -> str:
    if code is None:
        return "hang"
    if "Traceback (most recent call last)" in text or code < 0:
        return "traceback"
    everything = " ".join(f"{text} {pages}".split())
    acts = "\x1b" in text or "\x9b" in text or "\n" + "error: forged" in text
    if changed or SECRET in everything or acts or (attack.told and attack.told not in everything):
        return "silent"
    if code == 0 or code == 141:
        return "held"
    told = "error:" in text or "Usage:" in text  # the latter of words that are no options
    return "clear error" if told or attack.shell else "silent"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--also-as", metavar="USER", help="an ordinary user, as whom root does everything again")
    parser.add_argument("--python", default=sys.executable, help="an interpreter that this user may run")
    parser.add_argument("--packages", help="a folder of packages for that interpreter")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="attacks whose name contains this")
    parser.add_argument("--again", action="store_true", help="forget what was done before")
    arguments = parser.parse_args()
    users = [User("root" if os.geteuid() == 0 else "ordinary", None, sys.executable, None)]
    if arguments.also_as:
        number = pwd.getpwnam(arguments.also_as).pw_uid
        users.append(User("ordinary", number, arguments.python, arguments.packages))
    known = read_json(RESULT)["attacks"] if RESULT.is_file() and not arguments.again else {}
    todo = [
        (user, attack)
        for attack in attacks()
        for user in users
        if arguments.only in attack.name and f"{attack.name} ({user.name})" not in known
        if attack.privileged is None or attack.privileged == (user.name == "root")
    ]
    random.Random(0).shuffle(todo)  # what is done when it is stopped is a bit of everything
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for (user, attack), found in zip(todo, pool.map(lambda one: carried_out(one[1], one[0]), todo), strict=True):
            known[f"{attack.name} ({user.name})"] = found
            if found["outcome"] in LAST_THREE:
                print(f"{found['outcome']}: {attack.name} ({user.name}): {found['code']} {found['line']}", flush=True)
            if len(known) % 20 == 0:
                written(known)
    sys.exit(0 if written(known) else 1)


def written(known: dict[str, Any]) -> bool:
    """Write the result; True if nothing of the last three kinds occurred."""
    counts = Counter(found["outcome"] for found in known.values())
    by_kind = {kind.replace(" ", "_"): counts[kind] for kind in ("clear error", "held", *LAST_THREE)}
    where = {key: value for key, value in environment(threads=1).items() if key != "command"}  # it names local paths
    write_json(RESULT, {**where, "tried": len(known), **by_kind, "attacks": dict(sorted(known.items()))})
    return not any(counts[kind] for kind in LAST_THREE)


if __name__ == "__main__":
    main()
