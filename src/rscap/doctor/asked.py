"""What was asked for: by a recipe, or by the doctor.toml that lies beside somebody's files."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from rscap.doctor.evidence import Asked
from rscap.doctor.reading import key_lines
from rscap.errors import StoreError
from rscap.methods import METHODS
from rscap.recipe import TOWERS, Recipe, Tower, TowerState
from rscap.tables import check_table

STATEMENT = "doctor.toml"


def asked_by_recipe(recipe: Recipe, path: Path) -> Asked:
    """A recipe's wishes, with the lines they stand on."""
    adapter, plain = recipe.adapter, recipe.adapter is not None and recipe.adapter.method == "lora"
    return Asked(
        where=path.name,
        lines=key_lines(path),
        pretrained=recipe.model.pretrained,
        dtype=recipe.model.dtype,
        quantisation=recipe.model.quantisation,
        quantise=recipe.model.quantise,
        towers={tower: getattr(recipe.towers, tower) for tower in TOWERS},
        peft_type=("LORA" if METHODS[adapter.method].lora else adapter.method.upper()) if adapter else None,
        rank=adapter.rank if adapter and plain else None,  # other methods are stored at ranks of their own
        alpha=adapter.alpha if adapter and plain else None,
        rank_stabilised=adapter.rank_stabilised if adapter and plain else None,
        weight_decomposed=adapter.weight_decomposed if adapter and plain else None,
        training_prompts=recipe.prompt.training_prefixes or (recipe.prompt.prefix,),
        test_prompts=(recipe.prompt.prefix,),
        learning_rate=recipe.train.learning_rate,
        max_grad_norm=recipe.train.max_grad_norm,
        captions=recipe.data.captions,
        selects=recipe.selection is not None,
    )


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Model(_Part):
    base: str | None = None
    dtype: str | None = None
    quantisation: str | None = None
    quantise: tuple[Tower, ...] = ("language_model",)


class _Towers(_Part):
    vision_tower: TowerState | None = None
    projector: TowerState | None = None
    language_model: TowerState | None = None


class _Adapter(_Part):
    rank: int | None = None
    alpha: float | None = None
    rank_stabilised: bool | None = None
    weight_decomposed: bool | None = None


class _Prompt(_Part):
    training: tuple[str, ...] = ()
    test: tuple[str, ...] = ()


class _Data(_Part):
    training_images: int | None = None
    captions_per_image: float | None = None
    captions: str | None = None


class _Train(_Part):
    learning_rate: float | None = None
    max_grad_norm: float | None = None
    steps: int | None = None


class _Evaluation(_Part):
    images: int | None = None


class _Tokens(_Part):
    vocabulary: int | None = None
    image: int | None = None
    bos: int | None = None
    eos: int | None = None
    pad: int | None = None


class Statement(_Part):
    """doctor.toml: what the files of a foreign run do not say. Every key may be left out; docs/doctor.md shows one."""

    model: _Model = _Model()
    towers: _Towers = _Towers()
    adapter: _Adapter = _Adapter()
    prompt: _Prompt = _Prompt()
    data: _Data = _Data()
    train: _Train = _Train()
    evaluation: _Evaluation = _Evaluation()
    tokens: _Tokens = _Tokens()


def read_statement(path: Path) -> Statement:
    """Read doctor.toml.

    Raises:
        StoreError: not TOML.
        RecipeError: unknown or wrong keys; names each.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} is not TOML: {error}") from error
    return check_table(Statement, table, name=str(path))


def asked_by_statement(statement: Statement, path: Path) -> Asked:
    """What doctor.toml says of a foreign run."""
    states = {tower: getattr(statement.towers, tower) for tower in TOWERS}
    towers = {tower: state for tower, state in states.items() if state is not None}
    return Asked(
        where=path.name,
        lines=key_lines(path),
        dtype=statement.model.dtype,
        quantisation=statement.model.quantisation,
        quantise=statement.model.quantise,
        towers=towers or None,
        rank=statement.adapter.rank,
        alpha=statement.adapter.alpha,
        rank_stabilised=statement.adapter.rank_stabilised,
        weight_decomposed=statement.adapter.weight_decomposed,
        training_prompts=statement.prompt.training,
        test_prompts=statement.prompt.test,
        learning_rate=statement.train.learning_rate,
        max_grad_norm=statement.train.max_grad_norm,
        captions=statement.data.captions,
    )
