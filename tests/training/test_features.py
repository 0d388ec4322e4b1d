"""Cached vision features: what is learned from them is what is learned from pixels, and nothing stale is ever read."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from recipes import small_recipe
from rscap.captioner.batch import Encoder, PackedRow, collate
from rscap.captioner.loader import batches
from rscap.data import open_source
from rscap.data.images import FileImage
from rscap.errors import RecipeError, StoreError
from rscap.model.adapters import prepare
from rscap.model.features import FeatureCache
from rscap.model.load import load_base
from rscap.model.packed import PackedModel
from rscap.recipe import Recipe
from rscap.records import Example
from rscap.store import RunFolder, read_json, read_jsonl, write_json
from rscap.training import features as building
from rscap.training.features import cached_encoder, features_folder
from rscap.training.session import train
from rscap.training.team import Team

CPU = Team(torch.device("cpu"))


def recipe(**changes: Any) -> Recipe:
    """Two steps of nano on eight images of the sample, features cached."""
    train = {"max_steps": 2, "micro_batch": 4, "cache_features": True}
    return small_recipe({"seed": 0, "data": {"train_limit": 8}, "train": train}, changes)


def ready(made: Recipe) -> tuple[PackedModel, Encoder]:
    base = load_base(made.model)
    net = prepare(base.model, made.towers, made.adapter, seed=0, model=made.model)
    return PackedModel(net, compute_dtype=base.compute_dtype), Encoder.of(base)


def images(folder: Path, count: int) -> list[Example]:
    """Images of the sample as files, three captions each."""
    folder.mkdir(exist_ok=True)
    found = []
    for number, example in enumerate(open_source("sample").subset("train", count, 3)):
        path = folder / f"{number}.png"
        if not path.exists():
            example.image.load().save(path)
        found.append(
            Example(id=f"i{number}", captions=example.captions[:3], image=FileImage(path), split="train", source="x")
        )
    return found


def cached(packed: PackedModel, encoder: Encoder, examples: Sequence[Example], folder: Path) -> Encoder:
    return cached_encoder(packed, encoder, examples, folder=folder, team=CPU, workers=0, say=lambda _: None)


def encoded(encoder: Encoder, examples: Sequence[Example]) -> list[PackedRow]:
    return [encoder(example, prefix="caption en", captions=example.captions) for example in examples]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("projector", ["frozen", "trained"])
@pytest.mark.parametrize("name", ["nano", "smolnano", "smolnano, split"])
def test_cached_is_live_bit_for_bit(name: str, dtype: str, projector: str, smolnano: Path, tmp_path: Path) -> None:
    """Loss and every gradient from the cache equal those from pixels exactly, in either precision, with the projector
    frozen or learning (the cache stands before it)."""
    base = "nano" if name == "nano" else str(smolnano)
    split = {"image_splitting": True} if "split" in name else {}
    model = {"base": base, "dtype": dtype, **split}
    made = recipe(model=model, towers={"projector": projector})
    packed, encoder = ready(made)
    examples = images(tmp_path / "images", 3)
    gradients, losses = [], []
    for one in (encoder, cached(packed, encoder, examples, tmp_path / "cache")):
        batch = collate(encoded(one, examples), pad=encoder.prompter.pad)
        assert (batch.features is None) == (one is encoder)
        assert (batch.pixel_values.numel() == 0) == (one is not encoder)
        packed.zero_grad()
        loss = packed(batch)
        loss.backward()
        losses.append(loss.item())
        gradients.append({name: p.grad.clone() for name, p in packed.named_parameters() if p.grad is not None})
    assert losses[0] == losses[1]
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])
    path = packed.family.modules["projector"][0]
    assert any(path in name for name in gradients[0]) == (projector == "trained")


def test_a_run_from_the_cache_is_a_run_from_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole runs: losses, the panel's captions and the adapter agree to rounding; a second run finds all features there
    and never calls the tower for training images; both keep their features beside the run folders, out of sight."""
    changes = {"evaluate_every": 2, "evaluate_images": 2}
    live = train(recipe(train={"cache_features": False, **changes}), tmp_path / "runs" / "live", say=lambda _: None)
    first = train(recipe(train=changes), tmp_path / "runs" / "first", say=lambda _: None)
    assert features_folder(first.path, None) == tmp_path / "runs" / ".features"

    def unseen(*_: Any) -> None:
        raise AssertionError("the vision tower was called")

    monkeypatch.setattr(PackedModel, "seen", unseen)
    second = train(recipe(train=changes), tmp_path / "runs" / "second", say=lambda _: None)

    def logged(run: RunFolder) -> list[dict[str, Any]]:
        return read_jsonl(run.train_log)

    assert logged(first) == logged(second)
    for ours, theirs in zip(logged(first), logged(live), strict=True):
        assert ours["event"] == theirs["event"]
        if ours["event"] == "step":
            assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
            assert ours["supervised_tokens"] == theirs["supervised_tokens"]
        else:
            assert ours["metrics"] == pytest.approx(theirs["metrics"], rel=1e-3, abs=1e-6)
    one, other = (load_file(run.adapter / "adapter_model.safetensors") for run in (first, live))
    for name, value in one.items():
        assert (other[name] - value).abs().mean() < 1e-5


def test_an_interrupted_build_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was computed before an interruption stays; the next build computes the rest, and the rows are those of a
    build in one go, though the interruption left half a row behind."""
    packed, encoder = ready(recipe())
    examples = images(tmp_path / "images", 5)
    monkeypatch.setattr(building, "_BATCH", 2)
    whole = cached(packed, encoder, examples, tmp_path / "whole")
    seen, counted = PackedModel.seen, []

    def breaks(self: PackedModel, pixel_values: torch.Tensor) -> torch.Tensor:
        if sum(counted) >= 2:
            raise KeyboardInterrupt
        counted.append(len(pixel_values))
        return seen(self, pixel_values)

    monkeypatch.setattr(PackedModel, "seen", breaks)
    with pytest.raises(KeyboardInterrupt):
        cached(packed, encoder, examples, tmp_path / "cut")
    (rows,) = (tmp_path / "cut").glob("*/features.bin")
    with rows.open("ab") as stream:
        stream.write(b"half a row")
    monkeypatch.setattr(PackedModel, "seen", lambda self, pixels: (counted.append(len(pixels)), seen(self, pixels))[1])
    resumed = cached(packed, encoder, examples, tmp_path / "cut")
    assert sum(counted) == len(examples)
    assert whole.features is not None
    assert resumed.features is not None
    for example in examples:
        torch.testing.assert_close(resumed.features(example.id), whole.features(example.id), rtol=1e-5, atol=1e-5)


def test_only_what_changed_is_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows belong to pictures: a new caption, name or order of the examples costs nothing, a picture seen twice is one
    row, another picture under an old name is a new row, and other weights are another cache."""
    packed, encoder = ready(recipe())
    examples = images(tmp_path / "images", 3)
    cached(packed, encoder, examples, tmp_path / "cache")
    seen, counted = PackedModel.seen, []
    monkeypatch.setattr(PackedModel, "seen", lambda self, pixels: (counted.append(len(pixels)), seen(self, pixels))[1])

    renamed = [Example(id=f"new{i}", captions=("other",), image=e.image, split="val", source="y")
               for i, e in enumerate(reversed(examples))]  # fmt: skip
    again = cached(packed, encoder, [*renamed, *examples], tmp_path / "cache")
    assert counted == []
    assert again.features is not None
    assert torch.equal(again.features("new0"), again.features("i2"))

    shutil.copy(examples[1].image.name, examples[0].image.name)
    changed = cached(packed, encoder, examples, tmp_path / "cache")
    assert counted == []  # that picture is known
    assert changed.features is not None
    assert torch.equal(changed.features("i0"), changed.features("i1"))
    open_source("sample").subset("train", 9, 3)[8].image.load().save(examples[0].image.name)
    cached(packed, encoder, examples, tmp_path / "cache")
    assert counted == [1]

    with torch.no_grad():
        next(packed.bare.model.vision_tower.parameters()).add_(1e-3)
    cached(packed, encoder, examples, tmp_path / "cache")
    assert counted == [1, 3]
    assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 2


def test_a_damaged_cache_is_noticed(tmp_path: Path) -> None:
    """A flipped bit, lost rows and an index of something else are errors that say what to do, not features."""
    packed, encoder = ready(recipe())
    examples = images(tmp_path / "images", 2)
    with_features = cached(packed, encoder, examples, tmp_path / "cache")
    (rows,), (index,) = (list((tmp_path / "cache").glob(f"*/{name}")) for name in ("features.bin", "index.json"))
    data = bytearray(rows.read_bytes())
    data[-5] ^= 1
    rows.write_bytes(data)
    fresh = pickle.loads(pickle.dumps(with_features.features))
    assert torch.isfinite(fresh("i0")).all()
    with pytest.raises(StoreError, match="row 1, of i1, is damaged"):
        fresh("i1")
    with pytest.raises(StoreError, match="has no features of stranger"):
        fresh("stranger")
    rows.write_bytes(data[:-1])
    with pytest.raises(StoreError, match=r"2 rows of .* are expected"):
        cached(packed, encoder, examples, tmp_path / "cache")
    write_json(index, {**read_json(index), "width": 7})
    with pytest.raises(StoreError, match="'width' does not match its folder"):
        cached(packed, encoder, examples, tmp_path / "cache")


def test_a_full_disk_is_noticed_before_a_byte_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size is known from the shapes: what does not fit is refused with both numbers; what fits is announced."""
    packed, encoder = ready(recipe())
    examples = images(tmp_path / "images", 2)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100_000))
    with pytest.raises(StoreError, match=r"2 images take 0\.0 GiB, and .* has 0\.0 GiB free"):
        cached(packed, encoder, examples, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*/features.bin"))
    monkeypatch.undo()
    said: list[str] = []
    cached_encoder(packed, encoder, examples, folder=tmp_path / "cache", team=CPU, workers=0, say=said.append)
    (rows,) = (tmp_path / "cache").glob("*/features.bin")
    assert rows.stat().st_size == 2 * 64 * 192 * 4
    assert said == [f"computing vision features of 2 images once: 0.00 GiB in {rows.parent}"]


def test_an_unreadable_image_is_told_with_its_reason(tmp_path: Path) -> None:
    """An image that cannot be decoded has no row; the encoder says why, as it does without a cache."""
    packed, encoder = ready(recipe())
    examples = images(tmp_path / "images", 3)
    Path(examples[1].image.name).write_bytes(b"not an image")
    with_features = cached(packed, encoder, examples, tmp_path / "cache")
    found, plain = (
        list(batches(examples, partial(one, prefix="x", captions=("a", "b")), size=3, pad=encoder.prompter.pad))
        for one in (with_features, encoder)
    )
    assert found[0].example_ids == ("i0", "i2")
    assert [item.row for item in found[0].rejected] == ["i1"]
    assert found[0].rejected == plain[0].rejected


def test_a_change_of_the_image_is_not_lost_in_silence(tmp_path: Path) -> None:
    """An encoder that reads features refuses to augment, whatever the recipe said."""
    packed, encoder = ready(recipe())
    examples = images(tmp_path / "images", 1)
    with_features = cached(packed, encoder, examples, tmp_path / "cache")
    with pytest.raises(ValueError, match="would be lost"):
        with_features(examples[0], prefix="x", captions=(), change=lambda image: image)


def test_a_cached_batch_can_be_cut_and_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory runs out, features are cut with their rows: the losses of the halves add up. Pinning changes where
    tensors lie, all of them, and nothing else."""
    packed, encoder = ready(recipe())
    examples = images(tmp_path / "images", 3)
    batch = collate(encoded(cached(packed, encoder, examples, tmp_path / "cache"), examples), pad=encoder.prompter.pad)
    halves = batch.halves()
    assert [half.example_ids for half in halves] == [("i0",), ("i1", "i2")]
    with torch.no_grad():
        parts = sum(packed(half).item() for half in halves)
        assert parts == pytest.approx(packed(batch).item(), rel=1e-5)

    pinned: list[int] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: (pinned.append(self.data_ptr()), self.clone())[1])
    there = batch.pin_memory()
    assert len(pinned) == sum(torch.is_tensor(getattr(batch, field.name)) for field in fields(batch)) == 10
    assert there.example_ids == batch.example_ids
    assert torch.equal(there.tokens, batch.tokens)
    assert there.tokens is not batch.tokens


def test_data_workers_read_the_memory_map(tmp_path: Path) -> None:
    """A worker process encodes the rows that this process encodes; the encoder travels without the map."""
    packed, encoder = ready(recipe())
    examples = images(tmp_path / "images", 4)
    with_features = cached(packed, encoder, examples, tmp_path / "cache")
    assert with_features.features is not None
    with_features.features("i0")
    assert len(pickle.dumps(with_features.features)) < 10_000
    encode = partial(with_features, prefix="caption en", captions=("a b", "c"))
    here, there = (
        list(batches(examples, encode, size=2, pad=encoder.prompter.pad, workers=workers)) for workers in (0, 1)
    )
    for ours, theirs in zip(here, there, strict=True):
        assert ours.example_ids == theirs.example_ids
        assert ours.features is not None
        assert theirs.features is not None
        assert torch.equal(ours.features, theirs.features)
        assert torch.equal(ours.tokens, theirs.tokens)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"augment": "turns"}}, "augment = 'turns' changes it in every epoch"),
        ({"towers": {"vision_tower": "adapted"}}, "needs a frozen vision tower; here it is 'adapted'"),
    ],
)
def test_what_cannot_be_cached_is_refused(changes: dict[str, Any], message: str) -> None:
    """Augmented images and a tower that learns have no features that stay; the recipe is refused before anything."""
    with pytest.raises(RecipeError, match=message):
        recipe(**changes)


def test_the_index_names_all_that_features_depend_on(tmp_path: Path) -> None:
    """Weights, their configuration, preprocessing, precision, device and library versions stand in the index."""
    packed, encoder = ready(recipe())
    cached(packed, encoder, images(tmp_path / "images", 1), tmp_path / "cache")
    (index,) = (tmp_path / "cache").glob("*/index.json")
    held = json.loads(index.read_text(encoding="utf-8"))
    assert set(held["depends_on"]) == {"tower", "config", "image", "device", "rscap", "torch", "transformers"}
    assert (held["dtype"], held["tokens"], held["width"], len(held["rows"])) == ("float32", 64, 192, 1)
    spec = building.feature_spec(packed, encoder.image)
    assert index.parent.name == spec.key
    assert FeatureCache.open(tmp_path / "cache", spec).checksums.keys() == {held["rows"][0][0]}
