"""The model card, README.md of an export: front matter, usage, scores, training, limits, licence, provenance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import tomli_w

from rscap.exporting.card_subject import CardSubject, scores_section
from rscap.exporting.hub import public, refuse_secrets
from rscap.exporting.weights import generate_arguments
from rscap.recipe import GenerateSection

NOTICE = "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms\n"
"""The text that section 3.1 of the Gemma Terms of Use wants in a file NOTICE beside every copy."""

_GEMMA = """\
The base model {base} is Google's and stands under the
[Gemma Terms of Use](https://ai.google.dev/gemma/terms). What is derived from it, this model included, may be passed on
under the conditions of their section 3.1: among others, the use restrictions of section 3.2 and the
[Prohibited Use Policy](https://ai.google.dev/gemma/prohibited_use_policy) go with it, recipients get a copy of the
terms, and the file NOTICE stays with the weights. **These weights were changed by fine-tuning; they are not Google's
release.**"""

_NANO = """\
The base model is rscap's built-in nano model, pretrained from nothing on drawn pictures and shipped under the Apache
License 2.0."""

_UNKNOWN = """\
The base model {base} was not named in a way that tells its licence. Its terms apply to what is derived from it, this
model included; where it derives from Gemma, those are the [Gemma Terms of Use](https://ai.google.dev/gemma/terms)."""

_DATA = """\
Images and captions of the training data stay under the terms of those who published them; rscap does not know them and
none are included here."""


def is_gemma(base: str) -> bool:
    """Google's own PaliGemma checkpoints."""
    return base.startswith("google/paligemma")


def licence_id(base: str) -> str | None:
    """The licence as the Hub abbreviates it; None if unknown."""
    if is_gemma(base):
        return "gemma"
    return "apache-2.0" if base == "nano" else None


def licence_section(base: str) -> str:
    """The licence section. It names the terms and what is unknown; it is no legal advice."""
    text = _GEMMA if is_gemma(base) else _NANO if base == "nano" else _UNKNOWN
    return f"## Licence\n\n{text.format(base=base)}\n\n{_DATA}\n"


# The YAML block at the top of a card, which the Hub indexes.


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
    return ["remote-sensing", "image-captioning", "paligemma", "rscap", *method]


# How to use the exported model: code that a test runs as it is.

_MERGED = """\
import torch
from PIL import Image
from transformers import PaliGemmaForConditionalGeneration, PaliGemmaProcessor

folder = "PATH_OR_NAME"  # this folder, or its name on the Hub
model = PaliGemmaForConditionalGeneration.from_pretrained(folder, dtype=torch.{dtype}).eval()
processor = PaliGemmaProcessor.from_pretrained(folder)
"""

_ADAPTER = """\
import torch
from peft import PeftModel
from PIL import Image
from transformers import PaliGemmaForConditionalGeneration, PaliGemmaProcessor
{base}
folder = "PATH_OR_NAME"  # this folder, or its name on the Hub
model = PaliGemmaForConditionalGeneration.from_pretrained(base, {revision}dtype=torch.{dtype})
model = PeftModel.from_pretrained(model, folder).eval()
processor = PaliGemmaProcessor.from_pretrained(base{revision_only})
"""

_ASK = """
image = Image.open("image.jpg").convert("RGB")
inputs = processor(text={text}, images=image, return_tensors="pt").to(torch.{dtype})
with torch.inference_mode():
    ids = model.generate(**inputs, {arguments})
print(processor.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
"""


def usage_section(subject: CardSubject) -> str:
    """Prompt, decode settings, and a program of ten lines."""
    prefix, settings = subject.recipe.prompt.prefix, subject.recipe.generate
    load = _ADAPTER if subject.form == "adapter" else _MERGED
    revision = f'revision="{subject.revision}"' if subject.revision and subject.hub_base else ""
    loading = load.format(
        base=_base(subject),
        dtype=subject.dtype,
        revision=f"{revision}, " if revision else "",
        revision_only=f", {revision}" if revision else "",
    )
    arguments = generate_arguments(settings)
    asking = _ASK.format(
        text=json.dumps(f"<image>{prefix}", ensure_ascii=False), dtype=subject.dtype, arguments=_keywords(arguments)
    )
    return (
        f"## How to ask it\n\nThe prompt is `{prefix}`: {_asked(subject)}, and others give other captions. Decoding is "
        f"{_decoding(settings)}.\n\n```python\n{loading}{asking}```\n"
    )


def _asked(subject: CardSubject) -> str:
    """Whether training and evaluation used the same prompt."""
    drawn = subject.recipe.prompt.training_prefixes
    if not drawn:
        return "training and scores used these words"
    return f"scores used these words, training drew from {', '.join(f'`{words}`' for words in drawn)}"


def _base(subject: CardSubject) -> str:
    """The line of code that names the base model."""
    if subject.hub_base:
        return f'\nbase = "{subject.hub_base}"'
    if subject.base == "nano":
        return "from rscap.model.load import NANO\n\nbase = NANO  # the folder of the model that rscap ships"
    return f'\nbase = "PATH_OF_THE_BASE"  # the folder of {subject.base}'


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
        f"# {subject.name}\n\n{_summary(subject)}\n",
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
    base = f"`{subject.base}`" + (f" at revision `{subject.revision}`" if subject.revision else "")
    what = {
        "merged": f"{subject.method} adapter of {base}, merged into its weights ({subject.dtype})",
        "whole": f"weights of {base} with whole towers trained ({subject.dtype})",
        "adapter": f"{subject.method} adapter for {base}, in PEFT's format; the base model is not included",
    }[subject.form]
    learned = ", ".join(
        f"{tower.replace('_', ' ')} {counts.trainable:,} of {counts.total:,}"
        for tower, counts in subject.parameters.items()
        if counts.trainable
    )
    return f"Captions for images seen from above: the {what}.\nParameters that learned: {learned}."


def _agreement(subject: CardSubject) -> str:
    lines = "\n".join(f"* {sentence}" for sentence in subject.agreement.sentences())
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
    drawn = " (drawn by rscap itself: no photographs)" if data.name == "sample" else ""
    return (
        f"## What it was trained on\n\nData: {where or data.name or 'unknown'}{drawn}, split scheme "
        f"`{data.split_scheme or 'unknown'}`; the test split was not given to training. Digest over ids, "
        f"captions, splits and image sizes of what training could see:\n`sha256:{data.digest or 'unknown'}`\n\n"
        f"The recipe, defaults included (paths are cut to their last part):\n\n```toml\n{recipe}```\n"
    )


def _limits(subject: CardSubject) -> str:
    resized = "Images are resized to a square of the base model's resolution: small things in large scenes vanish."
    measured = ", ".join(f"{scores.split} of {subject.data.name or 'its data'}" for scores in subject.scores)
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
    commit = f", commit `{known.commit}`{' with local changes' if known.dirty else ''}" if known.commit else ""
    packages = ", ".join(f"{name} {version}" for name, version in known.packages.items())
    digest = known.base.digest
    files = f"\n\nDigest of the base model's files: `sha256:{digest}`" if digest else ""
    return f"## Provenance\n\nTrained with rscap {known.rscap or 'unknown'}{commit}; {packages}.{files}\n"
