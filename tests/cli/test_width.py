"""Nothing that a command prints is wider than the screen: 80 columns where there is no terminal."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image
from rich.cells import cell_len
from rich.text import Text

from command_line import rscap
from rscap.cli import app
from rscap.progress import ProgressBar, fold, screen

FROZEN = Path(__file__).parents[1] / "frozen" / "v01"
TINY = [
    "data.train_limit=8",
    "train.max_steps=2",
    "train.micro_batch=2",
    "train.evaluate_every=1",
    "train.evaluate_images=2",
]
COMMANDS = {
    "score": "score --candidates captions.json --references references.json --protocol all",
    "score of a run": "score run/scores/val.json --foreign none.csv",
    "evaluate": "evaluate nano --source sample --limit 3 --no-baselines --out evaluated",
    "caption an image that is none": "caption captions.json --model nano",
    "data inspect": "data inspect sample --no-images",
    "data audit": "data audit sample --no-images",
    "data split": "data split sample --out split.json",
    "compare": "compare evaluation evaluation/baselines/constant evaluation/baselines/nearest --draws 100",
    "report": "report run --split val --out report.html",
    "ablate": "ablate study --plan-only",
    "doctor": "doctor run --no-probe",
    "verify": "verify evaluation",
    "plan": "plan risc-fast --gpu 16GB --verbose",
    "recipe list": "recipe list",
    "init": "init photographs",
    "train": f"train quickstart --out trained {' '.join(f'--set {one}' for one in TINY)}",
    "a mistake": "train risc-fast --set train.epoch=3 --set data.source=/no/such/folder/of/images/anywhere",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs and a study of 0.1, and captions with references."""
    folder = shutil.copytree(FROZEN, tmp_path_factory.mktemp("width"), dirs_exist_ok=True)
    rows = {
        kind: [json.loads(line) for line in (folder / "run" / kind / "val.jsonl").read_text("utf-8").splitlines()]
        for kind in ("predictions", "references")
    }
    captions = {row["id"]: row["caption"] for row in rows["predictions"]}
    references = {row["id"]: row["captions"] for row in rows["references"]}
    (folder / "captions.json").write_text(json.dumps(captions), encoding="utf-8")
    (folder / "references.json").write_text(json.dumps(references), encoding="utf-8")
    (folder / "photographs").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "photographs" / "a.png")
    return folder


@pytest.mark.parametrize("name", COMMANDS)
def test_no_line_is_wider_than_80_columns(name: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables, sentences, signatures, progress and errors; what is printed to be read by programs is not among them."""
    monkeypatch.delenv("COLUMNS")
    done = rscap(*COMMANDS[name].split(), cwd=place)
    lines = [*done.stdout.splitlines(), *done.stderr.splitlines()]
    assert lines
    widest = max(lines, key=cell_len)
    assert cell_len(widest) <= 80, widest


@pytest.mark.parametrize("name", sorted(one.name or one.callback.__name__ for one in app.registered_commands))
def test_no_help_is_wider_than_80_columns(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The help of every command, whose types and names are never broken over two lines either."""
    monkeypatch.delenv("COLUMNS")
    done = rscap(name, "--help", cwd=tmp_path)
    assert done.code == 0
    assert max(map(cell_len, done.stdout.splitlines())) <= 80


def test_text_is_folded_between_words() -> None:
    """Signatures break behind a bar; a word that is too wide, and a command that people copy, stay whole."""
    signature = "protocol:coco|tok:ptb-3.4.1/1|refs:5,distinct:4.88|n:192"
    assert fold(f"CIDEr-D 1.75 [1.58, 1.93]  {signature}", width=42).splitlines() == [
        "CIDEr-D 1.75 [1.58, 1.93]  protocol:coco|",
        "  tok:ptb-3.4.1/1|refs:5,distinct:4.88|",
        "  n:192",
    ]
    path = "/a/very/long/path/that/nobody/can/break.jsonl"
    assert fold(f"written: {path}", width=30).splitlines() == ["written:", f"  {path}"]
    command = "rscap report runs/a runs/b --out page.html"
    assert fold(f"next:    {command}", width=30).splitlines() == ["next:", f"  {command}"]
    assert fold("a short line\nand another", width=30) == "a short line\nand another"


@pytest.mark.parametrize(
    ("columns", "whole"),
    [
        (60, [False, False, False]),
        (80, [True, False, False]),
        (90, [True, True, False]),
        (100, [True, True, True]),
    ],
)
def test_count_and_time_of_a_bar_are_whole(columns: int, whole: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar shrinks and details go, the last first; how much is done is never cut."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    with ProgressBar("training") as bar:
        assert bar._bar is not None
        bar(101, 1800, "loss 5.123 · 12.3 captions/s · 1.25 GiB")
        shown = screen(width=columns, height=9, file=io.StringIO())
        shown.print(bar._bar.get_renderable())
        printed = Text.from_ansi(shown.file.getvalue()).plain  # type: ignore[attr-defined]
    (line,) = printed.splitlines()
    assert cell_len(line.rstrip()) <= columns
    assert re.search(r"101/1800 · \d:\d\d:\d\d · [-\d]:[-\d][-\d]:[-\d][-\d] left", line)
    assert [part in line for part in ("loss", "captions/s", "GiB")] == whole
