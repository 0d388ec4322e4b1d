"""Where an export goes: its files, as transformers and PEFT read them, and the Hub."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Protocol

import torch
from safetensors import SafetensorError

from rscap.errors import AdapterError, ExportError, StoreError
from rscap.escape import secret_in
from rscap.model.adapters import make_portable, merge
from rscap.model.load import Base
from rscap.recipe import GenerateSection
from rscap.store import RunFolder, plain_path, read_json, write_json
from rscap.store.adapter import ADAPTER_CONFIG, ADAPTER_TENSORS

_HEADER_BYTES = 2**20


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
    if found := secret_in(text):
        start, kind = found
        raise ExportError(
            f"{what}, line {text.count(chr(10), 0, start) + 1}, would hold {kind}",
            hint="remove it from the recipe; tokens belong in the environment or in `hf auth login`",
        )


def refuse_secrets_in(file: Path) -> None:
    """As `refuse_secrets` for a file of an export; of weights, what their header says.

    Raises:
        ExportError: names the file, never the secret.
    """
    with file.open("rb") as stream:
        content = stream.read(_HEADER_BYTES) if file.suffix == ".safetensors" else stream.read()
    refuse_secrets(content.decode("utf-8", "replace"), what=file.name)


# Upload to the Hub. huggingface_hub finds the token; rscap neither reads nor stores it.

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)
"""owner/name."""
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
    if not HUB_NAME.fullmatch(name):
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


def generate_arguments(settings: GenerateSection) -> dict[str, Any]:
    """Keyword arguments of `generate` that decode as the recipe does; settings at their neutral value are omitted.

    Draws are seeded per example in rscap and from torch's own generator there, so sampled captions differ.
    """
    arguments: dict[str, Any] = {"max_new_tokens": settings.max_new_tokens, "do_sample": settings.temperature > 0}
    if settings.beams > 1:
        arguments |= {"num_beams": settings.beams, "length_penalty": settings.length_penalty}
    if settings.repetition_penalty != 1.0:
        arguments["repetition_penalty"] = settings.repetition_penalty
    if settings.no_repeat_ngram:
        arguments["no_repeat_ngram_size"] = settings.no_repeat_ngram
    if settings.temperature > 0:
        arguments |= {"temperature": settings.temperature, "top_k": settings.top_k, "top_p": settings.top_p}
    return arguments


_HALVES = (torch.bfloat16, torch.float16)


def merged(net: Any, dtype: torch.dtype) -> Any:
    """`net` with its adapter merged, in its own class of transformers, with every weight in `dtype`.

    The base is put in `dtype` before merging, so that base and update are rounded once, together: an export in
    float32 is the sum as training had it. Adapters keep the float32 they learned in until then.

    Raises:
        AdapterError: this method has no merged form, or its weights are damaged.
        ExportError: a weight is not finite in `dtype`.
    """
    for parameter in net.parameters():
        if parameter.dtype in _HALVES:
            parameter.data = parameter.data.to(dtype)
    try:
        model = merge(net).to(dtype)
    except AdapterError as error:
        hint = "--adapter-only exports it unmerged, for use with PEFT"
        raise AdapterError(error.message, hint=hint) from error
    model.requires_grad_(False)
    overflown = [name for name, parameter in model.named_parameters() if not bool(torch.isfinite(parameter).all())]
    if overflown:
        raise ExportError(
            f"{len(overflown)} weights are not finite in {dtype}: {overflown[:3]}", hint="export with --dtype bfloat16"
        )
    return model


def write_checkpoint(model: Any, processor: Any, folder: Path, *, decoding: Mapping[str, Any]) -> None:
    """Write model and processor as transformers reads them; its `generate` then decodes as `decoding` says.

    Raises:
        StoreError: the disk is full or cannot be written.
    """
    for name, value in decoding.items():
        setattr(model.generation_config, name, value)
    try:
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    except (OSError, SafetensorError) as error:
        raise StoreError(
            f"the weights could not be written to {folder.parent}: {error}", hint="is the disk full?"
        ) from error


def write_adapter(run: RunFolder, base: Base, folder: Path) -> None:
    """Copy an adapter, with names of its layers that most versions of transformers read.

    Its configuration names the base model and its revision instead of a local path.

    Raises:
        StoreError: the adapter's files are missing, or the disk is full.
    """
    try:
        for name in (ADAPTER_CONFIG, ADAPTER_TENSORS):  # other files there are not ours to publish
            shutil.copyfile(plain_path(run.adapter, name), folder / name)
    except OSError as error:
        raise StoreError(f"{run.adapter} cannot be copied: {error}") from error
    file = folder / ADAPTER_CONFIG
    configuration = {**read_json(file), "base_model_name_or_path": public_name(base.name), "revision": base.revision}
    write_json(file, configuration)
    make_portable(folder)
