"""A good run of rscap, the same run as another program would leave it, and prior work A's run with all its mistakes."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rscap.baselines import constant
from rscap.data import open_source
from rscap.doctor.snapshot import snapshot
from rscap.evaluation.outcome import score_predictions
from rscap.model.adapters import quiet_peft
from rscap.model.load import NANO
from rscap.recipe import Recipe, parse_recipe
from rscap.records import Example, Prediction
from rscap.scoring import degenerate, score_captions, write_sheet
from rscap.store import (
    RunFolder,
    read_json,
    read_jsonl,
    write_json,
    write_jsonl,
    write_predictions,
    write_references,
    write_text,
)
from rscap.training.session import train

PROMPT_OF_A = "Describe this remote sensing image."
TEST_PROMPT_OF_A = "What is in the picture?"
RATE_OF_A = 5e-4


def silent(*_: Any) -> None:
    """Neither progress nor messages."""


def small_recipe(**train_section: Any) -> Recipe:
    """Nano with adapters on 256 images of the sample: quick, and nothing to find."""
    return parse_recipe(
        {
            "seed": 1,
            "data": {"source": "sample", "train_limit": 256},
            "model": {"base": "nano", "dtype": "float32"},
            "adapter": {"rank": 8},
            "train": {"max_steps": 10, "micro_batch": 4, "learning_rate": 4e-3, **train_section},
            "generate": {"max_new_tokens": 32},
        }
    )


@pytest.fixture(scope="session")
def good_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of ten real steps, evaluated on all 192 test images of the sample.

    Ten steps teach nano no captions, so the captions are those of a model that does well: people's own.
    """
    recipe = small_recipe()
    run = train(recipe, tmp_path_factory.mktemp("runs") / "good", say=silent)
    source = open_source("sample")
    test, learned = source.split("test"), source.split("train")
    predictions = [
        Prediction(example_id=e.id, caption=e.captions[0], prefix=recipe.prompt.prefix, tokens=12, stopped="eos")
        for e in test
    ]
    write_predictions(run.predictions("test"), predictions)
    write_references(run.references("test"), test)
    sheet = score_predictions(predictions, test, train=learned, prefix=recipe.prompt.prefix, decode="greedy-32")
    write_sheet(run.scores("test"), sheet)
    sentences = constant(learned, test)
    beside = score_predictions(sentences, test, train=learned, prefix="", decode="baseline-constant")
    write_sheet(run.baseline("constant").scores("test"), beside)
    return run.path


@pytest.fixture(scope="session")
def good_foreign(good_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The good run as the Trainer and PEFT would leave it, with a snapshot of transformers' own first batch."""
    run, folder = RunFolder(good_run), tmp_path_factory.mktemp("runs") / "foreign"
    shutil.copytree(run.adapter, folder / "adapter")
    history = [row for row in read_jsonl(run.train_log) if row["event"] == "step"]
    write_json(
        folder / "checkpoint-10" / "trainer_state.json",
        {"global_step": 10, "max_steps": 10, "log_history": [*history, {"train_runtime": 9.0, "train_loss": 7.0}]},
    )
    write_jsonl(folder / "predictions.jsonl", read_jsonl(run.predictions("test")))
    references = {row["id"]: row["captions"] for row in read_jsonl(run.references("test"))}
    write_json(folder / "references.json", references)
    write_json(
        folder / "scores.json", {"n": len(references), "CIDEr": read_json(run.scores("test"))["corpus"]["CIDEr"]}
    )
    write_text(
        folder / "doctor.toml",
        '[model]\nbase = "nano"\ndtype = "float32"\n'
        '[towers]\nvision_tower = "frozen"\nprojector = "frozen"\nlanguage_model = "adapted"\n'
        '[prompt]\ntraining = ["caption en"]\ntest = ["caption en"]\n'
        '[data]\ntraining_images = 256\ncaptions_per_image = 5\ncaptions = "all"\n'
        "[train]\nlearning_rate = 4e-3\nmax_grad_norm = 1.0\n",
    )
    processor, net = plain_nano(r"model\.language_model\.layers\.\d+\.self_attn\.(q_proj|v_proj)")
    examples = open_source("sample").subset("train", 3, 1)
    snapshot(folder, net, right_batch(processor, examples), processor.tokenizer)
    return folder


def plain_nano(targets: str | list[str]) -> tuple[Any, Any]:
    """Nano with LoRA by transformers and PEFT alone, in float32."""
    from peft import LoraConfig, get_peft_model
    from transformers import PaliGemmaForConditionalGeneration, PaliGemmaProcessor

    processor = PaliGemmaProcessor.from_pretrained(NANO)
    model = PaliGemmaForConditionalGeneration.from_pretrained(NANO, dtype=torch.float32)
    with torch.random.fork_rng(), quiet_peft():
        torch.manual_seed(42)
        return processor, get_peft_model(model, LoraConfig(r=8, lora_alpha=32, target_modules=targets))


@pytest.fixture
def plain_start() -> tuple[Any, Any, dict[str, torch.Tensor]]:
    """Processor, model and first batch of a training script that is right."""
    processor, net = plain_nano(["q_proj"])
    return processor, net, right_batch(processor, open_source("sample").subset("train", 2, 1))


def right_batch(processor: Any, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
    """A training batch as the processor's documentation makes it: captions as suffixes of their own."""
    return processed(
        processor,
        text=["<image>caption en"] * len(examples),
        images=[example.image.load() for example in examples],
        suffix=[example.captions[0] for example in examples],
        padding="longest",
    )


def processed(processor: Any, **given: Any) -> dict[str, torch.Tensor]:
    """What a processor returns, as tensors; it is asked for lists, since its own conversion warns with new NumPy."""
    return {name: torch.from_numpy(np.array(value)) for name, value in processor(**given).items()}


def batch_of_a(processor: Any, example: Example) -> dict[str, torch.Tensor]:
    """A's training batch: prompt and caption as one text, labels = input_ids, no token types, no <eos>."""
    made = processed(processor, text=[f"<image>{PROMPT_OF_A} {example.captions[0]}"], images=[example.image.load()])
    kept = {name: made[name] for name in ("input_ids", "attention_mask", "pixel_values")}
    return {**kept, "labels": made["input_ids"].clone()}


@pytest.fixture(scope="session")
def prior_work_a(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prior work A's run, rebuilt with its mistakes: really trained, asked and scored the wrong way."""
    folder = tmp_path_factory.mktemp("runs") / "prior-work-a"
    source = open_source("sample")
    examples, test = source.subset("train", 100, 42), source.subset("test", 10, 42)
    processor, net = plain_nano(["q_proj", "v_proj"])  # a bare list: the vision tower's attention, too
    snapshot(folder, net, batch_of_a(processor, examples[0]), processor.tokenizer)
    write_log(folder / "log.csv", train_as_a(processor, net, examples))
    net.save_pretrained(folder / "adapter")
    ask_and_score_as_a(folder, processor, net, test)
    write_text(
        folder / "doctor.toml",
        '[model]\nbase = "nano"\ndtype = "float16"\n'
        '[towers]\nvision_tower = "frozen"\n'
        f'[prompt]\ntraining = ["{PROMPT_OF_A}"]\n'
        '[data]\ntraining_images = 100\ncaptions_per_image = 5\ncaptions = "first"\n'
        f"[train]\nlearning_rate = {RATE_OF_A}\nmax_grad_norm = 1.0\n",
    )
    return folder


def train_as_a(processor: Any, net: Any, examples: Sequence[Example]) -> Iterator[dict[str, float]]:
    """AdamW from 5e-4 down to 0, micro batches of 1, four of them an update (A had eight)."""
    learning = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(learning, lr=RATE_OF_A)
    net.train()
    for step in range(10):
        total = 0.0
        for example in examples[4 * step : 4 * step + 4]:
            loss = net(**batch_of_a(processor, example)).loss / 4
            loss.backward()
            total += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(learning, 1.0).item()
        (group,) = optimiser.param_groups
        group["lr"] = RATE_OF_A * (1 - step / 10)
        optimiser.step()
        optimiser.zero_grad()
        yield {"step": step + 1, "loss": total, "learning_rate": group["lr"], "grad_norm": norm}


def write_log(path: Path, rows: Iterator[dict[str, float]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, ["step", "loss", "learning_rate", "grad_norm"])
        writer.writeheader()
        writer.writerows(rows)


def ask_and_score_as_a(folder: Path, processor: Any, net: Any, test: Sequence[Example]) -> None:
    """Ask in other words than in training, skip what repeats itself, score the rest against one reference.

    Nano speaks too well after ten steps to loop, so two of its captions give way to two that A's report quotes.
    """
    net.eval()
    captions = {example.id: say_as_a(processor, net, example) for example in test}
    captions |= zip(list(captions)[:2], ("caption caption caption", "package package package package"), strict=True)
    write_jsonl(
        folder / "predictions.jsonl",
        ({"id": name, "caption": caption, "prefix": TEST_PROMPT_OF_A} for name, caption in captions.items()),
    )
    references = {example.id: [example.captions[0]] for example in test}
    write_json(folder / "references.json", references)
    kept = {name: caption for name, caption in captions.items() if not degenerate(caption, PROMPT_OF_A)}
    sheet = score_captions(kept, {name: references[name] for name in kept}, protocol="sentence", draws=0)
    write_json(folder / "scores.json", {"n": sheet.n, "ids": sorted(kept), **sheet.corpus})


def say_as_a(processor: Any, net: Any, example: Example) -> str:
    """A caption decoded greedily without token types, 50 new tokens at most."""
    expected = processed(processor, text=[f"<image>{TEST_PROMPT_OF_A}"], images=[example.image.load()])
    given = {name: expected[name] for name in ("input_ids", "attention_mask", "pixel_values")}
    with torch.no_grad():
        ids = net.generate(**given, max_new_tokens=50, do_sample=False)
    return str(processor.tokenizer.decode(ids[0][given["input_ids"].shape[1] :], skip_special_tokens=True))


@pytest.fixture
def run(good_run: Path, tmp_path: Path) -> Path:
    """A copy of the good run, to plant a mistake in."""
    return Path(shutil.copytree(good_run, tmp_path / "run"))


@pytest.fixture
def foreign(good_foreign: Path, tmp_path: Path) -> Path:
    """A copy of the good foreign run, to plant a mistake in."""
    return Path(shutil.copytree(good_foreign, tmp_path / "foreign"))
