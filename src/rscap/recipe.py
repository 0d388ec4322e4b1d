"""What a run is: a recipe read from TOML and checked before anything is loaded. Unknown keys are refused.

[data] where the examples come from       [adapter] how weights are changed
[prompt] the words before the caption     [train]   how long and how fast
[model] the base model and its precision  [selection] which weights are kept, and when to stop early
[track] experiment trackers               [generate] how captions are decoded
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rscap.errors import RecipeError
from rscap.methods import AdapterMethod, refusal, with_defaults
from rscap.shipped import names, shipped

Tower = Literal["vision_tower", "projector", "language_model"]
TOWERS: tuple[Tower, ...] = get_args(Tower)
TowerState = Literal["frozen", "adapted", "trained"]
CaptionScheme = Literal["random", "first", "longest", "concat", "cycle", "all"]

LANGUAGE_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
VISION_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")

Positive = Annotated[int, Field(ge=1)]
Beta = Annotated[float, Field(ge=0.0, lt=1.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class QualitySection(_Section):
    """Which training captions are learned, and how much they weigh; see `rscap.quality.QualityRules` for each key.

    Weights steer which caption `random` and `cycle` draw. An absent key leaves the rule at its default.
    """

    min_consensus: float | None = None
    full_consensus: float | None = None
    floor: float | None = None
    min_words: int | None = None
    max_words: int | None = None
    repeated: Literal["keep", "weigh", "drop"] | None = None
    noise: tuple[str, ...] | None = None
    noisy: Literal["weigh", "drop"] | None = None
    keep_at_least: int | None = None

    def weighs(self) -> bool:
        """Do these rules leave captions with weights below 1?"""
        return bool(self.full_consensus) or self.repeated == "weigh" or (bool(self.noise) and self.noisy == "weigh")


class DataSection(_Section):
    """Where the examples come from and which of their captions are learned."""

    source: str
    """`sample`, a folder with captions.csv, a parquet file, or a data set on the Hub."""
    splits: str = "official"
    captions: CaptionScheme = "all"
    augment: Literal["none", "turns", "full"] = "none"
    """`turns`: every epoch shows an image in one of its eight turns and mirrorings; `full`: also crops it and changes
    its light and colour a little. What a caption would make untrue is left out."""
    train_limit: Positive | None = None
    """Learn from this many training images only, chosen by `seed`."""
    max_rejected_share: Share = 0.01
    """More unusable rows than this share, and the run is refused."""
    normalise: tuple[str, ...] = ()
    """Steps of `rscap.data.text` for captions that are learned; what is measured on stays as published."""
    quality: QualitySection | None = None
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that decode images ahead of the step; 0 decodes in the training process."""

    @model_validator(mode="after")
    def _weights_are_heeded(self) -> DataSection:
        if self.quality and self.quality.weighs() and self.captions not in ("random", "cycle"):
            raise ValueError(
                f"[data.quality] weighs captions, which captions = {self.captions!r} does not heed; "
                "choose captions = 'random' or 'cycle', or rules that drop"
            )
        return self


class PromptSection(_Section):
    """The words before the caption."""

    prefix: str = "caption en"
    training_prefixes: tuple[str, ...] = ()
    """Training draws one of these for every image and epoch, in place of `prefix`; evaluation asks with `prefix`."""


class ModelSection(_Section):
    """The base model and the precision it is loaded in."""

    base: str
    """`nano`, a Hub name such as google/paligemma-3b-pt-224, or a local folder."""
    revision: str | None = None
    """Commit of the Hub repository; the two checkpoints rscap knows are pinned without it."""
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """Precision of frozen weights and of matrix products. float16 (for cards without bfloat16) scales the loss."""
    quantisation: Literal["none", "nf4", "int8"] = "none"
    quantise: Annotated[tuple[Tower, ...], Field(min_length=1)] = ("language_model",)
    """Towers whose linear layers are quantised."""
    pretrained: bool = True
    """False says that the base has random weights, so that a first loss of a uniform guess is no mistake."""
    attention: Literal["auto", "plain", "flex"] = "auto"
    """`plain`: SDPA, eager for Gemma 2; `flex`: FlexAttention in training steps; `auto`: `flex` for Gemma 2 on a GPU,
    if it is shown there to compute the same."""


class TowersSection(_Section):
    """What happens to each tower: `frozen` (no adapter either), `adapted` (PEFT), `trained` (all its weights)."""

    vision_tower: TowerState = "frozen"
    projector: TowerState = "frozen"
    language_model: TowerState = "adapted"

    def in_state(self, state: TowerState) -> list[Tower]:
        return [tower for tower in TOWERS if getattr(self, tower) == state]


class AdapterSection(_Section):
    """How adapted towers learn: one method of docs/adapters.md and what goes with it.

    An absent rank, alpha or calibration_images becomes the method's own default.
    """

    method: AdapterMethod = "lora"
    rank: Positive = 16
    alpha: Annotated[float, Field(gt=0)] | None = None
    """Numerator of the scale; absent in methods that have none (hira, vera, miss)."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    rank_stabilised: bool = False
    """rsLoRA (arXiv:2312.03732): scale by alpha / sqrt(rank) in place of alpha / rank."""
    weight_decomposed: bool = False
    """DoRA (arXiv:2402.09353)."""
    lora_plus_ratio: Annotated[float, Field(ge=1.0)] = 1.0
    """LoRA+ (arXiv:2402.12354): learning rate of the B matrices over that of the A matrices."""
    calibration_images: Positive | None = None
    """Training images that `eva` and `corda` look at before they start."""
    language_targets: Annotated[tuple[str, ...], Field(min_length=1)] = LANGUAGE_TARGETS
    vision_targets: Annotated[tuple[str, ...], Field(min_length=1)] = VISION_TARGETS

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, section: Any) -> Any:
        return with_defaults(section) if isinstance(section, dict) else section

    @model_validator(mode="after")
    def _consistent(self) -> AdapterSection:
        settings = self.model_dump(exclude={"rank", "dropout", "language_targets", "vision_targets", "method"})
        if (reason := refusal(self.method, **settings)) is not None:
            raise ValueError(reason)
        return self


class TrainSection(_Section):
    """How long and how fast. A micro batch counts images; each brings all its chosen captions."""

    epochs: Annotated[float, Field(gt=0)] = 1.0
    max_steps: Positive | None = None
    """Stop after this many updates, wherever the epoch stands."""
    micro_batch: Positive = 4
    accumulation: Positive = 1
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_share: Share = 0.03
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    gradient_checkpointing: bool | Literal["auto"] = False
    """Compute activations again in the backward pass (arXiv:1604.06174); `auto`: if the memory at hand asks for it."""
    cache_features: bool = False
    """Compute what a frozen vision tower sees of each image once and keep it on disk; see docs/training.md."""
    features_folder: str | None = None
    """Where it is kept; `.features` beside the run folder when absent. Runs share it."""
    max_tokens: Positive | None = None
    """Stop once this many supervised tokens were learned from; the learning rate comes down over them."""
    max_minutes: Annotated[float, Field(gt=0)] | None = None
    """Stop after this time in the loop, likewise; where the clock decides, two runs differ."""
    evaluate_every: Positive | None = None
    """Steps between evaluations on generated validation captions; none when absent."""
    evaluate_images: Positive = 64
    checkpoint_every: Positive | None = None
    """Steps between checkpoints, besides those by the clock."""
    checkpoint_minutes: Annotated[float, Field(gt=0)] = 10.0
    keep_checkpoints: Positive = 2
    """Checkpoints that are kept, besides the best one."""


class SelectionSection(_Section):
    """Which weights a run ends with: those of the best evaluation on generated validation captions."""

    metric: Literal["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr", "loss"] = "CIDEr"
    patience: Positive | None = None
    """Stop after this many evaluations in a row without a new best; never when absent."""
    min_gain: Annotated[float, Field(ge=0.0)] = 0.0
    """A new best is better by more than this."""
    max_degenerate: Share = 0.5
    """An evaluation with a larger share of degenerate captions (empty, looping, the prompt again) is never the best."""


class TrackSection(_Section):
    """Experiment trackers, beside train.jsonl."""

    trackers: tuple[str, ...] = ()
    """`tensorboard`, `wandb` or any other that accelerate knows."""
    project: str = "rscap"
    captions: Annotated[int, Field(ge=0)] = 8
    """Images shown with their captions at every evaluation."""


class GenerateSection(_Section):
    """How captions are decoded: greedily, by beam search (`beams`) or by draws (`temperature`): docs/decoding.md."""

    max_new_tokens: Positive = 64
    batch_size: Positive = 16
    """Images decoded together; halved by itself where they do not fit in memory."""
    beams: Annotated[int, Field(ge=1, le=64)] = 1
    length_penalty: float = 1.0
    """Beam search divides the summed log-probability of a finished caption by its tokens to this power."""
    repetition_penalty: Annotated[float, Field(gt=0.0)] = 1.0
    """Scores of tokens that occur already, prompt included, are divided by this, negative ones multiplied
    (arXiv:1909.05858)."""
    no_repeat_ngram: Annotated[int, Field(ge=0)] = 0
    """No n-gram of tokens of this length occurs twice, prompt included; 0 allows all."""
    temperature: Annotated[float, Field(ge=0.0)] = 0.0
    """0 takes the best token; above 0 tokens are drawn, from scores divided by this."""
    top_k: Annotated[int, Field(ge=0)] = 0
    """Draw among the k most probable tokens; 0 among all."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Draw among the most probable tokens that together reach this probability (arXiv:1904.09751)."""
    seed: int = 0
    """A draw is a pure function of (seed, example id, step)."""

    @model_validator(mode="after")
    def _consistent(self) -> GenerateSection:
        if self.beams > 1 and self.temperature > 0:
            raise ValueError(f"beams = {self.beams} searches and temperature = {self.temperature:g} draws; choose one")
        if self.beams == 1 and self.length_penalty != 1.0:
            raise ValueError(f"length_penalty = {self.length_penalty:g} weighs finished beams; it needs beams above 1")
        if not self.temperature:
            for name in ("top_k", "top_p", "seed"):
                if (value := getattr(self, name)) != type(self).model_fields[name].default:
                    raise ValueError(f"{name} = {value:g} belongs to draws; it needs a temperature above 0")
        return self


class Recipe(_Section):
    """A whole run."""

    seed: int = 0
    data: DataSection
    prompt: PromptSection = PromptSection()
    model: ModelSection
    towers: TowersSection = TowersSection()
    adapter: AdapterSection | None = None
    train: TrainSection = TrainSection()
    selection: SelectionSection | None = None
    track: TrackSection = TrackSection()
    generate: GenerateSection = GenerateSection()

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        adapted, trained = self.towers.in_state("adapted"), self.towers.in_state("trained")
        if adapted and self.adapter is None:
            raise ValueError(f"towers.{adapted[0]} is 'adapted' but there is no [adapter] section")
        if self.adapter is not None and not adapted:
            raise ValueError("[adapter] is given but no tower is 'adapted'; nothing would be adapted")
        if not adapted and not trained:
            raise ValueError("every tower is frozen; nothing would be learned")
        if adapted and "language_model" in trained:
            raise ValueError(
                "with another tower 'adapted', towers.language_model is 'adapted' or 'frozen', not 'trained'"
            )
        if self.selection is not None and self.train.evaluate_every is None:
            raise ValueError("[selection] needs train.evaluate_every: there would be no evaluation to select by")
        if self.train.cache_features and self.towers.vision_tower != "frozen":
            raise ValueError(
                f"train.cache_features keeps what a frozen vision tower sees; here it is {self.towers.vision_tower!r}"
            )
        if self.train.cache_features and self.data.augment != "none":
            raise ValueError(
                f"train.cache_features sees each image once, data.augment = {self.data.augment!r} changes it every "
                "epoch: choose one of them"
            )
        if "projector" in adapted:
            raise ValueError("towers.projector is one matrix: choose 'trained' or 'frozen'")
        if self.model.quantisation != "none" and (both := set(trained) & set(self.model.quantise)):
            raise ValueError(
                f"{sorted(both)} cannot be trained whole and quantised; adapt it, or take it out of model.quantise"
            )
        return self


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file, or a shipped one by its name, and apply `a.b=value` overrides.

    Values of overrides are TOML; bare words are strings.

    Raises:
        RecipeError: unreadable file, bad TOML, unknown or wrong keys; names each.
    """
    path = shipped(path, "recipes")
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        hint = f"a file in TOML, or one that ships with rscap: {', '.join(names('recipes'))}"
        raise RecipeError(f"recipe {path} does not exist", hint=hint) from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"recipe {path} is not UTF-8 (byte {error.start})") from None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"recipe {path} is not TOML: {error}") from None
    for override in overrides:
        apply_override(table, override)
    return parse_recipe(table, name=str(path))


def parse_recipe(table: dict[str, Any], *, name: str = "recipe") -> Recipe:
    """Check a recipe that is already a table.

    Raises:
        RecipeError: unknown or wrong keys; names each, with the nearest right one.
    """
    return check_table(Recipe, table, name=name)


def change_generate(section: GenerateSection, overrides: Sequence[str]) -> GenerateSection:
    """Apply `generate.key=value` overrides to decode settings.

    Raises:
        RecipeError: an override of another section, unknown or wrong keys; names each.
    """
    table = {"generate": section.model_dump()}
    for override in overrides:
        if not override.strip().startswith("generate."):
            raise RecipeError(
                f"override {override!r} is none of generate.*; how a model was trained cannot be changed afterwards",
                hint=f"keys of [generate]: {', '.join(GenerateSection.model_fields)}",
            )
        apply_override(table, override)
    return check_table(_OnlyGenerate, table, name="decoding").generate


def with_decoding(section: GenerateSection, changes: Mapping[str, Any]) -> GenerateSection:
    """Decode settings with some of them replaced by name, such as `beams=3`.

    Raises:
        RecipeError: unknown names, wrong values, or settings that contradict each other; names each.
    """
    return (
        check_table(GenerateSection, {**section.model_dump(), **changes}, name="decode settings")
        if changes
        else section
    )


class _OnlyGenerate(_Section):
    generate: GenerateSection


Section = TypeVar("Section", bound=BaseModel)


def check_table(kind: type[Section], table: dict[str, Any], *, name: str) -> Section:
    """Check a table against any kind of section.

    Raises:
        RecipeError: unknown or wrong keys; names each, with the nearest right one.
    """
    try:
        return kind.model_validate(table)
    except ValidationError as error:
        lines = [_explain(problem, kind) for problem in _first_causes(error.errors())]
        raise RecipeError(f"{name} cannot be run as written:\n" + "\n".join(f"  - {line}" for line in lines)) from None


def _first_causes(problems: Sequence[Any]) -> list[Any]:
    """Without lists that are too short only because their entries are wrong, which are told themselves."""
    inside = {problem["loc"][:-1] for problem in problems}
    return [one for one in problems if not (one["type"] == "too_short" and one["loc"] in inside)]


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as TOML, defaults included, so that the run folder says all."""
    return tomli_w.dumps(recipe.model_dump(mode="json", exclude_none=True))


def apply_override(table: dict[str, Any], override: str) -> None:
    """Put `a.b=value` into a table; the value is TOML, a bare word a string.

    Raises:
        RecipeError: not of that form, or a part of the path is a value.
    """
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise RecipeError(f"override {override!r} is not of the form section.key=value")
    *parents, last = key.strip().split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise RecipeError(f"override {override!r}: {parent!r} is a value, not a section")
    try:
        table[last] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        table[last] = text.strip()


def _explain(problem: Any, kind: type[BaseModel]) -> str:
    location = ".".join(str(part) for part in problem["loc"])
    if problem["type"] != "extra_forbidden":
        given = "" if problem["type"] in ("missing", "value_error") else f" (given: {problem['input']!r})"
        return f"{location or 'recipe'}: {problem['msg'].removeprefix('Value error, ')}{given}"
    known = known_keys(kind, problem["loc"][:-1])
    near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1, cutoff=0.5)
    if near:
        prefix = ".".join(str(part) for part in problem["loc"][:-1])
        return f"unknown key {location!r}; did you mean {(prefix + '.' if prefix else '') + near[0]!r}?"
    return f"unknown key {location!r}; known here: {', '.join(known) or 'none'}"


def known_keys(kind: type[BaseModel], parents: Sequence[str | int]) -> list[str]:
    """Field names of the section that `parents` leads to, from `kind` on; numbers are places in a list of sections."""
    section: Any = kind
    for parent in (name for name in parents if isinstance(name, str)):
        if parent not in section.model_fields:
            return []
        annotation = section.model_fields[parent].annotation
        section = next((part for part in (annotation, *get_args(annotation)) if _is_section(part)), None)
        if section is None:
            return []
    return list(section.model_fields)


def _is_section(part: Any) -> bool:
    return isinstance(part, type) and issubclass(part, BaseModel)
