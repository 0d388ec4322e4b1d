"""`rscap plan`: what is proposed fits, keeps an update's meaning, and can be run as printed."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from checkout import ROOT
from rscap.cli import app
from rscap.errors import ModelError, RecipeError
from rscap.planning import Card, Plan, find_card, plan_recipe
from rscap.planning.cards import CARDS
from rscap.planning.sequence import lengths
from rscap.recipe import Recipe, parse_recipe, read_recipe

RECIPES = ROOT / "recipes"
GIB = 2**30


def recipe(**train: Any) -> Recipe:
    """LoRA on PaliGemma-3B, in bfloat16, on data that are not here."""
    return parse_recipe(
        {
            "data": {"source": "caglarmert/full_riscm"},
            "model": {"base": "google/paligemma-3b-pt-224", "dtype": "bfloat16"},
            "adapter": {"rank": 16},
            "train": train,
        }
    )


def update_of(given: Recipe) -> int:
    return given.train.micro_batch * given.train.accumulation


def card(gib: float, *, bfloat16: bool = True) -> Card:
    return Card(name="some card", bytes=int(gib * GIB), tflops=100.0, bytes_per_s=1e12, bfloat16=bfloat16)


@pytest.mark.parametrize("name", sorted(path.name for path in RECIPES.glob("*.toml")))
@pytest.mark.parametrize("gpu", ["6GB", "16GB", "24GB", "80GB"])
def test_every_shipped_recipe_has_a_proposal(name: str, gpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On 6, 16, 24 and 80 GB: what is proposed fits and leaves the images of an update as they are."""
    written = read_recipe(RECIPES / name, ["data.source=caglarmert/full_riscm"])  # whose captions need not be here
    plan = plan_recipe(written, find_card(gpu))
    assert plan.proposed is not None
    assert plan.proposed.needed <= plan.card.bytes < int(gpu.removesuffix("GB")) * GIB
    assert update_of(plan.proposed.recipe) == update_of(written)


def test_a_precision_left_to_the_card_is_that_of_the_card() -> None:
    """`auto` is float16 on a T4, bfloat16 on an A100: nothing to change, it is said, and the figures are of it."""
    for gpu, dtype in (("T4", "float16"), ("A100", "bfloat16")):
        left = plan_recipe(changed("model.dtype=auto"), find_card(gpu))
        assert "model.dtype" not in left.changes
        assert f"model.dtype = 'auto' is {dtype} here" in left.notes
        named = plan_recipe(changed(f"model.dtype={dtype}"), find_card(gpu))
        assert left.written.needed == named.written.needed


def changed(*overrides: str) -> Recipe:
    """The recipe of two images a micro batch, with overrides."""
    return read_recipe(recipe(micro_batch=2).model_dump(exclude_none=True), overrides)


def test_a_plan_offers_the_download_of_half_the_size() -> None:
    """PaliGemma's main branch is float32: the branch in the recipe's precision is named, and no longer once chosen.
    PaliGemma 2 has none."""
    offered = [note for note in plan_recipe(changed(), find_card("L4")).notes if "revision" in note]
    assert len(offered) == 1
    assert "11.7 GB to download: --set model.revision=bfloat16" in offered[0]
    for one in (changed("model.revision=bfloat16"), changed("model.base=google/paligemma2-3b-pt-224")):
        assert not [note for note in plan_recipe(one, find_card("L4")).notes if "revision" in note]


def test_a_plan_names_the_build_for_an_older_card() -> None:
    """torch's standard builds begin with a T4; a P100 and a V100 need another."""
    told = {gpu: any("cu126" in note for note in plan_recipe(recipe(), find_card(gpu)).notes) for gpu in CARDS}
    assert [gpu for gpu, yes in told.items() if yes] == ["p100", "v100"]


@pytest.mark.parametrize(
    "base", ["paligemma-3b-mix-448", "paligemma-3b-pt-896", "paligemma2-10b-pt-224", "paligemma2-28b-pt-448"]
)
def test_the_larger_checkpoints_are_reckoned_with(base: str) -> None:
    """More pixels and more parameters need more memory, and on 80 GB something fits for each of them."""
    plan = plan_recipe(changed(f"model.base=google/{base}"), find_card("A100"))
    assert plan.proposed is not None
    assert plan.written.needed > plan_recipe(recipe(micro_batch=2), find_card("A100")).written.needed


def test_the_plan_of_prior_work_b_has_its_trainable_parameters() -> None:
    """Of risc-b-exact's 22,597,632 trainable parameters 2,985,984 lie in the vision tower; the screen says both."""
    said = " ".join(CliRunner().invoke(app, ["plan", "risc-b-exact", "--gpu", "A100"]).stdout.split())
    assert "22,597,632 trainable parameters: vision tower 2,985,984, language model 19,611,648" in said


def test_the_best_recipe_fits_twenty_four_gigabytes() -> None:
    """As it is written, in bfloat16 and without checkpointing; on a smaller card something else is proposed."""
    best = read_recipe("risc-best")
    plan = plan_recipe(best, find_card("24GB"))
    assert plan.written.fits
    assert plan.written.recipe.train.gradient_checkpointing is False
    assert not plan.changes
    assert plan_recipe(best, find_card("6GB")).changes["model.quantisation"] == "nf4"


def test_half_precision_lora_fits_sixteen_gigabytes() -> None:
    """PaliGemma-3B's LoRA in float16, as a T4 needs it, without quantisation; on a T4 bfloat16 is replaced."""
    plan = plan_recipe(recipe(micro_batch=8, accumulation=2), find_card("T4"))
    assert plan.proposed is not None
    chosen = plan.proposed.recipe
    assert (chosen.model.dtype, chosen.model.quantisation) == ("float16", "none")
    assert plan.changes["model.dtype"] == "float16"
    assert find_card("16GB").bytes == find_card("T4").bytes
    same = plan_recipe(read_recipe(RECIPES / "risc-fast.toml", ["model.dtype=float16"]), find_card("16GB"))
    assert same.proposed is not None
    assert same.proposed.recipe.model.quantisation == "none"


@settings(max_examples=25, deadline=None)
@given(
    micro_batch=st.integers(1, 24),
    accumulation=st.integers(1, 6),
    gib=st.floats(1.0, 100.0),
    checkpointing=st.booleans(),
)
def test_a_proposal_keeps_the_update_and_fits(
    micro_batch: int, accumulation: int, gib: float, checkpointing: bool
) -> None:
    """Whatever the batch and the card: micro batch x accumulation is kept, and it fits; or nothing does, by so much."""
    written = recipe(micro_batch=micro_batch, accumulation=accumulation, gradient_checkpointing=checkpointing)
    plan = plan_recipe(written, card(gib))
    assert update_of(plan.closest.recipe) == update_of(written)
    if plan.proposed is None:
        assert plan.closest.shortfall > 0
        assert not plan.written.fits
        assert len(plan.limits) == 6
        assert all(limit.largest is None for limit in plan.limits)
    else:
        assert plan.proposed.needed <= plan.card.bytes
        if plan.written.fits:  # then nothing slower, and no other precision
            assert plan.proposed.seconds_per_image <= plan.written.seconds_per_image
            assert plan.proposed.recipe.model == written.model


def test_precision_is_the_last_thing_to_change() -> None:
    """With less and less memory: a smaller micro batch, then checkpointing, then 4 bits; and never slower with more."""
    written = recipe(micro_batch=8, accumulation=2, gradient_checkpointing=False)
    plans = [plan_recipe(written, card(gib)) for gib in (40, 20, 12, 9, 7.2, 6, 5, 4)]
    chosen = [plan.proposed.recipe for plan in plans if plan.proposed is not None]
    assert len(chosen) == len(plans)
    assert [one.model.quantisation for one in chosen] == sorted(
        (one.model.quantisation for one in chosen), key=["none", "nf4"].index
    )
    assert chosen[0].train.micro_batch == 8  # no slower than 16 on a card like this, so it stays
    assert not chosen[0].train.gradient_checkpointing
    assert chosen[-1].model.quantisation == "nf4"
    assert chosen[-1].train.gradient_checkpointing
    plain = [plan.proposed for plan in plans if plan.proposed and plan.proposed.recipe.model.quantisation == "none"]
    assert [one.seconds_per_image for one in plain] == sorted(one.seconds_per_image for one in plain)


def test_evaluation_is_made_to_fit() -> None:
    """Many beams for many images would take more than training: fewer images are decoded at a time, and no fewer."""
    generous = recipe(micro_batch=1, evaluate_every=10, gradient_checkpointing=True)
    written = generous.model_copy(update={"generate": generous.generate.model_copy(update={"batch_size": 256})})
    plan = plan_recipe(written, card(8))
    assert plan.written.generating > plan.written.memory.moving
    assert not plan.written.fits
    assert plan.proposed is not None
    assert plan.changes["generate.batch_size"] == plan.proposed.recipe.generate.batch_size < 256


def test_more_captions_and_images_take_more() -> None:
    """Memory grows with the micro batch and with the captions of an image; checkpointing and 4 bits save some."""

    def needed(gpu: Card = CARDS["h200"], captions: str = "all", **train: Any) -> Plan:
        one = recipe(**train)
        return plan_recipe(one.model_copy(update={"data": one.data.model_copy(update={"captions": captions})}), gpu)

    def moving(plan: Plan) -> int:
        return plan.written.memory.moving

    one, four = needed(micro_batch=1), needed(micro_batch=4)
    assert moving(one) < moving(four) < 4.2 * moving(one)
    assert moving(needed(captions="random", micro_batch=4)) < moving(four)
    assert moving(needed(micro_batch=4, gradient_checkpointing=True)) < moving(four) / 2


def test_captions_that_are_drawn_count_in_rows_memory_and_time() -> None:
    """Rows hold drawn captions, and references beside them where the likelihood has a share; the longest are at the
    limit. Drawing takes time and operations, more of both with more captions, and is noted; held images alone count."""
    asked = {"samples": 5, "max_new_tokens": 20}
    plain = recipe(micro_batch=8).model_dump(mode="json", exclude_none=True)
    drawn, mixed, many = (
        parse_recipe({**plain, "data": {**plain["data"], "captions": "all", "reward_share": 0.3}, "objective": one})
        for one in (asked, {**asked, "likelihood_share": 0.2}, {**asked, "samples": 10})
    )
    plans = [plan_recipe(one, card(80)) for one in (drawn, mixed, many)]
    rows, beside, ten = (plan.rows for plan in plans)
    assert rows.images == round(0.3 * 35_614)
    assert (rows.longest_tokens, rows.longest_supervised) == (rows.prefix + 5 * 19, 5 * 20)
    assert rows.captions == 5
    assert (ten.captions, beside.captions) == (10, 10)
    assert beside.longest_supervised == 5 * 20 + lengths(recipe(), shapes=plans[0].shapes).longest_supervised
    one, _, other = (plan.written for plan in plans)
    assert 0 < one.drawing < other.drawing
    assert 0.1 < one.drawing_share < 0.95
    assert other.duration.operations_per_image > one.duration.operations_per_image
    assert any("5 captions of up to 20 tokens are drawn" in note for note in plans[0].notes)
    likelihood = plan_recipe(parse_recipe({**plain, "data": {**plain["data"], "reward_share": 0.3}}), card(80))
    assert likelihood.rows.images == 35_614 - rows.images
    assert (likelihood.written.drawing, likelihood.written.drawing_share) == (0, 0.0)


def test_lengths_are_those_of_packed_rows() -> None:
    """On data at hand: mean and longest row, and the supervised tokens in it, are what the encoder makes."""
    from rscap.captioner.batch import Encoder
    from rscap.data import open_source
    from rscap.model.load import load_base
    from rscap.planning.shapes import shapes_of_base

    written = parse_recipe({"data": {"source": "sample", "train_limit": 40}, "model": {"base": "nano"}, "adapter": {}})
    found = lengths(written, shapes=shapes_of_base("nano"))
    encoder = Encoder.of(load_base(written.model))
    examples = open_source("sample").subset("train", 40, 0)
    rows = [encoder(one, prefix="caption en", captions=one.captions) for one in examples]
    assert found.images == 40
    assert found.longest_tokens == max(len(row.tokens) for row in rows)
    assert found.longest_supervised == max(len(row.targets) for row in rows)
    assert found.mean_tokens == pytest.approx(sum(len(row.tokens) for row in rows) / 40)
    assert found.mean_supervised == pytest.approx(sum(len(row.targets) for row in rows) / 40)
    assert found.prefix == len(encoder.prompter.prefix("caption en"))


def test_time_rests_on_what_was_measured_where_it_is_given() -> None:
    """A rate that a run achieved replaces every assumption, and time is operations over it."""
    written = recipe(epochs=2.0, micro_batch=4)
    plan = plan_recipe(written, card(40), achieved_tflops=50.0)
    time = plan.written.duration
    assert time.images_per_s == pytest.approx(50e12 / time.operations_per_image)
    assert time.seconds == pytest.approx(2 * 35_614 / time.images_per_s)
    assert time.updates == 2 * 8904
    assert "as given" in time.basis
    assert "assumes" in plan_recipe(written, card(40)).written.duration.basis


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["plan", *arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def test_the_printed_command_is_the_proposal(tmp_path: Path) -> None:
    """Exit code 0, a row a component with --verbose; the overrides of the first line read as what was proposed."""
    out = tmp_path / "plan.json"
    path = RECIPES / "risc-qlora.toml"
    code, shown = run(str(path), "--gpu", "16GB", "--set", "train.accumulation=8", "--out", str(out), "--verbose")
    assert code == 0
    for component in ("vision tower", "projector", "embeddings", "language model", "head"):
        assert any(line.startswith(component) for line in shown.splitlines())
    words = shlex.split(shown.splitlines()[0])
    assert words[:3] == ["rscap", "train", str(path)]
    overrides = [words[index + 1] for index, word in enumerate(words) if word == "--set"]
    ready = read_recipe(path, overrides)
    record = json.loads(out.read_text(encoding="utf-8"))
    assert record["fits"]
    assert ready.train.micro_batch == record["proposed"]["micro_batch"]
    assert ready.train.accumulation == record["proposed"]["accumulation"]
    assert update_of(ready) == 4 * 8
    assert ready.train.gradient_checkpointing == record["proposed"]["gradient_checkpointing"]
    rows = record["proposed"]["components"]
    tensors = sum(sum(row.values()) for row in rows.values())
    more = record["proposed"]["reserve_bytes"] + record["proposed"]["context_bytes"]
    between = max(0, record["proposed"]["generation_bytes"] - (tensors - _fixed(rows)))
    assert record["proposed"]["needed_bytes"] == tensors + between + more


def _fixed(rows: dict[str, dict[str, int]]) -> int:
    return sum(row["weights"] + row["optimiser"] for row in rows.values())


def test_what_does_not_fit_is_refused_with_the_shortfall(tmp_path: Path) -> None:
    """Exit code 1, by how many bytes, and the smallest configuration; no command to run."""
    out = tmp_path / "plan.json"
    code, shown = run(str(RECIPES / "risc-qlora.toml"), "--gpu", "2GB", "--out", str(out))
    record = json.loads(out.read_text(encoding="utf-8"))
    assert code == 1
    assert record["proposed"] is None
    assert record["closest"]["shortfall_bytes"] == record["closest"]["needed_bytes"] - record["card"]["bytes"] > 0
    assert f"does not fit: short by {record['closest']['shortfall_bytes'] / GIB:.2f} GiB" in shown
    assert "rscap train" not in shown


def test_this_machine_is_the_card_when_none_is_named(tmp_path: Path, nano2: Path) -> None:
    """Without --gpu the plan is for what is here, and its products are timed."""
    out = tmp_path / "plan.json"
    code, shown = run(str(RECIPES / "risc-mini-nano.toml"), "--set", "data.source=sample", "--out", str(out))
    record = json.loads(out.read_text(encoding="utf-8"))
    assert code == 0
    assert record["card"]["measured"]
    assert record["card"]["tflops"] > 0
    assert "this machine" in shown
    assert "measured here" in shown


@pytest.mark.parametrize("text", ["huge", "0GB", "-6", "6TB", ""])
def test_a_card_that_is_none_is_refused(text: str) -> None:
    """Neither a size nor a name: an error that lists the names."""
    with pytest.raises(RecipeError, match="neither a size nor a known card") as refused:
        find_card(text)
    assert refused.value.hint is not None
    assert "T4" in refused.value.hint


def test_sizes_and_names_are_read_in_any_case() -> None:
    """`6GB`, `6 GiB`, `6` are one size; names may be in small letters."""
    assert len({find_card(text).bytes for text in ("6GB", "6 GiB", "6", "6gb", "6.0G")}) == 1
    assert find_card("a100") is find_card("A100")


def test_a_configuration_alone_is_enough(tmp_path: Path) -> None:
    """A folder that holds nothing but the config.json of a checkpoint is planned like the checkpoint itself."""
    from rscap.model.families.paligemma import paligemma_config

    paligemma_config("paligemma-3b").save_pretrained(tmp_path)
    written = recipe(micro_batch=2)
    local = written.model_copy(update={"model": written.model.model_copy(update={"base": str(tmp_path)})})
    assert plan_recipe(local, card(16)).written.needed == plan_recipe(written, card(16)).written.needed


def test_a_base_of_unknown_shape_is_refused(tmp_path: Path) -> None:
    """A folder without config.json, and a Hub name that is not pinned: an error that says what to do, no download."""
    for base in (str(tmp_path), "nobody/some-model"):
        unknown = recipe().model_copy(update={"model": recipe().model.model_copy(update={"base": base})})
        with pytest.raises(ModelError, match=r"is unknown: no config\.json"):
            plan_recipe(unknown, card(16))


@pytest.mark.parametrize(("size", "measured"), [(16, 96), (32, 107)])
def test_the_speed_of_an_h200_is_about_what_was_measured(size: int, measured: float) -> None:
    """PaliGemma-3B on an H200, 28 November 2026: 166 and 299 ms for 16 and 32 images (results/first_gpu.json, without
    the input cast), before an adapter's sum was done in place; the plan expects up to a third more since."""
    plan = plan_recipe(recipe(micro_batch=size, gradient_checkpointing=False), find_card("H200"))
    assert measured < plan.written.duration.images_per_s < 1.35 * measured


def test_small_micro_batches_take_the_time_of_their_kernels() -> None:
    """On a fast card 1 and 4 images take equally long, and the output says why; on a slow one the card decides."""
    one, four = (
        plan_recipe(recipe(micro_batch=size, gradient_checkpointing=False), find_card("H200")).written.duration
        for size in (1, 4)
    )
    assert four.images_per_s == pytest.approx(4 * one.images_per_s)
    assert "µs to start a kernel" in four.basis
    slow = plan_recipe(recipe(micro_batch=4, gradient_checkpointing=False), find_card("L4")).written.duration
    assert "of the memory bandwidth (0.3 TB/s)" in slow.basis


def test_kernels_are_those_that_are_dispatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operations that a training step of nano dispatches, forward and backward, are those that the plan counts."""
    import importlib

    from rscap.model.adapters import prepare
    from rscap.model.load import load_base
    from rscap.model.packed import PackedModel
    from rscap.planning.parameters import Setting
    from rscap.planning.shapes import shapes_of_base
    from rscap.planning.time import kernels

    monkeypatch.syspath_prepend(str(RECIPES.parent / "benchmarks"))
    operations, peaks = importlib.import_module("decode_ops").Operations, importlib.import_module("peaks")
    model = {"base": "nano", "dtype": "bfloat16"}
    made = parse_recipe({"data": {"source": "sample"}, "model": model, "adapter": {}})
    base = load_base(made.model)
    packed = PackedModel(prepare(base.model, made.towers, made.adapter, seed=0), compute_dtype=base.compute_dtype)
    batch = peaks.micro_batch(packed.bare, 2, suffixes=(4, 5))
    packed(batch).backward()  # later ones also add to gradients
    with operations() as counted:
        packed(batch).backward()
    assert kernels(shapes_of_base("nano"), Setting(made)) == pytest.approx(counted.count, rel=0.05)
