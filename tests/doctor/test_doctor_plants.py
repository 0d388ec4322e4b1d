"""Every kind of finding is planted alone in an otherwise good run: it is found there, and nothing else is."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from rscap.doctor import KINDS, diagnose
from rscap.doctor.checks import CHECKS
from rscap.doctor.checks.loss import uniform_guess
from rscap.doctor.evidence import Evidence, Expected, FirstLosses
from rscap.store import read_json, read_jsonl, write_json, write_jsonl

Plant = Callable[[Path], object]
Rows = list[dict[str, Any]]


def edit_json(name: str, change: Callable[[dict[str, Any]], object]) -> Plant:
    """Change a JSON object in place."""

    def plant(folder: Path) -> None:
        value = read_json(folder / name)
        change(value)
        write_json(folder / name, value)

    return plant


def edit_lines(name: str, change: Callable[[Rows], Rows | None]) -> Plant:
    """Change the rows of a JSON Lines file; NaN is written as other programs write it."""

    def plant(folder: Path) -> None:
        rows = read_jsonl(folder / name)
        rows = change(rows) or rows
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    return plant


def edit_text(name: str, old: str, new: str) -> Plant:
    """Replace text that must be there."""

    def plant(folder: Path) -> None:
        text = (folder / name).read_text(encoding="utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1), encoding="utf-8")

    return plant


def losses(values: list[float], norms: list[float] | None = None) -> Plant:
    """Give train.jsonl other losses, and other gradient norms."""

    def change(rows: Rows) -> None:
        for place, row in enumerate(rows):
            row["loss"] = values[place]
            row["grad_norm"] = (norms or [0.5] * len(values))[place]

    return edit_lines("train.jsonl", change)


def captions(text: str, count: int, **values: Any) -> Plant:
    """Give some of the predictions another caption, or other values."""

    def change(rows: Rows) -> None:
        for row in rows[:count]:
            row.update({"caption": text} if text else {}, **values)

    return edit_lines("predictions/test.jsonl", change)


def edit_adapter(change: Callable[[dict[str, torch.Tensor]], object]) -> Plant:
    """Change the tensors of the adapter."""

    def plant(folder: Path) -> None:
        file = folder / "adapter" / "adapter_model.safetensors"
        tensors = load_file(file)
        change(tensors)
        save_file(tensors, file)

    return plant


def vision_keys(tensors: dict[str, torch.Tensor]) -> None:
    """The key that a bare q_proj also makes."""
    name = "base_model.model.model.vision_tower.encoder.layers.0.self_attn.q_proj.lora_"
    tensors |= {f"{name}A.weight": torch.ones(8, 192), f"{name}B.weight": torch.ones(192, 8)}


def zero_b(tensors: dict[str, torch.Tensor]) -> None:
    """B matrices as they begin."""
    for name, tensor in tensors.items():
        if ".lora_B." in name:
            tensor.zero_()


def spoil_one(tensors: dict[str, torch.Tensor]) -> None:
    """One NaN."""
    next(iter(tensors.values()))[0, 0] = math.nan


def other_ids(sheet: dict[str, Any]) -> None:
    """A sheet whose first image has another id."""
    items = sheet["items"]
    items["another image"] = items.pop(next(iter(items)))


def fewer(count: int) -> Plant:
    """Only the first images of everything, scores included."""

    def plant(folder: Path) -> None:
        edit_lines("predictions/test.jsonl", lambda rows: rows[:count])(folder)
        kept = {row["id"] for row in read_jsonl(folder / "predictions/test.jsonl")}
        edit_lines("references/test.jsonl", lambda rows: [row for row in rows if row["id"] in kept])(folder)

        def shorten(sheet: dict[str, Any]) -> None:
            sheet["items"] = {name: row for name, row in sheet["items"].items() if name in kept}
            sheet["n"] = count

        edit_json("scores/test.json", shorten)(folder)
        edit_json("baselines/constant/scores/test.json", shorten)(folder)

    return plant


def one_reference(rows: Rows) -> None:
    """References of one caption each."""
    for row in rows:
        row["captions"] = row["captions"][:1]


def set_metric(metric: float) -> Callable[[dict[str, Any]], object]:
    return lambda sheet: sheet["corpus"].update(CIDEr=metric)


def shuffled_as_good(sheet: dict[str, Any]) -> None:
    """As if the captions scored the same on other images."""
    sheet["diagnostics"]["shuffled"]["CIDEr"] = 0.95 * sheet["corpus"]["CIDEr"]


def evaluated(*found: tuple[float, float]) -> Plant:
    """Evaluations with these validation losses and CIDEr, behind the updates of the log."""
    rows = [
        {"event": "evaluation", "step": step, "split": "val", "n": 64, "loss": loss, "metrics": {"CIDEr": score}}
        for step, (loss, score) in enumerate(found, 1)
    ]
    return edit_lines("train.jsonl", lambda updates: [*updates, *rows])


FALLING = [4.0 - 0.1 * step for step in range(10)]


def rewarded(drawn: list[float], first: dict[str, float], last: dict[str, float]) -> Plant:
    """Rewards of the updates in the log, and two evaluations with what they watched."""

    def change(updates: Rows) -> Rows:
        for row, reward in zip(updates, drawn, strict=True):
            row.update(reward=reward, loss=0.0)
        sound = {"CIDEr": 0.5, "reward": 0.5, "bad_endings": 0.01, "reference_bad_endings": 0.02}
        rows = [
            {"event": "evaluation", "step": step, "split": "val", "n": 64, "loss": 2.0}
            | {"metrics": {"CIDEr": found.pop("CIDEr")}, "watch": found}
            for step, found in (
                (5, {**sound, "distinct_captions": 0.6} | first),
                (10, {**sound, "distinct_captions": 0.6} | last),
            )
        ]
        return [*updates[:5], rows[0], *updates[5:], rows[1]]

    return edit_lines("train.jsonl", change)


RISING = [0.3 + 0.02 * step for step in range(10)]

PLANTS: list[tuple[str, Plant]] = [
    ("uniform-loss", losses([9.5, 9.4, 9.3, 9.0, 8.9, 8.8, 8.6, 8.3, 8.2, 8.2])),
    ("zero-loss", losses([1e-5 / (step + 1) for step in range(10)])),
    ("loss-not-finite", losses([*FALLING[:6], math.nan, *FALLING[7:]])),
    ("loss-not-finite", losses(FALLING, [0.5, 0.5, 0.5, 0.5, math.inf, math.nan, 0.5, 0.5, 0.5, 0.5])),
    ("loss-rises", losses([2.0 + 0.1 * step for step in range(10)])),
    ("loss-flat", losses([3.0, 3.1, 2.9, 3.0, 3.1, 2.9, 3.0, 3.1, 2.9, 3.0])),
    ("past-its-best", evaluated((2.0, 0.5), (1.5, 0.9), (1.6, 0.8))),
    ("captions-break-off", rewarded(RISING, {}, {"bad_endings": 0.3})),
    ("captions-alike", rewarded(RISING, {}, {"distinct_captions": 0.2})),
    ("reward-falls", rewarded(RISING[::-1], {}, {})),
    ("reward-falls", rewarded(RISING, {}, {"CIDEr": 0.3})),
    ("images-by-heart", rewarded([1.0 + 0.01 * step for step in range(10)], {}, {})),
    ("always-clipped", losses([3.0 - 0.02 * step for step in range(10)], [5.0 + step for step in range(10)])),
    ("frozen-tower-learns", edit_adapter(vision_keys)),
    ("frozen-tower-learns", edit_json("parameters.json", lambda own: own["projector"].update(trainable=1))),
    ("tower-does-not-learn", edit_text("recipe.toml", 'projector = "frozen"', 'projector = "trained"')),
    (
        "target-unmatched",
        edit_json("adapter/adapter_config.json", lambda own: own.update(target_modules=["q_proj", "v_porj"])),
    ),
    ("adapter-untouched", edit_adapter(zero_b)),
    ("adapter-not-finite", edit_adapter(spoil_one)),
    ("method-not-as-asked", edit_json("adapter/adapter_config.json", lambda own: own.update(r=16))),
    ("method-not-as-asked", edit_json("adapter/adapter_config.json", lambda own: own.update(use_rslora=True))),
    ("prompt-differs", captions("", 192, prefix="describe the picture")),
    ("prompt-differs", edit_text("recipe.toml", "training_prefixes = []", 'training_prefixes = ["what is there"]')),
    ("few-training-images", edit_text("recipe.toml", "train_limit = 256", "train_limit = 100")),
    ("captions-unused", edit_text("recipe.toml", 'captions = "all"', 'captions = "first"')),
    ("captions-joined", edit_text("recipe.toml", 'captions = "all"', 'captions = "concat"')),
    (
        "many-rejected",
        lambda folder: write_jsonl(folder / "rejected.jsonl", ({"row": str(n), "reason": "torn"} for n in range(9))),
    ),
    ("seen-images", edit_json("scores/test.json", lambda sheet: sheet.update(seen={"of": 192, "trained": 3}))),
    ("few-test-images", fewer(60)),
    ("single-reference", edit_lines("references/test.jsonl", one_reference)),
    ("unscored", edit_lines("references/test.jsonl", lambda rows: [*rows, *({**rows[0], "id": n} for n in "abc")])),
    ("subset-differs", edit_json("baselines/constant/scores/test.json", other_ids)),
    ("captions-loop", captions("a plane and a plane and a plane and a plane and a plane", 8)),
    ("prompt-echoed", captions("caption en a plane", 8)),
    ("no-caption", captions("", 8, caption="")),
    ("no-caption", captions("<loc0012><loc0500> <loc0700>", 8)),
    ("one-caption", captions("There is a road .", 100)),
    ("captions-cut", captions("", 20, stopped="length")),
    ("image-ignored", edit_json("scores/test.json", shuffled_as_good)),
    ("no-better-than-constant", edit_json("baselines/constant/scores/test.json", set_metric(99.0))),
    ("not-finished", edit_json("status.json", lambda own: own.update(state="interrupted", error="SIGTERM"))),
    ("result-missing", lambda folder: shutil.rmtree(folder / "adapter")),
    ("unreadable", lambda folder: (folder / "parameters.json").write_text("{", encoding="utf-8")),
    ("unreadable", lambda folder: (folder / "adapter/adapter_model.safetensors").write_bytes(b"torn")),
]


@pytest.mark.parametrize("pretrained", [True, False])
def test_a_base_with_random_weights_may_begin_with_a_guess(pretrained: bool, tmp_path: Path) -> None:
    """A first loss of ln V is a mistake, unless the recipe says that the base has learned nothing."""
    first = FirstLosses(where="first batch", mean=math.log(100), spread=0.1, tokens=50)
    evidence = Evidence(path=tmp_path, expected=Expected(pretrained=pretrained), vocabulary=100, first_losses=first)
    assert [finding.code for finding in uniform_guess(evidence)] == ["uniform-loss"] * pretrained


@pytest.mark.parametrize(
    "found",
    [
        ((2.0, 0.5), (1.5, 0.9), (1.52, 0.8)),  # within the noise of a panel
        ((2.0, 0.5), (1.5, 0.7), (1.7, 0.9)),  # less certain of the words, and better captions
        ((1.5, 0.9), (1.7, 0.8)),  # two points are no course
    ],
)
def test_evaluations_that_are_no_mistake(found: tuple[tuple[float, float], ...], run: Path) -> None:
    """A validation loss that hardly rises, or rises while captions get better, is nobody's fault."""
    evaluated(*found)(run)
    assert not diagnose(run, live=False).findings


def test_a_run_that_keeps_its_best_is_not_past_it(run: Path) -> None:
    """With [selection] the weights of the best evaluation are kept, wherever the run went afterwards."""
    evaluated((2.0, 0.5), (1.5, 0.9), (1.9, 0.3))(run)
    edit_text("recipe.toml", "[train]\n", "[train]\nevaluate_every = 1\n")(run)
    with (run / "recipe.toml").open("a", encoding="utf-8") as stream:
        stream.write('\n[selection]\nmetric = "CIDEr"\n')
    assert not diagnose(run, live=False).findings


@pytest.mark.parametrize(("code", "plant"), PLANTS, ids=[f"{n}-{code}" for n, (code, _) in enumerate(PLANTS)])
def test_a_planted_mistake_is_found_alone(code: str, plant: Plant, run: Path) -> None:
    """One mistake in the files of a good run of rscap is one kind of finding."""
    plant(run)
    assert {finding.code for finding in diagnose(run, live=False).findings} == {code}


def edit_batch(change: Callable[[dict[str, torch.Tensor]], object]) -> Plant:
    """Change the tensors of the saved batch."""

    def plant(folder: Path) -> None:
        tensors = load_file(folder / "batch.safetensors")
        change(tensors)
        save_file(tensors, folder / "batch.safetensors")

    return plant


IMAGE, BOS, EOS = 2943, 2, 1


def label(where: Callable[[dict[str, torch.Tensor]], torch.Tensor], value: int | None = None) -> Plant:
    """Give labels to tokens that have none, their own ids or `value`."""

    def change(batch: dict[str, torch.Tensor]) -> None:
        there = where(batch)
        assert there.any()
        batch["labels"][there] = batch["input_ids"][there] if value is None else value

    return edit_batch(change)


def of_prompt(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    ids = batch["input_ids"]
    return (batch["token_type_ids"] == 0) & (batch["attention_mask"] == 1) & (ids != IMAGE)


FOREIGN_PLANTS: list[tuple[str, Plant]] = [
    ("image-targets", label(lambda batch: batch["input_ids"] == IMAGE)),
    ("prompt-targets", label(of_prompt)),
    ("padding-targets", label(lambda batch: batch["attention_mask"] == 0)),
    ("no-targets", edit_batch(lambda batch: batch["labels"][0].fill_(-100))),
    ("no-eos", label(lambda batch: batch["labels"] == EOS, -100)),
    ("many-eos", edit_batch(lambda batch: batch["labels"][:, -2].fill_(EOS))),
    ("answer-visible", edit_batch(lambda batch: batch.pop("token_type_ids"))),
    ("answer-visible", edit_batch(lambda batch: batch["token_type_ids"].zero_())),
    ("answer-visible", edit_json("model.json", lambda own: own.update(future_seen=80))),
    ("prefix-causal", edit_json("model.json", lambda own: own.update(prefix_reach=0))),
    ("uniform-loss", edit_json("model.json", lambda own: own.update(first_loss=8.4, first_loss_spread=0.2))),
    ("zero-loss", edit_json("model.json", lambda own: own.update(first_loss=1e-6))),
    ("frozen-tower-learns", edit_json("model.json", lambda own: own["trainable"].update(vision_tower=24_576))),
    ("dtype-not-as-asked", edit_text("doctor.toml", 'dtype = "float32"', 'dtype = "bfloat16"')),
    (
        "dtype-not-as-asked",
        edit_text("doctor.toml", 'dtype = "float32"', 'dtype = "float32"\nquantisation = "nf4"'),
    ),
    ("method-not-as-asked", edit_text("doctor.toml", "[prompt]", "[adapter]\nrank = 32\n[prompt]")),
    ("prompt-differs", edit_text("doctor.toml", 'test = ["caption en"]', 'test = ["describe"]')),
    ("few-training-images", edit_text("doctor.toml", "training_images = 256", "training_images = 100")),
    ("captions-unused", edit_text("doctor.toml", 'captions = "all"', 'captions = "longest"')),
    ("unscored", edit_json("scores.json", lambda own: own.update(n=180))),
    ("subset-differs", lambda folder: write_json(folder / "predictions" / "other.json", {"a": "a plane"})),
    ("not-finished", edit_json("checkpoint-10/trainer_state.json", lambda own: own.update(max_steps=400))),
    ("unreadable", lambda folder: (folder / "doctor.toml").write_text("[model]\nprecision = 3", encoding="utf-8")),
    ("unreadable", edit_json("model.json", lambda own: own.update(surprise=1))),
]


@pytest.mark.parametrize(
    ("code", "plant"), FOREIGN_PLANTS, ids=[f"{n}-{code}" for n, (code, _) in enumerate(FOREIGN_PLANTS)]
)
def test_a_mistake_planted_in_a_foreign_run_is_found(code: str, plant: Plant, foreign: Path) -> None:
    """The same for a run of transformers and PEFT, seen through its files and a snapshot of its first batch."""
    plant(foreign)
    found = {finding.code for finding in diagnose(foreign).findings}
    also = {"subset-differs": {"unscored", "few-test-images"}}.get(code, set())  # the other file's own
    assert code in found
    assert found - {code} <= also


LIVE = {
    "image-split",
    "special-tokens",
    "weights-unfit",
    "nothing-learned",
    "rate-too-high",
    "rate-too-low",
    "cannot-start",
}


def test_every_kind_is_planted_and_every_check_is_in_the_table() -> None:
    """The catalogue, the codes of the checks, and the plants of these tests are the same set."""
    planted = {code for code, _ in [*PLANTS, *FOREIGN_PLANTS]}
    assert planted | LIVE == set(KINDS)
    of_checks = {code for check in CHECKS for code in check.codes}
    assert of_checks | {"unreadable", "cannot-start"} == set(KINDS)
