"""The memory of a training step, measured: on a CPU by every allocation that torch reports, on a GPU by its allocator.

fixed   bytes of the storages of weights (4-bit states included) and of the optimiser's states, after a first step
kept    bytes of the storages that autograd holds when the first forward pass ends, weights excluded
peak    fixed, and the most bytes that a whole second step has allocated at any time: forward and backward passes of
        all micro batches, clipping, AdamW, zeroing

On a CPU the allocations are those that torch's profiler records; what a kernel takes past torch's allocator is not
seen. On a GPU `peak` is `torch.cuda.max_memory_allocated`, and what the allocator reserved stands beside it.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration, PaliGemmaProcessor

from rscap.captioner.batch import Batch, PackedRow, collate, pack
from rscap.captioner.decoding import decode
from rscap.captioner.sampling import Sampling, sample
from rscap.model.adapters import prepare, trainable_parameters
from rscap.model.families import family_of
from rscap.model.families.paligemma import paligemma_config
from rscap.model.load import NANO, load_base
from rscap.model.packed import PackedModel
from rscap.planning.memory import MicroBatch
from rscap.recipe import Recipe

SUFFIXES = (12, 14, 16, 18, 20)
"""Tokens of the captions of every image, `<eos>` included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Bytes of one step."""

    fixed: int
    kept: int
    peak: int
    reserved: int | None = None


@contextlib.contextmanager
def random_base(geometry: str) -> Iterator[Path]:
    """A folder with random bfloat16 weights of a geometry, and some processor beside them."""
    with tempfile.TemporaryDirectory() as folder:
        with torch.device("meta"):
            model = PaliGemmaForConditionalGeneration(_config(geometry)).to(torch.bfloat16)
        model.to_empty(device="cpu")
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "norm" in name or name.endswith("bias"):
                    parameter.zero_()
                else:
                    parameter.normal_(std=0.02, generator=generator)
        model.tie_weights()
        model.save_pretrained(folder)
        PaliGemmaProcessor.from_pretrained(NANO).save_pretrained(folder)
        yield Path(folder)


def _config(geometry: str) -> PaliGemmaConfig:
    """A named geometry, or with `-thin` behind it three and two layers of its true width."""
    config = paligemma_config(geometry.removesuffix("-thin"))
    if geometry.endswith("-thin"):
        text, vision = config.text_config, config.vision_config
        text.num_hidden_layers, vision.num_hidden_layers = 3, 2
        if getattr(text, "layer_types", None):
            text.layer_types = text.layer_types[:3]
    return config


def micro_batch(net: Any, images: int, suffixes: Sequence[int] = SUFFIXES) -> Batch:
    """Random images and captions of so many tokens, in the packed layout."""
    family, generator = family_of(net), torch.Generator().manual_seed(0)
    prefix = [net.config.image_token_id] * family.image_tokens(net.config) + [2, 5, 6, 7]
    tokens = [[*range(10, 9 + length), 1] for length in suffixes]
    side = net.config.vision_config.image_size
    shape = (1, 3, side, side) if family.squares else (3, side, side)
    rows = [
        PackedRow(
            example_id=str(index),
            pixels=torch.randn(shape, generator=generator),
            captions=len(tokens),
            **pack(prefix, tokens, first=family.first_position),
        )
        for index in range(images)
    ]
    return collate(rows, pad=0)


def size_of(batch: Batch) -> MicroBatch:
    """What the plan needs to know of a batch."""
    return MicroBatch(
        images=batch.images,
        tokens=batch.tokens.shape[1],
        queries=int(torch.bincount(batch.source_rows).max()),
        supervised=batch.supervised,
    )


def measure(recipe: Recipe, *, device: str, suffixes: Sequence[int] = SUFFIXES) -> tuple[Measured, MicroBatch]:
    """Two steps of a recipe whose base is a folder, on batches of its size."""
    base = load_base(recipe.model, device=device)
    packed = PackedModel(
        prepare(base.model, recipe.towers, recipe.adapter, seed=0, model=recipe.model), compute_dtype=base.compute_dtype
    ).to(device)
    recomputes = recipe.train.gradient_checkpointing is True
    if recomputes:
        packed.checkpoint_activations()
    packed.choose_attention(recipe.model.attention, checkpointed=recomputes)
    packed.train()
    batch = micro_batch(packed.bare, recipe.train.micro_batch, suffixes).to(device)
    learning = list(trainable_parameters(packed))
    optimiser = torch.optim.AdamW(learning, fused=True)
    seen: list[int] = []

    def step(*, counting: bool) -> None:
        for _ in range(recipe.train.accumulation):
            with _Counting(packed) if counting else contextlib.nullcontext() as counter:
                loss = packed(batch) / (batch.supervised * recipe.train.accumulation)
                if counter is not None:
                    seen.append(counter.bytes())
            loss.backward()
            del loss
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    step(counting=True)
    fixed = _fixed(packed, optimiser)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        step(counting=False)
        peak, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
        return Measured(fixed=fixed, kept=seen[0], peak=peak, reserved=reserved), size_of(batch)
    most = _most_allocated(lambda: step(counting=False))
    return Measured(fixed=fixed, kept=seen[0], peak=fixed + batch.pixel_values.nbytes + most), size_of(batch)


def measure_generation(recipe: Recipe) -> tuple[int, int]:
    """Bytes that decoding one batch of `generate.batch_size` has allocated at most, on a CPU; tokens of its prefix."""
    base = load_base(recipe.model, device="cpu")
    net = prepare(base.model, recipe.towers, recipe.adapter, seed=0, model=recipe.model)
    packed = PackedModel(net.requires_grad_(False), compute_dtype=base.compute_dtype).eval()
    batch = micro_batch(packed.bare, recipe.generate.batch_size, suffixes=())
    most = _most_allocated(lambda: decode(packed, batch, settings=recipe.generate, eos=1))
    return most + batch.pixel_values.nbytes, batch.tokens.shape[1]


def measure_drawing(recipe: Recipe) -> tuple[int, int]:
    """Likewise, of drawing the captions of one micro batch for the recipe's [objective]."""
    assert recipe.objective is not None
    base = load_base(recipe.model, device="cpu")
    net = prepare(base.model, recipe.towers, recipe.adapter, seed=0, model=recipe.model)
    packed = PackedModel(net, compute_dtype=base.compute_dtype).eval()
    batch = micro_batch(packed.bare, recipe.train.micro_batch, suffixes=())
    sampling = Sampling(
        count=recipe.objective.samples,
        limit=recipe.objective.max_new_tokens or recipe.generate.max_new_tokens,
        temperature=recipe.objective.temperature,
        purpose=("peak",),
    )

    def draw() -> None:
        with torch.inference_mode(), packed.held_for_captions():
            sample(packed, batch, sampling=sampling, forbidden=torch.tensor([0, 1]), eos=1)

    return _most_allocated(draw) + batch.pixel_values.nbytes, batch.tokens.shape[1]


class _Counting(torch.autograd.graph.saved_tensors_hooks):
    """Counts what autograd holds while it is entered; weights excluded."""

    def __init__(self, net: nn.Module) -> None:
        self.own = {storage.data_ptr() for storage in _storages(net)}
        self.alive: weakref.WeakSet[_Saved] = weakref.WeakSet()
        super().__init__(self._pack, lambda saved: saved.tensor)

    def __enter__(self) -> _Counting:
        super().__enter__()
        return self

    def _pack(self, tensor: Tensor) -> _Saved:
        self.alive.add(saved := _Saved(tensor))
        return saved

    def bytes(self) -> int:
        storages = [saved.tensor.untyped_storage() for saved in self.alive]
        sizes = {storage.data_ptr(): storage.nbytes() for storage in storages}
        return sum(size for address, size in sizes.items() if address not in self.own)


@dataclass(slots=True, eq=False, weakref_slot=True)
class _Saved:
    """A tensor that autograd keeps."""

    tensor: Tensor


def _storages(net: nn.Module) -> list[torch.UntypedStorage]:
    """Storages of weights, of buffers and of what bitsandbytes hangs on them, each once."""
    tensors: list[Tensor] = [*net.parameters(), *net.buffers()]
    for parameter in net.parameters():
        state = getattr(parameter, "quant_state", None)
        while state is not None:
            tensors += [one for one in vars(state).values() if torch.is_tensor(one)]
            state = state.state2
        tensors += [one for name in ("CB", "SCB") if torch.is_tensor(one := getattr(parameter, name, None))]
    return list({one.untyped_storage().data_ptr(): one.untyped_storage() for one in tensors}.values())


def _fixed(net: nn.Module, optimiser: torch.optim.Optimizer) -> int:
    states = [one for state in optimiser.state.values() for one in state.values() if torch.is_tensor(one)]
    return sum(storage.nbytes() for storage in _storages(net)) + sum(one.nbytes for one in states)


def _most_allocated(work: Callable[[], None]) -> int:
    """The most bytes that `work` has allocated at any time, of those it allocates, by torch's own record."""
    with _silent(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work()
    now = most = 0
    for event in recorded.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """The profiler writes two lines past Python on standard error."""
    kept, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(sink)
