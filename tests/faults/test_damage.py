"""Any error of the system, any shape and any depth is two lines that name the file; age is not taken for damage."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from command_line import rscap
from rscap import recipe as recipes
from rscap.errors import RecipeError, RscapError, WrittenByNewer
from rscap.store import Status, read_progress, read_sheet
from rscap.tables import parse_override, read_toml

NUMBERS = {
    "unreadable": errno.EACCES,
    "not permitted": errno.EPERM,
    "read-only": errno.EROFS,
    "too long": errno.ENAMETOOLONG,
    "lost by the server": errno.ESTALE,
    "without locks": errno.ENOLCK,
    "full": errno.ENOSPC,
    "over its quota": errno.EDQUOT,
    "too large": errno.EFBIG,
    "broken": errno.EIO,
    "out of files": errno.EMFILE,
    "gone": errno.ENOENT,
    "below a file": errno.ENOTDIR,
    "busy": errno.EBUSY,
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_an_error_of_the_system_is_two_lines(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever command meets it: the file, what the system says, and for most what to do; exit code 2."""

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(NUMBERS[kind], os.strerror(NUMBERS[kind]), "/data/x.bin")

    monkeypatch.setattr("rscap.scoring.load_pair", fail)
    done = rscap("score", "--candidates", "a.json", "--references", "b.json", cwd=tmp_path)
    assert done.code == 2
    first, *rest = done.stderr.splitlines()
    assert first.startswith("error: ")
    assert "/data/x.bin: " + os.strerror(NUMBERS[kind]) in first
    assert all(line.startswith("hint:  ") for line in rest)
    assert len(rest) == (kind != "busy")


def test_memory_that_runs_out_is_two_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`MemoryError` is no traceback either."""

    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("rscap.scoring.load_pair", fail)
    done = rscap("score", "--candidates", "a.json", "--references", "b.json", cwd=tmp_path)
    assert (done.code, done.stderr.splitlines()[0]) == (2, "error: there is not enough memory for this")


DEEP, LONG = "[" * 100_000, "9" * 5_000
JSON = {
    "deep": (DEEP, "not JSON"),
    "deep objects": ('{"a":' * 50_000, "not JSON"),
    "a long number": (f'{{"a": {LONG}}}', "not JSON"),
    "null": ("null", "hyp.json"),
    "a list of numbers": ("[1, 2]", "hyp.json"),
    "a number": ("1", "hyp.json"),
    "a list for a caption": ('{"a": [1], "b": "x"}', "hyp.json"),
    "an object for a caption": ('{"a": {"b": 1}}', "expected one caption"),
    "not UTF-8": ("\udcff", "hyp.json"),
    "empty": ("", "is empty"),
    "cut": ('{"a": "a red c', "not JSON"),
    "key twice": ('{"a": "x", "a": "y"}', "occur more than once"),
}


@pytest.mark.parametrize("kind", JSON)
def test_candidates_of_any_shape_are_named(captions: Path, kind: str) -> None:
    """Depth, digits and shapes that no parser of ours expects."""
    text, line = JSON[kind]
    (captions / "hyp.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    done = rscap("score", "--candidates", "hyp.json", "--references", "refs.json", "--no-meteor", cwd=captions)
    assert done.code == 2
    assert line in done.stderr


STATUSES = ["[]", '"x"', "null", "{}", "1", '{"state": "done"}', '{"state": 1}', DEEP, f'{{"state": {LONG}}}', "{", ""]


@pytest.mark.parametrize("text", STATUSES, ids=range(len(STATUSES)))
@pytest.mark.parametrize("words", [("report", "run"), ("train", "run", "--resume")], ids=["report", "resume"])
@pytest.mark.torch
def test_a_status_of_any_shape_is_named(place: Path, text: str, words: tuple[str, ...]) -> None:
    """A report goes on without it and says so; nothing trains upon it."""
    (place / "run" / "status.json").write_text(text, encoding="utf-8")
    done = rscap(*words, cwd=place)
    page = place / "run" / "report.html"
    told = done.stderr + (page.read_text(encoding="utf-8") if page.exists() else "")
    assert "status.json" in told
    assert done.code == (0 if words[0] == "report" else 2)


TOML = {
    "deep": "a = " + "[" * 10_000,
    "a long number": f"a = {LONG}",
    "not TOML": "a = ",
    "not UTF-8": b"a = '\xff'",
    "zero bytes": b"\0\0\0",
    "a key twice": "a = 1\na = 2",
    "too large": b"#" * (2**24 + 1),
    "a list for a section": "data = [1]",
    "a table for a number": "[seed]\nx = 1",
    "an unknown section": "[newsection]\nx = 1",
}


@pytest.mark.parametrize("kind", TOML)
def test_a_recipe_of_any_shape_is_named(tmp_path: Path, kind: str) -> None:
    """What cannot be read or does not fit is an error with the file's name."""
    content = TOML[kind]
    path = tmp_path / "mine.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RecipeError, match=r"mine\.toml"):
        recipes.read_recipe(path)


@pytest.mark.parametrize("what", ["pipe", "folder", "nothing", "device"])
def test_a_recipe_that_is_no_file_is_named(tmp_path: Path, what: str) -> None:
    """Reading a pipe would wait for ever, and an endless device would fill the memory."""
    path = tmp_path / "mine.toml"
    if what == "device":
        try:
            os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))  # zeros without end
        except PermissionError:
            pytest.skip("only root makes a device")
    elif what != "nothing":
        os.mkfifo(path) if what == "pipe" else path.mkdir()
    with pytest.raises(RecipeError) as caught:
        read_toml(path, what="recipe")
    line = {"pipe": "a pipe (FIFO)", "folder": "is a folder", "nothing": "does not exist", "device": "a device"}[what]
    assert line in caught.value.message


SETTINGS = {
    "seed=100000000000000000000000000": "seed",
    "train.micro_batch=100000000000000000000": "train.micro_batch",
    "train.accumulation=1000000000": "train.accumulation",
    "train.epochs=1e300": "train.epochs",
    "train.learning_rate=nan": "train.learning_rate",
    "train.max_steps=10000000000000": "train.max_steps",
    "adapter.rank=1000000000000": "adapter.rank",
    "data.workers=1000000": "data.workers",
    "data.train_limit=10000000000": "data.train_limit",
    "generate.max_new_tokens=1000000000": "generate.max_new_tokens",
    "generate.beams=100000": "generate.beams",
    "model.base=[1]": "model.base",
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_that_no_machine_has_is_refused(setting: str) -> None:
    """The key is named; until then nothing was counted, planned or allocated."""
    with pytest.raises(RecipeError) as caught:
        recipes.read_recipe("quickstart", [setting])
    assert SETTINGS[setting] in caught.value.message


@pytest.mark.parametrize("value", [DEEP, LONG, "{" * 5_000])
def test_an_override_of_any_depth_is_a_string(value: str) -> None:
    """What is not TOML is taken as text, as a bare word is."""
    assert parse_override(f"a.b={value}") == ("a.b", value)


NEWER: dict[str, tuple[str, Any]] = {
    "status": ("status.json", {"version": 9, "state": "suspended"}),
    "provenance": ("provenance.json", {"version": 2, "data": 7}),
    "sheet": ("scores/val.json", {"version": 3}),
    "parameters": ("parameters.json", {"version": 2, "total": 1}),
    "a line of the log": ("train.jsonl", {"version": 2, "event": "step", "step": "one"}),
    "a caption": ("predictions/val.jsonl", {"version": 2}),
    "a reference": ("references/val.jsonl", {"version": 2}),
    "a rejected row": ("rejected.jsonl", {"version": 4}),
    "speed": ("speed.jsonl", {"version": 2}),
    "a baseline": ("baselines/nearest/scores/val.json", {"version": 2}),
}


@pytest.mark.parametrize("kind", NEWER)
def test_what_a_newer_rscap_wrote_is_called_that(place: Path, kind: str) -> None:
    """It is neither called damaged nor renamed, and the way out is a newer rscap."""
    name, content = NEWER[kind]
    path = place / "run" / name
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")
    done = rscap("report", "run", "--split", "val", cwd=place)
    told = done.stderr + (place / "run" / "report.html").read_text(encoding="utf-8") if done.code == 0 else done.stderr
    assert "was written by a newer rscap" in told
    assert path.read_text(encoding="utf-8") == json.dumps(content) + "\n"


def test_checkpoints_of_a_newer_rscap_stay(tmp_path: Path) -> None:
    """Reading one raises an error of its own, for which nothing is renamed to `damaged-…`."""
    (tmp_path / "progress.json").write_text('{"version": 2}', encoding="utf-8")
    with pytest.raises(WrittenByNewer, match="newer rscap"):
        read_progress(tmp_path)


@pytest.mark.parametrize("key", ["hindsight", "version", "états", "", "a.b"])
def test_an_unknown_key_of_a_newer_version_stops_nothing(tmp_path: Path, key: str) -> None:
    """It is kept, and written again."""
    path = tmp_path / "status.json"
    path.write_text(json.dumps({"state": "finished", key: 1}), encoding="utf-8")
    Status.read(path).write(path)
    assert json.loads(path.read_text(encoding="utf-8"))[key] == 1


def test_an_absent_sheet_says_what_writes_one(tmp_path: Path) -> None:
    """Also below a file, and under a name too long for any file system."""
    (tmp_path / "file").touch()
    for name in ("x.json", "file/x.json", "n" * 300):
        with pytest.raises(RscapError):
            read_sheet(tmp_path / name)


@pytest.mark.parametrize("what", ["pipe", "folder", "nothing", "text", "zip", "zeros"])
def test_a_pool_that_is_none_is_named(captions: Path, what: str) -> None:
    """A pipe would be waited for, and an archive that is none has no arrays."""
    path = captions / "pool.npz"
    if what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what != "nothing":
        path.write_bytes({"text": b"x", "zip": b"PK\5\6" + bytes(18), "zeros": bytes(999)}[what])
    words = ("--candidates", "hyp.json", "--references", "refs.json", "--pool", "pool.npz", "--no-meteor")
    done = rscap("score", *words, cwd=captions)
    assert done.code == 2
    assert "pool.npz" in done.stderr
