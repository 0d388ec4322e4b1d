"""How an export of rscap is asked: the words, precision and decode settings that its STAC Item (`MODEL_ITEM`) holds.

Anybody can put a file of that name into a folder. So a setting is believed only where rscap could have written it: a
known key, with a value of its type and range. What does not fit is left out, and a note names it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from rscap.errors import RecipeError, StoreError
from rscap.progress import Say
from rscap.recipe import Dtype, GenerateSection
from rscap.store import MODEL_ITEM, plain_path, read_config
from rscap.tables import check_table

_MOST_BYTES = 2**20
"""Of the file; an export writes some 10 kB."""
_LONGEST_PROMPT = 2_000
"""Characters of the words before a caption."""
_FORM, _FORMS = "weights.form", ("merged", "adapter", "whole")
"""The key that every export has, by which rscap knows its own, and its values."""
_DTYPE, _PREFIX, _GENERATE = "weights.dtype", "prompt.prefix", "generate."


@dataclass(frozen=True, slots=True)
class ExportedAs:
    """How an export is asked."""

    prefix: str | None
    """The words before a caption; None where the file names none that can be used."""
    dtype: Dtype | None
    generate: GenerateSection


def exported_as(folder: Path, say: Say) -> ExportedAs | None:
    """How the model in a folder is asked if rscap exported it; None for any other folder.

    Args:
        folder: of an export, or of something else; it need not exist.
        say: gets a note for whatever is not believed.

    Raises:
        StoreError: the file is a link that leads out of the folder, or no plain file.
    """
    path = folder / MODEL_ITEM
    if not path.is_file():
        return None
    path = plain_path(folder, MODEL_ITEM)
    try:
        found = _settings(path)
    except StoreError as error:
        say(f"note: {error.message}; the model is asked as its family is")
        return None
    prefix, dtype = found.get(_PREFIX), found.get(_DTYPE)
    if prefix is not None and not (isinstance(prefix, str) and len(prefix) <= _LONGEST_PROMPT):
        say(f"note: {path} has a {_PREFIX} that is no text of at most {_LONGEST_PROMPT:,} characters; it is left out")
        prefix = None
    if dtype is not None and dtype not in get_args(Dtype):
        say(f"note: {path} has the unknown {_DTYPE} {dtype!r:.40}; it is left out")
        dtype = None
    return ExportedAs(prefix, dtype, _decoding(path, found, say))


def _settings(path: Path) -> dict[str, Any]:
    """The hyperparameters of the Item.

    Raises:
        StoreError: unreadable, too large, no JSON, or not written by `rscap export`.
    """
    item = read_config(path, most=_MOST_BYTES)
    properties = item.get("properties")
    found = properties.get("mlm:hyperparameters") if isinstance(properties, dict) else None
    if not isinstance(found, dict) or found.get(_FORM) not in _FORMS:
        raise StoreError(f"{path} was not written by `rscap export`")
    return found


def _decoding(path: Path, found: dict[str, Any], say: Say) -> GenerateSection:
    """The decode settings, if all of them are settings of rscap; the defaults otherwise."""
    table = {key.removeprefix(_GENERATE): value for key, value in found.items() if key.startswith(_GENERATE)}
    try:
        return check_table(GenerateSection, table, name="generate")
    except RecipeError as error:
        reason = " ".join(error.message.split())
        say(f"note: {path}: {reason:.300}; its decode settings are left out")
        return GenerateSection()
