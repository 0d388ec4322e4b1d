"""What the doctor examines: neutral records, filled from a run of rscap, a recipe, or the files of another program.

Every part may be missing. `Evidence.absent` then says why, so that no finding never means more than it should.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rscap.recipe import Tower, TowerState
from rscap.records import ScoreSheet

Counts = Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """The settings that a run should follow; None or empty where none is given."""

    where: str = ""
    """The file that gives them: a recipe, or `doctor.toml`."""
    lines: Mapping[str, int] = field(default_factory=dict)
    """Line of a key such as `train.learning_rate`."""
    trains: bool = True
    """False for a zero-shot evaluation."""
    pretrained: bool = True
    """False if the base model has random weights."""
    dtype: str | None = None
    """Precision of frozen weights: `float32`, `bfloat16`, `float16`."""
    quantisation: str | None = None
    """`none`, `nf4`, `int8`."""
    quantise: tuple[Tower, ...] = ()
    towers: Mapping[Tower, TowerState] | None = None
    peft_type: str | None = None
    """PEFT's name of the method: `LORA` …"""
    rank: int | None = None
    alpha: float | None = None
    rank_stabilised: bool | None = None
    weight_decomposed: bool | None = None
    training_prompts: tuple[str, ...] = ()
    test_prompts: tuple[str, ...] = ()
    learning_rate: float | None = None
    max_grad_norm: float | None = None
    captions: str | None = None
    """The caption scheme: `all`, `first`, …"""
    selects: bool = False
    """Whether the weights of the best evaluation are kept rather than the last."""

    def at(self, key: str) -> str:
        """The place of a key: `<file> line 12`."""
        return f"{self.where} line {self.lines[key]}" if key in self.lines else self.where


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """How far the run got."""

    where: str
    state: str
    """`finished`, or another state that the files name."""
    message: str = ""
    steps: int | None = None
    planned_steps: int | None = None
    result: bool | None = None
    """Whether trained weights exist; None if unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One logged update; losses and norms may be infinite or NaN, as they were in training."""

    step: int
    loss: float
    grad_norm: float | None
    learning_rate: float | None
    line: int | None


@dataclass(frozen=True, slots=True)
class Validated:
    """One evaluation between two updates."""

    step: int
    loss: float
    score: float | None
    """CIDEr of generated captions."""
    line: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingLog:
    """The losses of a run, in order."""

    where: str
    entries: tuple[LogEntry, ...]
    validation: tuple[Validated, ...] = ()

    def at(self, entry: LogEntry | Validated) -> str:
        return f"{self.where} line {entry.line}" if entry.line is not None else f"{self.where} step {entry.step}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """One evaluation in training on a reward; shares of validation captions."""

    step: int
    n: int
    """Captions."""
    line: int | None
    score: float | None
    """CIDEr."""
    reward: float | None
    bad_endings: float | None
    reference_bad_endings: float | None
    distinct: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardLog:
    """Training on a reward, in order."""

    where: str
    steps: tuple[int, ...]
    drawn: tuple[float, ...]
    """The mean reward of the captions drawn in each of these updates."""
    evaluations: tuple[Watched, ...]
    end_word: bool | None = None
    """Whether the reward counts the end of a sentence."""

    def at(self, one: Watched) -> str:
        return f"{self.where} line {one.line}"

    def updates_before(self, one: Watched) -> int:
        """How many updates were logged before an evaluation."""
        return sum(step <= one.step for step in self.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What one training batch supervises, counted by tokens and by captions."""

    where: str
    captions: int
    supervised: int
    image: int = 0
    prompt: int = 0
    """`<bos>`, words and newline."""
    prompt_known: bool = True
    """False if prompt and caption cannot be distinguished: then only `<bos>` is counted."""
    padding: int = 0
    unsupervised: int = 0
    """Captions without any label."""
    without_eos: int = 0
    several_eos: int = 0
    image_tokens: int = 0
    """Image tokens of the row that has most."""
    one_square: int | None = None
    """Image tokens of one square of the model; None if unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionReach:
    """The attention in a training batch: measured by changing a token, or read from token_type_ids."""

    where: str
    token_types: Literal["right", "absent", "zero on the caption", "unknown"]
    """`unknown` too where the family's masks do not depend on them."""
    causal: bool = False
    """Whether the family's prefix is meant to be causal."""
    earlier: int | None = None
    """Positions before the last caption token."""
    future_seen: int | None = None
    """How many of their outputs change with it: 0 is right. None if not measured."""
    before: int | None = None
    """Positions before the last token of the prefix."""
    prefix_reach: int | None = None
    """How many of their outputs change with it: all, or none where the prefix is causal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstLosses:
    """Losses of the supervised tokens of a first batch, on the untrained base, in nats."""

    where: str
    mean: float
    spread: float
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Frozen weights as they are held in memory."""

    where: str
    dtypes: Mapping[Tower, Counts]
    """Elements by precision: `float32`, `bfloat16`, `nf4` …"""
    products: tuple[str, ...] = ()
    """Precisions that quantised layers compute in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Learning:
    """Trainable parameters, by tower."""

    where: str
    trainable: Mapping[Tower, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterFiles:
    """An adapter in PEFT's layout, read from its files."""

    where: str
    kind: str
    """PEFT's name: `LORA` …"""
    targets: tuple[str, ...] | str
    rank: int | None
    alpha: float | None
    rank_stabilised: bool | None
    weight_decomposed: bool | None
    modules: Mapping[Tower, int]
    """Modules with an adapter, by tower."""
    unmatched: tuple[str, ...] = ()
    """Names of a target list that match no module."""
    untouched: tuple[Tower, ...] = ()
    """Towers whose B matrices are all zero."""
    not_finite: tuple[str, ...] = ()
    """Tensors that hold NaN or infinity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """The trained weights, loaded as `rscap evaluate` loads them."""

    where: str
    misfit: str | None = None
    """Why they could not be loaded."""
    loss: float | None = None
    """On the first training batch, in nats a token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateTest:
    """Some updates on one batch, a warm-up and then the peak rate: its loss before and after them, and the highest."""

    where: str
    learning_rate: float
    before: float
    after: float
    worst: float
    """The highest loss after an update."""
    guesses_evenly: bool = False
    """Whether every token of the vocabulary is equally likely after the last update, and was not before the first."""
    updates: int
    budget: float
    """The sum of the learning rates of the whole schedule over the sum of those of this test."""
    noise: float
    """Share of a loss below which a difference is rounding error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFacts:
    """The training data."""

    where: str
    training_images: int | None = None
    captions_per_image: float | None = None
    """Distinct ones, on average."""
    test_images: int | None = None
    rejected: int = 0
    rows: int | None = None
    longest_allowed: int | None = None
    """generate.max_new_tokens"""
    too_long: float | None = None
    """Share of training captions with more tokens than that."""
    special: tuple[str, ...] = ()
    """Special tokens that training captions spell."""
    special_images: int = 0
    """Training images with such captions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """A generated caption with its line."""

    text: str
    line: int | None
    prefix: str | None = None
    cut: bool | None = None
    """Whether the length limit ended it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredCaptions:
    """Captions of a set of images, their references and scores."""

    where: str
    """The file of the captions."""
    captions: Mapping[str, Caption]
    references: Mapping[str, tuple[str, ...]]
    sheet: ScoreSheet | None = None
    shuffled: float | None = None
    """CIDEr with the captions shuffled among the images."""
    reported: int | None = None
    """The number of images that the score claims to be computed on."""
    scored: frozenset[str] | None = None
    """The images it was computed on, if it names them."""
    scores_where: str = ""
    others: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Images that other systems were scored on, by the system's name."""
    constant: float | None = None
    """CIDEr of the constant caption on the same images."""

    @property
    def most_common(self) -> tuple[str, int]:
        """The most frequent caption, and how many images have it."""
        return Counter(caption.text for caption in self.captions.values()).most_common(1)[0]

    def at(self, example: str) -> str:
        line = self.captions[example].line
        return f"{self.where} line {line}" if line is not None else f"{self.where}, {example!r}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything about one run or recipe. A part that is None could not be looked at; `absent` says why."""

    path: Path
    expected: Expected
    vocabulary: int | None = None
    """Rows of the output layer, for ln V."""
    state: RunState | None = None
    log: TrainingLog | None = None
    reward: RewardLog | None = None
    """In place of `log`, of a run that trained on a reward: its losses go up and down around 0."""
    targets: Targets | None = None
    attention: AttentionReach | None = None
    first_losses: FirstLosses | None = None
    weights: Weights | None = None
    learning: Learning | None = None
    adapter: AdapterFiles | None = None
    trained: Trained | None = None
    rate: RateTest | None = None
    data: DataFacts | None = None
    evaluations: tuple[ScoredCaptions, ...] | None = None
    absent: Mapping[str, str] = field(default_factory=dict)
