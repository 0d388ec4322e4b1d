"""Speed of captioning: rscap's batches against transformers' plain `generate`, side by side.

    python benchmarks/generate.py [--geometry bench-49M …] [--tokens 16 …] [--beams 1 …] [--batch 16] [--threads N]
    python benchmarks/generate.py --device cuda --geometry paligemma-3b --dtype bfloat16 --images 256 --batch 64

Three ways caption the same images with the same weights and the same settings, and each begins with JPEG files in
memory and ends with text:

rscap     `rscap.captioner.generate`: batches, a shared prefix for beams, images that leave, images decoded ahead
one       `PaliGemmaProcessor` and `PaliGemmaForConditionalGeneration.generate`, one image at a time
batched   the same two, with as many images at a time as rscap takes

Large geometries hold random weights, whose captions never end: each is as long as the limit. `nano` is the built-in
model, whose captions end by themselves. Before anything is timed the tokens of all ways are compared: in float32 they
must agree, but for near-ties that rscap reports. Turns alternate; medians are of whole turns. Seconds of the processor
stand beside those of the clock.
"""

from __future__ import annotations

import io
import itertools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from transformers import PaliGemmaForConditionalGeneration, PaliGemmaProcessor

from common import Stopwatch, Times, alternate, check_load, count, options, write_record
from rscap.captioner import Captioner
from rscap.captioner.batch import Encoder
from rscap.captioner.choice import Decoded
from rscap.captioner.decoding import decode
from rscap.captioner.loader import batches
from rscap.captioner.prompt import Prompter
from rscap.data import EncodedImage, open_source
from rscap.model.decoding import prefill, step
from rscap.model.families import ImageSpec
from rscap.model.families.paligemma import PaliGemmaLayout, paligemma_config
from rscap.model.load import NANO, load_base
from rscap.model.packed import PackedModel
from rscap.recipe import GenerateSection, ModelSection
from rscap.records import Example, Prediction

PREFIX = "caption en"
CASES = [("bench-49M", 16, 1), ("bench-49M", 64, 1), ("bench-49M", 16, 3), ("nano", 64, 1), ("nano", 64, 3)]
"""Geometry, length limit, beams. Captions of RISC have about 14 tokens; 64 is the limit in the recipes."""
TARGETS = {"cpu": 2.0, "cuda": 5.0}
"""Times the images/s of one image at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A model, images, and how they are captioned."""

    model: Any
    processor: PaliGemmaProcessor
    packed: PackedModel
    encoder: Encoder
    examples: list[Example]
    settings: GenerateSection

    def rscap(self) -> list[Prediction]:
        captioner = Captioner(self.packed, self.encoder, prefix=PREFIX, settings=self.settings)
        return [item for item in captioner.predictions(self.examples) if isinstance(item, Prediction)]

    def tokens(self) -> list[Decoded]:
        """What `rscap` makes into text."""
        size, prompter = self.settings.batch_size, self.encoder.prompter
        encode = partial(self.encoder, prefix=PREFIX, captions=())
        made = batches(self.examples, encode, size=size, pad=prompter.pad)
        device = self.packed.device
        found = (decode(self.packed, one.to(device), settings=self.settings, eos=prompter.eos) for one in made)
        return list(itertools.chain.from_iterable(found))

    def plain(self, *, size: int) -> list[list[int]]:
        """Tokens of `generate`, `size` images at a time, decoded to text as well."""
        found: list[list[int]] = []
        for start in range(0, len(self.examples), size):
            found += self._plain(self.examples[start : start + size])
        return found

    @torch.inference_mode()
    def _plain(self, examples: Sequence[Example]) -> list[list[int]]:
        images = [example.image.load() for example in examples]
        inputs = self.processor(images=images, text=[f"<image>{PREFIX}"] * len(images), return_tensors="pt")
        inputs.pop("labels", None)
        inputs = {name: value.to(self.packed.device) for name, value in inputs.items()}
        inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        ids = self.model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=self.settings.max_new_tokens,
            num_beams=self.settings.beams,
            eos_token_id=self.encoder.prompter.eos,
            pad_token_id=self.encoder.prompter.pad,
        )[:, inputs["input_ids"].shape[1] :]
        self.processor.batch_decode(ids, skip_special_tokens=True)
        return [self._until_eos(row) for row in ids.tolist()]

    def _until_eos(self, row: list[int]) -> list[int]:
        eos = self.encoder.prompter.eos
        return row[: row.index(eos) + 1] if eos in row else row


def load_examples(number: int) -> list[Example]:
    """Images of the built-in sample, of all kinds, as JPEG files in memory."""
    chosen = open_source("sample").subset("train", number, 0)
    if len(chosen) != number:
        raise SystemExit(f"the sample has {len(chosen)} training images; {number} are wanted")
    return [replace(one, image=_encoded(one)) for one in chosen]


def _encoded(example: Example) -> EncodedImage:
    stream = io.BytesIO()
    example.image.load().save(stream, "JPEG", quality=90)
    return EncodedImage(stream.getvalue(), example.image.name)


def load_model(geometry: str, *, device: str, dtype: torch.dtype) -> tuple[Any, PaliGemmaProcessor]:
    """nano with its own weights; another geometry with random ones, made on the device in the type asked for."""
    if geometry == "nano":
        base = load_base(ModelSection(base="nano", dtype=str(dtype).removeprefix("torch.")), device=device)
        return base.model, base.processor
    config = paligemma_config(geometry)
    processor = PaliGemmaProcessor.from_pretrained(NANO)
    processor.image_seq_length = processor.image_processor.image_seq_length = config.text_config.num_image_tokens
    config.image_token_id = processor.image_token_id
    with torch.device(device):
        torch.manual_seed(0)
        model = PaliGemmaForConditionalGeneration._from_config(config, dtype=dtype)
    with torch.no_grad():
        for parameter in model.parameters():  # so that captions depend on images and say more than one word
            parameter.add_(torch.randn_like(parameter), alpha=2.0 / config.text_config.hidden_size**0.5)
    return model.requires_grad_(False).eval(), processor


def build(model: Any, processor: PaliGemmaProcessor, examples: list[Example], settings: GenerateSection) -> Bench:
    """Everything that the three ways share."""
    image = processor.image_processor
    spec = ImageSpec(resolution_px=224, mean=tuple(image.image_mean), std=tuple(image.image_std))
    tokens = model.config.text_config.num_image_tokens
    tokenizer, image_token = processor.tokenizer, processor.image_token_id
    prompter = Prompter(PaliGemmaLayout(tokenizer=tokenizer, image_token_id=image_token, image_tokens=tokens))
    return Bench(
        model=model,
        processor=processor,
        packed=PackedModel(model, compute_dtype=model.dtype),
        encoder=Encoder(prompter=prompter, image=spec),
        examples=examples,
        settings=settings,
    )


def compare(bench: Bench) -> dict[str, Any]:
    """Captions of all ways, and how many agree.

    Raises:
        SystemExit: in float32 some differ that are no near-ties: a comparison of speed would be one of different work.
    """
    ours = bench.tokens()
    theirs = {"one": bench.plain(size=1), "batched": bench.plain(size=bench.settings.batch_size)}
    differing = {
        name: [index for index, (one, row) in enumerate(zip(ours, rows, strict=True)) if one.ids != row]
        for name, rows in theirs.items()
    }
    for name, places in differing.items():
        surely = [bench.examples[place].id for place in places if not ours[place].near_ties]
        if bench.model.dtype == torch.float32 and surely:
            raise SystemExit(f"rscap and {name} caption {surely} differently; no speed is reported")
    return {
        "tokens": sum(len(one.ids) for one in ours) / len(ours),
        "different_captions": len({tuple(one.ids) for one in ours}),
        "with_near_ties": sum(one.near_ties > 0 for one in ours),
        "captioned_otherwise": {name: len(places) for name, places in differing.items()},
    }


def turn(bench: Bench, work: Callable[[], Any]) -> dict[str, Any]:
    """Times of one turn and, on a GPU, the most memory it held."""
    watch, cuda = Stopwatch(), bench.packed.device.type == "cuda"
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    watch.start()
    work()  # ends with text on the host, so a GPU is done as well
    watch.stop()
    return {"times": watch.times, "peak_bytes": torch.cuda.max_memory_allocated() if cuda else None}


@torch.inference_mode()
def parts(bench: Bench, *, repetitions: int) -> dict[str, float]:
    """Seconds of a prefix and of a step for one batch: where rscap's time goes."""
    size, pad = min(bench.settings.batch_size, len(bench.examples)), bench.encoder.prompter.pad
    encode = partial(bench.encoder, prefix=PREFIX, captions=())
    batch = next(batches(bench.examples[:size], encode, size=size, pad=pad)).to(bench.packed.device)
    first: list[float] = []
    following: list[float] = []
    for _ in range(repetitions):
        logits, state, watch = *prefill(bench.packed, batch, room=9), Stopwatch()
        tokens = logits.argmax(dim=-1, keepdim=True)
        for timed, work in (
            (first, lambda: prefill(bench.packed, batch, room=9)[0]),
            (following, lambda: [step(bench.packed, tokens, state) for _ in range(8)][-1]),  # noqa: B023
        ):
            _synchronise(bench)
            watch.start()
            work()
            _synchronise(bench)
            watch.stop()
            timed.append(watch.times.wall[-1])
    return {"batch": size, "prefix_s": statistics.median(first), "step_s": statistics.median(following) / 8}


def _synchronise(bench: Bench) -> None:
    if bench.packed.device.type == "cuda":
        torch.cuda.synchronize()


def measure(bench: Bench, *, repetitions: int) -> dict[str, Any]:
    """Everything about one case: likeness, times, their ratios, and where rscap's go."""
    alike = compare(bench)
    turns = alternate(
        {
            "rscap": lambda: turn(bench, bench.rscap),
            "one": lambda: turn(bench, lambda: bench.plain(size=1)),
            "batched": lambda: turn(bench, lambda: bench.plain(size=bench.settings.batch_size)),
        },
        repetitions=repetitions,
    )
    ways = {name: summary(found, images=len(bench.examples)) for name, found in turns.items()}
    return {
        "parameters": sum(parameter.numel() for parameter in bench.model.parameters()),
        "images": len(bench.examples),
        **alike,
        **ways,
        "parts": parts(bench, repetitions=repetitions),
        "ratios": {name: ways["rscap"]["images_per_s"] / ways[name]["images_per_s"] for name in ("one", "batched")},
        "cpu_ratios": {name: ways[name]["turn_cpu_s"] / ways["rscap"]["turn_cpu_s"] for name in ("one", "batched")},
    }


def summary(turns: list[dict[str, Any]], *, images: int) -> dict[str, Any]:
    """Medians over turns, the rate, and every time they come from, in seconds."""
    times: list[Times] = [found["times"] for found in turns]
    wall, cpu = ([second for one in times for second in getattr(one, kind)] for kind in ("wall", "cpu"))
    return {
        "turn_s": statistics.median(wall),
        "turn_cpu_s": statistics.median(cpu),
        "images_per_s": images / statistics.median(wall),
        "peak_bytes": max((found["peak_bytes"] for found in turns if found["peak_bytes"]), default=None),
        "turns": [asdict(one) for one in times],
    }


def table(cases: dict[str, Any]) -> str:
    """The result for the screen: a line a case and way."""
    lines = [f"{'':44}{'images/s':>10}{'turn s':>9}{'cpu s':>9}{'times faster':>14}{'by cpu s':>10}"]
    for case, result in cases.items():
        for way in ("rscap", "batched", "one"):
            one = result[way]
            faster = "" if way == "rscap" else f"{result['ratios'][way]:14.2f}{result['cpu_ratios'][way]:10.2f}"
            rates = f"{one['images_per_s']:10.2f}{one['turn_s']:9.2f}{one['turn_cpu_s']:9.2f}"
            lines.append(f"{case + ' ' + way:44}{rates}{faster}")
        part = result["parts"]
        lines.append(
            f"  {result['tokens']:.1f} tokens a caption; a batch of {part['batch']}: prefix {part['prefix_s']:.3f} s, "
            f"step {part['step_s']:.4f} s; otherwise captioned: {result['captioned_otherwise']}"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = options(__doc__, repetitions=3, out="generate.json")
    parser.add_argument("--geometry", action="append", help="one or several; with --tokens, --beams all combinations")
    parser.add_argument("--tokens", type=count, action="append", help="length limits (16)")
    parser.add_argument("--beams", type=count, action="append", help="beams (1)")
    parser.add_argument("--images", type=count, default=16, help="images a turn (%(default)s)")
    parser.add_argument("--batch", type=count, default=16, help="images together (%(default)s)")
    parser.add_argument("--device", choices=TARGETS, default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    given = parser.parse_args(arguments)
    cases = CASES
    if given.geometry or given.tokens or given.beams:
        cases = list(itertools.product(given.geometry or ["bench-49M"], given.tokens or [16], given.beams or [1]))
    load = check_load(busy_ok=given.busy_ok)
    torch.set_num_threads(given.threads)
    examples, results = load_examples(given.images), {}
    for geometry, group in itertools.groupby(cases, key=lambda case: case[0]):
        model, processor = load_model(geometry, device=given.device, dtype=getattr(torch, given.dtype))
        for _, tokens, beams in group:
            settings = GenerateSection(max_new_tokens=tokens, beams=beams, batch_size=given.batch)
            name = f"{geometry}, {tokens} tokens, {beams} beam{'s' * (beams > 1)}"
            results[name] = measure(build(model, processor, examples, settings), repetitions=given.repetitions)
        del model
    target = TARGETS[given.device]
    met = {name: result["ratios"]["one"] >= target for name, result in results.items()}
    write_record(
        given.out,
        load=load,
        threads=torch.get_num_threads(),
        settings={"repetitions": given.repetitions, "batch": given.batch, "device": given.device, "dtype": given.dtype},
        device=torch.cuda.get_device_name() if given.device == "cuda" else None,
        targets={"images_per_s": target, "met": met},
        cases=results,
    )
    print(table(results))
    for name, reached in met.items():
        print(f"{name}: target ({target:g} times the images/s of one at a time) {'' if reached else 'not '}met")
    if load.busy:
        print(f"the machine was busy (load {load.before[0]:.2f}): do not trust the times")


if __name__ == "__main__":
    main()
