"""Studies are read strictly and become rows that differ in exactly the named keys; all shipped ones can be run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from checkout import ROOT
from rscap.ablation.plan import make_plan, record, write_plan
from rscap.ablation.rows import expand
from rscap.ablation.study import Study, read_study
from rscap.errors import RecipeError
from rscap.recipe import AdapterSection
from rscap.store import StudyFolder
from rscap.tables import flatten

STUDIES = sorted((ROOT / "studies").glob("*.toml"))
BASE: dict[str, Any] = {
    "data": {"source": "sample", "train_limit": 10},
    "model": {"base": "nano", "dtype": "float32"},
    "adapter": {"rank": 2},
    "train": {"micro_batch": 4, "accumulation": 2, "epochs": 3, "max_steps": 7},
}
MINIMAL: dict[str, Any] = {
    "name": "tiny",
    "base": "base.toml",
    "seeds": [0, 1],
    "budget": {"steps": 2},
    "axes": {"adapter.rank": [2, 4]},
}


def study(folder: Path, *overrides: str, **changes: Any) -> Study:
    """The minimal study with other keys; a key that is None is left out."""
    (folder / "base.toml").write_text(tomli_w.dumps(BASE), encoding="utf-8")
    table = {key: value for key, value in {**MINIMAL, **changes}.items() if value is not None}
    (folder / "study.toml").write_text(tomli_w.dumps(table), encoding="utf-8")
    return read_study(folder / "study.toml", overrides)


def names(made: Study) -> list[str]:
    return [row.name for row in expand(made)]


def test_there_are_studies() -> None:
    """The shipped studies cover the tables of both prior works and what they left open."""
    assert {path.stem for path in STUDIES} == {
        "base", "captions", "data-size", "filtering", "learning-speed", "peft", "prior-a", "rank-targets",
        "regularisation", "towers", "reward", "adapt", "decoding", "rate-vision", "read-off",
        "real-language-model",
    }  # fmt: skip


@pytest.mark.parametrize("profile", [(), ("profile=real",)], ids=["nano", "real"])
@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_row_of_a_shipped_study_is_a_valid_recipe(path: Path, profile: tuple[str, ...]) -> None:
    """On nano as it stands and on the real model by one override: every row is checked, its folders distinct."""
    if profile and "[profiles.real]" not in path.read_text(encoding="utf-8"):
        pytest.skip("the study is about models that a CPU trains")
    made = make_plan(read_study(path, profile))
    folders = [run.folder for run in made.runs]
    assert len(folders) == len(set(folders)) >= 2 * len(made.zero_shot)
    real = all(run.recipe.model.base.startswith("google/paligemma") for run in made.runs)
    assert real == bool(profile)
    for row in made.rows:
        alike = [run.recipe.model_dump(mode="json", exclude={"seed": True, "model": {"start"}}) for run in row.runs]
        assert all(one == alike[0] for one in alike)
        assert [run.recipe.seed for run in row.runs] == [run.seed for run in row.runs]


def test_the_shipped_methods_are_all_those_there_are() -> None:
    """studies/peft.toml has a row for every adapter method and for full fine-tuning, in bfloat16 and in NF4."""
    made = make_plan(read_study(next(path for path in STUDIES if path.stem == "peft")))
    by_dtype: dict[str, set[str]] = {"none": set(), "nf4": set()}
    for run in made.runs:
        method = run.recipe.adapter.method if run.recipe.adapter else "full"
        by_dtype[run.recipe.model.quantisation].add(method)
    methods = set(AdapterSection.model_fields["method"].annotation.__args__)  # type: ignore[union-attr]
    assert by_dtype == {"none": methods | {"full"}, "nf4": methods}
    assert [(row.name, bool(row.excluded)) for row in made.rows if not row.runs] == [("full-nf4", True)]


def test_prior_work_a_is_rebuilt() -> None:
    """prior-a.toml holds A's three rows under three prompts, 100 images, caption_1, and a zero-shot for each prompt."""
    made = make_plan(read_study(next(path for path in STUDIES if path.stem == "prior-a")))
    settings = {
        (run.recipe.adapter.rank, run.recipe.adapter.language_targets) for run in made.runs if run.recipe.adapter
    }
    assert settings == {(32, ("q_proj", "v_proj")), (8, ("q_proj", "v_proj")), (4, ("k_proj", "o_proj"))}
    assert len(made.rows) == 9
    assert len(made.zero_shot) == len({one.recipe.prompt.prefix for one in made.zero_shot}) == 3
    assert {(run.recipe.data.train_limit, run.recipe.data.captions) for run in made.runs} == {(100, "first")}


def test_rows_times_axes(tmp_path: Path) -> None:
    """Rows are multiplied by all axes, in the order of the file, and differ in exactly the keys that were named."""
    made = study(
        tmp_path,
        rows=[{"name": "plain"}, {"name": "dora", "set": {"adapter": {"weight_decomposed": True}}}],
        axes={
            "data.captions": ["all", "first"],
            "dtype": {"full": {"model.dtype": "float32"}, "half": {"model": {"dtype": "bfloat16"}}},
        },
        reference="dora-all-half",
    )
    assert names(made) == [
        f"{row}-{captions}-{dtype}"
        for row in ("plain", "dora") for captions in ("all", "first") for dtype in ("full", "half")
    ]  # fmt: skip
    planned = make_plan(made)
    for row in planned.rows:
        for run in row.runs:
            recipe = flatten(run.recipe.model_dump())
            assert {key: recipe[key] for key in row.differences} == dict(row.differences)
    assert planned.reference == "dora-all-half"


@pytest.mark.parametrize(
    ("key", "values", "expected"),
    [
        ("adapter.rank", [4, 8], ["rank-4", "rank-8"]),
        ("adapter.rank_stabilised", [True, False], ["rank_stabilised-true", "rank_stabilised-false"]),
        ("train.learning_rate", [0.001, 1e-4], ["learning_rate-0.001", "learning_rate-0.0001"]),
        ("adapter.language_targets", [["q_proj", "v_proj"], ["o_proj"]], ["q_proj-v_proj", "o_proj"]),
        ("prompt.prefix", ["Describe it: now!", "caption en"], ["Describe-it-now", "caption-en"]),
    ],
)
def test_options_are_named_for_folders(tmp_path: Path, key: str, values: list[Any], expected: list[str]) -> None:
    """A value becomes a short name that any file system takes; numbers and truth values carry their key."""
    assert names(study(tmp_path, axes={key: values})) == expected


def test_the_budget_alone_ends_a_run(tmp_path: Path) -> None:
    """Steps, images, tokens and minutes become keys of [train]; the base recipe's epochs and limits do not count."""
    made = make_plan(study(tmp_path, budget={"images": 33, "tokens": 900, "minutes": 1.5}))
    train = made.runs[0].recipe.train
    assert (train.max_steps, train.max_tokens, train.max_minutes) == (5, 900, 1.5)  # 33 images by 4 x 2 an update
    assert train.epochs > 1e5
    assert make_plan(study(tmp_path, budget={"images": 33, "steps": 3})).runs[0].recipe.train.max_steps == 3
    assert make_plan(study(tmp_path, budget={"tokens": 9})).runs[0].recipe.train.max_steps is None


def test_a_budget_in_images_counts_each_row_s_own_updates(tmp_path: Path) -> None:
    """At the same number of images a row with smaller updates makes more of them."""
    made = make_plan(study(tmp_path, budget={"images": 80}, axes={"train.micro_batch": [1, 5]}))
    assert {run.recipe.train.max_steps for run in made.runs} == {40, 8}


def test_overrides_reach_study_and_recipe(tmp_path: Path) -> None:
    """A key of the study is replaced; a key of a recipe is changed for all rows; an axis can be put in."""
    made = study(
        tmp_path,
        "budget.steps=30", "seeds=[5]", "model.dtype=bfloat16", "axes.train.learning_rate=[1e-3, 1e-2]",
        set={"model.dtype": "float32", "train": {"weight_decay": 0.1}},
    )  # fmt: skip
    runs = make_plan(made).runs
    assert {(run.recipe.seed, run.recipe.train.max_steps, run.recipe.model.dtype) for run in runs} == {
        (5, 30, "bfloat16")
    }
    assert {(run.recipe.adapter.rank, run.recipe.train.learning_rate) for run in runs if run.recipe.adapter} == {
        (rank, rate) for rank in (2, 4) for rate in (1e-3, 1e-2)
    }
    assert {run.recipe.train.weight_decay for run in runs} == {0.1}


def test_a_profile_replaces_rows_by_name_and_keys_one_by_one(tmp_path: Path) -> None:
    """`profile=NAME` lays another setting over the study; what it does not name stays."""
    changes = {
        "set": {"train.weight_decay": 0.1, "model.dtype": "float32"},
        "axes": None,
        "rows": [{"name": "a"}, {"name": "b", "set": {"adapter.rank": 8}}],
        "profiles": {
            "real": {
                "set": {"model.dtype": "bfloat16"},
                "budget": {"images": 80},
                "rows": [{"name": "b", "set": {"adapter.rank": 64}}],
            }
        },
    }
    plain, real = make_plan(study(tmp_path, **changes)), make_plan(study(tmp_path, "profile=real", **changes))
    assert [run.recipe.adapter and run.recipe.adapter.rank for run in plain.runs] == [2, 2, 8, 8]
    assert [run.recipe.adapter and run.recipe.adapter.rank for run in real.runs] == [2, 2, 64, 64]
    assert {
        (run.recipe.train.max_steps, run.recipe.train.weight_decay, run.recipe.model.dtype) for run in real.runs
    } == {(10, 0.1, "bfloat16")}
    with pytest.raises(RecipeError, match="no profile 'rael'") as caught:
        study(tmp_path, "profile=rael", **changes)
    assert "real" in str(caught.value.hint)


def test_a_profile_that_is_not_chosen_is_checked(tmp_path: Path) -> None:
    """A misspelt key in a profile is found before the day it is needed."""
    with pytest.raises(RecipeError, match=r"profile 'real'.*\n.*'bugdet'; did you mean 'budget'"):
        study(tmp_path, profiles={"real": {"bugdet": {"steps": 3}}})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sedes": [1]}, "unknown key 'sedes'; did you mean 'seeds'"),
        ({"budget": {"step": 3}}, "unknown key 'budget.step'; did you mean 'budget.steps'"),
        ({"evaluation": {"splt": "val"}}, "unknown key 'evaluation.splt'; did you mean 'evaluation.split'"),
        ({"rows": [{"name": "a", "sett": {}}]}, "did you mean 'rows.0.set'"),
        ({"budget": {}}, "a budget needs at least one of steps, images, tokens, minutes"),
        ({"seeds": [1, 1]}, "seeds .* contain one twice"),
        ({"axes": None}, "the study varies nothing"),
        ({"axes": {"adapter.rnak": [2, 4]}}, "unknown key 'adapter.rnak'; did you mean 'adapter.rank'"),
        ({"axes": {"adapter.rank": []}}, "axis 'adapter.rank' must be"),
        ({"axes": {"adapter": {"two": {"adapter.rank": 2}}}}, "axis 'adapter.two.adapter.rank' must be"),
        ({"axes": {"size": {"a/b": {"adapter.rank": 2}}}}, "'a/b' cannot be a folder name"),
        ({"rows": [{"name": "a/b"}]}, "rows.0.name"),
        ({"rows": [{"name": "a", "unset": ["adaptor"]}]}, "unknown key 'adaptor'; did you mean 'adapter'"),
        ({"set": {"modl.base": "nano"}}, "unknown key 'modl.base'"),
        ({"set": {"train.max_steps": 3}}, r"'train.max_steps', which belongs in \[budget\]"),
        ({"axes": {"seed": [1, 2]}}, "'seed', which belongs in seeds"),
        ({"axes": {"adapter.rank": [2, "many"]}}, r"row 'many' cannot be run as written:\n.*adapter.rank"),
        ({"axes": {"adapter.rank": [2, 2]}}, "two rows named 'rank-2'"),
        ({"axes": {"words": {"A": {"adapter.rank": 2}, "a": {"adapter.rank": 4}}}}, "two rows named 'a'"),
        ({"rows": [{"name": "a"}], "axes": {"adapter.rank": [2, 4], "r": {"x": {"adapter.rank": 8}}}}, "rank' twice"),
        ({"axes": None, "rows": [{"name": "a"}, {"name": "b", "set": {"adapter.rank": 2}}]}, "have the same recipe"),
        ({"reference": "rank-3"}, "reference: there is no row 'rank-3'"),
        ({"exclude": [{"rows": ["rank-3"], "reason": "?"}]}, "exclude: there is no row 'rank-3'"),
        ({"exclude": [{"rows": ["rank-2", "rank-4"], "reason": "?"}]}, "excludes every row"),
        ({"base": "bsae.toml"}, "bsae.toml does not exist"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_refused_before_anything_runs(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    """Every mistake in a study is an error that names it, made without importing torch."""
    with pytest.raises(RecipeError, match=message):
        make_plan(study(tmp_path, **changes))


def test_excluded_rows_are_listed_and_not_checked(tmp_path: Path) -> None:
    """A row that a method does not allow stays in the table with its reason, and needs no valid recipe."""
    made = make_plan(
        study(
            tmp_path,
            axes={"model.quantisation": ["none", "nf4"]},
            set={"towers.language_model": "trained"},
            unset=["adapter"],
            exclude=[{"rows": ["nf4"], "reason": "4-bit weights cannot be trained"}],
        )
    )
    assert [(row.name, len(row.runs), row.excluded) for row in record(made).rows] == [
        ("none", 2, None),
        ("nf4", 0, "4-bit weights cannot be trained"),
    ]


def test_a_base_asked_in_two_ways_is_measured_twice(tmp_path: Path) -> None:
    """Zero-shot is measured once for every base, precision, prompt and decoding that the rows have, and no more."""
    made = make_plan(study(tmp_path, axes={"adapter.rank": [2, 4], "model.quantisation": ["none", "nf4"]}))
    assert [(one.folder, one.rows) for one in made.zero_shot] == [
        ("zero-shot/rank-2-none", ("rank-2-none", "rank-4-none")),
        ("zero-shot/rank-2-nf4", ("rank-2-nf4", "rank-4-nf4")),
    ]
    assert [one.folder for one in make_plan(study(tmp_path)).zero_shot] == ["zero-shot"]
    axes = {"words": {"a": {"prompt.prefix": "a"}, "b": {"prompt.prefix": "b"}}}
    assert len(make_plan(study(tmp_path, axes=axes)).zero_shot) == 2
    assert len(make_plan(study(tmp_path, axes=axes, evaluation={"prefix": "c"})).zero_shot) == 1


def test_a_study_folder_holds_all_that_is_needed_to_go_on(tmp_path: Path) -> None:
    """study.toml and base.toml in the study folder make the same plan, overrides and profile included."""
    made = study(tmp_path, "budget.steps=5", "model.dtype=bfloat16", profiles={"x": {"seeds": [3]}})
    folder = StudyFolder(tmp_path / "runs" / "tiny")
    write_plan(make_plan(made), made, folder)
    (tmp_path / "base.toml").unlink()
    again = make_plan(read_study(folder.study_file))
    assert record(again) == folder.plan()
    assert {(run.recipe.train.max_steps, run.recipe.model.dtype) for run in again.runs} == {(5, "bfloat16")}


def test_planning_imports_no_torch() -> None:
    """A plan is printed, and a typo found, without the seconds that torch and transformers take to import."""
    code = "import sys, rscap.ablation.plan, rscap.ablation.runner, rscap.cli.ablate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_rows_may_start_from_a_finished_run_for_each_seed() -> None:
    """`{seed}` in `model.start` is the seed of the run; no updates are for rows that only decode."""
    plan = make_plan(read_study(Path("decoding")))
    assert {(run.seed, run.recipe.model.start) for run in plan.runs} == {
        (seed, f"runs/reward-base-{seed}") for seed in range(3)
    }
    assert {run.recipe.train.max_steps for run in plan.runs} == {0}
