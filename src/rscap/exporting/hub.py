"""Publish an export: remove private paths, refuse secrets, and upload to the Hub."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Protocol

from rscap.errors import ExportError

_TOKEN = re.compile(r"\b(?:hf_[A-Za-z0-9]{20,}|api_org_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|sk-[\w-]{20,})")
_SECRET_NAME = re.compile(r"TOKEN|KEY|SECRET|PASSWORD|PASSWD", re.IGNORECASE)
_SHORTEST_SECRET = 12


def public_name(text: str) -> str:
    """A name fit to be published: the last part of an absolute or home-relative path, anything else unchanged."""
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
        ExportError: names the place, never the secret.
    """
    if found := _TOKEN.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise ExportError(
            f"{what}, line {line}, would hold what looks like an access token ({found[0][:3]}…)",
            hint="remove it from the recipe; tokens belong in the environment or in `hf auth login`",
        )
    for name, secret in os.environ.items():
        if _SECRET_NAME.search(name) and len(secret) >= _SHORTEST_SECRET and secret in text:
            raise ExportError(f"{what} would hold the value of the environment variable {name}")


# Upload to the Hub. huggingface_hub finds the token; rscap neither reads nor stores it.

_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_THERE_FROM_THE_START = {".gitattributes"}


class Hub(Protocol):
    """The part of `huggingface_hub.HfApi` that is used."""

    def whoami(self) -> Any: ...

    def repo_exists(self, repo_id: str) -> bool: ...

    def list_repo_files(self, repo_id: str) -> list[str]: ...

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> Any: ...

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> Any: ...


def default_hub() -> Hub:
    """The Hub, with the token of the environment or of `hf auth login`."""
    from huggingface_hub import HfApi

    return HfApi()


def check_target(hub: Hub, name: str) -> None:
    """Check that an upload to `name` can succeed, before an export that takes minutes.

    Raises:
        ExportError: not of the form owner/name, no valid token, the Hub cannot be reached, or files are there already.
    """
    if not _NAME.fullmatch(name):
        raise ExportError(f"{name!r} is not a valid name on the Hub", hint="it has the form owner/name")
    try:
        hub.whoami()
        there = set(hub.list_repo_files(name)) - _THERE_FROM_THE_START if hub.repo_exists(name) else set()
    except _failures() as error:
        raise _explain(name, error) from error
    if there:
        raise ExportError(
            f"{name} holds {len(there)} files on the Hub already: {sorted(there)[:3]}",
            hint="nothing is overwritten: choose another name, or empty that one yourself",
        )


def push(hub: Hub, folder: Path, name: str, *, public: bool) -> str:
    """Upload an export; a new repository is private unless `public`. Returns its address.

    Raises:
        ExportError: the upload failed; the local export succeeded, and the hint says how to upload it.
    """
    try:
        hub.create_repo(name, private=not public, exist_ok=True)
        hub.upload_folder(repo_id=name, folder_path=folder, commit_message="Export of an rscap run")
    except _failures() as error:
        explained = _explain(name, error)
        raise ExportError(
            f"{explained.message}; the local export succeeded: {folder}",
            hint=f"try again with `hf upload {name} {folder}`",
        ) from error
    return f"https://huggingface.co/{name}"


def _failures() -> tuple[type[Exception], ...]:
    from huggingface_hub.errors import HFValidationError, HTTPError, LocalTokenNotFoundError

    return (HTTPError, HFValidationError, LocalTokenNotFoundError, OSError)


def _explain(name: str, error: Exception) -> ExportError:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403) or type(error).__name__ == "LocalTokenNotFoundError":
        return ExportError(
            f"the Hub does not let this token write to {name}: {first}",
            hint="run `hf auth login` with a token that may write, or set HF_TOKEN",
        )
    return ExportError(f"{name} could not be reached on the Hub: {first}", hint="check the network and the name")
