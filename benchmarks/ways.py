"""Ways to train on the same captions: rscap's loop on packed batches, and transformers' `Trainer` on pairs.

All hold the same random weights and see the same images; `Bench` is one geometry set up in all ways. `rscap`, `cached`
(from cached vision features) and `trainer` compute the same, with the same LoRA on the language model. `notebook` is
the Trainer as prior work B set it up: micro batches of four pairs, gradient checkpointing, rsLoRA, and a bare list of
module names that adapts the vision tower too. Nothing here measures anything but the time of a step and of a collation.
"""

from __future__ import annotations

import copy
import math
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import (
    PaliGemmaProcessor,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from common import Stopwatch, Times
from rscap.captioner import Captioner
from rscap.captioner.batch import Batch, Encoder
from rscap.captioner.prompt import Prompter
from rscap.data import PixelImage, open_source
from rscap.model.adapters import prepare, quiet_peft, target_expression
from rscap.model.families import FAMILIES, Family, ImageSpec, Layout, geometry_config
from rscap.model.features import Features
from rscap.model.load import NANO
from rscap.model.packed import PackedModel
from rscap.recipe import LANGUAGE_TARGETS, Recipe, parse_recipe
from rscap.records import Example
from rscap.training.features import cached_encoder
from rscap.training.loop import Learner, fit
from rscap.training.team import Team
from rscap.training.updates import Schedule, updates

PREFIX, RANK, ALPHA, RATE = "caption en", 16, 32, 1e-4
NOTEBOOK_PAIRS = 4
"""Pairs in a micro batch of prior work B, which accumulated four of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """A model for the Trainer, and how the Trainer goes about it."""

    model: Any
    micro_batch: int
    """Captions in a micro batch."""
    checkpointing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One geometry, ready to be trained both ways: two copies of the same weights, the same examples."""

    geometry: str
    examples: list[Example]
    """The images of one step, five captions each; every step sees them all."""
    family: Family
    processor: Any
    layout: Layout
    image: ImageSpec
    recipe: Recipe
    packed: PackedModel
    rivals: dict[str, Rival]
    features: Features | None = None
    """What the vision tower sees of the examples, for rscap alone."""

    @property
    def captions(self) -> int:
        return sum(len(example.captions) for example in self.examples)

    def encoder(self) -> Encoder:
        return Encoder(prompter=Prompter(self.layout), image=self.image, features=self.features)

    def packed_batch(self) -> Batch:
        """rscap's batch of one step, from its own stream of updates."""
        (batch,) = next(updates(self.examples, self.recipe, self.encoder()))
        return batch

    def pairs(self) -> list[dict[str, Any]]:
        """The Trainer's rows: one image and one of its captions."""
        return [
            {"image": example.image.load(), "caption": caption}
            for example in self.examples
            for caption in example.captions
        ]

    def collate_pairs(self, rows: list[dict[str, Any]]) -> Any:
        """The Trainer's collator, as the documentation of PaliGemma and SmolVLM2 has it, with the prompt left out of
        the labels."""
        if self.family.name == "smolvlm":
            return self._padded([(row["image"], row["caption"]) for row in rows])
        return self.processor(
            text=[f"<image>{PREFIX}" for _ in rows],
            images=[row["image"] for row in rows],
            suffix=[row["caption"] for row in rows],
            return_tensors="pt",
            padding="longest",
        )

    def _padded(self, pairs: list[tuple[Any, str]]) -> dict[str, Tensor]:
        made = [self.family.inputs(self.processor, self.layout, image, PREFIX, caption) for image, caption in pairs]
        width = max(one["input_ids"].shape[1] for one in made)
        fills = {"input_ids": self.layout.pad, "attention_mask": 0, "labels": -100}
        rows = {
            name: torch.cat([pad(one[name], (0, width - one[name].shape[1]), value=fill) for one in made])
            for name, fill in fills.items()
        }
        return {**rows, "pixel_values": torch.cat([one["pixel_values"] for one in made])}


def load_examples(count: int) -> list[Example]:
    """Images of the built-in sample with five captions, one a scene class, rendered and held in memory."""
    found = {example.scene_class: example for example in open_source("sample").split("train")}
    chosen = [example for example in found.values() if len(example.captions) == 5][:count]
    if len(chosen) != count:
        raise SystemExit(f"the sample has {len(chosen)} scene classes with five captions; {count} images are wanted")
    return [replace(one, image=PixelImage(one.image.load(), one.image.name)) for one in chosen]


def build(geometry: str, examples: list[Example], *, micro_batch: int | None = None) -> Bench:
    """Random weights, adapted by rscap and, in copies, by PEFT alone; rscap and `trainer` hold the same numbers."""
    family, config, processor = parts(geometry)
    image = family.image_spec(processor, config, split=False)
    recipe = parse_recipe(
        {
            "data": {"source": "sample", "captions": "all"},
            "prompt": {"prefix": PREFIX},
            "model": {"base": "nano", "dtype": "float32"},
            "adapter": {"rank": RANK, "alpha": ALPHA},
            "train": {"micro_batch": len(examples), "learning_rate": RATE, "schedule": "linear", "warmup_share": 0.0},
        }
    )
    model = family.model_class(config)
    scramble(model)
    twin, third = copy.deepcopy(model), copy.deepcopy(model)
    net = prepare(model, recipe.towers, recipe.adapter, seed=0)
    targets = target_expression(twin, "language_model", LANGUAGE_TARGETS)
    with quiet_peft():
        peft_model = get_peft_model(twin, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=targets))
        bare = LoraConfig(r=RANK, lora_alpha=ALPHA, use_rslora=True, target_modules=list(LANGUAGE_TARGETS))
        notebook = get_peft_model(third, bare)
    scramble(net, only=".lora_B.")
    peft_model.load_state_dict(net.state_dict())
    captions = sum(len(example.captions) for example in examples)
    return Bench(
        geometry=geometry,
        examples=examples,
        family=family,
        processor=processor,
        layout=family.layout(processor, config, image),
        image=image,
        recipe=recipe,
        packed=PackedModel(net, compute_dtype=torch.float32),
        rivals={
            "trainer": Rival(model=peft_model, micro_batch=micro_batch or captions),
            "notebook": Rival(model=notebook, micro_batch=NOTEBOOK_PAIRS, checkpointing=True),
        },
    )


def parts(geometry: str) -> tuple[Family, Any, Any]:
    """The family of a geometry, its configuration and a processor that fits it."""
    if geometry in FAMILIES["smolvlm"].geometries:
        sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "support"))
        from smolnano import IMAGE, VOCABULARY, write_processor

        config = geometry_config(geometry, vocabulary=VOCABULARY, image_token_id=IMAGE)
        with tempfile.TemporaryDirectory() as folder:
            write_processor(Path(folder), config)
            return FAMILIES["smolvlm"], config, FAMILIES["smolvlm"].load_processor(folder, {})
    config = geometry_config(geometry)
    processor = PaliGemmaProcessor.from_pretrained(NANO)
    processor.image_seq_length = processor.image_processor.image_seq_length = config.text_config.num_image_tokens
    config.image_token_id = processor.image_token_id
    return FAMILIES["paligemma"], config, processor


def with_cached_features(bench: Bench, folder: Path) -> Bench:
    """The same, but rscap reads what the vision tower sees from a cache that is filled here."""
    team = Team(torch.device("cpu"))
    encoder = cached_encoder(
        bench.packed, bench.encoder(), bench.examples, folder=folder, team=team, workers=0, say=lambda _: None
    )
    return replace(bench, features=encoder.features)


def scramble(net: nn.Module, *, only: str = "") -> None:
    """Add noise to weights, so that attention, adapters and every token matter to the loss that is compared."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if only in name:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)


@contextmanager
def trainer_of(bench: Bench, watch: Stopwatch, *, steps: int, rival: str = "trainer") -> Iterator[Trainer]:
    """A Trainer for `steps` updates that stops `watch` at each; defaults wherever the comparison leaves a choice."""
    one = bench.rivals[rival]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            use_cpu=True,
            per_device_train_batch_size=one.micro_batch,
            gradient_accumulation_steps=math.ceil(bench.captions / one.micro_batch),
            activation_checkpointing=one.checkpointing,
            activation_checkpointing_kwargs={"use_reentrant": False} if one.checkpointing else None,
            max_steps=steps,
            learning_rate=RATE,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        with quiet_peft():
            trainer = Trainer(
                model=one.model,
                args=arguments,
                train_dataset=bench.pairs(),
                data_collator=bench.collate_pairs,
                callbacks=[StepTimer(watch)],
            )
        trainer.remove_callback(PrinterCallback)
        yield trainer


class StepTimer(TrainerCallback):
    """Times what lies between the two ends of an update in the Trainer's loop."""

    def __init__(self, watch: Stopwatch) -> None:
        self.watch = watch

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.watch.start()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.watch.stop()


@dataclass(slots=True)
class StepLog:
    """Stands in for `TrainLog`: the loop calls `step` when an update is done."""

    watch: Stopwatch

    def step(self, **_: Any) -> None:
        self.watch.stop()

    def rewind(self, **_: Any) -> None:
        """There is nothing to forget."""

    def note(self, message: str) -> None:
        """Nobody reads messages here."""


def run_rscap(bench: Bench, *, steps: int) -> Times:
    """Times of each of `steps` updates in rscap's loop, after one that is not counted."""
    watch = Stopwatch()
    learner = Learner(
        captioner=Captioner(bench.packed, bench.encoder(), prefix=PREFIX),
        recipe=bench.recipe,
        train=bench.examples,
        panel=[],
        pretrained=False,
    )
    hook = bench.packed.register_forward_pre_hook(lambda *_: watch.start())
    try:
        fit(learner, Team(torch.device("cpu")), StepLog(watch), Schedule(1, steps + 1))  # type: ignore[arg-type]
    finally:
        hook.remove()
    return watch.times.after(1)


def run_trainer(bench: Bench, *, steps: int, rival: str = "trainer") -> Times:
    """Times of each of `steps` updates in the Trainer's loop, after one that is not counted."""
    watch = Stopwatch()
    with trainer_of(bench, watch, steps=steps + 1, rival=rival) as trainer, quiet_peft():
        trainer.train()
    return watch.times.after(1)


def collate_rscap(bench: Bench) -> Times:
    """Time to make one step's batch from images in memory and captions."""
    watch = Stopwatch()
    watch.start()
    bench.packed_batch()
    watch.stop()
    return watch.times


def collate_trainer(bench: Bench, *, rival: str = "trainer") -> Times:
    """Time to make one step's batches through the Trainer's own loader."""
    watch = Stopwatch()
    with trainer_of(bench, Stopwatch(), steps=1, rival=rival) as trainer:
        loader = trainer.get_train_dataloader()
        watch.start()
        list(loader)
        watch.stop()
    return watch.times
