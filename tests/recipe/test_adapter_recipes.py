"""Recipes name adapter methods: defaults of each, and no setting that would change nothing."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from checkout import ROOT
from rscap.errors import RecipeError
from rscap.methods import METHODS, learned_by_layer
from rscap.recipe import AdapterSection, dump_recipe, parse_recipe


def parsed(**adapter: Any) -> AdapterSection:
    recipe = parse_recipe({"data": {"source": "sample"}, "model": {"base": "nano"}, "adapter": adapter})
    assert recipe.adapter is not None
    again = parse_recipe(tomllib.loads(dump_recipe(recipe)))
    assert again == recipe  # what a run folder keeps is read back as the same recipe
    return recipe.adapter


def test_lora_is_the_default_and_keeps_its_numbers() -> None:
    """Recipes written before methods had names mean what they meant."""
    adapter = parsed()
    assert (adapter.method, adapter.rank, adapter.alpha, adapter.calibration_images) == ("lora", 16, 32.0, None)


@pytest.mark.parametrize(
    ("name", "rank", "alpha", "images"),
    [
        ("pissa", 16, 32.0, None),
        ("olora", 16, 16.0, None),
        ("eva", 16, 32.0, 64),
        ("corda", 16, 32.0, 256),
        ("hira", 16, None, None),
        ("randlora", 32, 640.0, None),
        ("vera", 256, None, None),
        ("adalora", 16, 32.0, None),
        ("miss", 16, None, None),
    ],
)
def test_every_method_has_its_own_defaults(name: str, rank: int, alpha: float | None, images: int | None) -> None:
    """What the recipe leaves out is filled in by the method, and stands in the run's own recipe."""
    adapter = parsed(method=name)
    assert (adapter.rank, adapter.alpha, adapter.calibration_images) == (rank, alpha, images)


def test_an_alpha_that_goes_with_the_rank_follows_it() -> None:
    """RandLoRA's default scale stays 20 and OLoRA's 1, whatever the rank."""
    assert parsed(method="randlora", rank=8).alpha == 160.0
    assert parsed(method="olora", rank=8).alpha == 8.0
    assert parsed(method="olora", rank=8, alpha=3).alpha == 3.0


@pytest.mark.parametrize("name", METHODS)
def test_what_a_method_has_no_use_for_is_refused(name: str) -> None:
    """rsLoRA, DoRA, LoRA+, alpha and calibration_images go exactly where they mean something."""
    method = METHODS[name]  # type: ignore[index]
    allowed = {
        "rank_stabilised": method.lora,
        "weight_decomposed": method.lora,
        "lora_plus_ratio": method.b_matrices,
        "alpha": method.alpha is not None,
        "calibration_images": method.calibration_images is not None,
    }
    values = dict.fromkeys(("rank_stabilised", "weight_decomposed"), True) | {
        "lora_plus_ratio": 16.0,
        "alpha": 8.0,
        "calibration_images": 4,
    }
    for key, allows in allowed.items():
        if allows:
            assert getattr(parsed(method=name, **{key: values[key]}), key) == values[key]
        else:
            with pytest.raises(RecipeError, match=rf"{key}.*{name}|{name}.*{key}"):
                parsed(method=name, **{key: values[key]})


@pytest.mark.parametrize("name", ["loha", "LoRA", 3, ["lora"]])
def test_an_unknown_method_is_told_with_those_there_are(name: Any) -> None:
    """A misspelt method is never plain LoRA."""
    with pytest.raises(RecipeError, match=r"adapter\.method: .*'lora', 'pissa'.*'miss'"):
        parsed(method=name)


def test_the_page_tells_parameters_methods_and_defaults_as_they_are() -> None:
    """The table of docs/adapters.md: every method, its rank, and its parameters on both language models."""
    shapes = {
        "PaliGemma 3B": (18, [(2048, 2048), (2048, 256), (2048, 256), (2048, 2048), *_mlp(2048, 16384)]),
        "PaliGemma 2 3B": (26, [(2304, 2048), (2304, 1024), (2304, 1024), (2048, 2304), *_mlp(2304, 9216)]),
    }
    page = (ROOT / "docs" / "adapters.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:-1] for line in page.splitlines() if line.startswith("| `")]
    told = {row[0].strip(" `"): [cell.strip() for cell in row[1:]] for row in rows if row[0].strip(" `") in METHODS}
    assert list(told) == list(METHODS)
    for name, method in METHODS.items():
        counts = [
            layers * sum(learned_by_layer(name, inputs=i, outputs=o, rank=method.rank) for i, o in linears)
            for layers, linears in shapes.values()
        ]
        assert told[name][-3:] == [str(method.rank), *(f"{count:,}" for count in counts)]


def _mlp(hidden: int, wide: int) -> list[tuple[int, int]]:
    return [(hidden, wide), (hidden, wide), (wide, hidden)]
