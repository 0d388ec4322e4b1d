"""What must not leave the machine: secrets, and paths that tell whose machine it is."""

from __future__ import annotations

import os
import re
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from rscap.errors import ExportError

_TOKEN = re.compile(r"\b(?:hf_[A-Za-z0-9]{20,}|api_org_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|sk-[\w-]{20,})")
_SECRET_NAME = re.compile(r"TOKEN|KEY|SECRET|PASSWORD|PASSWD", re.IGNORECASE)
_SHORTEST_SECRET = 12


def public_name(text: str) -> str:
    """A name as it may be published: of an absolute or home-relative path the last part, anything else as it is."""
    windows = PureWindowsPath(text)
    if windows.drive:
        return windows.name or text
    if text.startswith(("/", "~")):
        return PurePosixPath(text).name or text
    return text


def public(value: Any) -> Any:
    """A recipe's table with every path on this machine cut to its last part."""
    if isinstance(value, dict):
        return {key: public(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [public(part) for part in value]
    return public_name(value) if isinstance(value, str) else value


def refuse_secrets(text: str, *, what: str) -> None:
    """Refuse a text that holds an access token, or the value of an environment variable whose name says it is secret.

    Raises:
        ExportError: says where it stands, and never what it is.
    """
    if found := _TOKEN.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise ExportError(
            f"{what}, line {line}, would hold what looks like an access token ({found[0][:3]}…)",
            hint="take it out of the recipe; a token belongs into the environment or into `hf auth login`",
        )
    for name, secret in os.environ.items():
        if _SECRET_NAME.search(name) and len(secret) >= _SHORTEST_SECRET and secret in text:
            raise ExportError(f"{what} would hold the value of the environment variable {name}")
