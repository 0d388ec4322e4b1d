"""The parts of an export: near-ties, what is private, the Hub, decode settings, refusals."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from checkout import ROOT
from rscap.errors import AdapterError, ExportError
from rscap.exporting.agreement import Agreement, Compared, compare
from rscap.exporting.hub import (
    check_target,
    generate_arguments,
    merged,
    public,
    push,
    refuse_secrets,
)
from rscap.exporting.reading import Asking, Plain, Reading
from rscap.recipe import GenerateSection
from rscap.sample import sample_examples


def test_a_method_without_a_merged_form_is_named() -> None:
    """PEFT's own refusal comes back as ours, with the way out."""
    method = type("Type", (), {"value": "SOMETHING"})()
    config = type("Config", (), {"peft_type": method})()

    class Unmergeable(torch.nn.Module):
        peft_config = {"default": config}  # noqa: RUF012

        def merge_and_unload(self, **_: Any) -> None:
            raise NotImplementedError("SOMETHING does not support merging")

    with pytest.raises(AdapterError, match="method SOMETHING cannot be merged: SOMETHING does not") as caught:
        merged(Unmergeable(), torch.float32)
    assert "--adapter-only" in str(caught.value.hint)


def test_a_weight_too_large_for_float16_is_named() -> None:
    """1e6 is infinite in float16."""
    layer = torch.nn.Linear(2, 2)
    layer.weight.data[0, 0] = 1e6
    with pytest.raises(ExportError, match=r"1 weights are not finite in torch.float16: \['weight'\]"):
        merged(layer, torch.float16)


def reading(caption: str, tokens: tuple[int, ...], logits: list[dict[int, float]]) -> Reading:
    """A reading made by hand: the logits of a few tokens at every place."""
    example = sample_examples()[0]
    return Reading(
        example=example,
        caption=caption,
        tokens=tokens,
        entries=torch.tensor([list(place) for place in logits]),
        logits=torch.tensor([list(place.values()) for place in logits]),
    )


class Says(Plain):
    """An export that says one thing, its vocabulary the letters."""

    def __new__(cls, after: str) -> Says:
        made = object.__new__(cls)
        object.__setattr__(made, "model", after)
        return made

    def __init__(self, after: str) -> None:
        """Nothing: there is no model."""

    def caption(self, image: Any, asking: Asking) -> str:
        return str(self.model)

    def tokens(self, image: Any, prefix: str, caption: str) -> tuple[int, ...]:
        return (*(ord(letter) - ord("a") for letter in caption), 9)

    def token_logits(self, image: Any, prefix: str, caption: str) -> tuple[tuple[int, ...], torch.Tensor]:
        tokens = self.tokens(image, prefix, caption)
        return tokens, torch.zeros(len(tokens), 10)


@pytest.mark.parametrize(
    ("after", "second", "verdict", "margin"),
    [
        ("ab", 2.5, "same", None),
        ("ac", 2.5, "near-tie", 0.5),
        ("ac", 2.25, "different", 0.75),
        ("ad", 2.5, "different", None),
        ("a", 2.5, "different", None),
    ],
)
def test_a_near_tie_is_told_from_a_difference(after: str, second: float, verdict: str, margin: float | None) -> None:
    """Where captions part, the run's own margin between both tokens decides; a token it never considered is no tie."""
    asking = Asking(prefix="caption en", max_new_tokens=3, batch_size=1)
    made = reading("ab", (0, 1, 9), [{0: 5.0, 1: 1.0}, {1: 3.0, 2: second}, {9: 4.0, 0: 0.0}])
    agreement = compare([made], Says(after), asking, origin="1 image", coarsest=torch.bfloat16)
    item = agreement.items[0]
    assert isinstance(item, Compared)
    assert (item.verdict, item.margin) == (verdict, margin)
    assert item.logit_difference == 5.0
    assert agreement.limit == torch.inf
    if verdict == "different":
        with pytest.raises(ExportError, match="0 of 1 captions agree"):
            agreement.require(0.9)
    else:
        agreement.require(1.0)


@pytest.mark.parametrize(
    ("precision", "effect", "difference", "passes"),
    [
        (torch.float32, 8.0, 0.07, True),
        (torch.float32, 8.0, 0.09, False),
        (torch.float32, 0.004, 0.002, False),
        (torch.float32, None, 0.002, False),
        (torch.bfloat16, 8.0, 1.9, True),
        (torch.bfloat16, 8.0, 2.1, False),
        (torch.bfloat16, 0.4, 0.45, True),
        (torch.bfloat16, None, 3.0, True),
    ],
)
def test_the_same_words_are_not_enough(
    precision: torch.dtype, effect: float | None, difference: float, passes: bool
) -> None:
    """Logits that differ by more than rounding explains stop an export whose captions are all the same."""
    item = Compared(example_id="a", before="x", after="x", verdict="same", margin=None, logit_difference=difference)
    agreement = Agreement(origin="1 image", precision=precision, items=(item,), effect=effect)
    if passes:
        agreement.require(0.9)
    else:
        with pytest.raises(ExportError, match=r"1 of 1 captions agree.*rounding explains"):
            agreement.require(0.9)


def test_nothing_private_is_published() -> None:
    """Paths are cut to their last part, other words stay; tokens and secret variables stop the card, unnamed."""
    table = {"data": {"source": "/home/somebody/risc"}, "base": "google/paligemma-3b-pt-224", "n": [1, "~/x/y.json"]}
    assert public(table) == {"data": {"source": "risc"}, "base": "google/paligemma-3b-pt-224", "n": [1, "y.json"]}
    assert public("C:\\Users\\somebody\\risc") == "risc"
    token = "hf_" + "Ab1" * 10
    with pytest.raises(ExportError, match="card, line 2, would hold what looks like an access token") as caught:
        refuse_secrets(f"first\nprefix = '{token}'", what="the card")
    assert token not in str(caught.value)


def test_the_value_of_a_secret_variable_stops_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it looks like; the error names the variable alone."""
    monkeypatch.setenv("MY_TRACKER_API_KEY", "correct-horse-battery")
    with pytest.raises(ExportError, match="MY_TRACKER_API_KEY") as caught:
        refuse_secrets("project = correct-horse-battery", what="the card")
    assert "horse" not in str(caught.value)
    refuse_secrets("project = rscap", what="the card")


class StandIn:
    """The Hub, as far as an upload sees it; keeps what it is given."""

    def __init__(self, files: dict[str, list[str]] | None = None, error: Exception | None = None) -> None:
        self.files, self.error = files or {}, error
        self.private: dict[str, bool] = {}
        self.uploaded: dict[str, set[str]] = {}

    def whoami(self) -> dict[str, str]:
        if self.error:
            raise self.error
        return {"name": "me"}

    def repo_exists(self, repo_id: str) -> bool:
        return repo_id in self.files

    def list_repo_files(self, repo_id: str) -> list[str]:
        return self.files[repo_id]

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> None:
        self.private[repo_id] = private

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
        self.uploaded[repo_id] = {file.name for file in Path(folder_path).iterdir()}


def no_token() -> Iterator[Exception]:
    from huggingface_hub.errors import LocalTokenNotFoundError

    yield LocalTokenNotFoundError("no token was found")


@pytest.mark.parametrize(
    ("name", "hub", "message"),
    [
        ("planes", StandIn(), "not a valid name on the Hub"),
        ("me/planes", StandIn({"me/planes": ["config.json", "model.safetensors"]}), "holds 2 files on the Hub already"),
        ("me/planes", StandIn(error=next(no_token())), "does not let this token write"),
        ("me/planes", StandIn(error=ConnectionError("no route")), "could not be reached on the Hub: no route"),
    ],
)
def test_a_push_that_cannot_succeed_is_refused(name: str, hub: StandIn, message: str) -> None:
    """Names, tokens, the network and what is there already are looked at first."""
    with pytest.raises(ExportError, match=message) as caught:
        check_target(hub, name)
    assert caught.value.hint


def test_a_failed_upload_leaves_the_export_and_says_how_to_go_on(tmp_path: Path) -> None:
    """The folder is whole; the hint is the command that uploads it."""

    class Breaks(StandIn):
        def upload_folder(self, **_: Any) -> None:
            raise ConnectionError("reset by peer")

    check_target(Breaks(), "me/planes")
    with pytest.raises(ExportError, match="reset by peer; the local export succeeded") as caught:
        push(Breaks(), tmp_path, "me/planes", public=False)
    assert f"hf upload me/planes {tmp_path}" in str(caught.value.hint)


def test_decode_settings_are_told_in_the_words_of_transformers() -> None:
    """Beams, penalties and draws by transformers' names; what is neutral is not said."""
    assert generate_arguments(GenerateSection(max_new_tokens=9)) == {"max_new_tokens": 9, "do_sample": False}
    assert generate_arguments(
        GenerateSection(beams=4, length_penalty=0.8, repetition_penalty=1.2, no_repeat_ngram=3)
    ) == {
        "max_new_tokens": 64,
        "do_sample": False,
        "num_beams": 4,
        "length_penalty": 0.8,
        "repetition_penalty": 1.2,
        "no_repeat_ngram_size": 3,
    }
    drawn = generate_arguments(GenerateSection(temperature=0.7, top_k=20, seed=3))
    assert drawn == {"max_new_tokens": 64, "do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 1.0}


def test_the_page_names_every_option_and_no_other() -> None:
    """docs/export.md and `rscap export --help` know the same options."""
    from typer.main import get_command

    from rscap.cli import app

    command = get_command(app).commands["export"]  # type: ignore[attr-defined]
    options = {name for parameter in command.params for name in [*parameter.opts, *parameter.secondary_opts]}
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", page))
    assert named == {name for name in options if name.startswith("--")} - {"--help"}
