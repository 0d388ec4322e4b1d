"""Which images a run has seen: kept while it trains, and no score on any of them without a word."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import rscap
from rscap import scoring
from rscap.data import FileImage, PixelImage, open_source
from rscap.data.contents import ALIKE, content_of, look, nearest_look
from rscap.doctor import diagnose
from rscap.errors import DataError, StoreError
from rscap.evaluation.request import Request, evaluate, prepare
from rscap.evaluation.seen import overlap, seen_by_training
from rscap.recipe import Recipe, parse_recipe
from rscap.records import Example, ScoreSheet
from rscap.reports.card import CardScores, score_lines
from rscap.store import (
    RunFolder,
    Seen,
    SeenImage,
    read_seen,
    write_json,
    write_jsonl,
    write_seen,
)
from rscap.training.session import train

TABLE: dict[str, Any] = {
    "model": {"base": "nano", "dtype": "float32"},
    "adapter": {"rank": 2},
    "train": {"max_steps": 1, "micro_batch": 4},
    "generate": {"max_new_tokens": 4},
}


def silent(*_: Any) -> None:
    """Neither progress nor messages."""


def carry_out(say: Any = silent, **fields: Any) -> ScoreSheet:
    folder, sheets = evaluate(prepare(Request(**fields)), progress=silent, say=say)
    return sheets[folder.name]


def scenes() -> list[Example]:
    """Twenty scenes of the sample: twelve to train on, two to validate, six to test."""
    drawn = open_source("sample")
    splits = ["train"] * 12 + ["val"] * 2 + ["test"] * 6
    return [replace(one, split=split) for one, split in zip(drawn.split("val"), splits, strict=False)]


def write_folder(folder: Path, examples: list[Example], *, ending: str = "png", **how: Any) -> Path:
    """The examples as an image folder with metadata.jsonl; `how` is how Pillow saves the images."""
    folder.mkdir(parents=True)
    rows = []
    for example in examples:
        name = f"{Path(example.id).stem}.{ending}"
        example.image.load().save(folder / name, **how)
        rows.append({"file_name": name, "captions": list(example.captions), "split": example.split})
    write_jsonl(folder / "metadata.jsonl", rows)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scenes in files."""
    return write_folder(tmp_path_factory.mktemp("data") / "own", scenes())


@pytest.fixture(scope="module")
def recipe(data: Path) -> Recipe:
    """One step on them."""
    return parse_recipe({**TABLE, "data": {"source": str(data)}})


@pytest.fixture(scope="module")
def run(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of one step on twelve images in files."""
    return train(recipe, tmp_path_factory.mktemp("runs") / "mine", say=silent, progress=False)


def mixed(data: Path, folder: Path, **how: Any) -> Path:
    """Another data set whose test split has four images of the training split, under other names, and its six own."""
    own = open_source(data)
    copies = [replace(one, id=f"copy-{n}.png", split="test") for n, one in enumerate(own.split("train")[:4])]
    return write_folder(folder, [*copies, *own.split("test")], **how)


def test_a_run_keeps_what_it_was_trained_on(run: RunFolder, data: Path) -> None:
    """seen.npz holds the id and the digest of every training image and of no other."""
    seen = read_seen(run.seen_file)
    trained = {one.id: content_of(one.image.load())[:2] for one in open_source(data).split("train")}
    assert {image.id: (image.digest, image.look) for image in seen} == trained
    assert seen.trained.all()
    assert not seen.selected.any()


def test_training_decodes_no_image_for_its_list(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The contents come from the decoding that checks the images anyway."""
    source = open_source(data, check="decode")
    monkeypatch.setattr(FileImage, "load", lambda self: pytest.fail(f"{self.name} was decoded again"))
    seen = seen_by_training(
        source.split("train"), [], parse_recipe({**TABLE, "data": {"source": "x"}}), source.contents
    )
    assert len(seen) == 12


def test_validation_images_are_in_the_list_where_they_select(data: Path) -> None:
    """A panel that a [selection] judges by is kept and told apart; one that is only watched is not kept."""
    source = open_source(data)
    for selection in ({}, {"selection": {"metric": "loss"}}):
        settings = {**TABLE["train"], "evaluate_every": 1}
        recipe = parse_recipe({**TABLE, "data": {"source": "x"}, "train": settings, **selection})
        seen = seen_by_training(source.split("train"), source.split("val"), recipe, {})
        assert int(seen.selected.sum()) == (2 if selection else 0)
        found = overlap(seen, source.split("val"), {})
        assert len(found.selected) == (2 if selection else 0)
        assert found.trained == ()


def test_a_clean_evaluation_says_nothing(run: RunFolder, tmp_path: Path) -> None:
    """Where no image was seen there is no message, no mark in the signature and no key in the sheet."""
    said: list[str] = []
    sheet = carry_out(said.append, model=str(run.path), limit=3, out=tmp_path / "clean", baselines=False)
    assert not any("seen" in text or "trained on" in text for text in said)
    assert sheet.signature.endswith(f"|rscap:{rscap.__version__}")
    assert scoring.SEEN not in sheet.extra


def test_training_images_in_another_split_are_refused(run: RunFolder) -> None:
    """By another name of a split: the refusal says how many of how many, and the way out."""
    with pytest.raises(DataError, match=r"^12 of 12 images were trained on by mine") as caught:
        carry_out(model=str(run.path), split="train", out=run.path.parent / "never")
    assert "--allow-seen" in str(caught.value.hint)
    assert not (run.path.parent / "never").exists()


@pytest.mark.parametrize("how", [{"ending": "png"}, {"ending": "bmp"}, {"ending": "webp", "lossless": True}])
def test_a_renamed_copy_is_refused_with_the_right_count(
    run: RunFolder, data: Path, tmp_path: Path, how: dict[str, Any]
) -> None:
    """Other names, another folder, another file format: the pixels are the same."""
    copy = mixed(data, tmp_path / "copy", **how)
    with pytest.raises(DataError, match=r"^4 of 10 images were trained on by mine, such as copy-0"):
        carry_out(model=str(run.path), source=str(copy), out=tmp_path / "never")


def test_the_library_refuses_too(run: RunFolder, data: Path, tmp_path: Path) -> None:
    """`rscap.evaluate` refuses, and `allow_seen=True` goes on."""
    copy = mixed(data, tmp_path / "copy")
    with pytest.raises(DataError, match=r"^4 of 10 images were trained on"):
        rscap.evaluate(run, copy, out=tmp_path / "never", progress=False)
    sheet = rscap.evaluate(run, copy, out=tmp_path / "out", progress=False, baselines=False, allow_seen=True)
    assert sheet.signature.endswith("|seen:4/10")


@pytest.fixture(scope="module")
def marked(run: RunFolder, data: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """An evaluation of ten images, of which four were trained on."""
    folder = tmp_path_factory.mktemp("marked")
    out = folder / "with-seen"
    copy = mixed(data, folder / "copy")
    carry_out(model=str(run.path), source=str(copy), out=out, allow_seen=True)
    return RunFolder(out)


def test_a_score_on_seen_images_is_marked_everywhere(marked: RunFolder, run: RunFolder, tmp_path: Path) -> None:
    """Sheet, signature, report, comparison, card and doctor say that 4 of 10 images were trained on."""
    sheet = scoring.read_sheet(marked.scores("test"))
    assert sheet.extra[scoring.SEEN] == {"of": 10, "trained": 4, "selected": 0, "alike": 0}
    assert sheet.signature.endswith("|seen:4/10")
    said = "was trained on 4 of the 10 images scored"
    page = rscap.report(marked, tmp_path / "page.html")
    assert all(said in file.read_text(encoding="utf-8") for file in page if file.suffix in (".html", ".md", ".json"))
    compared = rscap.compare({"seen": marked, "constant": marked.baseline("constant").scores("test")}, draws=100)
    assert any(f"seen {said}" in note for note in compared.notes)
    assert said in "\n".join(score_lines(CardScores(split="test", sheet=sheet, baselines={})))
    assert rscap.verify(marked).holds
    findings = {finding.code: finding for finding in diagnose(marked.path, live=False).findings}
    assert findings["seen-images"].severity == "error"
    assert said in findings["seen-images"].evidence


def test_baselines_use_what_the_run_was_trained_on(recipe: Recipe, data: Path, tmp_path: Path) -> None:
    """The constant caption is one of the three images of `train_limit`, also where another data set is evaluated."""
    limited = recipe.model_copy(update={"data": recipe.data.model_copy(update={"train_limit": 3})})
    run = train(limited, tmp_path / "few", say=silent, progress=False)
    own = {caption for one in open_source(data).subset("train", 3, limited.seed) for caption in one.captions}
    other = write_folder(
        tmp_path / "other", [replace(one, split="test") for one in open_source("sample").split("test")[:4]]
    )
    for place, source in (("own", None), ("foreign", str(other))):
        carry_out(model=str(run.path), source=source, limit=4, out=tmp_path / place)
        lines = RunFolder(tmp_path / place).baseline("constant").predictions("test").read_text().splitlines()
        assert {json.loads(line)["caption"] for line in lines} <= own


def test_a_run_without_a_list_gets_one_from_its_recipe_and_data(
    run: RunFolder, recipe: Recipe, data: Path, tmp_path: Path
) -> None:
    """rscap 0.1 kept no list: it is made again where the data are the same, and the refusal is the same."""
    table = run.seen_file.read_bytes()
    run.seen_file.unlink()
    try:
        with pytest.raises(DataError, match=r"^12 of 12 images were trained on"):
            carry_out(model=str(run.path), split="train", out=tmp_path / "never")
        assert run.seen_file.read_bytes() == table
    finally:
        run.seen_file.write_bytes(table)


def test_what_nobody_knows_is_said_and_not_refused(run: RunFolder, data: Path, tmp_path: Path) -> None:
    """Where the data have changed or are gone the evaluation goes on, and its score says `seen:unknown`."""
    table = run.seen_file.read_bytes()
    noted = json.loads(run.provenance_file.read_text(encoding="utf-8"))
    run.seen_file.unlink()
    write_json(run.provenance_file, {**noted, "data": {**noted["data"], "digest": "of other data"}})
    said: list[str] = []
    try:
        sheet = carry_out(said.append, model=str(run.path), limit=3, out=tmp_path / "out", baselines=False)
    finally:
        run.seen_file.write_bytes(table)
        write_json(run.provenance_file, noted)
    assert sheet.signature.endswith("|seen:unknown")
    assert any("was trained on images that are not known" in text for text in said)


def test_a_base_model_has_no_list(data: Path, tmp_path: Path) -> None:
    """What a base was pretrained on is outside of all this: nothing is said and nothing is marked."""
    sheet = carry_out(
        model="nano", source=str(data), split="train", dtype="float32", limit=3, out=tmp_path / "zero", baselines=False
    )
    assert scoring.SEEN not in sheet.extra
    assert "seen" not in sheet.signature


def test_a_resumed_run_keeps_its_list(run: RunFolder, recipe: Recipe) -> None:
    """The list is written when the run begins and not again."""
    before = run.seen_file.stat().st_mtime_ns
    train(recipe, run.path, say=silent, resume=True, progress=False)
    assert run.seen_file.stat().st_mtime_ns == before


def picture(seed: int) -> Image.Image:
    """Coarse noise, so that it survives JPEG."""
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((96, 96), Image.Resampling.BICUBIC)


def example(name: str, image: Image.Image) -> Example:
    return Example(id=name, captions=("a",), image=PixelImage(image, name), split="test", source="x")


def again(image: Image.Image, folder: Path, quality: int) -> Image.Image:
    """The picture after a JPEG file."""
    image.save(folder / "again.jpg", quality=quality)
    return Image.open(folder / "again.jpg").convert("RGB")


def test_a_name_counts_only_where_it_means_the_same_picture(tmp_path: Path) -> None:
    """The same id counts for a copy that was encoded again, and not for another picture of that name."""
    seen = Seen.of([SeenImage("1.jpg", *content_of(picture(1))[:2], trained=True, selected=False)])
    assert overlap(seen, [example("1.jpg", again(picture(1), tmp_path, 60))], {}).trained == ("1.jpg",)
    assert overlap(seen, [example("1.jpg", picture(2))], {}).trained == ()
    unread = Seen.of([SeenImage("1.jpg", None, None, trained=True, selected=False)])
    assert overlap(unread, [example("1.jpg", picture(2))], {}).trained == ("1.jpg",)


def test_what_only_looks_alike_is_counted_apart(tmp_path: Path) -> None:
    """A copy that was renamed and encoded again is told and changes no signature."""
    seen = Seen.of([SeenImage("1.jpg", *content_of(picture(1))[:2], trained=True, selected=False)])
    found = overlap(seen, [example("a.jpg", again(picture(1), tmp_path, 60)), example("b.jpg", picture(3))], {})
    assert (found.trained, found.alike) == ((), ("a.jpg",))
    sheet = ScoreSheet(signature="n:2", n=2, corpus={}, intervals={}, items={})
    marked = scoring.with_seen(sheet, found.fields())
    assert marked.signature == "n:2"
    assert scoring.seen_sentences(marked.extra[scoring.SEEN]) != []


def test_real_images_look_like_themselves_and_not_like_others(real_data: Path, tmp_path: Path) -> None:
    """Saved again as JPEG of quality 60 an image of risc-mini is within ALIKE bits of itself; other pairs are not."""
    images = [one.image.load() for one in open_source(real_data / "risc-mini", check="none").split("val")[:120]]
    own = [np.frombuffer(look(one), dtype=np.uint8) for one in images]
    for number, image in enumerate(images):
        copy = np.frombuffer(look(again(image, tmp_path, 60)), dtype=np.uint8)[None]
        others = np.stack([*own[:number], *own[number + 1 :]])
        assert nearest_look(copy, own[number][None])[0] <= ALIKE < nearest_look(copy, others)[0]


def test_nearest_look_is_the_least_hamming_distance() -> None:
    """The same as counting bits pair by pair, across the blocks it works in; 255 where there is nothing."""
    rng = np.random.default_rng(0)
    ours, theirs = (rng.integers(0, 256, (n, 8), dtype=np.uint8) for n in (7, 1030))
    slow = np.unpackbits(ours[:, None] ^ theirs[None], axis=2).sum(axis=2).min(axis=1)
    assert (nearest_look(ours, theirs) == slow).all()
    assert (nearest_look(ours, theirs[:0]) == 255).all()


def seen_of(n: int) -> Seen:
    rng = np.random.default_rng(n)
    names = [f"odd \\n\n name \\{k}" if k % 7 == 0 else f"NWPU_{k:05}.jpg" for k in range(n)]
    return Seen.of(SeenImage(name, rng.bytes(16), rng.bytes(8), k % 2 == 0, k % 3 == 0) for k, name in enumerate(names))


@pytest.mark.parametrize("n", [0, 1, 50])
def test_the_table_comes_back_as_it_was(n: int, tmp_path: Path) -> None:
    """Ids of any characters, digests and uses; the same table is the same bytes."""
    table = seen_of(n)
    for name in ("a.npz", "b.npz"):
        write_seen(tmp_path / name, table)
    assert list(read_seen(tmp_path / "a.npz")) == list(table)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_the_table_of_the_largest_data_set_is_small(tmp_path: Path) -> None:
    """44,521 images, as many as RISC has, are below 2 MB."""
    write_seen(tmp_path / "seen.npz", seen_of(44_521))
    assert (tmp_path / "seen.npz").stat().st_size < 2_000_000


@pytest.mark.parametrize("damage", ["cut", "text", "pickle", "later", "shape"])
def test_a_damaged_table_is_named(damage: str, tmp_path: Path) -> None:
    """It is refused with its name; nothing in it is executed."""
    path = tmp_path / "seen.npz"
    write_seen(path, seen_of(3))
    with np.load(path) as table:
        columns = dict(table)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-30])
    elif damage == "text":
        path.write_text("no table", encoding="utf-8")
    elif damage == "pickle":
        np.savez(path, **{**columns, "ids": np.array([{"an": "object"}], dtype=object)})
    elif damage == "later":
        np.savez(path, **{**columns, "version": np.array(2)})
    else:
        np.savez(path, **{**columns, "digests": columns["digests"][:2]})
    with pytest.raises(StoreError, match=r"seen\.npz"):
        read_seen(path)


def test_a_content_is_equal_for_equal_pixels() -> None:
    """And for no other size of the same bytes."""
    image = picture(5)
    assert content_of(image) == content_of(image.copy())
    assert content_of(image).digest != content_of(image.resize((48, 192))).digest


def test_official_training_images_are_found_under_seed42(real_data: Path) -> None:
    """The two split names of RISC overlap: 293 of the 438 test images of `seed42` are official training images."""
    official = open_source(real_data / "risc-mini", check="exists").split("train")
    test = open_source(real_data / "risc-mini", split_scheme="seed42", check="exists").split("test")
    seen = Seen.of(SeenImage(one.id, None, None, trained=True, selected=False) for one in official)
    assert (len(overlap(seen, test, {}).trained), len(test)) == (293, 438)
