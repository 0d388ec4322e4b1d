"""Pretrain the built-in nano model from nothing: `python tools/nano/pretrain.py OUT` (about 25 minutes on two cores).

The corpus is rendered by `corpus.py`, disjoint from the built-in sample in scene classes, sentences and seeds; words
without a picture are learned by `reading.py`. The training loop is rscap's own. The result is an ordinary transformers
folder, weights in bfloat16, with a digest.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from corpus import corpus_examples
from PIL.Image import Image, fromarray
from reading import READING, reading_examples
from tokenizer import VOCABULARY, build_processor
from transformers import PaliGemmaForConditionalGeneration
from words import TRAINING_WORDS

from rscap.captioner.batch import Encoder, Row
from rscap.captioner.prompt import Prompter
from rscap.model.adapters import prepare
from rscap.model.families import ImageSpec
from rscap.model.families.paligemma import PaliGemmaLayout, paligemma_config
from rscap.model.packed import PackedModel
from rscap.recipe import Recipe, parse_recipe
from rscap.records import Example, ImageHeader
from rscap.sample import sample_examples
from rscap.training.log import TrainLog
from rscap.training.loop import Learner, fit
from rscap.training.team import Team
from rscap.training.updates import Schedule

SIDE_PX = 224
IMAGE_TOKENS = 64
VALIDATION_IMAGES = 96
SAMPLE_IMAGES = 640
"""How large the sample was when the vocabulary was cut; more of its sentences would order the merges differently."""
READING_SHARE = 2
"""One reading example for so many pictures."""

Change = Callable[[Image], Image] | None


def recipe(steps: int) -> Recipe:
    """How nano is pretrained."""
    return parse_recipe(
        {
            "seed": 7,
            "data": {"source": "corpus", "captions": "all"},
            "model": {"base": "nano", "dtype": "bfloat16"},
            "towers": {"vision_tower": "trained", "projector": "trained", "language_model": "trained"},
            "train": {
                "epochs": 1000,
                "max_steps": steps,
                "micro_batch": 16,
                "learning_rate": 1e-3,
                "weight_decay": 0.01,
                "betas": [0.9, 0.98],
                "warmup_share": 0.05,
                "evaluate_every": 250,
                "evaluate_images": VALIDATION_IMAGES,
            },
            "generate": {"max_new_tokens": 32, "batch_size": 32},
        }
    )


class ReadingEncoder(Encoder):
    """Encodes captions as every encoder does, and reading examples under the prefix that they bring."""

    def __call__(self, example: Example, *, prefix: str, captions: Sequence[str], change: Change = None) -> Row:
        own = example.scene_class if example.source == READING else None
        return super().__call__(example, prefix=own or prefix, captions=captions, change=change)


@dataclass(frozen=True, slots=True)
class StoredImage:
    """A row of the rendered corpus on disk."""

    path: str
    row: int
    rows: int

    @property
    def name(self) -> str:
        return f"{self.path} row {self.row}"

    @property
    def identity(self) -> str:
        return self.name

    def header(self) -> ImageHeader:
        return ImageHeader("pixels", "RGB", SIDE_PX, SIDE_PX)

    def data(self) -> None:
        """None: there is no file."""

    def load(self) -> Image:
        stored = np.memmap(self.path, dtype=np.uint8, mode="r", shape=(self.rows, SIDE_PX, SIDE_PX, 3))
        return fromarray(np.array(stored[self.row]))


def render(examples: Sequence[Example], path: Path) -> list[Example]:
    """Draw every picture once, on all cores, into one file on disk."""
    shape = (len(examples), SIDE_PX, SIDE_PX, 3)
    pixels = np.memmap(path, dtype=np.uint8, mode="w+", shape=shape)
    with get_context("spawn").Pool(2) as pool:
        for row, image in enumerate(pool.imap(_draw, examples, chunksize=16)):
            pixels[row] = image
    pixels.flush()
    return [replace(example, image=StoredImage(str(path), row, len(examples))) for row, example in enumerate(examples)]


def _draw(example: Example) -> np.ndarray:
    return np.asarray(example.image.load())


def tokenizer_texts() -> list[str]:
    """What the vocabulary is cut from: sentences of the corpus and of the sample; the weights see only the first."""
    examples = [*corpus_examples(4000, seed=99), *sample_examples()[:SAMPLE_IMAGES]]
    return [caption for example in examples for caption in example.captions]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=16_000)
    parser.add_argument("--steps", type=int, default=3_000)
    parser.add_argument("--work", type=Path, default=Path("runs/nano-pretraining"))
    arguments = parser.parse_args()
    if arguments.out.exists():
        sys.exit(f"{arguments.out} exists; move it away first")
    arguments.work.mkdir(parents=True, exist_ok=True)

    processor = build_processor(tokenizer_texts(), TRAINING_WORDS, image_tokens=IMAGE_TOKENS)
    config = paligemma_config("nano", vocabulary=VOCABULARY, image_token_id=processor.image_token_id)
    torch.manual_seed(7)
    model = PaliGemmaForConditionalGeneration(config)
    examples = render(corpus_examples(arguments.images, seed=11), arguments.work / "corpus.u8")
    train, panel = examples[VALIDATION_IMAGES:], examples[:VALIDATION_IMAGES]
    train += reading_examples([example.image for example in train[: len(train) // READING_SHARE]], seed=13)

    plan = recipe(arguments.steps)
    layout = PaliGemmaLayout(
        tokenizer=processor.tokenizer, image_token_id=processor.image_token_id, image_tokens=IMAGE_TOKENS
    )
    learner = Learner(
        packed=PackedModel(prepare(model, plan.towers, None, seed=plan.seed), compute_dtype=torch.bfloat16),
        encoder=ReadingEncoder(
            prompter=Prompter(layout),
            image=ImageSpec(resolution_px=SIDE_PX, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        ),
        recipe=plan,
        train=train,
        panel=panel,
        pretrained=False,
    )
    schedule = Schedule.of(plan, len(train))
    with TrainLog(arguments.work / "train.jsonl", schedule.total_steps) as log:
        fit(learner, Team(torch.device("cpu")), log, schedule)

    model.to(torch.bfloat16).save_pretrained(arguments.out)
    processor.save_pretrained(arguments.out)
    weights = (arguments.out / "model.safetensors").read_bytes()
    (arguments.out / "model.safetensors.sha256").write_text(
        f"{hashlib.sha256(weights).hexdigest()}  model.safetensors\n"
    )
    print(f"{arguments.out}: {len(weights) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
