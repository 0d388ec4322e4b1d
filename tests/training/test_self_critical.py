"""Training on a reward: the gradient is what the formula says, the reward what it promises, and runs stay exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PaliGemmaForConditionalGeneration

from recipes import small_recipe
from rscap.captioner.batch import Batch, Encoder, collate
from rscap.captioner.sampling import Sample
from rscap.data import open_source
from rscap.data.choice import training_examples
from rscap.errors import RecipeError, TrainingError
from rscap.evaluation.seen import seen_by
from rscap.model.adapters import prepare
from rscap.model.families.paligemma import paligemma_config
from rscap.model.load import load_base
from rscap.model.loss import Draw, summed_loss
from rscap.model.packed import PackedModel
from rscap.recipe import Recipe, SelectionSection, dump_recipe, read_recipe
from rscap.scoring import IdfPool, cider_rewards
from rscap.store import RunFolder, Seen, TrainingState, read_jsonl, read_seen
from rscap.training import loop
from rscap.training.objectives.reward import Drawn, Reward
from rscap.training.objectives.self_critical import SelfCritical, leave_one_out, merged
from rscap.training.panel import consider
from rscap.training.session import train
from rscap.training.start import Start
from rscap.training.team import Team, check_shares
from rscap.training.updates import updates

CPU = Team(torch.device("cpu"))
REFERENCES = [("two planes are parked .", "there are two planes ."), ("a river flows by a field .", "a river .")]


def recipe(**changes: Any) -> Recipe:
    """Six images, three captions of each, at most eight tokens."""
    return small_recipe(
        {
            "data": {"train_limit": 6},
            "train": {"max_steps": 3, "micro_batch": 3, "accumulation": 1, "learning_rate": 1e-3},
            "objective": {"samples": 3},
        },
        changes,
    )


def ready(made: Recipe, geometry: str = "nano") -> tuple[PackedModel, SelfCritical, list[Batch]]:
    """A model whose adapters take part, its objective and the micro batches of its first update.

    `nano2` is a random PaliGemma 2 with nano's words; otherwise the model is the recipe's.
    """
    base = load_base(made.model)
    if geometry == "nano2":
        torch.manual_seed(0)
        config = paligemma_config(
            geometry, vocabulary=base.model.config.text_config.vocab_size, image_token_id=base.image_token_id
        )
        base = replace(base, model=PaliGemmaForConditionalGeneration(config))
    net: Any = prepare(base.model, made.towers, made.adapter, seed=0)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in net.named_parameters():
        if ".lora_B." in name:
            parameter.data = 0.05 * torch.randn(parameter.shape, generator=generator)
    packed, encoder = PackedModel(net, compute_dtype=torch.float32), Encoder.of(base)
    examples = open_source("sample").subset("train", 6, 1)
    objective = SelfCritical.of(packed, encoder, made, CPU, examples, examples)
    return packed, objective, next(updates(examples, made, encoder))


def gradients(packed: PackedModel) -> dict[str, Tensor]:
    found = {name: one.grad.clone() for name, one in packed.named_parameters() if one.grad is not None}
    packed.zero_grad()
    return found


@pytest.mark.parametrize("geometry", ["nano", "nano2", "smolnano"])
@pytest.mark.parametrize("changes", [{}, {"temperature": 0.7, "likelihood_share": 0.25}])
def test_the_packed_gradient_is_that_of_separate_captions(
    geometry: str, changes: dict[str, Any], smolnano: Path
) -> None:
    """One row an image, equal captions merged, against every caption in a sequence of its own, weighted by hand; for
    both families."""
    base = str(smolnano) if geometry == "smolnano" else "nano"
    made = recipe(model={"base": base}, objective={**changes, "reward": {"CIDEr": 1.0, f"{__name__}:words": 0.3}})
    packed, objective, batches = ready(made, geometry)
    section, share = objective.section, objective.section.likelihood_share
    work = objective(batches, step=1)
    loss = sum(packed(batch) for batch in work.batches) / work.divisor
    loss.backward()
    ours = gradients(packed)

    sampled = [found for batch in batches for found in objective._sampled(batch, 1)]
    by_hand = torch.zeros(())
    written = sum(batch.supervised for batch in batches)
    for one in sampled:
        rewards = objective._rewards(one)
        for row, own, scores in zip(one.rows, one.samples, rewards, strict=True):
            for number, drawn in enumerate(own):
                others = [float(score) for place, score in enumerate(scores) if place != number]
                advantage = float(scores[number]) - sum(others) / len(others)
                chances = log_chances(packed, objective, row.packed([drawn.ids]), section.temperature)
                by_hand = by_hand - (1 - share) * advantage * chances / work.divisor
            for suffix in row.suffixes if share else ():
                by_hand = by_hand - share * log_chances(packed, None, row.packed([suffix]), 1.0) / written
    by_hand.backward()  # type: ignore[no-untyped-call]
    theirs = gradients(packed)
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-5, abs=1e-6)
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-7, name
    assert any(float(gradient.norm()) > 0 for gradient in theirs.values())


def log_chances(packed: PackedModel, objective: SelfCritical | None, row: Any, temperature: float) -> Tensor:
    """The log-probability of a row's one caption, by autograd alone."""
    batch = collate([row], pad=0)  # a row alone is not padded
    logits = packed.head(packed.supervised(batch))
    if objective is not None:
        never = torch.zeros(logits.shape[1], dtype=torch.bool)
        never[objective._forbidden] = True
        logits = logits.masked_fill(never, -torch.inf)
    return (logits / temperature).log_softmax(-1).gather(1, batch.targets.unsqueeze(1)).sum()


def test_the_estimate_is_unbiased_and_the_baseline_lowers_its_variance() -> None:
    """Captions of two tokens out of two, whose expected reward is known: 10,000 images with five captions each."""
    images, count, temperature = 10_000, 5, 0.8
    rng = np.random.default_rng(0)
    logits = torch.tensor([[0.3, -0.5], [1.1, 0.2]], dtype=torch.float64)  # of the first and of the second token
    reward = np.array([[1.0, 4.0], [2.0, 7.0]])
    chances = (logits / temperature).softmax(-1).numpy()
    expected = chances[0][:, None] * chances[1][None, :]
    mean = float((expected * reward).sum())
    exact = np.stack(
        [
            chances[0] * (reward @ chances[1] - mean) / temperature,
            chances[1] * (reward.T @ chances[0] - mean) / temperature,
        ]
    )
    drawn = np.stack([rng.random((images, count)) < one[1] for one in chances], axis=-1).astype(int)
    rewards = reward[drawn[..., 0], drawn[..., 1]]
    weights = leave_one_out(rewards)
    flat = torch.tensor(weights.repeat(2, axis=-1).reshape(-1))
    targets = torch.tensor(drawn.reshape(-1))
    head = logits.clone().requires_grad_(True)
    hidden = torch.eye(2, dtype=torch.float64).repeat(images * count, 1)
    draw = Draw(temperature, torch.tensor([], dtype=torch.long), torch.ones(len(targets)) > 0)
    loss = summed_loss(hidden, head.T.contiguous(), targets, cap=None, dtype=torch.float64, weights=flat, draw=draw)
    loss.backward()  # type: ignore[no-untyped-call]
    assert head.grad is not None
    estimate = -head.grad.numpy() / (images * count)

    slopes = (np.eye(2)[drawn] - chances) / temperature  # [images, count, 2, 2]
    of_images = (weights[..., None, None] * slopes).mean(axis=1)
    assert estimate == pytest.approx(of_images.mean(axis=0), abs=1e-9)
    error = of_images.std(axis=0) / images**0.5
    assert (np.abs(estimate - exact) < 4 * error).all()
    without = (rewards[..., None, None] * slopes).mean(axis=1)
    assert (of_images.var(axis=0) < 0.6 * without.var(axis=0)).all()


def test_equal_captions_are_merged_and_what_weighs_nothing_is_left_out() -> None:
    """The sum of weights of each caption; advantages of an image add up to 0."""
    weights = leave_one_out(np.array([[1.0, 1.0, 4.0], [2.0, 2.0, 2.0]]))
    assert weights.sum(axis=1) == pytest.approx([0.0, 0.0])
    samples = [Sample(ids, ()) for ids in ((5, 1), (5, 1), (6, 1))]
    assert merged(samples, weights[0]) == [((5, 1), pytest.approx(-3.0)), ((6, 1), pytest.approx(3.0))]
    assert merged(samples, weights[1]) == []


def test_the_reward_counts_the_end_of_a_sentence() -> None:
    """A caption that broke off earns less than the same one ended; without the end word both earn ordinary CIDEr-D; an
    empty one earns 0."""

    def rewards(drawn: Sequence[Drawn], **section: Any) -> list[float]:
        made = recipe(objective=section)
        assert made.objective is not None
        shown = open_source("sample").split("train")[:2]
        counted = [replace(one, captions=own) for one, own in zip(shown, REFERENCES, strict=True)]
        return Reward.of(made.objective, counted)(drawn).tolist()

    ended, broken = (Drawn("Two planes are parked.", one, REFERENCES[0]) for one in (True, False))
    empty = Drawn("", True, REFERENCES[0])
    with_end = rewards([ended, broken, empty])
    assert with_end[0] > with_end[1] > 0.0 == with_end[2]
    plain = rewards([ended, broken], end_word=False)
    ordinary = cider_rewards(["Two planes are parked."], [REFERENCES[0]], IdfPool.build(REFERENCES))
    assert plain == pytest.approx([float(ordinary[0])] * 2)
    both = rewards([ended], reward={"CIDEr": 0.5, f"{__name__}:words": 2.0})
    assert both[0] == pytest.approx(0.5 * with_end[0] + 2.0 * 4)
    with pytest.raises(RecipeError, match="cannot be imported"):
        rewards([ended], reward={"no_such_module:reward": 1.0})
    with pytest.raises(RecipeError, match="unknown reward 'CIDER'"):
        recipe(objective={"reward": {"CIDER": 1.0}})


def test_a_recipe_names_metrics_and_functions_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a file: the logged reward is their weighted sum; a function that does not give a number a caption stops the
    run by its name."""
    (tmp_path / "mine.py").write_text(
        "def flat(captions, references):\n    return [2.0 for _ in captions]\n\n"
        "def short(captions, references):\n    return [2.0]\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    text = dump_recipe(recipe(train={"max_steps": 1}, objective={"reward": {"mine:flat": 3.0, "METEOR": 0.5}}))
    file = tmp_path / "reward.toml"
    file.write_text(text, encoding="utf-8")
    run = train(read_recipe(file), tmp_path / "run", say=lambda _: None)
    (step,) = (row for row in read_jsonl(run.train_log) if row["event"] == "step")
    assert 6.0 < step["reward"] < 6.5  # METEOR lies between 0 and 1
    file.write_text(text.replace("mine:flat", "mine:short"), encoding="utf-8")
    with pytest.raises(TrainingError, match="the reward mine:short gave"):
        train(read_recipe(file), tmp_path / "wrong", say=lambda _: None)


def words(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """A reward of one's own: the number of words."""
    return [len(caption.split()) for caption in captions]


def test_a_batch_in_halves_has_the_loss_of_the_whole() -> None:
    """Weights and draws stay with their tokens when memory runs out."""
    packed, objective, batches = ready(recipe())
    (batch,) = objective(batches, step=2).batches
    with torch.no_grad():
        parts = sum(float(packed(half)) for half in batch.halves())
        assert parts == pytest.approx(float(packed(batch)), rel=1e-5, abs=1e-5)


def test_a_run_learns_resumes_exactly_and_goes_on_from_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Likelihood on some images, then the reward on those held back: it begins with the first run's weights, has seen
    both parts, logs its reward, and killed it resumes to the same bytes."""
    shared = {"train_limit": 12, "reward_share": 0.5}
    first = train(recipe(objective=None, data=shared), tmp_path / "first", say=lambda _: None)
    watched = {"evaluate_every": 2, "evaluate_images": 3, "checkpoint_every": 1}
    made = recipe(data=shared, model={"start": str(first.path)}, train=watched)
    whole = train(made, tmp_path / "whole", say=lambda _: None)
    steps = [row for row in read_jsonl(whole.train_log) if row["event"] == "step"]
    assert all({"reward", "reward_spread", "ended", "distinct"} <= row.keys() for row in steps)
    (evaluation, *_) = (row for row in read_jsonl(whole.train_log) if row["event"] == "evaluation")
    assert {"bad_endings", "reference_bad_endings", "distinct_captions", "reward"} <= evaluation["watch"].keys()
    assert 0.0 <= evaluation["watch"]["thing-errors"] <= 1.0
    assert {"METEOR", "ROUGE-L"} <= evaluation["metrics"].keys()

    seen, before = read_seen(whole.seen_file), read_seen(first.seen_file)
    assert set(before.ids) < set(seen.ids)
    assert len(set(seen.ids)) == 12
    begun = Start.of(made)
    assert begun is not None
    learned = [load_file(run.adapter / "adapter_model.safetensors") for run in (first, whole)]
    assert any(not torch.equal(value, learned[1][name]) for name, value in learned[0].items())

    step = loop.TrainLog.step

    def dying(self: loop.TrainLog, **values: Any) -> None:
        step(self, **values)
        if values["step"] == 2:
            raise KeyError

    with monkeypatch.context() as patch:
        patch.setattr(loop.TrainLog, "step", dying)
        with pytest.raises(KeyError):
            train(made, tmp_path / "cut", say=lambda _: None)
    cut = train(made, tmp_path / "cut", say=lambda _: None, resume=True)
    assert cut.train_log.read_bytes() == whole.train_log.read_bytes()
    name = "adapter_model.safetensors"
    assert (cut.adapter / name).read_bytes() == (whole.adapter / name).read_bytes()


def test_a_start_that_trained_something_else_is_refused(tmp_path: Path) -> None:
    """Another rank: the error names it. With no updates the weights stay; what a run has seen is known by its start."""
    first = train(recipe(objective=None, train={"max_steps": 1}), tmp_path / "first", say=lambda _: None)
    with pytest.raises(RecipeError, match=r"adapter\.rank: 2 there, 3 here"):
        Start.of(recipe(model={"start": str(first.path)}, adapter={"rank": 3}))
    start = Start.of(recipe(model={"start": str(first.path)}))
    assert start is not None
    taken = recipe(objective=None, model={"start": str(first.path)}, train={"max_steps": 0})
    same = train(taken, tmp_path / "same", say=lambda _: None)
    learned, kept = (load_file(run.adapter / "adapter_model.safetensors") for run in (first, same))
    assert all(torch.equal(value, kept[name]) for name, value in learned.items())
    found = seen_by(RunFolder(first.path), start.recipe, lambda _: None)
    assert isinstance(found, Seen)
    assert len(start.seen_with(Seen.of([]), lambda _: None)) == len(found)


def test_held_images_are_for_the_reward_alone() -> None:
    """The two parts share no image, are all images together, and do not depend on the seed."""
    source = open_source("sample")
    data = {"train_limit": None, "reward_share": 0.3}
    rest = training_examples(source, recipe(objective=None, data=data))
    held = training_examples(source, recipe(data=data, seed=5))
    assert {one.id for one in rest}.isdisjoint(one.id for one in held)
    assert len(rest) + len(held) == len(source.split("train"))
    assert 0.2 < len(held) / len(source.split("train")) < 0.4
    both = training_examples(source, recipe(objective=None, data={**data, "reward_images": "held"}))
    assert both == held


def test_what_cannot_be_trained_on_a_reward_is_refused() -> None:
    """Sharded weights, dropout, and limits of a likelihood run."""
    with pytest.raises(RecipeError, match=r"\[objective\]"):
        check_shares(recipe(), Team(torch.device("cpu"), 0, 2, sharded=True), print)
    with pytest.raises(RecipeError, match="dropout"):
        recipe(adapter={"dropout": 0.1})
    with pytest.raises(RecipeError, match="min_distinct"):
        recipe(objective=None, selection={"min_distinct": 0.5}, train={"evaluate_every": 2})


def test_an_evaluation_beyond_a_limit_is_never_the_best() -> None:
    """Broken endings veto a checkpoint though its CIDEr is higher, and the end of the run says so."""
    selection, state = SelectionSection(patience=1, max_bad_endings=0.1, min_distinct=0.2), TrainingState()
    good, broken = {"bad_endings": 0.02, "distinct_captions": 0.5}, {"bad_endings": 0.4, "distinct_captions": 0.5}
    assert consider(state, selection, {"CIDEr": 0.4}, loss=1.0, degenerate=0.0, watch=good)
    assert not consider(state, selection, {"CIDEr": 0.9}, loss=1.0, degenerate=0.0, watch=broken)
    assert state.stopped is not None
    assert "end in an article" in state.stopped
