"""Training: what a run folder holds, that runs repeat, that updates mean what they say, that nonsense stops them."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file

from recipes import small_recipe
from rscap.captioner.batch import Batch, Encoder
from rscap.data import open_source
from rscap.errors import BrokenTargets, StoreError, TrainingDiverged
from rscap.model.adapters import prepare
from rscap.model.load import load_base
from rscap.model.packed import PackedModel
from rscap.recipe import Recipe, TrainSection
from rscap.store import RunFolder, read_jsonl
from rscap.training.examples import check_targets
from rscap.training.optimiser import rate_factor
from rscap.training.session import train
from rscap.training.updates import Schedule, updates


def recipe(**changes: Any) -> Recipe:
    """Three small steps of nano on the sample, with sections changed as asked."""
    train = {"max_steps": 3, "micro_batch": 4, "learning_rate": 1e-3}
    return small_recipe({"data": {"train_limit": 10}, "train": train}, changes)


def run(made: Recipe, folder: Path) -> RunFolder:
    return train(made, folder, say=lambda _: None)


def steps(folder: RunFolder) -> list[dict[str, Any]]:
    return [row for row in read_jsonl(folder.train_log) if row["event"] == "step"]


def test_a_run_folder_says_everything(tmp_path: Path) -> None:
    """Recipe, provenance, parameters per tower, a line a step, a PEFT adapter, and the status written last."""
    made = recipe(train={"evaluate_every": 2, "evaluate_images": 3})
    folder = run(made, tmp_path / "run")
    assert folder.status().state == "finished"
    provenance = json.loads(folder.provenance_file.read_text(encoding="utf-8"))
    assert {"rscap", "commit", "packages", "device", "data", "base"} <= set(provenance)
    assert len(provenance["data"]["digest"]) == 64
    parameters = json.loads(folder.parameters_file.read_text(encoding="utf-8"))
    assert parameters["vision_tower"]["trainable"] == parameters["projector"]["trainable"] == 0
    assert parameters["vision_tower"]["held"] == {"float32": parameters["vision_tower"]["total"]}
    rows = steps(folder)
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert {"loss", "learning_rate", "grad_norm", "supervised_tokens", "images", "captions"} <= set(rows[0])
    speed = read_jsonl(folder.speed_log)
    assert [row["step"] for row in speed] == [1, 2, 3]
    assert {"captions_per_s", "images_per_s", "memory_bytes", "seconds"} <= set(speed[0])
    evaluations = [row for row in read_jsonl(folder.train_log) if row["event"] == "evaluation"]
    assert [row["step"] for row in evaluations] == [2, 3]
    assert evaluations[0]["n"] == 3
    assert "CIDEr" in evaluations[0]["metrics"]
    assert {path.name for path in folder.adapter.iterdir()} >= {"adapter_config.json", "adapter_model.safetensors"}


def test_the_adapter_is_read_by_plain_peft(tmp_path: Path) -> None:
    """`PeftModel.from_pretrained` loads the adapter onto the base with the weights that were saved."""
    from peft import PeftModel, get_peft_model_state_dict

    made = recipe()
    folder = run(made, tmp_path / "run")
    net = PeftModel.from_pretrained(load_base(made.model).model, folder.adapter)
    saved = load_file(folder.adapter / "adapter_model.safetensors")
    loaded = get_peft_model_state_dict(net)
    assert set(saved) == set(loaded)
    assert all(torch.equal(saved[name], loaded[name]) for name in saved)
    assert any(bool(saved[name].any()) for name in saved if "lora_B" in name)


def test_the_same_recipe_gives_the_same_adapter(tmp_path: Path) -> None:
    """Two runs of one recipe on a CPU end bit for bit alike; another seed ends elsewhere."""
    made = recipe(adapter={"dropout": 0.1})
    one, two = (run(made, tmp_path / name).adapter / "adapter_model.safetensors" for name in ("a", "b"))
    other = run(recipe(adapter={"dropout": 0.1}, seed=2), tmp_path / "c").adapter / "adapter_model.safetensors"
    assert one.read_bytes() == two.read_bytes()
    assert one.read_bytes() != other.read_bytes()


def test_accumulation_changes_memory_and_not_the_update(tmp_path: Path) -> None:
    """Four images at once, or two and two: every token weighs the same, so losses and weights agree to rounding."""
    folders = [
        run(recipe(train={"micro_batch": size, "accumulation": 4 // size}), tmp_path / str(size)) for size in (4, 2, 1)
    ]
    losses = [[row["loss"] for row in steps(folder)] for folder in folders]
    tokens = [[row["supervised_tokens"] for row in steps(folder)] for folder in folders]
    weights = [load_file(folder.adapter / "adapter_model.safetensors") for folder in folders]
    for other in (1, 2):
        assert losses[other] == pytest.approx(losses[0], rel=1e-4)
        assert tokens[other] == tokens[0]
        for name, value in weights[0].items():
            # Adam turns a gradient at rounding level into a whole step, so single entries may differ by one rate.
            assert (weights[other][name] - value).abs().mean() < 1e-4


def test_gradient_checkpointing_changes_nothing(tmp_path: Path) -> None:
    """Recomputed activations give the same losses."""
    plain, checkpointed = (
        [row["loss"] for row in steps(run(recipe(train={"gradient_checkpointing": on}), tmp_path / str(on)))]
        for on in (False, True)
    )
    assert checkpointed == pytest.approx(plain, rel=1e-5)


def test_full_fine_tuning_leaves_a_model_and_lowers_the_loss(tmp_path: Path) -> None:
    """Without an adapter all weights learn and model/ holds an ordinary transformers folder."""
    towers = {"vision_tower": "trained", "projector": "trained", "language_model": "trained"}
    folder = run(recipe(adapter=None, towers=towers, train={"max_steps": 8}), tmp_path / "run")
    losses = [row["loss"] for row in steps(folder)]
    assert losses[-1] < losses[0]
    assert not folder.adapter.exists()
    from rscap.recipe import ModelSection

    assert load_base(ModelSection(base=str(folder.model), dtype="float32")).image_tokens == 64


def test_an_epoch_sees_every_example_once() -> None:
    """10 images in updates of 4 are 3 updates, the last of 2; the next epoch has another order and all again."""
    made = recipe()
    source = open_source("sample")
    examples = source.subset("train", 10, 1)
    stream = updates(examples, made, Encoder.of(load_base(made.model)))
    epochs = [[next(stream) for _ in range(3)] for _ in range(2)]
    seen = [[name for update in epoch for batch in update for name in batch.example_ids] for epoch in epochs]
    assert [len(update[0].example_ids) for update in epochs[0]] == [4, 4, 2]
    assert Counter(seen[0]) == Counter(seen[1]) == Counter(example.id for example in examples)
    assert seen[0] != seen[1]
    assert Schedule.of(made, 10).steps_per_epoch == 3


def test_prior_work_b_has_2366_steps() -> None:
    """37,843 images in updates of 16 are B's 2,366 steps."""
    made = recipe(train={"micro_batch": 4, "accumulation": 4, "epochs": 1, "max_steps": None})
    assert Schedule.of(made, 37_843).total_steps == 2_366


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_the_rate_warms_up_and_comes_down(schedule: Any) -> None:
    """Linear warm-up to the peak, then down to about 0 (or level)."""
    section = TrainSection(schedule=schedule, warmup_share=0.1)
    rates = [rate_factor(step, train=section, total_steps=100) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert max(rates) == pytest.approx(1.0)
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(rates[9:]))
    assert rates[-1] == 1.0 if schedule == "constant" else rates[-1] < 0.02


def test_a_random_base_is_taken_for_broken_targets(nano2: Path, tmp_path: Path) -> None:
    """A first loss near ln(vocabulary) on a base that should know better stops the run and marks it failed."""
    with pytest.raises(BrokenTargets, match=r"ln\(vocabulary\) = 8\.\d+"):
        run(recipe(model={"base": str(nano2)}), tmp_path / "run")
    status = RunFolder(tmp_path / "run").status()
    assert (status.state, status.refused) == ("failed", True)
    assert "BrokenTargets" in status.error
    assert not (tmp_path / "run" / "adapter").exists()


def losses_of(value: torch.Tensor) -> Any:
    """A packed with nano's vocabulary and the token losses given."""
    text = load_base(recipe().model).model.config.text_config
    return type("Says", (), {"text_config": text, "token_losses": lambda self, batch: value})()


def test_a_visible_answer_is_taken_for_broken_targets() -> None:
    """A first loss of 0 means that the model reads what it should predict."""
    with pytest.raises(BrokenTargets, match="sees the answer"):
        check_targets(losses_of(torch.full((50,), 1e-7)), cast(Batch, None))


def test_a_base_that_is_merely_surprised_may_learn() -> None:
    """A mean of ln V with tokens far above and below is a base that does not know these captions yet."""
    uniform = math.log(4096)
    even, uneven = torch.full((50,), uniform), torch.tensor([1.0, 2 * uniform - 1.0] * 25)
    with pytest.raises(BrokenTargets, match="uniform"):
        check_targets(losses_of(even), cast(Batch, None))
    check_targets(losses_of(uneven), cast(Batch, None))


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    """A learning rate of 1e18 blows the weights up; the run stops at the step where it shows and says so."""
    with pytest.raises(TrainingDiverged, match=r"step \d+: loss"):
        run(recipe(train={"learning_rate": 1e18, "max_steps": 9, "warmup_share": 0.0}), tmp_path / "run")
    assert RunFolder(tmp_path / "run").status().state == "failed"
    assert all(math.isfinite(row["loss"]) for row in steps(RunFolder(tmp_path / "run")))


def test_an_existing_run_is_not_overwritten(tmp_path: Path) -> None:
    """A run folder that exists is refused before anything is written into it."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious").write_text("x", encoding="utf-8")
    with pytest.raises(StoreError, match="exists"):
        run(recipe(), tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["precious"]


def test_checkpointing_computes_layers_again() -> None:
    """With checkpointed activations the backward pass runs a layer's MLP a second time; without, it does not."""
    made = recipe()
    base = load_base(made.model)
    packed = PackedModel(prepare(base.model, made.towers, made.adapter, seed=0), compute_dtype=torch.float32).train()
    (batch,) = next(updates(open_source("sample").subset("train", 2, 1), made, Encoder.of(base)))
    calls: list[int] = []
    packed.bare.model.language_model.layers[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    packed(batch).backward()
    plain = len(calls)
    packed.checkpoint_activations()
    packed(batch).backward()
    assert (plain, len(calls) - plain) == (1, 2)


def test_nf4_trains(tmp_path: Path) -> None:
    """QLoRA on a CPU: a 4-bit language model, finite losses, and a gradient at every step."""
    folder = run(recipe(model={"quantisation": "nf4", "dtype": "bfloat16"}), tmp_path / "run")
    assert all(math.isfinite(row["loss"]) and row["grad_norm"] > 0 for row in steps(folder))
    held = {tower: counts["held"] for tower, counts in json.loads(folder.parameters_file.read_text()).items()}
    assert held["vision_tower"].keys() == {"bfloat16"}
    assert held["language_model"].keys() == {"nf4", "bfloat16", "float32"}  # layers, embeddings, the adapter
    assert held["language_model"]["nf4"] > held["language_model"]["float32"]


def test_quality_rules_remove_captions_and_say_which(tmp_path: Path) -> None:
    """[data.quality] drops captions before training; removed.jsonl lists them and fewer tokens are supervised."""
    plain = run(recipe(train={"max_steps": 1}), tmp_path / "plain")
    ruled = run(
        recipe(data={"quality": {"max_words": 9, "keep_at_least": 1}}, train={"max_steps": 1}), tmp_path / "ruled"
    )
    removed = read_jsonl(ruled.path / "removed.jsonl")
    assert removed
    assert all(len(row["caption"].split()) > 9 for row in removed)
    assert steps(ruled)[0]["supervised_tokens"] < steps(plain)[0]["supervised_tokens"]
    assert not (plain.path / "removed.jsonl").exists()


def test_training_prompts_are_pure_draws() -> None:
    """With several training prefixes each image draws one an epoch, the same in every run, and all are drawn."""
    made = recipe(prompt={"training_prefixes": ["caption en", "describe the picture", "what is there"]})
    source = open_source("sample")
    examples = source.subset("train", 10, 1)
    encoder = Encoder.of(load_base(made.model))
    lengths = {len(encoder.prompter.prefix(words)) for words in made.prompt.training_prefixes}

    def drawn() -> list[int]:
        stream = updates(examples, made, encoder)
        return [int((row == 0).sum()) for _ in range(6) for batch in next(stream) for row in batch.branch]

    first = drawn()
    assert first == drawn()
    assert set(first) == lengths
    assert len(lengths) > 1


def test_an_unusable_example_alone_in_its_micro_batch_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With micro batches of one, an image that cannot be read is listed and counted, and the update goes on."""
    from rscap.errors import ImageError
    from rscap.sample import RenderedScene
    from rscap.training import session as train_run

    source = open_source("sample")
    victim = source.subset("train", 10, 1)[3].id
    monkeypatch.setattr(train_run, "decoded_data", lambda *_, **__: source)
    load = RenderedScene.load

    def broken(self: RenderedScene) -> Any:
        if self.name == victim:
            raise ImageError(f"{victim} is truncated")
        return load(self)

    monkeypatch.setattr(RenderedScene, "load", broken)
    made = recipe(train={"micro_batch": 1, "accumulation": 5, "max_steps": 2}, data={"max_rejected_share": 0.2})
    folder = run(made, tmp_path / "run")
    assert [row["images"] for row in steps(folder)] == [5, 4]
    assert read_jsonl(folder.rejected_file) == [{"row": victim, "reason": f"{victim} is truncated"}]
