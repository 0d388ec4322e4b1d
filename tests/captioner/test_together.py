"""Runs over one base in memory caption as each does alone."""

from __future__ import annotations

from pathlib import Path

import pytest

import rscap
from foreign import peft_adapter
from recipes import small_recipe
from rscap.captioner import Captioner, load_together
from rscap.errors import AdapterError
from rscap.recipe import GenerateSection
from rscap.records import Answer, Rejected
from rscap.sample import sample_examples

METHODS = {
    "lora": {"rank": 2},
    "pissa": {"method": "pissa", "rank": 2},
    "vera": {"method": "vera", "rank": 8},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three runs of one update at a rate that changes captions, each by another method."""
    folder = tmp_path_factory.mktemp("runs")
    data = rscap.open_data(sample_examples()[:8])
    train = {"max_steps": 1, "micro_batch": 8, "accumulation": 1, "learning_rate": 0.01}
    return {
        name: rscap.train(
            small_recipe({"adapter": adapter, "train": train}), folder / name, data=data, progress=False
        ).path
        for name, adapter in METHODS.items()
    }


def test_each_captions_as_it_does_alone(runs: dict[str, Path]) -> None:
    """Base and three adapters, asked in turn and back: captions and probabilities of each loaded alone, to the bit."""

    def asked(captioner: Captioner) -> list[Answer | Rejected]:
        return list(captioner.answers(sample_examples()[:4], settings=GenerateSection(max_new_tokens=8)))

    alone = {name: asked(rscap.load(path, device="cpu")) for name, path in runs.items()}
    alone["nano"] = asked(rscap.load("nano", device="cpu", dtype="float32"))
    assert len(set(map(tuple, alone.values()))) == len(alone), "two of them are equally sure of the same captions"
    together = load_together("nano", {name: str(path) for name, path in runs.items()}, device="cpu")
    for name in [*together, *reversed(together)]:
        assert asked(together[name]) == alone[name], name


def test_the_base_is_held_once(runs: dict[str, Path]) -> None:
    """No weight of the base exists twice, but for the towers that PiSSA takes a part out of."""
    together = load_together(str(runs["lora"]), {"vera": str(runs["vera"]), "pissa": str(runs["pissa"])}, device="cpu")
    assert list(together) == ["lora", "vera", "pissa", "nano"]
    own = {one.data_ptr() for one in together["nano"].packed.parameters()}
    for name, copied in (("lora", False), ("vera", False), ("pissa", True)):
        base = [one for key, one in together[name].packed.named_parameters() if "base_layer.weight" in key]
        assert base
        assert {one.data_ptr() in own for one in base} == {not copied}, name


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two adapters of another program: one beside the weights of its base, and one that learned biases of them."""
    folder = tmp_path_factory.mktemp("others")
    return {"plain": peft_adapter(folder / "plain"), "biased": peft_adapter(folder / "biased", bias="all")}


def test_adapters_of_other_programs_stand_beside_runs(runs: dict[str, Path], others: dict[str, Path]) -> None:
    """Each captions as it does alone, and so do run and base beside it, whichever is named first."""

    def asked(captioner: Captioner) -> list[str]:
        found = captioner.predictions(sample_examples()[:4], settings=GenerateSection(max_new_tokens=8))
        return [repr(one) for one in found]

    folders = {"lora": str(runs["lora"]), **{name: str(path) for name, path in others.items()}}
    alone = {name: asked(rscap.load(path, device="cpu", dtype="float32")) for name, path in folders.items()}
    alone["nano"] = asked(rscap.load("nano", device="cpu", dtype="float32"))
    assert len(set(map(tuple, alone.values()))) == len(alone), "two of them caption alike"
    for first, beside in (("nano", ("biased", "plain", "lora")), (folders["plain"], ("lora", "biased"))):
        together = load_together(first, {name: folders[name] for name in beside}, device="cpu")
        assert together.keys() == ({*beside, "nano"} if first == "nano" else alone.keys())
        for name in [*together, *reversed(together)]:
            assert asked(together[name]) == alone[name], name


def test_a_run_that_does_not_belong_is_refused(runs: dict[str, Path]) -> None:
    """Another precision, a base as an adapter, and a name that is taken; the message says what differs."""
    lora = str(runs["lora"])
    with pytest.raises(AdapterError, match="is neither a run that trained an adapter"):
        load_together("nano", {"mine": "nano"}, device="cpu")
    with pytest.raises(AdapterError, match="names the base model"):
        load_together("nano", {"nano": lora}, device="cpu")
