"""`import rscap`: light, lazy, and the whole job in functions."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from PIL import Image

import rscap
from rscap.captioner import Captioner, loading
from rscap.errors import DataError, ImageError, ModelError, RecipeError, ScoreError, StoreError
from rscap.recipe import dump_recipe
from rscap.records import Example, Prediction, Rejected
from rscap.store import RunFolder

QUICKER = (
    "data.source=sample",
    "data.train_limit=8",
    "train.max_steps=2",
    "train.evaluate_every=2",
    "train.micro_batch=4",
    "train.evaluate_images=2",
    "generate.max_new_tokens=8",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of two steps."""
    recipe = rscap.read_recipe("risc-mini-nano-lora", *QUICKER)
    return rscap.train(recipe, tmp_path_factory.mktemp("runs") / "mine", progress=False)


@pytest.fixture(scope="module")
def model() -> Iterator[Captioner]:
    """The nano model as it is, in float32."""
    with rscap.load("nano", device="cpu", dtype="float32") as captioner:
        yield captioner


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    """Six aerial scenes."""
    return [example.image.load() for example in rscap.open_data("sample").split("val")[:6]]


def test_importing_the_library_imports_neither_torch_nor_numpy() -> None:
    """A script that only asks for the version or scores captions never waits for torch."""
    code = "import sys, rscap; dir(rscap); sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'rich')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_scoring_through_the_library_imports_no_torch() -> None:
    """`rscap.score` needs captions alone."""
    code = (
        "import sys, rscap; rscap.score({'a': 'two planes'}, {'a': ['two planes']}, draws=0, metrics=['BLEU-4']); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_names_of_the_library_are_listed_typed_and_documented() -> None:
    """`dir(rscap)` lists what there is; each name is a function with a docstring, and the type stub has the same."""
    stub = ast.parse(Path(rscap.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    typed = {alias.name for node in ast.walk(stub) if isinstance(node, ast.ImportFrom) for alias in node.names}
    (exported,) = (ast.literal_eval(node.value) for node in stub.body if isinstance(node, ast.Assign))
    assert exported == rscap.__all__
    assert set(dir(rscap)) == {"__version__", *typed}
    for name in typed:
        found = getattr(rscap, str(name))
        assert callable(found), name
        assert found.__doc__, name


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    """`hasattr` and typos behave as for any module."""
    assert not hasattr(rscap, "tarin")


def test_python_m_rscap_is_the_command_line() -> None:
    """Where the script is not on the PATH, the module is."""
    done = subprocess.run([sys.executable, "-m", "rscap", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == rscap.__version__


def test_the_whole_job(run: RunFolder, tmp_path: Path) -> None:
    """Train, evaluate, load, caption, compare, report: strings and paths both, no callbacks."""
    sheet = rscap.evaluate(run, limit=3, out=str(tmp_path / "few"), baselines=False, progress=False)
    other = rscap.evaluate("nano", "sample", limit=3, out=tmp_path / "zero", dtype="float32", progress=False)
    assert sheet.n == other.n == 3
    assert "decode:greedy-8" in sheet.signature
    page, *_ = rscap.report([tmp_path / "few", tmp_path / "zero"], tmp_path / "report.html")
    assert page.is_file()
    assert rscap.diagnose(run, probe=False).kind == "run"


def test_silence_is_silence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """With `progress=False` neither training nor evaluation prints anything."""
    recipe = rscap.read_recipe("risc-mini-nano-lora", *QUICKER)
    silent = rscap.train(recipe, tmp_path / "run", progress=False)
    rscap.evaluate(silent, limit=2, out=tmp_path / "few", baselines=False, progress=False)
    assert capfd.readouterr() == ("", "")


def test_a_recipe_is_a_name_a_path_or_a_dictionary(tmp_path: Path) -> None:
    """All three give the same recipe, with overrides."""
    named = rscap.read_recipe("risc-mini-nano", "train.epochs=3")
    written = tmp_path / "mine.toml"
    import tomli_w

    table = named.model_dump(mode="json", exclude_none=True)
    written.write_text(tomli_w.dumps(table), encoding="utf-8")
    assert rscap.read_recipe(str(written)) == rscap.read_recipe(table) == rscap.read_recipe(named) == named
    with pytest.raises(RecipeError, match=r"did you mean 'train\.epochs'"):
        rscap.read_recipe({"data": {"source": "sample"}, "train": {"epoch": 3}})


def test_ones_own_examples_are_trained_on_and_evaluated(tmp_path: Path) -> None:
    """Any iterable of examples stands in for a data set, and the run folder names it."""
    sample = rscap.open_data("sample")
    mine = [*sample.split("train")[:6], *sample.split("val")[:2], *sample.split("test")[:3]]
    recipe = rscap.read_recipe("risc-mini-nano-lora", *QUICKER[2:], "train.evaluate_every=2")
    run = rscap.train(recipe, tmp_path / "run", data=iter(mine), progress=False)
    assert RunFolder.open(run.path).recipe_file.read_text().count('source = "examples"') == 1
    sheet = rscap.evaluate(run, mine, progress=False, baselines=False)
    assert sheet.n == 3
    assert RunFolder(run.path).scores("test").is_file(), "its own examples are evaluated in its own folder"
    assert rscap.evaluate(run, mine, progress=False, resume=True) == sheet
    with pytest.raises(StoreError, match="has been evaluated on test already"):
        rscap.evaluate(run, mine, progress=False)
    others = [*mine[:8], replace(mine[8], captions=("another caption .",))]
    rscap.evaluate(run, others, progress=False, baselines=False, out=tmp_path / "others")
    assert RunFolder(tmp_path / "others").scores("test").is_file(), "other examples of the same name have their own"


SCRIPT = """
import sys
import rscap
from rscap.data import PixelImage
from rscap.errors import DataError

print("begins")
recipe = rscap.read_recipe("risc-mini-nano-lora", "data.workers=1", *sys.argv[1:])
rscap.train(recipe, "run", progress=False)

class OwnImage(PixelImage):
    pass

from dataclasses import replace
from PIL import Image

image = OwnImage(Image.new("RGB", (64, 64)), "own")
examples = [replace(example, image=image) for example in rscap.open_data("sample").split("train")[:8]]
try:
    rscap.train(recipe, "own", data=examples, progress=False)
except DataError as error:
    print(error.hint)
"""


def test_a_script_needs_no_main_guard_for_data_workers(tmp_path: Path) -> None:
    """The processes that decode images do not run the caller's script again; a kind of image that only the script
    defines is refused with the way out."""
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    command = [sys.executable, "script.py", *QUICKER, "model.dtype=float32", "train.evaluate_every=9"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    first, hint = done.stdout.splitlines()
    assert first == "begins"
    assert "data.workers=0" in hint


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("twice", "two examples have the id"),
        ("nothing", "no examples"),
        ("words", "example 1 is a str"),
        ("empty", "has no caption"),
        ("text", "captions of example 'x' is a string"),
        ("number", "example 0 has the id 7"),
        ("path", "image of example 'x' is a str"),
    ],
)
def test_examples_that_cannot_be_used_are_refused(broken: str, message: str) -> None:
    """Equal ids, no examples, other objects, captions and images of another form: errors that say which example."""
    first, second = rscap.open_data("sample").split("val")[:2]
    one = Example(id="x", captions=("a plane",), image=second.image, split="val", source="")
    given: dict[str, list[Any]] = {
        "twice": [first, first],
        "nothing": [],
        "words": [first, "second"],
        "empty": [replace(one, captions=())],
        "text": [replace(one, captions="a plane")],  # type: ignore[arg-type]
        "number": [replace(one, id=7)],  # type: ignore[arg-type]
        "path": [replace(one, image="a.jpg")],  # type: ignore[arg-type]
    }
    with pytest.raises(DataError, match=message):
        rscap.open_data(given[broken])


def test_weights_are_loaded_once_however_often_a_model_is_asked(
    monkeypatch: pytest.MonkeyPatch, images: list[Image.Image]
) -> None:
    """Twenty questions, one loading."""
    loaded = []
    load_base = loading.load_base
    monkeypatch.setattr(loading, "load_base", lambda *a, **k: loaded.append(a) or load_base(*a, **k))
    captioner = rscap.load("nano", device="cpu", dtype="float32")
    for _ in range(20):
        captioner.caption(images[0], max_new_tokens=1)
    assert len(loaded) == 1


def test_every_form_of_an_image_gets_the_same_caption(
    model: Captioner, images: list[Image.Image], tmp_path: Path
) -> None:
    """A path, a string, bytes, a PIL image and an array are one image."""
    path = tmp_path / "a.png"
    images[0].save(path)
    forms = [path, str(path), path.read_bytes(), images[0], np.array(images[0])]
    alone = [model.caption(form).caption for form in forms]
    together = [item.caption for item in model.caption(forms)]
    assert len(set(alone)) == 1
    assert alone == together


def test_a_captioner_captions_as_evaluate_does(run: RunFolder, tmp_path: Path) -> None:
    """The same run, the same images, the same captions in float32."""
    out = tmp_path / "few"
    rscap.evaluate(run, limit=4, out=out, baselines=False, progress=False)
    from rscap.store import read_jsonl

    written = {row["id"]: row["caption"] for row in read_jsonl(RunFolder(out).predictions("test"))}
    examples = [example for example in rscap.open_data("sample").split("test") if example.id in written]
    found = rscap.load(run, device="cpu").caption([example.image.load() for example in examples])
    assert [item.caption for item in found] == [written[example.id] for example in examples]


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((2, 8, 8, 3), np.uint8),
        b"not an image",
        42,
    ],
    ids=["grey", "channels first", "alpha", "float", "batch", "bytes", "number"],
)
def test_what_is_not_an_image_raises_or_leaves_its_reason(
    model: Captioner, images: list[Image.Image], wrong: Any
) -> None:
    """An array of another shape or type, damaged bytes and other objects: an error, or a record in their place."""
    with pytest.raises((ImageError, DataError)):
        model.caption(wrong)
    first, bad, last = model.caption([images[0], wrong, images[1]], errors="keep", max_new_tokens=2)
    assert isinstance(first, Prediction)
    assert isinstance(last, Prediction)
    assert isinstance(bad, Rejected)
    assert bad.reason


def test_decode_settings_hold_for_one_call(model: Captioner, images: list[Image.Image]) -> None:
    """Settings by keyword change one call; unknown ones are refused with the nearest name."""
    short = model.caption(images[0], max_new_tokens=2)
    assert (short.tokens, short.stopped) == (2, "length")
    assert model.caption(images[0]).tokens > 2
    with pytest.raises(RecipeError, match="did you mean 'beams'"):
        model.caption(images[0], beam=3)


def test_a_stream_reads_no_further_than_a_batch(model: Captioner, images: list[Image.Image]) -> None:
    """An endless iterable is captioned as it comes."""
    taken = []

    def endless() -> Iterator[Image.Image]:
        while True:
            taken.append(1)
            yield images[len(taken) % len(images)]

    coming = model.stream(endless(), batch_size=2, max_new_tokens=1)
    assert [type(next(coming)) for _ in range(3)] == [Prediction] * 3
    assert len(taken) == 4


def test_four_threads_get_one_threads_captions(model: Captioner, images: list[Image.Image]) -> None:
    """Threads share a captioner; each gets the captions that it would get alone."""
    alone = [item.caption for item in model.caption(images)]
    found: dict[int, list[str]] = {}

    def ask(number: int) -> None:
        found[number] = [model.caption(image).caption for image in images]

    threads = [Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(4)] == [alone] * 4


def test_a_closed_captioner_says_so(images: list[Image.Image]) -> None:
    """After `with`, the memory is given back and asking again is an error with the way out."""
    with rscap.load("nano", device="cpu", dtype="float32") as captioner:
        captioner.caption(images[0], max_new_tokens=1)
    with pytest.raises(ModelError, match="is closed"):
        captioner.caption(images[0])


def test_a_run_continues_by_its_folder(run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `resume` a run folder stands for its recipe, and a recipe without `out` for the run of its name; a folder
    without `resume` is refused with the way out."""
    assert rscap.train(run, resume=True, progress=False) == run
    assert rscap.train(str(run.path), resume=True, progress=False) == run
    with pytest.raises(RecipeError, match="is a folder") as caught:
        rscap.train(run, progress=False)
    assert "resume=True" in str(caught.value.hint)
    with pytest.raises(RecipeError, match="its own folder"):
        rscap.train(run, tmp_path / "elsewhere", resume=True, progress=False)
    (tmp_path / "runs").mkdir()
    shutil.copytree(run.path, tmp_path / "runs" / "short")
    shutil.copy(run.recipe_file, tmp_path / "short.toml")
    monkeypatch.chdir(tmp_path)
    assert rscap.train("short.toml", resume=True, progress=False).path == Path("runs/short")


def test_predictions_are_scored_against_examples(model: Captioner) -> None:
    """What `caption` returns and what a data set holds go into `score` as they are, with sources and prompt."""
    source = rscap.open_data("sample")
    examples = source.split("val")[:6]
    predictions = model.caption(examples, max_new_tokens=8)
    assert [item.example_id for item in predictions] == [example.id for example in examples]
    direct = rscap.score(predictions, examples, draws=0)
    by_hand = rscap.score(
        {item.example_id: item.caption for item in predictions},
        {example.id: example.captions for example in examples},
        draws=0,
        prefix="caption en",
        sources={example.id: example.source for example in examples},
        scene_classes={example.id: example.scene_class for example in examples},
    )
    assert direct == by_hand
    assert rscap.score(predictions, source, split="val", draws=0, allow_missing=True).n == 6


def test_an_image_that_was_not_captioned_or_occurs_twice_is_told_when_scores_are_made() -> None:
    """A rejected image has no caption to score; an id that occurs twice says where."""
    one, two = rscap.open_data("sample").split("val")[:2]
    said = Prediction(example_id=one.id, caption="a river", prefix="", tokens=3, stopped="eos")
    with pytest.raises(ScoreError, match=f"no candidate: '{two.id}'"):
        rscap.score([said, Rejected(two.id, "cannot be decoded")], [one, two])
    with pytest.raises(ScoreError, match="predictions: 1 ids occur more than once"):
        rscap.score([said, said], [one])
    with pytest.raises(ScoreError, match="references: 1 ids occur more than once"):
        rscap.score([said], [one, one])
    with pytest.raises(ScoreError, match="split chooses"):
        rscap.score({"a": "x"}, {"a": ["x"]}, split="test")


def test_sheets_and_comparisons_are_readable_where_they_are_printed() -> None:
    """A sheet prints its scores and its signature, a comparison its sentences; neither prints item scores."""
    references = {str(n): [f"{n} planes are parked"] for n in range(12)}
    good = rscap.score({key: own[0] for key, own in references.items()}, references, draws=100)
    bad = rscap.score(dict.fromkeys(references, "a river"), references, draws=100)
    assert repr(good).startswith("<ScoreSheet of 12 images: BLEU-1 1.000")
    assert good.signature in repr(good)
    assert "good is better than bad" in str(rscap.compare({"good": good, "bad": bad}, draws=200))


def test_comparing_takes_sheets_and_files(tmp_path: Path) -> None:
    """Sheets in memory and on disk are compared alike."""
    from rscap.scoring import write_sheet

    references = {str(n): [f"{n} planes are parked", f"there are {n} planes"] for n in range(12)}
    good = rscap.score({key: own[0] for key, own in references.items()}, references, draws=100)
    bad = rscap.score(dict.fromkeys(references, "a river"), references, draws=100)
    write_sheet(tmp_path / "bad.json", bad)
    found = rscap.compare({"good": good, "bad": tmp_path / "bad.json"}, draws=200)
    assert found.differences[0].difference > 0


def test_a_recipe_in_memory_is_diagnosed_as_its_file_is(tmp_path: Path) -> None:
    """A dictionary, a recipe and a file have the same findings; a dictionary that is no recipe cannot start."""
    named = rscap.read_recipe("risc-mini-nano", "train.learning_rate=3.0", "data.source=sample")
    file = tmp_path / "mine.toml"
    file.write_text(dump_recipe(named), encoding="utf-8")
    written = rscap.diagnose(file, probe=False)
    for thing in (named, named.model_dump(mode="json", exclude_none=True)):
        found = rscap.diagnose(thing, probe=False)
        assert (found.kind, found.not_looked_at) == (written.kind, written.not_looked_at)
        assert [one.code for one in found.findings] == [one.code for one in written.findings]
    (broken,) = rscap.diagnose({"data": {"source": "sample"}, "model": {"bass": "nano"}}, probe=False).findings
    assert broken.code == "cannot-start"
    assert "model.bass" in broken.evidence


def test_planning_takes_a_recipe_and_a_card() -> None:
    """A card by its size, a recipe by its name."""
    found = rscap.plan("risc-qlora", "16GB")
    assert found.proposed is not None


def test_the_import_is_cheap() -> None:
    """What `import rscap` runs is two modules of the standard library and its own few lines."""
    code = "import sys; before = set(sys.modules); import rscap; print(len(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) <= 6
