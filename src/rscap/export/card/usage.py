"""How to ask the exported model: code that runs as it stands (a test runs it)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rscap.export.card.subject import CardSubject
from rscap.export.decoding import generate_arguments
from rscap.recipe import GenerateSection

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
    """The prompt, the decode settings, and a program of ten lines."""
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
    """Who used the words of the prompt."""
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
