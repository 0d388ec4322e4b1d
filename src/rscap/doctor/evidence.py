"""What a doctor looks at: neutral records, filled from a run of rscap, from a recipe, or from anybody's files.

Every part may be missing. `Evidence.absent` then says why, so that silence is never taken for health.
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
class Asked:
    """What was asked for; None or empty where nobody said."""

    where: str = ""
    """The file that says so: a recipe, or `doctor.toml`."""
    lines: Mapping[str, int] = field(default_factory=dict)
    """Line of a key such as `train.learning_rate`."""
    trains: bool = True
    """False for a zero-shot evaluation."""
    pretrained: bool = True
    """False where the base is said to have random weights."""
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
    """Whether the weights of the best evaluation are kept, and not the last."""

    def at(self, key: str) -> str:
        """Where a key stands: `<file> line 12`."""
        return f"{self.where} line {self.lines[key]}" if key in self.lines else self.where


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """How far the run came."""

    where: str
    state: str
    """`finished`, or what else the files say."""
    message: str = ""
    steps: int | None = None
    planned_steps: int | None = None
    result: bool | None = None
    """Whether trained weights are there; None where it cannot be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One logged update; NaN where the log does not say, infinite or NaN where training was."""

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
class Targets:
    """What one training batch supervises, counted by tokens and by captions."""

    where: str
    captions: int
    supervised: int
    image: int = 0
    prompt: int = 0
    """`<bos>`, words and newline."""
    prompt_known: bool = True
    """False where the prompt cannot be told from the caption: then `<bos>` alone is counted."""
    padding: int = 0
    unsupervised: int = 0
    """Captions without any label."""
    without_eos: int = 0
    several_eos: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """Who sees whom in a training batch: measured by changing one token, or read from token_type_ids."""

    where: str
    token_types: Literal["right", "absent", "zero on the caption", "unknown"]
    earlier: int | None = None
    """Positions before the last caption token."""
    future_seen: int | None = None
    """Those of them whose output changes with it: 0 is right. None where nothing was measured."""
    before: int | None = None
    """Positions before the last token of the prefix."""
    prefix_reach: int | None = None
    """Those of them whose output changes with it: all is right, 0 is a causal prefix."""


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
    """Parameters that learn, by tower."""

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
    """Modules that carry an adapter, by tower."""
    unmatched: tuple[str, ...] = ()
    """Names of a target list that no module bears."""
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
    """Some updates on one batch, a warm-up and then the peak rate: its loss before, after, and at its worst."""

    where: str
    learning_rate: float
    before: float
    after: float
    worst: float
    """The highest loss after an update."""
    guesses_evenly: bool = False
    """Whether, after the last and not before the first, every token of the vocabulary is as likely."""
    updates: int
    budget: float
    """What the run's whole schedule adds up to, in updates at the peak rate, over what this test added up to."""
    noise: float
    """Share of a loss below which a difference is rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFacts:
    """What is learned from."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """A generated caption, and where it stands."""

    text: str
    line: int | None
    prefix: str | None = None
    cut: bool | None = None
    """Ended by the length limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Captions of a set of images, their references and scores."""

    where: str
    """The file of the captions."""
    captions: Mapping[str, Caption]
    references: Mapping[str, tuple[str, ...]]
    sheet: ScoreSheet | None = None
    shuffled: float | None = None
    """CIDEr with the captions shuffled among the images."""
    reported: int | None = None
    """On how many images the score was computed, by its own word."""
    scored: frozenset[str] | None = None
    """On which, where that is told."""
    scores_where: str = ""
    others: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Images that other systems were scored on, by the system's name."""
    constant: float | None = None
    """CIDEr of the constant caption on the same images."""

    @property
    def most_common(self) -> tuple[str, int]:
        """The caption that most images have, and how many."""
        return Counter(caption.text for caption in self.captions.values()).most_common(1)[0]

    def at(self, example: str) -> str:
        line = self.captions[example].line
        return f"{self.where} line {line}" if line is not None else f"{self.where}, {example!r}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything about one run or recipe. A part that is None could not be looked at; `absent` says why."""

    path: Path
    asked: Asked
    vocabulary: int | None = None
    """Rows of the output layer, for ln V."""
    state: RunState | None = None
    log: TrainingLog | None = None
    targets: Targets | None = None
    sight: Sight | None = None
    first_losses: FirstLosses | None = None
    weights: Weights | None = None
    learning: Learning | None = None
    adapter: AdapterFiles | None = None
    trained: Trained | None = None
    rate: RateTest | None = None
    data: DataFacts | None = None
    evaluations: tuple[Evaluation, ...] | None = None
    absent: Mapping[str, str] = field(default_factory=dict)
