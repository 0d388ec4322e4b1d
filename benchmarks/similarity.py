"""Does CLIP similarity tell a caption of the image from that of another? A small CLIP, trained here, on risc-mini.

    python benchmarks/similarity.py [--minutes 3] [--threads 2] [--source DATA] [--out FILE] [--keep FOLDER] [--busy-ok]

Trains a CLIP of a million parameters from nothing, contrastively (arXiv:2103.00020), on the training images of
risc-mini with one of their captions drawn at a time, for so many minutes of CPU time. Then `rscap.evaluation.clip`
scores the test images with their own first caption and with that of another image of the split. The record holds both
means with intervals, their difference by the paired bootstrap, and how often the own caption scores higher (chance:
one half). The folder that --keep names is a CLIP that `rscap similarity --clip` takes, with the table of its training
images.
"""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, PreTrainedTokenizerFast

from common import check_load, options, write_record
from rscap import scoring
from rscap.data import Source, open_data
from rscap.evaluation.clip import METRIC, clip_similarity, load_clip
from rscap.evaluation.seen import seen_of
from rscap.recipe import DataSection
from rscap.records import Example, ScoreSheet
from rscap.store import SEEN, write_seen

RISC_MINI = Path(__file__).resolve().parents[2] / "shared" / "data" / "risc-mini"
PIXELS, PATCH, WIDTH, TOKENS, BATCH = 64, 8, 128, 32, 64
PAD, BEGIN, END = "<pad>", "<begin>", "<end>"


def tokenizer_of(captions: list[str]) -> PreTrainedTokenizerFast:
    """Words of these captions as tokens, between a begin and an end."""
    words = Tokenizer(models.WordLevel(unk_token="<unk>"))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [PAD, "<unk>", BEGIN, END]
    words.train_from_iterator(captions, trainers.WordLevelTrainer(vocab_size=2_000, special_tokens=special))
    ends = [(name, words.token_to_id(name)) for name in (BEGIN, END)]
    words.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A {END}", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token=PAD,
        bos_token=BEGIN,
        eos_token=END,
        unk_token="<unk>",
        model_max_length=TOKENS,
    )


def small_clip(tokenizer: PreTrainedTokenizerFast) -> CLIPModel:
    """An untrained CLIP for images of 64 pixels."""
    layer = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": 4, "num_attention_heads": 4}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    return CLIPModel(
        CLIPConfig(
            text_config={
                **layer,
                **ends,
                "pad_token_id": tokenizer.pad_token_id,
                "vocab_size": len(tokenizer),
                "max_position_embeddings": TOKENS,
            },
            vision_config={**layer, "image_size": PIXELS, "patch_size": PATCH},
            projection_dim=64,
        )
    )


def pixels_of(examples: list[Example], processor: Any) -> Tensor:
    """float[n, 3, 64, 64]"""
    parts = [processor(images=[one.image.load()], return_tensors="pt")["pixel_values"] for one in examples]
    return torch.cat(parts)


def train(model: CLIPModel, tokenizer: Any, examples: list[Example], pixels: Tensor, minutes: float) -> dict[str, Any]:
    """Contrastive training for some minutes; images are mirrored and turned at random."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    draw, steps, losses = random.Random(0), 0, list[float]()
    torch.manual_seed(0)
    began, budget = time.process_time(), 60 * minutes
    while (used := time.process_time() - began) < budget:
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * min(1.0, 2 * (1 - used / budget))
        rows = draw.sample(range(len(examples)), BATCH)
        words = tokenizer(
            [draw.choice(examples[row].captions) for row in rows], padding=True, truncation=True, return_tensors="pt"
        )
        images = torch.rot90(pixels[rows], draw.randrange(4), dims=(2, 3))
        images = images.flip(3) if draw.random() < 0.5 else images
        found = model(**words, pixel_values=images, return_loss=True)
        optimiser.zero_grad(set_to_none=True)
        found.loss.backward()
        optimiser.step()
        losses.append(float(found.loss))
        steps += 1
    return {"steps": steps, "cpu_seconds": time.process_time() - began, "loss": float(np.mean(losses[-20:]))}


def build(folder: Path, source: Source, minutes: float) -> dict[str, Any]:
    """Train a small CLIP on the training images of a source and write it, with the table of what it has seen."""
    examples = source.split("train")
    tokenizer = tokenizer_of([caption for example in examples for caption in example.captions])
    processor = CLIPImageProcessorPil(size={"shortest_edge": PIXELS}, crop_size={"height": PIXELS, "width": PIXELS})
    model = small_clip(tokenizer)
    record = train(model.train(), tokenizer, examples, pixels_of(examples, processor), minutes)
    for part in (model, tokenizer, processor):
        part.save_pretrained(folder)
    write_seen(folder / SEEN, seen_of(examples, source.contents))
    return {**record, "parameters": sum(one.numel() for one in model.parameters()), "images": len(examples)}


def judged(folder: Path, source: Source) -> dict[str, Any]:
    """The similarities of test images with their own first caption and with that of the next image of another order."""
    clip, test = load_clip(folder, device="cpu"), source.split("test")
    order = np.random.default_rng(0).permutation(len(test))
    pairs = zip(order, np.roll(order, 1), strict=True)
    others = {test[place].id: test[other].captions[0] for place, other in pairs}
    own = clip_similarity(clip, {example.id: example.captions[0] for example in test}, test)
    shuffled = clip_similarity(clip, others, test)
    found = scoring.compare({"matched": own, "shuffled": shuffled}, METRIC)
    (difference,) = found.differences
    wins = np.mean([own.items[name][METRIC] > shuffled.items[name][METRIC] for name in own.items])
    return {
        "n": own.n,
        "signature": own.signature,
        **{name: summary(sheet) for name, sheet in (("matched", own), ("shuffled", shuffled))},
        "difference": [difference.difference, *difference.interval],
        "p": difference.p_bootstrap,
        "own_caption_higher": float(wins),
    }


def summary(sheet: ScoreSheet) -> list[float]:
    """Mean, and the ends of its interval."""
    return [sheet.corpus[METRIC], *sheet.intervals[METRIC]]


def main() -> None:
    parser = options(__doc__, repetitions=1, out="similarity.json")
    parser.add_argument("--minutes", type=float, default=3.0, help="CPU minutes of training (%(default)s)")
    parser.add_argument("--source", type=Path, default=RISC_MINI, help="the data set")
    parser.add_argument("--keep", type=Path, help="keep the CLIP in this folder")
    given = parser.parse_args()
    if not given.source.exists():
        print(f"left out: {given.source} is not here; --source names a data set")
        return
    load = check_load(busy_ok=given.busy_ok)
    torch.set_num_threads(given.threads)
    source = open_data(DataSection(source=str(given.source)), check="decode")
    with tempfile.TemporaryDirectory() as name:
        folder = given.keep or Path(name)
        training = build(folder, source, given.minutes)
        results = judged(folder, source)
    record = write_record(given.out, load=load, threads=given.threads, training=training, results=results)
    print({**record["training"], **record["results"]})


if __name__ == "__main__":
    main()
