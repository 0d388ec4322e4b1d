"""What an adapter costs in a decoding step: operations that a processor or a GPU is asked for, and time.

    python benchmarks/decode_ops.py [--geometry bench-7M …] [--dtype bfloat16 float32] [--images 4] [--threads 1]

A step computes one token an image behind a cache of the prefix, in five forms of one model with random weights:

bare       no adapter
peft       LoRA on every linear layer of the language model, computed by PEFT under autocast, as rscap once did
adapter    the same through rscap's forward pass (`rscap.model.lora`), weights cast at every token
held       the same with weights cast once, as captions are made (`PackedModel.held_for_captions`)
merged     the update added to the base's weights

Operations are counted as they are dispatched, without views and without casts that change nothing: on a GPU each is a
kernel or two, and at few images a step takes what it takes to start them. Steps of all forms alternate; the record
holds the medians of processor time and of the clock, and both over those of `bare`. Logits of the forms are compared
first: `held` must give those of `adapter` bit for bit.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PaliGemmaForConditionalGeneration

from common import Stopwatch, alternate, check_load, count, options, write_record
from rscap.captioner.batch import Batch, PackedRow, collate, pack
from rscap.model import packed as packing
from rscap.model.adapters import merge, prepare
from rscap.model.decoding import Decoding, prefill, step
from rscap.model.families.paligemma import paligemma_config
from rscap.model.packed import PackedModel
from rscap.recipe import AdapterSection, TowersSection

FORMS = ("bare", "peft", "adapter", "held", "merged")
TARGETS = {"merged": {"operations": 1.05, "time": 1.6}, "held": {"operations": 1.45, "time": 1.6}}
"""Times those of `bare`, in 16 bits."""
VOCABULARY = 4096
STEPS = 24
"""Steps of a turn."""
VIEWS = frozenset(
    {"view", "_unsafe_view", "reshape", "flatten", "unflatten", "transpose", "t", "permute", "expand", "slice"}
    | {"select", "squeeze", "unsqueeze", "split", "unbind", "detach", "alias", "as_strided", "lift_fresh"}
)


class Operations(TorchDispatchMode):
    """Counts what is dispatched inside: no views, no casts that give back their input."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        nothing = name in ("to", "type_as", "contiguous") and made is args[0]
        self.count += name not in VIEWS and not nothing
        return made


@dataclass(slots=True)
class Form:
    """A model ready to take steps behind its prefixes."""

    name: str
    packed: PackedModel
    state: Decoding
    tokens: Tensor

    def step(self) -> Tensor:
        """One more token for every image; the cache stands where it stood."""
        with torch.inference_mode(), self._held():
            logits = step(self.packed, self.tokens, self.state)
            self.state.cache.filled -= 1
            self.state.next_position -= 1
            if self.state.positions is not None:
                self.state.positions = self.state.positions[:-1]
            return logits

    def turn(self) -> Stopwatch:
        """`STEPS` steps, each timed."""
        watch = Stopwatch()
        with torch.inference_mode(), self._held():
            for _ in range(STEPS):
                watch.start()
                step(self.packed, self.tokens, self.state)
                watch.stop()
            self.state.cache.filled -= STEPS
            self.state.next_position -= STEPS
            if self.state.positions is not None:
                self.state.positions = self.state.positions[:-STEPS]
        return watch

    def operations(self) -> int:
        with torch.inference_mode(), self._held(), Operations() as counted:
            step(self.packed, self.tokens, self.state)
        self.state.cache.filled -= 1
        self.state.next_position -= 1
        if self.state.positions is not None:
            self.state.positions = self.state.positions[:-1]
        return counted.count

    def _held(self) -> Any:
        return nullcontext() if self.name in ("peft", "adapter") else self.packed.held_for_captions()


def build(name: str, geometry: str, dtype: torch.dtype, images: int) -> Form:
    """The same weights for every form, drawn from a seed; B matrices are random, so that adapters take part."""
    torch.manual_seed(0)
    config = paligemma_config(geometry, vocabulary=VOCABULARY)
    net: Any = PaliGemmaForConditionalGeneration(config).to(dtype).requires_grad_(False)
    if name != "bare":
        net = prepare(net, TowersSection(), AdapterSection(), seed=0).requires_grad_(False)
        generator = torch.Generator().manual_seed(1)
        for path, parameter in net.named_parameters():
            if ".lora_B." in path:
                parameter.copy_(0.02 * torch.randn(parameter.shape, generator=generator))
    if name == "merged":
        net = merge(net)
    packed = _wrapped(net, dtype, lean=name != "peft")
    batch = _prefixes(packed, images)
    with torch.inference_mode():
        logits, state = prefill(packed, batch, room=2 * STEPS)
    return Form(name, packed, state, logits.argmax(dim=-1, keepdim=True))


def _wrapped(net: Any, dtype: torch.dtype, *, lean: bool) -> PackedModel:
    kept = packing.make_lean
    try:
        if not lean:
            packing.make_lean = lambda _: None
        return PackedModel(net, compute_dtype=dtype).eval()
    finally:
        packing.make_lean = kept


def _prefixes(packed: PackedModel, images: int) -> Batch:
    """Prefixes of image tokens and four words behind random pictures."""
    config = packed.bare.config
    words = pack([config.image_token_id] * packed.family.image_tokens(config) + [2, 5, 6, 7], [])
    side, generator = config.vision_config.image_size, torch.Generator().manual_seed(2)
    pictures = [torch.randn(3, side, side, generator=generator) for _ in range(images)]
    rows = [PackedRow(example_id=str(n), pixels=one, captions=0, **words) for n, one in enumerate(pictures)]
    return collate(rows, pad=0)


def measure(geometry: str, dtype: torch.dtype, *, images: int, repetitions: int) -> dict[str, Any]:
    """All forms at one geometry and precision."""
    forms = {name: build(name, geometry, dtype, images) for name in FORMS}
    logits = {name: form.step() for name, form in forms.items()}
    if not torch.equal(logits["held"], logits["adapter"]):
        raise SystemExit(f"{geometry}, {dtype}: weights that are held change the logits; no speed is reported")
    operations = {name: form.operations() for name, form in forms.items()}
    turns: dict[str, Callable[[], Stopwatch]] = {name: form.turn for name, form in forms.items()}
    times = alternate(turns, repetitions=repetitions)
    cpu = {name: statistics.median(t for one in found for t in one.times.cpu) for name, found in times.items()}
    wall = {name: statistics.median(t for one in found for t in one.times.wall) for name, found in times.items()}
    return {
        "layers": forms["bare"].packed.bare.config.text_config.num_hidden_layers,
        "operations": operations,
        "step_s": wall,
        "step_cpu_s": cpu,
        "ratios": {
            name: {
                "operations": operations[name] / operations["bare"],
                "time": wall[name] / wall["bare"],
                "cpu_time": cpu[name] / cpu["bare"],
            }
            for name in FORMS
        },
        "logits_apart": {
            name: (logits[name] - logits["adapter"]).abs().max().item() for name in ("peft", "held", "merged")
        },
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options(__doc__, repetitions=8, out="decode_ops.json")
    parser.add_argument("--geometry", nargs="+", default=["nano", "bench-7M", "nano2"])
    parser.add_argument("--dtype", nargs="+", default=["bfloat16", "float32"], choices=["bfloat16", "float32"])
    parser.add_argument("--images", type=count, default=4, help="images that are decoded together (%(default)s)")
    chosen = parser.parse_args(arguments)
    load = check_load(busy_ok=chosen.busy_ok)
    torch.set_num_threads(chosen.threads)
    cases = {}
    for geometry in chosen.geometry:
        for dtype in chosen.dtype:
            name = f"{geometry}, {dtype}"
            found = measure(geometry, getattr(torch, dtype), images=chosen.images, repetitions=chosen.repetitions)
            cases[name] = found
            print(name)
            for form, ratios in found["ratios"].items():
                print(
                    f"  {form:8} {found['operations'][form]:5} operations ({ratios['operations']:.2f}), "
                    f"{1e3 * found['step_cpu_s'][form]:.2f} ms of processor time ({ratios['cpu_time']:.2f})"
                )
    write_record(
        chosen.out, load=load, threads=chosen.threads, images=chosen.images, steps=STEPS, targets=TARGETS, cases=cases
    )


if __name__ == "__main__":
    main()
