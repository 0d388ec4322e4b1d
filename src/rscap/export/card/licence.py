"""Whose terms the exported weights are under, as far as rscap can know."""

from __future__ import annotations

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
    """The licence as hubs abbreviate it; None where it is not known."""
    if is_gemma(base):
        return "gemma"
    return "apache-2.0" if base == "nano" else None


def licence_section(base: str) -> str:
    """What a card says of licences. No legal advice: it names the terms, and what is not known."""
    text = _GEMMA if is_gemma(base) else _NANO if base == "nano" else _UNKNOWN
    return f"## Licence\n\n{text.format(base=base)}\n\n{_DATA}\n"
