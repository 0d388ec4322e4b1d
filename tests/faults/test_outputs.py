"""An output replaces an ordinary file that is no input, and nothing else; folders are new, or refused."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from command_line import rscap
from rscap.errors import StoreError
from rscap.store import append_line, atomic_path, check_outputs, new_folder, replace_folder, write_text

Plant = Callable[[Path], object]

TARGETS: dict[str, tuple[Plant, str]] = {
    "a link": (lambda path: path.symlink_to("kept.txt"), "is a link to kept.txt"),
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), "is a link to nowhere"),
    "a link to a folder": (lambda path: path.symlink_to("."), "is a link to ."),
    "a folder": (lambda path: path.mkdir(), "it is a folder"),
    "a full folder": (lambda path: (path / "inside").mkdir(parents=True), "it is a folder"),
    "a pipe that nobody reads": (lambda path: os.mkfifo(path), "nobody reads from this pipe"),
}
NAMES = {
    "a long name": ("n" * 300, "File name too long"),
    "a zero byte": ("a\0b", "null"),
    "below a file": ("kept.txt/out", "kept.txt is not a folder"),
    "below a link to a file": ("way/out", "cannot be written"),
}


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A file whose content no output may change."""
    path = tmp_path / "kept.txt"
    path.write_text("kept", encoding="utf-8")
    (tmp_path / "way").symlink_to("kept.txt")
    return path


@pytest.mark.parametrize("kind", [*TARGETS, *NAMES])
def test_what_is_no_ordinary_file_is_not_replaced(
    kept: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal says what stands there, what a link leads to stays as it is, and nothing is left beside it."""
    monkeypatch.setattr("rscap.store.outputs._PATIENCE_SECONDS", 0.1)
    if kind in TARGETS:
        plant, line = TARGETS[kind]
        out = tmp_path / "out"
        plant(out)
    else:
        name, line = NAMES[kind]
        out = tmp_path / name
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(StoreError) as caught:
        write_text(out, "new")
    assert line in caught.value.message
    assert kept.read_text(encoding="utf-8") == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_bytes_go_into_a_pipe(tmp_path: Path) -> None:
    """A pipe gets the whole file and stays a pipe."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_text(pipe, "x" * 200_000)
    reader.join()
    assert read == [b"x" * 200_000]
    assert pipe.is_fifo()


def test_bytes_go_to_standard_output(captions: Path) -> None:
    """`--out -` prints what a file would hold."""
    done = rscap("score", *SCORE, "--out", "-", "--json", cwd=captions)
    assert done.code == 0
    assert done.stdout.count('"signature"') == 2
    assert not (captions / "-").exists()


SCORE = ("--candidates", "hyp.json", "--references", "refs.json", "--no-meteor", "--draws", "0")
COMPARE = ("compare", "run", "b=run/baselines/nearest/scores/val.json", "--split", "val", "--draws", "100")
OWN = {
    "candidates": (("score", *SCORE, "--out", "hyp.json"), "hyp.json is what is read"),
    "references": (("score", *SCORE, "--items", "refs.json"), "refs.json is what is read"),
    "references by another way": (("score", *SCORE, "--items", "./run/../refs.json"), "is what is read"),
    "a hard link": (("score", *SCORE, "--out", "same.json"), "same.json is what is read"),
    "a pool": (("score", "--references", "refs.json", "--save-pool", "refs.json"), "refs.json is what is read"),
    "two outputs": (("score", *SCORE, "--out", "x.json", "--items", "x.json"), "is to be written twice"),
    "a sheet": ((*COMPARE, "--out", "run/baselines/nearest/scores/val.json"), "nothing is written over it"),
    "a file of a run": ((*COMPARE, "--out", "run/status.json"), "is a file of run, which is read"),
    "a recipe": (("plan", "run/recipe.toml", "--gpu", "16GB", "--out", "run/recipe.toml"), "is what is read"),
    "annotations": (("data", "inspect", "captions.csv", "--no-images", "--out", "captions.csv"), "is what is read"),
    "a page over annotations": (("data", "audit", "captions.csv", "--html", "captions.csv"), "is what is read"),
}


@pytest.mark.torch
@pytest.mark.parametrize("kind", OWN)
def test_no_output_is_an_input(place: Path, captions: Path, kind: str) -> None:
    """By whatever name; the command is refused before it works."""
    os.link(captions / "hyp.json", captions / "same.json")
    (captions / "captions.csv").write_text("image,caption_1\na.jpg,a field\n", encoding="utf-8")
    before = {path: path.read_bytes() for path in captions.rglob("*") if path.is_file()}
    words, line = OWN[kind]
    done = rscap(*words, cwd=place)
    assert done.code == 2
    assert line in done.stderr
    assert {path: path.read_bytes() for path in captions.rglob("*") if path.is_file()} == before


def test_an_output_may_be_replaced(tmp_path: Path) -> None:
    """An ordinary file that the command does not read is replaced, also a page in a folder that is read."""
    for name in ("old.json", "run/report.html"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("old", encoding="utf-8")
        check_outputs(tmp_path / name, inputs=[tmp_path / "run"])
        write_text(tmp_path / name, "new")
        assert (tmp_path / name).read_text(encoding="utf-8") == "new"


def test_a_link_that_comes_while_the_work_goes_on_is_refused(kept: Path, tmp_path: Path) -> None:
    """The target is checked again at the rename."""
    out = tmp_path / "out"

    def write() -> None:
        with atomic_path(out) as temporary:
            temporary.write_text("new", encoding="utf-8")
            out.symlink_to("kept.txt")

    with pytest.raises(StoreError, match="is a link to"):
        write()
    assert kept.read_text(encoding="utf-8") == "kept"


TAKEN: dict[str, Plant] = {
    "a file": lambda path: path.write_text("theirs"),
    "a full folder": lambda path: (path / "theirs").mkdir(parents=True),
    "a link": lambda path: path.symlink_to("kept.txt"),
    "a link to a folder": lambda path: path.symlink_to("."),
    "a pipe": lambda path: os.mkfifo(path),
}


@pytest.mark.parametrize("kind", TAKEN)
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_folder_is_new_or_refused(kept: Path, tmp_path: Path, kind: str, when: str) -> None:
    """What stands at its place, from the start or since, stays; the unfinished folder is gone."""
    target = tmp_path / "folder"
    if when == "before":
        TAKEN[kind](target)

    def make() -> None:
        with new_folder(target) as folder:
            (folder / "ours").write_text("ours", encoding="utf-8")
            if when == "meanwhile":
                TAKEN[kind](target)

    with pytest.raises(StoreError, match="nothing is overwritten"):
        make()
    assert not list(tmp_path.rglob("ours"))
    assert kept.read_text(encoding="utf-8") == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "kept.txt", "way"]


def test_an_unfinished_folder_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    """The next process that makes the same folder sweeps it; what is not ours under such a name stays."""
    (tmp_path / ".folder.abc.making" / "new").mkdir(parents=True)
    (tmp_path / ".folder.abc.making" / ".lock").touch()
    (tmp_path / ".folder.theirs.making").mkdir()
    with new_folder(tmp_path / "folder"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".folder.theirs.making", "folder"]


def test_a_finished_folder_replaces_our_own_and_no_link(tmp_path: Path) -> None:
    """A run writes its weights again; through a link it would write, and remove, elsewhere."""
    for name in ("new", "old", "elsewhere"):
        (tmp_path / "work" / name).mkdir(parents=True)
        (tmp_path / "work" / name / "file").write_text(name, encoding="utf-8")
    (tmp_path / "link").symlink_to("work/elsewhere")
    with pytest.raises(StoreError, match="is a link to"):
        replace_folder(tmp_path / "work" / "new", tmp_path / "link")
    replace_folder(tmp_path / "work" / "new", tmp_path / "work" / "old")
    assert (tmp_path / "work" / "old" / "file").read_text(encoding="utf-8") == "new"
    assert (tmp_path / "work" / "elsewhere" / "file").read_text(encoding="utf-8") == "elsewhere"


CUT = ['{"b": ', '{"b"', "{", "nul", '{"b": "é'[:-1], '{"b": 1', "x" * 10_000, '{"b": "' + "y" * 9_000, "[1,", '"']


@pytest.mark.parametrize("rest", CUT)
def test_a_last_line_that_was_cut_off_gives_way(tmp_path: Path, rest: str) -> None:
    """A full disk or `kill -9` leaves half a line; the next line does not hang on to it."""
    path = tmp_path / "log.jsonl"
    path.write_text(f'{{"a": 1}}\n{rest}', encoding="utf-8")
    append_line(path, '{"c": 3}')
    assert path.read_text(encoding="utf-8") == '{"a": 1}\n{"c": 3}\n'


@pytest.mark.parametrize("before", ["", "\n", '{"a": 1}', '{"a": 1}\n', '{"a": 1}\n{"b": 2}'])
def test_a_whole_last_line_stays(tmp_path: Path, before: str) -> None:
    """Whether its end was written or not."""
    path = tmp_path / "log.jsonl"
    path.write_text(before, encoding="utf-8")
    append_line(path, '{"c": 3}')
    lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line]
    assert lines == [*(line for line in before.split("\n") if line), '{"c": 3}']


@pytest.mark.parametrize("name", ["status", "provenance", "parameters", "quality", "evaluation", "plan"])
def test_the_table_beside_a_page_is_no_file_of_a_run(place: Path, name: str) -> None:
    """`--out run/status.html` would write `run/status.json`."""
    before = (place / "run" / "status.json").read_bytes()
    done = rscap("report", "run", "--split", "val", "--out", f"run/{name}.html", cwd=place)
    assert (done.code, f"would be {name}.json" in done.stderr) == (2, True)
    assert (place / "run" / "status.json").read_bytes() == before
