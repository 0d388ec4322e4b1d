"""The card decides the precision, and one that the installed torch does not serve is told before any download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cards import A100, P100, T4, Simulated
from recipes import small_recipe
from rscap.errors import ModelError
from rscap.model import load
from rscap.model.card import best_dtype, build_for, check_served, decided, emulated, served
from rscap.model.load import load_base
from rscap.recipe import ModelSection, Recipe, recipe_changes
from rscap.store import BaseOrigin, DataOrigin, Provenance, RunFolder, read_json
from rscap.training import session
from rscap.training.session import train, with_dtype
from rscap.training.team import Team

CUDA_13 = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120")


@pytest.mark.parametrize(
    ("capability", "built_for", "yes"),
    [
        ((7, 5), CUDA_13, True),
        ((7, 0), CUDA_13, False),
        ((6, 0), CUDA_13, False),
        ((6, 1), ("sm_50", "sm_60", "sm_70"), True),  # a minor version above that of the machine code
        ((8, 9), CUDA_13, True),
        ((8, 0), ("sm_86",), False),  # and one below it
        ((9, 0), ("sm_80", "sm_86"), False),  # machine code is for one major version
        ((10, 3), ("sm_80", "compute_90"), True),  # PTX is for all newer cards
        ((8, 0), ("compute_90",), False),
        ((9, 0), ("sm_90a",), True),
        ((12, 1), CUDA_13, True),
        ((10, 3), ("sm_100f",), True),
        ((9, 1), ("sm_90a",), False),
        ((7, 0), (), True),  # nothing is known of such a build
        ((7, 0), ("gfx90a",), True),
    ],
)
def test_which_cards_a_build_serves(capability: tuple[int, int], built_for: tuple[str, ...], yes: bool) -> None:
    """Machine code of the card's major version and a minor not above its own, or PTX of an older card."""
    assert served(capability, built_for) is yes


def test_a_card_without_kernels_is_told_before_any_download(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the card and the build that serves it; the Hub is asked for nothing."""
    device = P100.plug_in(monkeypatch)
    monkeypatch.setattr(load, "resolve_revision", lambda *_: pytest.fail("the Hub was asked"))
    with pytest.raises(ModelError, match=r"no kernels for the Tesla P100.*capability 6\.0.*sm_75") as caught:
        load_base(ModelSection(base="google/paligemma-3b-pt-224"), device=device)
    assert "cu126" in str(caught.value.hint)
    check_served(T4.plug_in(monkeypatch))
    check_served("cpu")


def test_training_is_refused_before_the_data_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set on the Hub is gigabytes too."""
    monkeypatch.setattr(session.Team, "joined", lambda: Team(P100.plug_in(monkeypatch)))
    monkeypatch.setattr(session, "decoded_data", lambda *_, **__: pytest.fail("data were opened"))
    with pytest.raises(ModelError, match="no kernels"):
        train(small_recipe(), tmp_path / "run", say=lambda _: None)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("card", "build"), [((6, 0), "cu126"), ((7, 0), "cu126"), ((8, 0), "standard"), ((12, 0), "CUDA 13")]
)
def test_the_build_that_serves_a_card(card: tuple[int, int], build: str) -> None:
    """Pascal and Volta need torch's builds for CUDA 12.6, Blackwell those for CUDA 13."""
    assert build in build_for(card)


@pytest.mark.parametrize(("card", "dtype"), [(A100, "bfloat16"), (T4, "float16"), (None, "float32")])
def test_the_card_decides_the_precision(card: Simulated | None, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """bfloat16 where it is computed, float16 where it would be emulated, float32 without a card; a name is kept."""
    device = card.plug_in(monkeypatch) if card else torch.device("cpu")
    assert best_dtype(device) == dtype
    assert decided(ModelSection(base="nano"), device).dtype == dtype
    assert decided(ModelSection(base="nano", dtype="bfloat16"), device).dtype == "bfloat16"
    said = emulated(ModelSection(base="nano", dtype="bfloat16"), device)
    assert (said is not None) == (card is T4)


def a_run(tmp_path: Path, *, dtype: Any, asked: Any) -> RunFolder:
    """A run that began in some precision."""
    run = RunFolder(tmp_path / f"{dtype}-{asked}")
    run.path.mkdir()
    base = BaseOrigin(name="nano", dtype=dtype, dtype_asked=asked)
    Provenance(data=DataOrigin(digest="d"), base=base).write(run.provenance_file)
    return run


def in_dtype(dtype: str) -> Recipe:
    return small_recipe({"model": {"dtype": dtype}})


def test_a_resumed_run_keeps_its_precision_or_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a card decided holds on the next card; one that only emulates it is refused. A named dtype is warned of."""
    said: list[str] = []
    began = {name: a_run(tmp_path, dtype=name, asked="auto") for name in ("bfloat16", "float16")}
    for card in (A100, T4):
        team = Team(card.plug_in(monkeypatch))
        kept = with_dtype(in_dtype("auto"), began["float16"], team, said.append, resumes=True)
        assert kept.model.dtype == "float16"
    assert said == []
    with pytest.raises(ModelError, match=r"began in bfloat16.*Tesla T4"):
        with_dtype(in_dtype("auto"), began["bfloat16"], team, said.append, resumes=True)
    with pytest.raises(ModelError, match="began in bfloat16"):  # by the recipe in the folder, which names what it was
        with_dtype(in_dtype("bfloat16"), began["bfloat16"], team, said.append, resumes=True)
    named = a_run(tmp_path, dtype="bfloat16", asked="bfloat16")
    kept = with_dtype(in_dtype("bfloat16"), named, team, said.append, resumes=True)
    assert kept.model.dtype == "bfloat16"
    assert "emulates" in said[-1]
    new = with_dtype(in_dtype("auto"), RunFolder(tmp_path / "new"), team, said.append, resumes=False)
    assert new.model.dtype == "float16"
    assert said[-1] == "precision: float16, which Tesla T4 computes best"


def test_the_decision_is_recorded(tmp_path: Path) -> None:
    """The recipe in the folder names the precision, provenance what was asked; the same recipe resumes the run."""
    made = small_recipe({"model": {"dtype": "auto"}, "train": {"max_steps": 1, "micro_batch": 1}})
    said: list[str] = []
    run = train(made, tmp_path / "run", say=said.append)
    assert 'dtype = "float32"' in run.recipe_file.read_text(encoding="utf-8")
    base = read_json(run.provenance_file)["base"]
    assert (base["dtype"], base["dtype_asked"]) == ("float32", "auto")
    train(made, run.path, say=said.append, resume=True)
    assert said[-1].endswith("is finished already")


def test_auto_agrees_with_what_it_came_to_and_a_name_does_not() -> None:
    """Only a named precision can differ from that of the run."""
    assert recipe_changes(in_dtype("float16"), in_dtype("auto")) == {}
    before = small_recipe({"model": {"dtype": "float16"}, "data": {"workers": 0}, "generate": {"batch_size": 16}})
    assert recipe_changes(before, in_dtype("auto")) == {}
    assert recipe_changes(in_dtype("float16"), in_dtype("float32")) == {"model.dtype": ("float16", "float32")}
