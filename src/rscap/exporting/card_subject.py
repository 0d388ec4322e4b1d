"""The facts of a model card: run, form of the export, scores."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rscap.errors import StoreError
from rscap.exporting.agreement import Agreement
from rscap.exporting.hub import public_name
from rscap.metrics import in_order, known
from rscap.recipe import Recipe
from rscap.records import ScoreSheet
from rscap.scoring import SEEN, seen_sentences
from rscap.scoring.foreign import column_of
from rscap.store import (
    BASELINE_LABELS,
    DataOrigin,
    Provenance,
    RunFolder,
    TowerParameters,
    read_json,
    read_parameters,
    read_sheet,
)

Form = Literal["merged", "whole", "adapter"]
"""Merged weights; weights that were trained whole; an adapter beside its base."""

_LANGUAGE = re.compile(r"(?:caption|describe|answer) ([a-z]{2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """The scores of one split: of the run, and of the baselines beside it by the name a table prints."""

    split: str
    sheet: ScoreSheet
    baselines: Mapping[str, ScoreSheet]


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSubject:
    """The facts of a model card."""

    name: str
    form: Form
    dtype: str
    """Precision of the exported weights."""
    method: str | None
    """PEFT's name of the adapter; None if towers were trained whole."""
    recipe: Recipe
    provenance: Provenance
    parameters: Mapping[str, TowerParameters]
    scores: tuple[Scores, ...]
    agreement: Agreement

    @classmethod
    def of(cls, run: RunFolder, recipe: Recipe, agreement: Agreement, *, form: Form, dtype: str) -> CardSubject:
        """Read the run folder.

        Raises:
            StoreError: a file of it is missing or damaged; names it.
        """
        return cls(
            name=run.name,
            form=form,
            dtype=dtype,
            method=_method(run),
            recipe=recipe,
            provenance=Provenance.read(run.provenance_file),
            parameters=read_parameters(run.parameters_file),
            scores=tuple(_scores(run, split) for split in run.splits()),
            agreement=agreement,
        )

    @property
    def base(self) -> str:
        """The base model's name, fit to be published."""
        return public_name(self.recipe.model.base)

    @property
    def hub_base(self) -> str | None:
        """The base model's name on the Hub; None for a local folder and for the built-in model."""
        local = self.provenance.base.digest is not None
        return self.recipe.model.base if not local and "/" in self.recipe.model.base else None

    @property
    def revision(self) -> str | None:
        return self.provenance.base.revision

    @property
    def hub_data(self) -> str | None:
        """The data set's name on the Hub; None for files and for the built-in sample."""
        source = self.recipe.data.source.split("@")[0]
        local = source.startswith((".", "/", "~")) or self.data.name != self.recipe.data.source
        return source if source.count("/") == 1 and not local else None

    @property
    def data(self) -> DataOrigin:
        """Name, digest and split scheme of the data, as the run recorded them."""
        return self.provenance.data

    @property
    def language(self) -> str | None:
        """The language that the prompt names (`caption en`); None if it names none."""
        match = _LANGUAGE.match(self.recipe.prompt.prefix)
        return match[1] if match else None

    @property
    def quantised(self) -> bool:
        return self.recipe.model.quantisation != "none"


def _method(run: RunFolder) -> str | None:
    file = run.adapter / "adapter_config.json"
    if not file.is_file():
        return None
    configuration = read_json(file)
    if not isinstance(configuration, dict) or "peft_type" not in configuration:
        raise StoreError(f"{file} is not the configuration of an adapter: it names no peft_type")
    kind = str(configuration["peft_type"])
    names = ["LoRA" if kind == "LORA" else kind]
    names += ["rank-stabilised"] if configuration.get("use_rslora") else []
    names += ["weight-decomposed (DoRA)"] if configuration.get("use_dora") else []
    return ", ".join(names)


def _scores(run: RunFolder, split: str) -> Scores:
    beside = {
        BASELINE_LABELS.get(folder.name, folder.name): read_sheet(folder.scores(split))
        for folder in run.baselines()
        if folder.scores(split).is_file()
    }
    return Scores(split=split, sheet=read_sheet(run.scores(split)), baselines=beside)


# The scores section: every metric with its interval, the baselines, n and signature.


def scores_section(subject: CardSubject) -> str:
    """One table for each split, or a statement that nothing was measured."""
    if not subject.scores:
        return "## Scores\n\nThis run was not evaluated: nothing is known of how good its captions are.\n"
    notes = "\n\n".join(filter(None, [_whose(subject)]))
    tables = "\n\n".join(_split(scores) for scores in subject.scores)
    return f"## Scores\n\n{notes}\n\n{tables}\n"


def _whose(subject: CardSubject) -> str:
    """Which weights were scored, if they differ from the exported ones."""
    model = subject.recipe.model
    if subject.form != "adapter" and subject.quantised:
        return (
            f"**Measured on the run as it was trained, with a base model quantised to {model.quantisation}. The "
            "weights here are merged into the unquantised base model: captions, and so scores, can differ.** "
            "How many do is said below."
        )
    if subject.form == "adapter" and subject.quantised:
        return (
            f"Measured with the base model quantised to {model.quantisation}, as the adapter was trained; on an "
            "unquantised base captions, and so scores, can differ."
        )
    if subject.form == "adapter":
        return "Measured on the run, with this adapter on the same base model."
    what = "its adapter was merged" if subject.form == "merged" else "its weights were written here"
    held = model.dtype if subject.form == "merged" else "float32"  # whole towers learn in float32
    rounded = f" and rounded to {subject.dtype}" if subject.dtype not in (held, "float32") else ""
    return f"Measured on the run before {what}{rounded}; how far both agree is said below."


def _split(scores: Scores) -> str:
    sheets = [scores.sheet, *scores.baselines.values()]
    lines = [
        f"**{scores.split}**, n = {scores.sheet.n:,} images{_unscored(scores.sheet)}; in brackets 95 % bootstrap "
        "intervals over images",
        "",
        "| | " + " | ".join(["this model", *scores.baselines]) + " |",
        "|---|" + "---:|" * len(sheets),
        *(_row(metric, sheets) for metric in in_order(scores.sheet.corpus)),
        "",
        f"`{scores.sheet.signature}`",
    ]
    return "\n".join([*lines, *_warning(scores)])


def _row(metric: str, sheets: Sequence[ScoreSheet]) -> str:
    line = known(metric)
    name = (line and line.quoted_as) or column_of(sheets[0], metric)
    return f"| {name} | " + " | ".join(_cell(sheet, metric) for sheet in sheets) + " |"


def _cell(sheet: ScoreSheet, metric: str) -> str:
    if metric not in sheet.corpus:
        return "—"
    interval = sheet.intervals.get(metric)
    bounds = f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""
    return f"{sheet.corpus[metric]:.3f}{bounds}"


def _unscored(sheet: ScoreSheet) -> str:
    return f", {sheet.unscored} of them without a caption" if sheet.unscored else ""


def _warning(scores: Scores) -> list[str]:
    """Warnings if the model has seen images that it is scored on, or is not above a baseline."""
    seen = seen_sentences(scores.sheet.extra.get(SEEN))
    lines = [line for text in seen for line in ("", f"**This model {text}.**")]
    ours = scores.sheet.corpus.get("CIDEr")
    above = [name for name, sheet in scores.baselines.items() if ours is not None and sheet.corpus["CIDEr"] >= ours]
    return [*lines, *(["", f"**Its CIDEr-D is not above that of: {', '.join(above)}.**"] if above else [])]
