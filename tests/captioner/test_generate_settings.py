"""Decode settings: what fits together, how a signature names them, and how the command line changes them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from checkout import ROOT
from rscap.captioner.choice import decode_name
from rscap.cli import app
from rscap.errors import RecipeError, StoreError
from rscap.evaluation.request import Request, evaluate, prepare
from rscap.recipe import GenerateSection, change_generate, parse_recipe
from rscap.store import RunFolder, read_json
from rscap.training.session import train

common = {
    "max_new_tokens": st.sampled_from([32, 64]),
    "repetition_penalty": st.sampled_from([1.0, 1.2, 1.25, 1.2000001]),
    "no_repeat_ngram": st.sampled_from([0, 2, 3]),
    "logits": st.sampled_from(["float32", "model"]),
}
greedy = st.builds(GenerateSection, **common)
beams = st.builds(
    GenerateSection, beams=st.sampled_from([2, 3]), length_penalty=st.sampled_from([0.5, 1.0, -1.0]), **common
)
draws = st.builds(
    GenerateSection,
    temperature=st.sampled_from([0.1, 0.10000001, 1.0]),
    top_k=st.sampled_from([0, 5]),
    top_p=st.sampled_from([0.9, 1.0]),
    seed=st.sampled_from([0, 1, -1]),
    **common,
)
settings = st.one_of(greedy, beams, draws)


@given(settings, settings, st.sampled_from([1, 16]))
def test_two_ways_to_decode_have_two_names(one: GenerateSection, other: GenerateSection, size: int) -> None:
    """Names are equal exactly where all settings but the batch size are, and break no signature."""
    name = decode_name(one)
    assert (name == decode_name(other)) == (one == other)
    assert decode_name(one.model_copy(update={"batch_size": size})) == name
    assert not set(name) & set("|: ,")


def test_names_as_documented() -> None:
    """Greedy decoding is named as it always was; what differs from it follows."""
    assert decode_name(GenerateSection()) == "greedy-64"
    prior = GenerateSection(max_new_tokens=50, beams=3, length_penalty=0.8, repetition_penalty=1.2, no_repeat_ngram=3)
    assert decode_name(prior) == "beam3-50-lp0.8-rp1.2-nr3"
    drawn = GenerateSection(temperature=0.7, top_k=50, top_p=0.9, seed=1)
    assert decode_name(drawn) == "sample-64-t0.7-k50-p0.9-s1"
    assert decode_name(GenerateSection(temperature=1)) == "sample-64-t1-s0"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["generate.beams=3", "generate.temperature=0.7"], "beams = 3 searches, temperature = 0.7 samples"),
        (["generate.length_penalty=2"], "length_penalty = 2 .* needs beams above 1"),
        (["generate.top_k=5"], "top_k = 5 .* needs a temperature above 0"),
        (["generate.top_p=0.5"], "top_p = 0.5 .* needs a temperature above 0"),
        (["generate.seed=4"], "seed = 4 .* needs a temperature above 0"),
        (["generate.beams=0"], "generate.beams: .*greater than or equal to 1"),
        (["generate.top_p=0", "generate.temperature=1"], "generate.top_p: .*greater than 0"),
        (["generate.beem=2"], "did you mean 'generate.beams'"),
        (["train.epochs=2"], "'train.epochs=2' does not begin with `generate.`"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes: list[str], words: str) -> None:
    """A setting that would do nothing, or that contradicts another, is an error that names it."""
    with pytest.raises(RecipeError, match=words):
        change_generate(GenerateSection(), changes)


def test_draws_can_be_switched_off_again() -> None:
    """A run that drew its captions is evaluated greedily with `temperature=0`, if its other draw settings go too."""
    section = GenerateSection(temperature=0.5, top_k=10)
    assert change_generate(section, ["generate.temperature=0", "generate.top_k=0"]) == GenerateSection()


def silent(*_: Any) -> None:
    """Neither progress nor messages."""


def test_an_evaluation_says_how_it_decoded(tmp_path: Path) -> None:
    """Overrides are applied, stand in evaluation.json, and enter the signature of every score."""
    changes = ("generate.beams=2", "generate.max_new_tokens=7", "generate.no_repeat_ngram=3")
    request = Request(model="nano", source="sample", limit=3, out=tmp_path / "z", baselines=False, changes=changes)
    run, sheets = evaluate(prepare(request), progress=silent, say=silent)
    assert "|decode:beam2-7-nr3|" in sheets["z"].signature
    recorded = read_json(run.path / "evaluation.json")["generate"]
    assert recorded == GenerateSection(beams=2, max_new_tokens=7, no_repeat_ngram=3).model_dump(mode="json")


def test_a_run_keeps_its_own_scores_apart_from_other_decodings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other decode settings make a folder of their own; another batch size is the same evaluation."""
    recipe = parse_recipe(
        {
            "data": {"source": "sample", "train_limit": 4},
            "model": {"base": "nano", "dtype": "float32"},
            "adapter": {"rank": 1},
            "train": {"max_steps": 1, "micro_batch": 4},
        }
    )
    monkeypatch.chdir(tmp_path)
    own = train(recipe, tmp_path / "own", say=silent).path
    assert prepare(Request(model=str(own), changes=("generate.batch_size=2",))).out == own
    assert prepare(Request(model=str(own), changes=("generate.beams=4",))).out == Path("runs/own-test-beam4-64")
    with pytest.raises(StoreError, match="in its own words and decoding"):
        prepare(Request(model=str(own), out=own, changes=("generate.beams=4",)))
    assert not RunFolder(own).scores("test").exists()


def test_the_command_line_overrides_decoding(tmp_path: Path) -> None:
    """`rscap caption --set generate.…` decodes as told; a wrong key is refused before a model is loaded."""
    from rscap.sample import sample_examples

    image = tmp_path / "image.png"
    sample_examples()[0].image.load().save(image)
    start = ["caption", str(image), "--model", "nano", "--dtype", "float32", "--json"]
    done = CliRunner().invoke(app, [*start, "--set", "generate.max_new_tokens=3", "--set", "generate.beams=2"])
    assert json.loads(done.stdout)["tokens"] == 3
    wrong = CliRunner().invoke(app, [*start[:2], "--model", "no-such-model", "--set", "generate.beem=2"])
    assert isinstance(wrong.exception, RecipeError)


def test_every_setting_is_documented() -> None:
    """docs/decoding.md lists each key of [generate] with its default, and the names it shows are the names given."""
    text = (ROOT / "docs" / "decoding.md").read_text(encoding="utf-8")
    for key, field in GenerateSection.model_fields.items():
        assert f"| `{key}` | {field.default} |" in text
    section = text.split("## In the signature")[1].split("\n## ")[0]
    for row in (line for line in section.splitlines() if line.startswith("| `")):
        name, values = row.strip("| ").split(" | ")
        if "rp1.2-nr3" in name and name != "`greedy-64-rp1.2-nr3`":
            values = values.replace("and the two", "`repetition_penalty = 1.2`, `no_repeat_ngram = 3`")
        given = [f"generate.{part.strip('`').replace(' = ', '=')}" for part in re.findall(r"`[a-z_]+ = [^`]+`", values)]
        assert decode_name(change_generate(GenerateSection(), given)) == name.strip("`")
