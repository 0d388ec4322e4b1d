"""Measure with the model loaded: the first batch of the recipe, through the base model as the recipe loads it.

One token is changed to measure the attention mask, losses are compared token by token, precisions are read back, and
for a recipe some updates at its peak rate are tried on one small batch.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from rscap.captioner import ModelRef
from rscap.captioner.batch import Batch, Encoder
from rscap.captioner.loading import best_device
from rscap.captioner.prompt import Prompter
from rscap.data import Source, open_data
from rscap.data.audit.captions import special_tokens
from rscap.data.choice import training_examples
from rscap.doctor.evidence import (
    AttentionReach,
    DataFacts,
    Evidence,
    FirstLosses,
    Learning,
    RateTest,
    Targets,
    Trained,
    Weights,
)
from rscap.doctor.snapshot import frozen_dtypes, product_dtypes, reach, rows_are_apart, trainable
from rscap.errors import (
    AdapterError,
    DataError,
    ModelError,
    OutOfMemory,
    RscapError,
    StoreError,
)
from rscap.methods import METHODS
from rscap.model.adapters import find_adapter, load_foreign, prepare
from rscap.model.load import Base, empty_base, load_base
from rscap.model.packed import PackedModel
from rscap.quality import QualityRules, select
from rscap.recipe import Recipe
from rscap.records import Example
from rscap.store import RunFolder
from rscap.training.examples import check_validation, guesses_evenly
from rscap.training.optimiser import build_optimiser, build_scaler, rate_factor, set_rate
from rscap.training.start import Start
from rscap.training.updates import CaptionWeights, Schedule, updates

WHERE = "measured on the first batch"
_NOT_APART = "8-bit layers round all tokens together, so each moves all others a little"
_IMAGES = 2
_UPDATES, _WARMUP = 8, 4
_COUNTED_CAPTIONS = 2000
_LARGE = 1_000_000_000
"""Parameters above which updates are not tried on a CPU."""


@contextmanager
def _memory_told() -> Iterator[None]:
    """Turn running out of memory into an OutOfMemory error with a hint."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(
            f"out of memory: {str(error).splitlines()[0]}", hint="`rscap plan` says what fits; --no-probe reads files"
        ) from error


@_memory_told()
def probe_recipe(evidence: Evidence, recipe: Recipe) -> Evidence:
    """Everything that can be measured of a recipe before it is run.

    Raises:
        RscapError: an error that would stop the run before its first step.
    """
    source, weights = _data(recipe)
    check_validation(recipe, source, lambda _: None)
    Start.of(recipe)
    base, packed = _model(recipe)
    examples = training_examples(source, recipe)
    facts = _facts(recipe, source, examples, Encoder.of(base).prompter)
    batch = _first_batch(recipe, examples, weights, base)
    evidence = replace(_look(evidence, base, packed, batch), data=facts)
    reason = "it is tried by likelihood, and the recipe trains on a reward" if recipe.objective else _too_large(packed)
    if reason:
        return replace(evidence, absent={**evidence.absent, "learning rate": reason})
    total_steps = Schedule.of(recipe, len(examples)).total_steps
    return replace(evidence, rate=try_rate(packed, batch, recipe, total_steps=total_steps))


@_memory_told()
def probe_run(evidence: Evidence, recipe: Recipe, run: RunFolder) -> Evidence:
    """What can be measured of a run: its first batch on its base model, and its trained weights on that batch.

    Raises:
        RscapError: data or base model are not available.
    """
    source, weights = _data(recipe)
    base, packed = _model(recipe)
    batch = _first_batch(recipe, training_examples(source, recipe), weights, base)
    evidence = _look(evidence, base, packed, batch)
    del base, packed
    if not run.learned().is_dir():
        return evidence
    try:
        learned = ModelRef.of_run(run, recipe).load().packed
    except (AdapterError, ModelError, StoreError) as error:
        return replace(evidence, trained=Trained(where=_weights_of(run), misfit=error.message))
    loss = learned.token_losses(batch.to(learned.device)).mean().item()
    return replace(evidence, trained=Trained(where=_weights_of(run), loss=loss))


def probe_adapter(evidence: Evidence, folder: Path) -> Evidence:
    """Whether an adapter of another program fits the base model that it names, tried on a model without weights.

    Raises:
        RscapError: it names no base model, or that is not on this machine.
    """
    place = folder.name or str(folder)
    try:
        adapter = find_adapter(str(folder))
    except AdapterError as error:  # a pickle, no weights, a method that cannot be used
        return replace(evidence, trained=Trained(where=place, misfit=error.in_one_line))
    if adapter is None:
        return evidence
    net = empty_base(adapter.base)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*to a meta parameter in the current model, which is a no-op")
            load_foreign(net, adapter)
    except AdapterError as error:
        return replace(evidence, trained=Trained(where=place, misfit=error.message))
    return replace(evidence, trained=Trained(where=place))


def _weights_of(run: RunFolder) -> str:
    return f"{run.learned().name}/"


def _data(recipe: Recipe) -> tuple[Source, CaptionWeights]:
    """The source as training sees it, with quality rules applied."""
    source = open_data(recipe.data, check="exists")
    if recipe.data.quality is None:
        return source, {}
    selection = select(source, QualityRules(**recipe.data.quality.model_dump(exclude_none=True)))
    return selection.source, selection.weights


def _model(recipe: Recipe) -> tuple[Base, PackedModel]:
    """Base and adapters as at the first step; methods that start from weights or activations become plain LoRA."""
    adapter = recipe.adapter
    if adapter is not None and (METHODS[adapter.method].residual or METHODS[adapter.method].calibration_images):
        adapter = adapter.model_copy(update={"method": "lora", "calibration_images": None})
    base = load_base(recipe.model, device=best_device())
    net = prepare(base.model, recipe.towers, adapter, seed=recipe.seed)
    packed = PackedModel(net, compute_dtype=base.compute_dtype)
    if recipe.train.gradient_checkpointing is not False:
        packed.checkpoint_activations()
    return base, packed.eval()


def _first_batch(recipe: Recipe, examples: Sequence[Example], weights: CaptionWeights, base: Base) -> Batch:
    """The first micro batch, of two images at most, loaded in this process."""
    small = min(recipe.train.micro_batch, _IMAGES)
    changes = {
        "train": recipe.train.model_copy(update={"micro_batch": small, "accumulation": 1}),
        "data": recipe.data.model_copy(update={"workers": 0}),
    }
    batch = next(updates(examples, recipe.model_copy(update=changes), Encoder.of(base), weights))[0]
    if not batch.images:
        raise DataError(f"none of the first {small} images can be used: {batch.rejected[0].reason}")
    return batch.to(best_device())


def _look(evidence: Evidence, base: Base, packed: PackedModel, batch: Batch) -> Evidence:
    eos = base.layout.eos
    losses = packed.token_losses(batch)
    apart = rows_are_apart(packed)
    return replace(
        evidence,
        absent=evidence.absent if apart else {**evidence.absent, "attention mask": _NOT_APART},
        vocabulary=packed.text_config.vocab_size,
        targets=replace(
            targets_of(batch, image=base.image_token_id, eos=eos),
            image_tokens=base.image_tokens,
            one_square=base.family.image_tokens(base.model.config),
        ),
        attention=attention_of(packed, batch, bos=base.tokenizer.bos_token_id, eos=eos) if apart else None,
        first_losses=FirstLosses(
            where=WHERE,
            mean=losses.mean().item(),
            spread=losses.std(correction=0).item(),
            tokens=losses.numel(),
        ),
        weights=Weights(where=WHERE, dtypes=frozen_dtypes(packed.net), products=product_dtypes(packed.net)),
        learning=evidence.learning or Learning(where=WHERE, trainable=trainable(packed.net)),
    )


def targets_of(batch: Batch, *, image: int, eos: int) -> Targets:
    """Count what a packed batch supervises: a target is a prompt token if it is predicted from within the prefix."""
    prefix_end = ((batch.branch == 0).sum(dim=1) - 1)[batch.source_rows]
    branch = batch.branch[batch.source_rows, batch.source_columns]
    starts = (batch.source_columns == prefix_end).cumsum(0)  # a caption begins at the prefix's last token
    ends = [int((batch.targets[starts == k] == eos).sum()) for k in range(1, int(starts.max()) + 1)]
    return Targets(
        where=WHERE,
        captions=batch.captions,
        supervised=batch.supervised,
        image=int((batch.targets == image).sum()),
        prompt=int(((branch == 0) & (batch.source_columns < prefix_end) & (batch.targets != image)).sum()),
        padding=int((branch < 0).sum()),
        unsupervised=max(0, batch.captions - len(ends)),
        without_eos=sum(count == 0 for count in ends),
        several_eos=sum(count > 1 for count in ends),
    )


def attention_of(packed: PackedModel, batch: Batch, *, bos: int, eos: int) -> AttentionReach:
    """Change the last caption token, then the last prefix token, of the first row, and count which outputs change.

    The caption goes through the same code path as training, the prefix through the one that computes all positions.
    """
    row = batch.tokens[0]
    mine = batch.source_rows == 0
    columns = batch.source_columns[mine]
    last, prefix_end = int(columns.max()), int((batch.branch[0] == 0).sum()) - 1

    def with_row(tokens: Tensor) -> Batch:
        return replace(batch, tokens=torch.cat([tokens.unsqueeze(0), batch.tokens[1:]]))

    def learned(tokens: Tensor) -> Tensor:
        """float[N, H]: outputs of the supervised positions at their columns, zero elsewhere."""
        with packed.autocast():
            hidden = packed.supervised(with_row(tokens))[mine]
        placed = hidden.new_zeros(len(row), hidden.shape[-1])
        return placed.index_copy(0, columns, hidden)

    def whole(tokens: Tensor) -> Tensor:
        with packed.autocast():
            return packed.hidden(with_row(tokens))[0]

    end = reach(learned, row, last, bos, 0)
    prefix = reach(whole, row, prefix_end, eos, 0)
    return AttentionReach(
        where=WHERE,
        token_types="unknown",
        earlier=len(set(columns.tolist())) - 1,
        future_seen=end.moved,
        before=prefix.before,
        prefix_reach=prefix.moved,
        causal=packed.family.causal_prefix,
    )


def try_rate(packed: PackedModel, batch: Batch, recipe: Recipe, *, total_steps: int) -> RateTest:
    """Eight updates on one batch, the first four a warm-up to the peak rate, with the same dropout every time."""
    optimiser = build_optimiser(packed.net, recipe)
    scaler = build_scaler(packed.device, packed.compute_dtype)
    learning = [parameter for parameter in packed.net.parameters() if parameter.requires_grad]
    packed.train()
    losses = []
    with torch.no_grad():
        even_before = guesses_evenly(packed, packed.token_losses(batch))
    factors = [min(1.0, (step + 1) / _WARMUP) for step in range(_UPDATES)]
    with torch.random.fork_rng():
        for factor in factors:
            torch.manual_seed(recipe.seed)
            set_rate(optimiser, factor)
            loss = packed(batch) / batch.supervised
            scaler.scale(loss).backward()
            scaler.unscale_(optimiser)
            torch.nn.utils.clip_grad_norm_(learning, recipe.train.max_grad_norm)
            scaler.step(optimiser)
            scaler.update()
            optimiser.zero_grad(set_to_none=True)
            losses.append(loss.item())
        torch.manual_seed(recipe.seed)
        with torch.no_grad():
            losses.append((packed(batch) / batch.supervised).item())
            evenly = not even_before and guesses_evenly(packed, packed.token_losses(batch))
    packed.eval()
    schedule = sum(rate_factor(step, train=recipe.train, total_steps=total_steps) for step in range(total_steps))
    return RateTest(
        where="measured on one batch",
        learning_rate=recipe.train.learning_rate,
        before=losses[0],
        after=losses[-1],
        worst=max(losses[1:]) if all(map(math.isfinite, losses)) else math.inf,
        guesses_evenly=evenly,
        updates=_UPDATES,
        budget=schedule / sum(factors),
        noise=1e-5 if packed.compute_dtype == torch.float32 else 5e-3,
    )


def _too_large(packed: PackedModel) -> str | None:
    size = sum(parameter.numel() for parameter in packed.parameters())
    if packed.device.type == "cpu" and size > _LARGE:
        return f"updates of a model of {size:,} parameters take too long without a GPU"
    return None


def _facts(recipe: Recipe, source: Source, examples: Sequence[Example], prompter: Prompter) -> DataFacts:
    captions = [caption for example in examples for caption in example.captions]
    every = max(1, math.ceil(len(captions) / _COUNTED_CAPTIONS))
    limit = recipe.generate.max_new_tokens
    long = [_tokens(prompter, caption) > limit for caption in captions[::every]]
    special = {
        example.id: [word for caption in example.captions for word in special_tokens(caption)] for example in examples
    }
    return DataFacts(
        where=f"{recipe.data.source}, splits {recipe.data.splits!r}",
        training_images=len(examples),
        captions_per_image=sum(len(set(example.captions)) for example in examples) / len(examples),
        test_images=source.splits.get("test"),
        rejected=len(source.rejected),
        rows=len(source.rejected) + len(source.examples),
        longest_allowed=limit,
        too_long=sum(long) / len(long),
        special=tuple(dict.fromkeys(word for words in special.values() for word in words)),
        special_images=sum(bool(words) for words in special.values()),
    )


def _tokens(prompter: Prompter, caption: str) -> int:
    try:
        return len(prompter.suffix(caption, example_id=""))
    except RscapError:  # a caption that cannot be used is rejected in training
        return 0
