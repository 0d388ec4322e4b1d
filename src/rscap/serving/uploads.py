"""`/caption`: image files in, JSON Lines out, a line an image."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import FormData, UploadFile

from rscap.records import Answer
from rscap.serving.asked import DECODING, WORDS, Asked, asked
from rscap.serving.models import ServedModels
from rscap.serving.problems import Problem
from rscap.serving.settings import ServeSettings
from rscap.store import prediction_row

_FILES = ("image", "images", "file", "files")


@dataclass(frozen=True, slots=True)
class Upload:
    """The files of a request, by name, and what is asked of all of them."""

    asked: Asked
    files: list[tuple[str | None, bytes]]


def read_fields(fields: dict[str, str], models: ServedModels, limits: ServeSettings) -> Asked:
    """The model, the prompt and the decode settings out of text fields.

    Raises:
        Problem: 404, no such model; 400, an unknown field or a value that cannot be used.
    """
    for name in fields:
        if name not in ("model", "prompt", *DECODING):
            there = ", ".join(("image", "model", "prompt", *DECODING))
            raise Problem(400, f"unknown field {name[:80]!r}; there is {there}", param=name[:80])
    model = models[fields["model"]] if fields.get("model") else models.first
    changes = {name: _number(name, value) for name, value in fields.items() if name in DECODING}
    return asked(model, fields.get("prompt"), changes, limits)


def _number(name: str, text: str) -> int | float | str:
    if name in WORDS:
        return text[:40]
    try:
        return int(text) if text.strip("-").isdecimal() and len(text) < 20 else float(text[:40])
    except ValueError:
        raise Problem(400, f"{name} is a number, found {text[:40]!r}", param=name) from None


async def read_form(form: FormData, models: ServedModels, limits: ServeSettings) -> Upload:
    """The files and fields of a multipart form.

    Raises:
        Problem: 400, no file, too many, or a field that cannot be used.
    """
    files: list[tuple[str | None, bytes]] = []
    fields: dict[str, str] = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name not in _FILES:
                raise Problem(400, f"a file in the field {name[:80]!r}: images go in `image`", param=name[:80])
            files.append((_shown(value.filename), await value.read()))
        elif name in _FILES:
            raise Problem(400, f"the field {name!r} holds text; an image goes in it as a file", param=name)
        elif name in fields:
            raise Problem(400, f"the field {name[:80]!r} is there twice", param=name[:80])
        else:
            fields[name] = value
    if not files:
        raise Problem(400, "no image: send files in the field `image`", param="image")
    if len(files) > limits.max_images:
        raise Problem(400, f"{len(files)} images; at most {limits.max_images} in a request", param="image")
    return Upload(read_fields(fields, models, limits), files)


async def read_scene(form: FormData) -> tuple[dict[str, str], tuple[str | None, bytes]]:
    """The text fields and the one file of a form with a scene.

    Raises:
        Problem: 400, no file, or another field than `scene` holds one.
    """
    fields: dict[str, str] = {}
    files: list[tuple[str | None, bytes]] = []
    for name, value in form.multi_items():
        if not isinstance(value, UploadFile):
            fields[name] = value
        elif name == "scene":
            files.append((_shown(value.filename), await value.read()))
        else:
            raise Problem(400, f"a file in the field {name[:80]!r}: a scene goes in `scene`", param=name[:80])
    if len(files) != 1:
        raise Problem(400, "no scene: send a GeoTIFF in the field `scene`", param="scene")
    return fields, files[0]


def _shown(filename: str | None) -> str | None:
    """A file's name as an id: what a client calls it, cut, and without characters that no line should hold."""
    name = "".join(letter for letter in (filename or "")[:200] if letter.isprintable())
    return name or None


def line_of(name: str, answer: Answer | Problem, asked: Asked) -> bytes:
    """A line for an image: its caption as `rscap caption --json` writes it and what else is known, or its problem."""
    if isinstance(answer, Problem):
        row: dict[str, Any] = {"id": name, **answer.body()}
    else:
        own = {**asked.described(), **asked.of_caption(answer)}
        row = {**prediction_row(answer.prediction), "rscap": own}
    return json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"
