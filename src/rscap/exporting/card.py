"""The model card, README.md of an export: front matter, usage, scores, training, limits, licence, provenance.

Scores stand with their interval, n and signature, beside the baselines; a test runs the usage code as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tomli_w

from rscap.errors import StoreError
from rscap.escape import for_code_span, for_markdown, for_python, visible
from rscap.exporting.agreement import Agreement
from rscap.exporting.hub import HUB_NAME, generate_arguments, public, public_name, refuse_secrets
from rscap.model.families import FAMILIES, Family, Licence
from rscap.recipe import GenerateSection, Recipe
from rscap.reports.card import CardScores, read_card_scores, score_lines
from rscap.store import (
    DataOrigin,
    Provenance,
    RunFolder,
    TowerParameters,
    read_json,
    read_parameters,
)

Form = Literal["merged", "whole", "adapter"]
"""Merged weights; weights that were trained whole; an adapter beside its base."""

_REVISION = re.compile(r"[\w./-]+", re.ASCII)
_LANGUAGE = re.compile(r"(?:caption|describe|answer) ([a-z]{2})")


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
    scores: tuple[CardScores, ...]
    agreement: Agreement
    family: Family
    needs: str | None
    """The version of transformers from which on an adapter loads whole, where rscap has tried."""
    evaluation: str | None
    """Where captions and references are that the scores follow from: the folder beside the card, or an address."""

    @classmethod
    def of(
        cls,
        run: RunFolder,
        recipe: Recipe,
        agreement: Agreement,
        family: Family,
        *,
        form: Form,
        dtype: str,
        evaluation: str | None = None,
        needs: str | None = None,
    ) -> CardSubject:
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
            scores=tuple(read_card_scores(run, split) for split in run.splits()),
            agreement=agreement,
            evaluation=evaluation,
            needs=needs,
            family=family,
        )

    @property
    def base(self) -> str:
        """The base model's name, fit to be published."""
        return public_name(self.recipe.model.base)

    @property
    def hub_base(self) -> str | None:
        """The base model's name on the Hub; None for a local folder and for the built-in model."""
        name = self.recipe.model.base
        local = self.provenance.base.digest is not None or Path(name).is_dir()
        return name if not local and HUB_NAME.fullmatch(name) else None

    @property
    def revision(self) -> str | None:
        """Commit, tag or branch of the base model; None also for what no revision is called."""
        revision = self.provenance.base.revision
        return revision if revision and _REVISION.fullmatch(revision) else None

    @property
    def hub_data(self) -> str | None:
        """The data set's name on the Hub; None for files and for the built-in sample."""
        source = self.recipe.data.source.split("@")[0]
        local = source.startswith((".", "/", "~")) or self.data.name != self.recipe.data.source
        return source if HUB_NAME.fullmatch(source) and not local and not Path(source).exists() else None

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


def scores_section(subject: CardSubject) -> str:
    """One table for each split, or a statement that nothing was measured."""
    if not subject.scores:
        return "## Scores\n\nThis run was not evaluated: nothing is known of how good its captions are.\n"
    notes = "\n\n".join(filter(None, [_whose(subject)]))
    tables = "\n\n".join("\n".join(score_lines(scores)) for scores in subject.scores)
    return f"## Scores\n\n{notes}\n\n{tables}\n{_evaluation(subject)}"


def _evaluation(subject: CardSubject) -> str:
    """Where the scores can be recomputed from; nothing where captions and references do not travel."""
    if subject.evaluation is None:
        return ""
    if subject.evaluation.startswith("http"):
        return f"\nThe captions and references that these scores follow from: <{subject.evaluation}>\n"
    return (
        f"\nThese scores follow from the captions and references in `{subject.evaluation}/`: `rscap verify` on this "
        "folder computes them again. The references stay under the terms of those who published them.\n"
    )


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


_NANO = """\
The base model is rscap's built-in nano model, pretrained from nothing on drawn pictures and shipped under the Apache
License 2.0."""

_UNKNOWN = """\
The base model {base} was not named in a way that tells its licence. Its terms apply to what is derived from it, this
model included; where it derives from Gemma, those are the [Gemma Terms of Use](https://ai.google.dev/gemma/terms)."""

_DATA = """\
Images and captions of the training data stay under the terms of those who published them; rscap does not know them and
none are included here."""


def licence_of(base: str) -> Licence | None:
    """The terms of a checkpoint that a family's makers published; None for any other base."""
    return next((family.licence for family in FAMILIES.values() if base.startswith(family.published)), None)


def notice_of(base: str) -> str | None:
    """Content of the file NOTICE that a base's terms want beside every copy, if they want one."""
    licence = licence_of(base)
    return licence.notice if licence else None


def licence_id(base: str) -> str | None:
    """The licence as the Hub abbreviates it; None if unknown."""
    if (licence := licence_of(base)) is not None:
        return licence.hub_id
    return "apache-2.0" if base == "nano" else None


def licence_section(base: str) -> str:
    """The licence section. It names the terms and what is unknown; it is no legal advice."""
    licence = licence_of(base)
    text = licence.text if licence else _NANO if base == "nano" else _UNKNOWN
    return f"## Licence\n\n{text.format(base=for_markdown(base))}\n\n{_DATA}\n"


def front_matter(subject: CardSubject) -> str:
    """YAML between two lines of dashes. Unknown facts are omitted rather than guessed."""
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        language=subject.language,
        license=licence_id(subject.base),
        library_name="peft" if subject.form == "adapter" else "transformers",
        pipeline_tag="image-to-text",
        base_model=subject.hub_base,
        datasets=subject.hub_data,
        tags=_tags(subject),
    )
    if subject.hub_base:
        data["base_model_relation"] = "adapter" if subject.form == "adapter" else "finetune"
    return f"---\n{data.to_yaml()}\n---\n"


def _tags(subject: CardSubject) -> list[str]:
    method = [subject.method.split(",")[0].lower()] if subject.method else []
    return ["remote-sensing", "image-captioning", subject.family.name, "rscap", *method]


_MERGED = """\
import torch
from PIL import Image
from transformers import {imports}

folder = "PATH_OR_NAME"  # this folder, or its name on the Hub
model = {model}.from_pretrained(folder, dtype=torch.{dtype}).eval()
{processor}
"""

_ADAPTER = """\
import torch
from peft import PeftModel
from PIL import Image
from transformers import {imports}
{base}
folder = "PATH_OR_NAME"  # this folder, or its name on the Hub
model = {model}.from_pretrained(base, {revision}dtype=torch.{dtype})
model = PeftModel.from_pretrained(model, folder).eval()
{processor}
"""


def usage_section(subject: CardSubject) -> str:
    """Prompt, decode settings, and a program of ten lines."""
    prefix, settings = subject.recipe.prompt.prefix, subject.recipe.generate
    load, usage = _ADAPTER if subject.form == "adapter" else _MERGED, subject.family.usage
    revision = f"revision={for_python(subject.revision)}" if subject.revision and subject.hub_base else ""
    source = "folder" if subject.form != "adapter" else f"base, {revision}" if revision else "base"
    loading = load.format(
        base=_base(subject),
        dtype=subject.dtype,
        revision=f"{revision}, " if revision else "",
        imports=usage.imports,
        model=usage.model,
        processor=usage.processor.format(source=source),
    )
    asking = usage.ask.format(
        words=for_python(f"{usage.before_words}{prefix}"),
        dtype=subject.dtype,
        arguments=_keywords(generate_arguments(settings)),
    )
    return (
        f"## How to ask it\n\nThe prompt is {for_code_span(prefix)}: {_asked(subject)}, and others give other "
        f"captions. Decoding is {_decoding(settings)}.\n\n```python\n{loading}{asking}```\n{_needs(subject)}"
    )


def _needs(subject: CardSubject) -> str:
    """Where an adapter loads whole; nothing of merged weights, which transformers reads by itself."""
    if subject.needs is None:
        return ""
    tried = "tried with 4.57.1 and 5.23" if subject.needs == "4.52" else "under 4.x its vision tower would be lost"
    return f"\nThis adapter needs transformers {subject.needs} or later ({tried}) and PEFT 0.21 or later.\n"


def _asked(subject: CardSubject) -> str:
    """Whether training and evaluation used the same prompt."""
    drawn = subject.recipe.prompt.training_prefixes
    if not drawn:
        return "training and scores used these words"
    return f"scores used these words, training drew from {', '.join(map(for_code_span, drawn))}"


def _base(subject: CardSubject) -> str:
    """The line of code that names the base model."""
    if subject.hub_base:
        return f"\nbase = {for_python(subject.hub_base)}"
    if subject.base == "nano":
        return "from rscap.model.load import NANO\n\nbase = NANO  # the folder of the model that rscap ships"
    return f'\nbase = "PATH_OF_THE_BASE"  # the folder of {visible(subject.base, one_line=True)}'


def _keywords(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items())


def _decoding(settings: GenerateSection) -> str:
    """Decode settings in words."""
    way = f"beam search with {settings.beams} beams" if settings.beams > 1 else "greedy"
    if settings.temperature > 0:
        way = "by draws (rscap seeds them per image, transformers does not: sampled captions differ)"
    return f"{way}, with at most {settings.max_new_tokens} tokens"


def card(subject: CardSubject) -> str:
    """README.md of an export: Markdown behind YAML front matter.

    Raises:
        ExportError: the recipe or the run holds what looks like a secret.
    """
    sections = [
        f"# {for_markdown(subject.name)}\n\n{_summary(subject)}\n",
        usage_section(subject),
        scores_section(subject),
        _agreement(subject),
        _training(subject),
        _limits(subject),
        licence_section(subject.base),
        _provenance(subject),
    ]
    text = front_matter(subject) + "\n" + "\n".join(sections)
    refuse_secrets(text, what="the model card")
    return text


def _summary(subject: CardSubject) -> str:
    base = for_code_span(subject.base) + (f" at revision `{subject.revision}`" if subject.revision else "")
    method = for_markdown(subject.method or "")
    what = {
        "merged": f"{method} adapter of {base}, merged into its weights ({subject.dtype})",
        "whole": f"weights of {base} with whole towers trained ({subject.dtype})",
        "adapter": f"{method} adapter for {base}, in PEFT's format; the base model is not included",
    }[subject.form]
    learned = ", ".join(
        f"{tower.replace('_', ' ')} {counts.trainable:,} of {counts.total:,}"
        for tower, counts in subject.parameters.items()
        if counts.trainable
    )
    return f"Captions for images seen from above: the {what}.\nParameters that learned: {learned}."


def _agreement(subject: CardSubject) -> str:
    lines = "\n".join(f"* {for_markdown(sentence)}" for sentence in subject.agreement.sentences())
    asked = "with PEFT on the unquantised base model" if subject.form == "adapter" else "with plain transformers"
    unquantised = " (its adapter on the unquantised base model)" if subject.quantised else ""
    return (
        f"## Checked against the run\n\nBefore it was written, these files were loaded {asked} and asked for captions, "
        f"greedily, beside the run{unquantised}:\n\n{lines}\n"
    )


def _training(subject: CardSubject) -> str:
    data = subject.data
    where = f"[{subject.hub_data}](https://huggingface.co/datasets/{subject.hub_data})" if subject.hub_data else None
    recipe = tomli_w.dumps(public(subject.recipe.model_dump(mode="json", exclude_none=True)))
    name = for_markdown(public_name(data.name or "unknown"))
    digest = for_code_span(f"sha256:{data.digest or 'unknown'}")
    drawn = " (drawn by rscap itself: no photographs)" if data.name == "sample" else ""
    return (
        f"## What it was trained on\n\nData: {where or name}{drawn}, split scheme "
        f"{for_code_span(data.split_scheme or 'unknown')}; the test split was not given to training. Digest over ids, "
        f"captions, splits and image sizes of what training could see:\n{digest}\n\n"
        f"The recipe, defaults included (paths are cut to their last part):\n\n```toml\n{recipe}```\n"
    )


def _limits(subject: CardSubject) -> str:
    resized = "Images are resized to a square of the base model's resolution: small things in large scenes vanish."
    name = for_markdown(public_name(subject.data.name or "its data"))
    measured = ", ".join(f"{for_markdown(scores.split)} of {name}" for scores in subject.scores)
    known = f"on {measured} alone" if measured else "on nothing"
    return (
        "## Intended use and limits\n\n"
        "Meant for research, for search and for first descriptions of images seen from above. It was measured "
        f"{known}; on other sensors, resolutions, regions or seasons its captions may be worse, and nothing here says "
        "by how much.\n\n"
        "* A caption can be fluent and wrong: counts, colours, places and kinds of things are to be checked by a "
        "person wherever a decision hangs on them.\n"
        "* Scores measure likeness to reference captions, faults of those included; they do not measure truth.\n"
        f"* {resized}\n"
        "* It gives a caption for any image, also for one that is not seen from above.\n"
    )


def _provenance(subject: CardSubject) -> str:
    known = subject.provenance
    commit = (
        f", commit {for_code_span(known.commit)}{' with local changes' if known.dirty else ''}" if known.commit else ""
    )
    packages = ", ".join(for_markdown(f"{name} {version}") for name, version in known.packages.items())
    digest = known.base.digest
    files = f"\n\nDigest of the base model's files: {for_code_span(f'sha256:{digest}')}" if digest else ""
    return f"## Provenance\n\nTrained with rscap {for_markdown(known.rscap or 'unknown')}{commit}; {packages}.{files}\n"
