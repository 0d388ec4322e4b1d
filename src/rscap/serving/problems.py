"""What went wrong, as a status and an object in OpenAI's shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from rscap.errors import DataError, ImageError, NotFinite, OutOfMemory, RecipeError, RscapError

_KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
_SHOWN = 300
"""Characters of a message: what a client sent may stand in it."""


class Problem(Exception):
    """An answer that is none: a status, one clear sentence, and where it fits the parameter that is meant."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, _one_line(message), param, code
        self.headers = dict(headers or {})

    @property
    def kind(self) -> str:
        """OpenAI's name for such an error."""
        return _KINDS.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")

    def body(self) -> dict[str, Any]:
        """The JSON object that OpenAI's clients read."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


def _one_line(text: str) -> str:
    shown = " ".join(text.split())
    shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in shown)
    return shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 1]}…"


def problem_of(error: Exception, *, param: str | None = None) -> Problem:
    """An error of rscap as an answer: the client's fault where it is one."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, ImageError):
        return Problem(400, error.in_one_line, param=param or "image", code="invalid_image")
    if isinstance(error, RecipeError):
        return Problem(400, _settings(error), param=param, code="invalid_decoding")
    if isinstance(error, DataError):
        return Problem(400, error.in_one_line, param=param or "messages")
    if isinstance(error, OutOfMemory):
        return Problem(400, error.in_one_line, code="out_of_memory")
    if isinstance(error, NotFinite):
        return Problem(500, error.in_one_line, code="not_finite")
    if isinstance(error, RscapError):
        return Problem(500, error.in_one_line)
    return Problem(500, "the server failed; its log says why under this request's id", code="internal_error")


def _settings(error: RecipeError) -> str:
    """A list of wrong settings as one line."""
    return error.message.replace("\n  - ", " ").replace("cannot be run as written:", "cannot be used:")


def problem_of_fields(error: ValidationError) -> Problem:
    """The first thing that is wrong with the fields of a request."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ""
    for part in first["loc"]:
        place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else str(part)
    if first["type"] == "json_invalid":
        return Problem(400, f"the body is not JSON that can be read: {first['msg'].removeprefix('Invalid JSON: ')}")
    if first["type"] == "extra_forbidden":
        return Problem(400, f"unknown parameter {place!r}", param=place, code="unknown_parameter")
    message = first["msg"].removeprefix("Value error, ")
    return Problem(400, f"{place}: {message}" if place else message, param=place or None)
