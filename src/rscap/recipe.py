"""The recipe of a run: read from TOML and checked before anything is loaded. Unknown keys are refused.

[data] where the examples come from       [adapter] the adapter method and its targets
[prompt] the words before the caption     [train]   how long and how fast
[model] the base model and its precision  [selection] which weights are kept, and when to stop early
[towers] what is trained                  [generate] how captions are decoded
[objective] a reward in place of likelihood
[track] experiment trackers
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import tomli_w
from pydantic import Field, model_validator

from rscap.errors import RecipeError
from rscap.escape import secret_in
from rscap.methods import AdapterMethod, refusal, with_defaults
from rscap.metrics import METRICS
from rscap.shipped import names, shipped
from rscap.tables import Section, check_table, differences, flatten, overridden, read_toml

Quantisation = Literal["none", "nf4", "int8"]
Dtype = Literal["float32", "bfloat16", "float16"]
Tower = Literal["vision_tower", "projector", "language_model"]
TOWERS: tuple[Tower, ...] = get_args(Tower)
TowerState = Literal["frozen", "adapted", "trained"]
CaptionScheme = Literal["random", "first", "longest", "concat", "cycle", "all"]
Logits = Literal["float32", "model"]
if TYPE_CHECKING:
    SelectionMetric = str
else:
    SelectionMetric = Literal[(*METRICS, "loss")]

LANGUAGE_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
VISION_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")

Positive = Annotated[int, Field(ge=1, le=10**9)]
PerStep = Annotated[int, Field(ge=1, le=2**16)]
"""Images, tokens or ranks that are in memory at once; nothing that trains needs more."""
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Beta = Annotated[float, Field(ge=0.0, lt=1.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class QualitySection(Section):
    """Which captions are used for training, and their weights; `rscap.quality.QualityRules` describes each key.

    `random` and `cycle` draw captions in proportion to their weights. An absent key keeps the default of its rule.
    """

    min_consensus: float | None = None
    """Drop captions whose consensus (CIDEr-D against the other captions of the image, 0 to 10) is lower."""
    full_consensus: float | None = None
    """Captions of at least this consensus weigh 1, others in proportion, at least `floor`."""
    floor: float | None = None
    """The least weight of a caption; .1 when absent."""
    min_words: int | None = None
    """Drop captions of fewer words."""
    max_words: int | None = None
    """Drop captions of more words."""
    repeated: Literal["keep", "weigh", "drop"] | None = None
    """One sentence n times for one image: keep all, weigh each 1/n, or drop all but the first."""
    noise: tuple[str, ...] | None = None
    """Kinds of noise that are acted on, such as `non-ascii` or `repeated-word`: docs/data.md."""
    noisy: Literal["weigh", "drop"] | None = None
    """What happens to noisy captions; `drop` when absent."""
    keep_at_least: int | None = None
    """Captions that every image keeps whatever the rules say, the best by consensus; 1 when absent."""

    def weighs(self) -> bool:
        """Whether these rules can give captions weights below 1."""
        return bool(self.full_consensus) or self.repeated == "weigh" or (bool(self.noise) and self.noisy == "weigh")


class DataSection(Section):
    """Where the examples come from and which of their captions are used for training."""

    source: str
    """`sample`, a folder with captions.csv, a parquet file, or a data set on the Hub."""
    splits: str = "official"
    """Who trains and who is measured: `official`, `seed42`, `grouped` …, or a FILE.json of `rscap data split`."""
    captions: CaptionScheme = "all"
    """Which of an image's captions training learns in an epoch; `all` learns them together, behind one image."""
    augment: Literal["none", "turns", "full"] = "none"
    """`turns`: in every epoch an image is shown in one of its eight rotations and reflections; `full`: it is also
    cropped, and its brightness and colour change slightly. A change that would make a caption wrong is not applied."""
    train_limit: Positive | None = None
    """Train on this many images only, chosen by `seed`."""
    reward_share: Share | None = None
    """Share of the training images, by a hash of their ids, that are kept for training on a reward: a run without
    [objective] leaves them out, and one with it trains on them alone. Absent: both train on all."""
    reward_images: Literal["rest", "held"] | None = None
    """Which of these two parts a run trains on, where that is not left to [objective]."""
    max_rejected_share: Share = 0.01
    """Refuse the data if more than this share of its rows is unusable."""
    normalise: tuple[str, ...] = ()
    """Steps of `rscap.data.text` that normalise training captions; references of val and test stay as published."""
    quality: QualitySection | None = None
    """Which training captions are dropped or weighed; all are learned alike when absent."""
    workers: Annotated[int, Field(ge=0, le=256)] | Literal["auto"] = "auto"
    """Processes that decode images in advance; 0: the training process decodes them. `auto`: up to 4 beside a GPU, as
    the cores allow, and 0 where the CPU trains."""

    @model_validator(mode="after")
    def _weights_are_used(self) -> DataSection:
        if self.quality and self.quality.weighs() and self.captions not in ("random", "cycle"):
            raise ValueError(
                f"[data.quality] gives captions weights, which captions = {self.captions!r} ignores; "
                "choose captions = 'random' or 'cycle', or rules that drop captions"
            )
        return self


class PromptSection(Section):
    """The words before the caption."""

    prefix: str = "caption en"
    """What the model reads between image and caption, in training and afterwards."""
    training_prefixes: tuple[str, ...] = ()
    """Training draws one of these for every image and epoch instead of `prefix`; evaluation always uses `prefix`."""


class ModelSection(Section):
    """The base model and the precision in which it is loaded."""

    base: str
    """`nano`, a Hub name such as HuggingFaceTB/SmolVLM2-500M-Video-Instruct, or a local folder."""
    revision: str | None = None
    """Commit, branch or tag of the Hub repository; a run keeps the commit that it began with."""
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = "auto"
    """Precision of frozen weights and of matrix products. `auto`: bfloat16 where the card computes it, float16 (with
    loss scaling) on a card that does not, float32 without a card; decided once, and kept by a resumed run."""
    quantisation: Quantisation = "none"
    """Frozen weights in 4 bits (`nf4`, arXiv:2305.14314) or 8 (`int8`, arXiv:2208.07339): less memory, more time."""
    quantise: Annotated[tuple[Tower, ...], Field(min_length=1)] = ("language_model",)
    """Towers whose linear layers are quantised."""
    start: str | None = None
    """A finished run with the same base, towers and adapter, whose weights training begins with; or a checkpoint in its
    folder, for the weights as they were at its step."""
    pretrained: bool = True
    """False: the base has random weights, so a first loss near that of a uniform guess is expected."""
    attention: Literal["auto", "plain", "flex"] = "auto"
    """`auto` and `plain`: SDPA, eager for Gemma 2; `flex`: FlexAttention in training steps, if it is shown to compute
    the same on the GPU, else the run is refused."""
    image_splitting: bool | None = None
    """True: an image is enlarged and cut into sixteen squares and the whole, each encoded by itself, which costs
    seventeen times the image tokens; for families that can do so (SmolVLM2). Absent: one square."""


class TowersSection(Section):
    """What training changes in each tower: `frozen` nothing, `adapted` adapters (PEFT), `trained` all weights."""

    vision_tower: TowerState = "frozen"
    """The image encoder."""
    projector: TowerState = "frozen"
    """The matrix between image encoder and language model; `frozen` or `trained`."""
    language_model: TowerState = "adapted"
    """The language model; embeddings and head stay frozen where it is `adapted`."""

    def in_state(self, state: TowerState) -> list[Tower]:
        return [tower for tower in TOWERS if getattr(self, tower) == state]


class AdapterSection(Section):
    """The adapter method of adapted towers, with its settings; docs/adapters.md describes each method.

    An absent rank, alpha or calibration_images becomes the default of the method.
    """

    method: AdapterMethod = "lora"
    """How an adapted layer changes; docs/adapters.md compares the methods."""
    rank: PerStep = 16
    """Columns of the low-rank factors; for `vera` and `randlora` see docs/adapters.md."""
    alpha: Annotated[float, Field(gt=0)] | None = None
    """Numerator of the scale; absent for methods without a scale (hira, vera, miss)."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Share of an adapter's inputs that a training step sets to 0."""
    rank_stabilised: bool = False
    """rsLoRA (arXiv:2312.03732): scale by alpha / sqrt(rank) instead of alpha / rank."""
    weight_decomposed: bool = False
    """DoRA (arXiv:2402.09353)."""
    lora_plus_ratio: Annotated[float, Field(ge=1.0)] = 1.0
    """LoRA+ (arXiv:2402.12354): learning rate of the B matrices divided by that of the A matrices."""
    calibration_images: Positive | None = None
    """Training images from whose activations `eva` and `corda` compute the initial weights."""
    language_targets: Annotated[tuple[str, ...], Field(min_length=1)] = LANGUAGE_TARGETS
    """Linear layers of the language model that are adapted."""
    vision_targets: Annotated[tuple[str, ...], Field(min_length=1)] = VISION_TARGETS
    """Linear layers of the vision tower that are adapted, where that tower is `adapted`."""

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


class TrainSection(Section):
    """Length, batches and learning rate. A micro batch counts images; each image brings all its chosen captions."""

    epochs: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """Times that training sees every image."""
    max_steps: Annotated[int, Field(ge=0, le=10**9)] | None = None
    """Stop after this many updates, even in the middle of an epoch; 0 only with `model.start`, whose weights stay."""
    micro_batch: PerStep = 4
    """Images that pass through the model together, each with all its chosen captions; more need more memory."""
    accumulation: PerStep = 1
    """Micro batches in one update: an update learns from micro_batch * accumulation images."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    """AdamW's highest rate, reached after the warm-up."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """AdamW's decoupled decay (arXiv:1711.05101) of matrices; biases and norms do not decay."""
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """AdamW's decay rates of the running means of the gradient and of its square."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the rate falls from its highest to 0 after the warm-up; `constant` keeps it."""
    warmup_share: Share = 0.03
    """Share of all updates in which the rate rises from 0."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradients of a larger L2 norm are scaled down to it."""
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Share of every target token that is spread evenly over the vocabulary (arXiv:1512.00567); losses of evaluations
    are not smoothed."""
    ema_decay: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Keep an exponential moving average of what learns, which evaluations, selection and the finished run use
    (Polyak and Juditsky, 1992); none when absent."""
    gradient_checkpointing: bool | Literal["auto"] = False
    """Recompute activations in the backward pass (arXiv:1604.06174); `auto`: where the available memory requires it."""
    cache_features: bool = False
    """Compute the features of each image once, with a frozen vision tower, and keep them on disk: docs/training.md."""
    features_folder: str | None = None
    """Folder of these features, which runs share; `.features` beside the run folder when absent."""
    max_tokens: Positive | None = None
    """Stop after this many supervised tokens; the learning rate schedule spans them."""
    max_minutes: Annotated[float, Field(gt=0)] | None = None
    """Stop after this many minutes in the loop; the schedule spans them. Such a run is not reproducible."""
    evaluate_every: Positive | None = None
    """Steps between evaluations that generate validation captions; none when absent."""
    evaluate_images: Positive = 64
    """Validation images that such an evaluation captions; a hash chooses them."""
    checkpoint_every: Positive | None = None
    """Steps between checkpoints, in addition to those by time."""
    checkpoint_minutes: Annotated[float, Field(gt=0)] = 10.0
    """Minutes between checkpoints: what a killed run has to do again, at most."""
    keep_checkpoints: Positive = 2
    """Checkpoints that are kept, in addition to the best one."""


class ObjectiveSection(Section):
    """What training maximises instead of likelihood: the reward of captions that the model draws (docs/reward.md)."""

    kind: Literal["self-critical"] = "self-critical"
    """Self-critical sequence training (arXiv:1612.00563): a caption against the others drawn of its image."""
    reward: dict[str, float] = Field(default_factory=lambda: {"CIDEr": 1.0}, min_length=1)
    """Weights of metrics by name, or of functions of one's own, `module:function`."""
    samples: Annotated[int, Field(ge=2)] = 5
    """Captions drawn of each image."""
    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    """Of the draws; at 1 they follow the model itself."""
    max_new_tokens: Positive | None = None
    """Of a drawn caption; `generate.max_new_tokens` when absent."""
    end_word: bool = True
    """CIDEr counts the end of a sentence as a word. Without it models learn to break captions off."""
    likelihood_share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Of the loss, for the references; costs their tokens in every update."""
    equal_references: Share = 1.0
    """Weight of images whose references are one sentence; 0 leaves these images out. Their rewards are all or nothing,
    and they dominate the gradient."""
    normalise: bool = False
    """Divide the advantages of an image by the standard deviation of its rewards. The estimate is then biased."""
    clip: Annotated[float, Field(gt=0.0)] | None = None
    """The largest advantage, either way; none when absent."""

    @model_validator(mode="after")
    def _known_rewards(self) -> ObjectiveSection:
        for name, weight in self.reward.items():
            if ":" not in name and name not in METRICS:
                known = ", ".join(METRICS)
                raise ValueError(f"unknown reward {name!r}: name a metric ({known}) or a function, `module:function`")
            if not math.isfinite(weight) or weight == 0:
                raise ValueError(f"the weight of {name} is {weight:g}; it is a finite number other than 0")
        return self


class SelectionSection(Section):
    """Which weights the run keeps: those of the best evaluation on generated validation captions."""

    metric: SelectionMetric = "CIDEr"
    """What is compared: a metric of the generated captions, or the validation loss."""
    patience: Positive | None = None
    """Stop after this many evaluations in a row without a new best; never when absent."""
    min_gain: Annotated[float, Field(ge=0.0)] = 0.0
    """A new best is better by more than this."""
    max_degenerate: Share = 0.5
    """An evaluation with a larger share of degenerate captions (empty, looping, echoing the prompt) is never best."""
    max_bad_endings: Share | None = None
    """With [objective]: nor is one with a larger share of captions whose last word is an article, a preposition or the
    like (`rscap.scoring.fluency`)."""
    min_distinct: Share | None = None
    """With [objective]: nor is one with fewer different captions, as a share of all."""


class TrackSection(Section):
    """Experiment trackers, in addition to the log in the run folder."""

    trackers: tuple[str, ...] = ()
    """`tensorboard`, `wandb` or any other that accelerate supports."""
    project: str = "rscap"
    """The project under which trackers file the run."""
    captions: Annotated[int, Field(ge=0)] = 8
    """Images whose captions every evaluation sends to the trackers."""


class GenerateSection(Section):
    """How captions are decoded: greedily, by beam search (`beams`) or by sampling (`temperature`): docs/decoding.md."""

    max_new_tokens: PerStep = 64
    """A caption that has not ended after this many tokens is cut off."""
    batch_size: PerStep | Literal["auto"] = "auto"
    """Images decoded together; rscap halves it where they do not fit in memory. `auto`: 16 to 256 on a GPU, by its free
    memory, and 16 on a CPU."""
    beams: Annotated[int, Field(ge=1, le=64)] = 1
    """Candidates that beam search keeps; 1: no search."""
    length_penalty: float = 1.0
    """Beam search divides the log-probability of a finished caption by its number of tokens to this power."""
    repetition_penalty: Annotated[float, Field(gt=0.0)] = 1.0
    """Positive scores of tokens that already occur, prompt included, are divided by this; negative ones are multiplied
    by it (arXiv:1909.05858)."""
    no_repeat_ngram: Annotated[int, Field(ge=0)] = 0
    """No n-gram of this many tokens occurs twice, prompt included; 0: no limit."""
    temperature: Annotated[float, Field(ge=0.0)] = 0.0
    """0: take the most probable token; above 0: sample from scores divided by this."""
    top_k: Annotated[int, Field(ge=0)] = 0
    """Sample from the k most probable tokens; 0: from all."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Sample from the most probable tokens that together reach this probability (arXiv:1904.09751)."""
    seed: Seed = 0
    """A sample is a pure function of (seed, example id, step)."""
    choose: Literal["best", "consensus"] = "best"
    """`consensus`: draw `samples` captions of each image and take the one that is most like the others; needs a
    temperature, such as 0.5."""
    samples: Annotated[int, Field(ge=2, le=256)] = 16
    """Captions that are drawn of each image for a consensus."""
    similarity: Literal["CIDEr", "ROUGE-L"] = "ROUGE-L"
    """Of drawn captions; `CIDEr` uses the document frequencies that a run keeps of its training references."""
    logits: Logits = "float32"
    """`float32`: the head's products keep all their digits; `model`: they are rounded to the model's 16 bits, as in
    transformers, where several tokens are then often exactly equal. In float32 both are the same."""

    @property
    def least_batch(self) -> int:
        """`batch_size`, or what `auto` is where memory is short or not known."""
        return 16 if self.batch_size == "auto" else self.batch_size

    @model_validator(mode="after")
    def _consistent(self) -> GenerateSection:
        if self.beams > 1 and self.temperature > 0:
            raise ValueError(f"beams = {self.beams} searches, temperature = {self.temperature:g} samples; choose one")
        if self.beams == 1 and self.length_penalty != 1.0:
            raise ValueError(f"length_penalty = {self.length_penalty:g} ranks finished beams; it needs beams above 1")
        plain = ("top_k", "top_p", "repetition_penalty", "no_repeat_ngram")
        given = [name for name in plain if getattr(self, name) != type(self).model_fields[name].default]
        if self.choose == "consensus" and given:
            raise ValueError(f"{given[0]} does not go with choose = 'consensus', which draws from all tokens")
        if self.choose == "consensus" and not self.temperature:
            raise ValueError("choose = 'consensus' chooses among drawn captions; set a temperature, such as 0.5")
        if self.choose == "best":
            for name in ("samples", "similarity"):
                if (value := getattr(self, name)) != type(self).model_fields[name].default:
                    raise ValueError(f"{name} = {value} is for choose = 'consensus'")
        if not self.temperature:
            for name in ("top_k", "top_p", "seed"):
                if (value := getattr(self, name)) != type(self).model_fields[name].default:
                    raise ValueError(f"{name} = {value:g} is for sampling; it needs a temperature above 0")
        return self


class Recipe(Section):
    """All settings of a run."""

    seed: Seed = 0
    """Seeds the order of images, the choice of captions, dropout, new weights and `data.train_limit`."""
    data: DataSection
    prompt: PromptSection = PromptSection()
    model: ModelSection
    towers: TowersSection = TowersSection()
    adapter: AdapterSection | None = None
    train: TrainSection = TrainSection()
    objective: ObjectiveSection | None = None
    selection: SelectionSection | None = None
    track: TrackSection = TrackSection()
    generate: GenerateSection = GenerateSection()

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        adapted, trained = self.towers.in_state("adapted"), self.towers.in_state("trained")
        if adapted and self.adapter is None:
            raise ValueError(
                f"towers.{adapted[0]} is 'adapted' but there is no [adapter] section; "
                "add one (it may be empty), or set the tower to 'trained' or 'frozen'"
            )
        if self.adapter is not None and not adapted:
            raise ValueError("there is an [adapter] section but no tower is 'adapted'; nothing would be adapted")
        if not adapted and not trained:
            raise ValueError("every tower is 'frozen'; nothing would be trained")
        if adapted and "language_model" in trained:
            raise ValueError(
                "where another tower is 'adapted', towers.language_model must be 'adapted' or 'frozen', not 'trained'"
            )
        if self.objective is None and self.selection is not None:
            for name in ("max_bad_endings", "min_distinct"):
                if getattr(self.selection, name) is not None:
                    raise ValueError(f"selection.{name} is watched in training on a reward; it needs [objective]")
        if self.selection is not None and self.train.evaluate_every is None:
            raise ValueError("[selection] needs train.evaluate_every: it selects by evaluations during training")
        if self.train.cache_features and self.towers.vision_tower != "frozen":
            raise ValueError(
                f"train.cache_features needs a frozen vision tower; here it is {self.towers.vision_tower!r}"
            )
        if self.train.cache_features and self.data.augment != "none":
            raise ValueError(
                f"train.cache_features encodes each image once, but data.augment = {self.data.augment!r} changes it in "
                "every epoch; choose one of them"
            )
        if self.train.ema_decay and self.adapter is not None and self.adapter.method == "adalora":
            raise ValueError("train.ema_decay would bring back the ranks that adapter.method = 'adalora' takes away")
        if self.train.max_steps == 0 and self.model.start is None:
            raise ValueError("train.max_steps = 0 trains nothing; it needs model.start, a finished run to take over")
        if self.objective is not None and self.train.label_smoothing:
            raise ValueError("[objective] learns captions as they were drawn; set train.label_smoothing to 0")
        if self.objective is not None and self.adapter is not None and self.adapter.dropout:
            raise ValueError(
                f"[objective] learns captions with the probabilities they were drawn with, which adapter.dropout = "
                f"{self.adapter.dropout:g} would change; set it to 0"
            )
        if "projector" in adapted:
            raise ValueError("towers.projector is one matrix and takes no adapter: choose 'trained' or 'frozen'")
        if self.model.quantisation != "none" and (both := set(trained) & set(self.model.quantise)):
            raise ValueError(
                f"{sorted(both)} cannot be both 'trained' and quantised; adapt it, or take it out of model.quantise"
            )
        return self


def read_recipe(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply overrides.

    Args:
        source: the name of a recipe that ships with rscap, the path of a TOML file, or a nested table.
        overrides: `section.key=value`, applied in order; a value is TOML, and a bare word is a string.

    Raises:
        RecipeError: unreadable file, not TOML, unknown or wrong keys; lists each.
    """
    if isinstance(source, Mapping):
        return parse_recipe(overridden(_plain(source), overrides))
    path = shipped(Path(source), "recipes")
    return parse_recipe(overridden(read_toml(path, what="recipe", known=names("recipes")), overrides), name=str(path))


def parse_recipe(table: Mapping[str, Any], *, name: str = "recipe") -> Recipe:
    """Check a nested table of plain values; an error calls it `name`.

    Raises:
        RecipeError: unknown or wrong keys; lists each, with the nearest known one.
    """
    for path, value in flatten(table).items():
        if isinstance(value, str) and (found := secret_in(value)):
            raise RecipeError(
                f"{name}: {path} is {found[1]}",
                hint="run folders and cards keep the recipe: tokens belong in the environment or in `hf auth login`",
            )
    return check_table(Recipe, table, name=name)


def recipe_changes(began: Recipe, now: Recipe) -> dict[str, tuple[Any, Any]]:
    """The keys in which a run's recipe and the one it is resumed with differ, with both values.

    What is left to the machine (`auto`) agrees with whatever it came to when the run began, or was then.
    """
    found = differences(began.model_dump(mode="json"), now.model_dump(mode="json"))
    return {key: values for key, values in found.items() if key not in _LEFT_TO_THE_MACHINE or values[1] != "auto"}


_LEFT_TO_THE_MACHINE = ("model.dtype", "data.workers", "generate.batch_size")


def change_generate(section: GenerateSection, overrides: Sequence[str]) -> GenerateSection:
    """Apply `generate.key=value` overrides to decode settings.

    Raises:
        RecipeError: an override of another section, unknown or wrong keys; names each.
    """
    for override in overrides:
        if not override.strip().startswith("generate."):
            raise RecipeError(
                f"override {override!r} does not begin with `generate.`; a trained model keeps its other settings",
                hint=f"keys of [generate]: {', '.join(GenerateSection.model_fields)}",
            )
    table = overridden({"generate": section.model_dump()}, overrides)
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


class _OnlyGenerate(Section):
    generate: GenerateSection


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as TOML, defaults included."""
    return tomli_w.dumps(recipe.model_dump(mode="json", exclude_none=True))


def _plain(value: Any) -> Any:
    """A table from Python as TOML would hold it: any mapping is a table, a path is a string."""
    if isinstance(value, Mapping):
        return {key: _plain(inside) for key, inside in value.items()}
    return str(value) if isinstance(value, Path) else value
