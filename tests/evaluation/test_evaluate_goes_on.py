"""An evaluation that was cut off goes on where it was, and ends with the bytes of one that nobody disturbed."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageFile

from recipes import small_recipe
from rscap.data import open_source
from rscap.errors import Interrupted, StoreError
from rscap.evaluation.request import Request, evaluate, prepare
from rscap.records import Example, Prediction, Rejected
from rscap.store import Journal, RunFolder, read_json, read_jsonl, write_json
from rscap.training.session import train

BATCH = 4
IMAGES = 14


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps that captions in batches of four."""
    recipe = small_recipe(
        {
            "data": {"train_limit": 8},
            "train": {"max_steps": 2, "micro_batch": 2},
            "generate": {"max_new_tokens": 6, "batch_size": BATCH},
        }
    )
    return train(recipe, tmp_path_factory.mktemp("trained") / "run", say=lambda _: None).path


def carry_out(model: Path, out: Path, said: list[str] | None = None, **fields: Any) -> RunFolder:
    request = Request(model=str(model), limit=IMAGES, out=out, baselines=False, **fields)
    say = (said if said is not None else []).append
    return evaluate(prepare(request), progress=lambda *_: None, say=say)[0]


@pytest.fixture(scope="module")
def whole(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The evaluation that nothing disturbed."""
    return carry_out(trained, tmp_path_factory.mktemp("whole") / "test")


def cut_off(model: Path, out: Path, monkeypatch: pytest.MonkeyPatch, *, after: int, how: Callable[[], None]) -> None:
    """Stop an evaluation when so many captions are there."""
    add, count = Journal.add, 0

    def adding(self: Journal, item: Any) -> None:
        nonlocal count
        add(self, item)
        count += 1
        if count == after:
            how()

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add", adding)
        carry_out(model, out)


def died() -> None:
    raise KeyError("the process died")


def same(one: RunFolder, other: RunFolder) -> bool:
    files = [run.predictions("test").read_bytes() for run in (one, other)]
    scores = [read_json(run.scores("test"))["corpus"] for run in (one, other)]
    return files[0] == files[1] and scores[0] == scores[1]


@pytest.mark.parametrize("after", [1, 4, 11, 14])
def test_the_same_command_goes_on(
    after: int, trained: Path, whole: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off at any caption: whole batches are kept, the rest is done, and nothing of the journal is left."""
    with pytest.raises(KeyError):
        cut_off(trained, tmp_path / "test", monkeypatch, after=after, how=died)
    said: list[str] = []
    again = carry_out(trained, tmp_path / "test", said)
    kept = after // BATCH * BATCH
    assert [line for line in said if "resuming" in line] == ([f"resuming after {kept} of 14 captions"] if kept else [])
    assert same(again, whole)
    assert again.status().state == "finished"
    assert again.status().error is None
    assert not again.captions_so_far("test").exists()
    with pytest.raises(StoreError, match="not an empty folder"):
        carry_out(trained, tmp_path / "test")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_says_how_to_go_on(
    number: signal.Signals, trained: Path, whole: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder says `interrupted`, the error what to do."""
    with pytest.raises(Interrupted, match=number.name) as caught:
        cut_off(trained, tmp_path / "test", monkeypatch, after=9, how=lambda: os.kill(os.getpid(), number))
    assert "same command" in str(caught.value.hint)
    assert RunFolder(tmp_path / "test").status().state == "interrupted"
    assert same(carry_out(trained, tmp_path / "test"), whole)


def test_in_a_runs_own_folder_too(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --out the run folder keeps the captions so far; the run stays finished."""
    run = RunFolder(Path(shutil.copytree(trained, tmp_path / "run")))

    def own(said: list[str]) -> None:
        evaluate(prepare(Request(model=str(run.path), baselines=False)), progress=lambda *_: None, say=said.append)

    add = Journal.add

    def adding(self: Journal, item: Prediction) -> None:
        add(self, item)
        if len(self.path.read_text(encoding="utf-8").splitlines()) == 1 + 10:
            died()

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add", adding)
        with pytest.raises(KeyError):
            own([])
    assert run.status().state == "finished"
    said: list[str] = []
    own(said)
    assert said[0] == "resuming after 8 of 192 captions"
    assert len(read_jsonl(run.predictions("test"))) == 192


def test_another_evaluation_does_not_take_the_folder(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In other words, or of more images: what differs is named, and what is there stays."""
    with pytest.raises(KeyError):
        cut_off(trained, tmp_path / "test", monkeypatch, after=9, how=died)
    before = RunFolder(tmp_path / "test").captions_so_far("test").read_bytes()
    with pytest.raises(StoreError, match="differ in prefix"):
        carry_out(trained, tmp_path / "test", prefix="describe")
    with pytest.raises(StoreError, match="differ in generate"):
        carry_out(trained, tmp_path / "test", changes=("generate.beams=2",))
    assert RunFolder(tmp_path / "test").captions_so_far("test").read_bytes() == before


def test_captions_of_another_adapter_are_not_kept(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run was trained again under the same name: all images are captioned by what is there now."""
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    with pytest.raises(KeyError):
        cut_off(run, tmp_path / "test", monkeypatch, after=9, how=died)
    file = run / "adapter" / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x00")
    write_json(run / "status.json", {"state": "finished"})  # which remembers no weights
    said: list[str] = []
    carry_out(run, tmp_path / "test", said)
    assert not any("going on" in line for line in said)


@pytest.mark.parametrize("damage", [lambda text: text[:-20], lambda text: text.replace('"caption"', "caption", 6)])
def test_lines_that_cannot_be_read_are_done_again(
    damage: Callable[[str], str], trained: Path, whole: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that was cut off, or damaged: what stands before it is kept, in whole batches."""
    with pytest.raises(KeyError):
        cut_off(trained, tmp_path / "test", monkeypatch, after=9, how=died)
    path = RunFolder(tmp_path / "test").captions_so_far("test")
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    assert same(carry_out(trained, tmp_path / "test"), whole)


def examples_and_predictions(count: int) -> tuple[list[Example], list[Prediction]]:
    """Images of the sample with a caption each, a line separator inside it."""
    examples = open_source("sample").subset("test", count, seed=0)
    return examples, [
        Prediction(example_id=one.id, caption="a\u2028b", prefix="caption en", tokens=2, stopped="eos")
        for one in examples
    ]


def test_an_image_that_could_not_be_decoded_is_tried_again(tmp_path: Path) -> None:
    """It may be mended by now: what stands before it is kept, in whole batches."""
    examples, items = examples_and_predictions(6)
    journal = Journal(tmp_path / "journal.jsonl", {"prefix": "caption en"})
    assert journal.begin(examples, batch_size=2) == []
    for item in (*items[:3], Rejected(row=examples[3].id, reason="truncated"), *items[4:]):
        journal.add(item)
    assert journal.begin(examples, batch_size=3) == items[:3]
    assert journal.begin(examples, batch_size=2) == items[:2]
    assert journal.begin(examples[1:], batch_size=1) == []


@pytest.mark.parametrize("row", [{"caption": 3}, {"example_id": ["x"]}, {"tokens": "2"}, {"more": 1}])
def test_a_line_of_another_kind_is_not_believed(row: dict[str, Any], tmp_path: Path) -> None:
    """A figure for a caption, a list for a name, an unknown key: done again from there, and no error."""
    examples, items = examples_and_predictions(2)
    journal = Journal(tmp_path / "journal.jsonl", {})
    journal.begin(examples, batch_size=1)
    journal.add(items[0])
    with journal.path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(asdict(items[1]) | row) + "\n")
    assert journal.begin(examples, batch_size=1) == items[:1]


def test_a_stop_while_an_image_is_decoded_rejects_no_image(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoding takes any error for a broken image, but not the signal: it ends the evaluation, and none is missing."""
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    rows = ["source,split,image,caption_1"]
    for number in range(6):
        Image.new("RGB", (32, 32), (40 * number, 80, 120)).save(data / "images" / f"{number}.png")
        rows.append(f"T,test,{number}.png,a plane of kind {number} .")
    (data / "captions.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    request = Request(model=str(trained), source=str(data), out=tmp_path / "test", baselines=False)
    load, stopped = ImageFile.ImageFile.load, []

    def signalled(self: ImageFile.ImageFile) -> Any:
        if not stopped and RunFolder(tmp_path / "test").captions_so_far("test").exists():
            stopped.append(self)
            os.kill(os.getpid(), signal.SIGTERM)
        return load(self)

    with monkeypatch.context() as patch:
        patch.setattr(ImageFile.ImageFile, "load", signalled)
        with pytest.raises(Interrupted):
            evaluate(prepare(request), progress=lambda *_: None, say=lambda _: None)
    assert stopped
    folder, _ = evaluate(prepare(request), progress=lambda *_: None, say=lambda _: None)
    assert [row["id"] for row in read_jsonl(folder.predictions("test"))] == [f"{number}.png" for number in range(6)]


def test_a_training_folder_is_not_taken_over(trained: Path, tmp_path: Path) -> None:
    """One that was killed before its recipe was written holds status.json alone, and is no evaluation."""
    RunFolder.create(tmp_path / "run")
    with pytest.raises(StoreError, match="not an empty folder"):
        carry_out(trained, tmp_path / "run")


def test_captions_are_kept_until_the_folder_says_finished(
    trained: Path, whole: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full for the very last file costs no caption."""

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "close", full)
        with pytest.raises(OSError, match="No space"):
            carry_out(trained, tmp_path / "test")
    said: list[str] = []
    assert same(carry_out(trained, tmp_path / "test", said), whole)
    assert "resuming after 12 of 14 captions" in said
