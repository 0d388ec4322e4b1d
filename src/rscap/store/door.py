"""The door of folders that other people made: runs, studies, base models, adapters.

The folder that the user named may be a link. Inside it rscap reads plain files of this folder alone: a
link is followed where it stays inside, or leads from a snapshot in a cache of the Hub to that repository's `blobs/`.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from rscap.errors import StoreError
from rscap.opening import not_plain, read_plain

_MOST_OF_A_CONFIG = 2**26
"""Bytes of a configuration or a tokenizer that is read whole; the largest tokenizers have 40 MB."""


def plain_path(root: Path, *parts: str) -> Path:
    """The path of `parts` below the folder `root`; there need be nothing yet.

    Raises:
        StoreError: a link on the way leads out of the folder, or something is there that is neither file nor folder.
    """
    path = root
    for name in (name for part in parts for name in Path(part).parts):
        path = path / name
        try:
            mode = path.lstat().st_mode
        except (OSError, ValueError):  # nothing there, or nothing that may be looked at: whoever opens it will say
            return root.joinpath(*parts)
        if stat.S_ISLNK(mode):
            mode = _followed(root, path)
        if (kind := not_plain(mode)) and not stat.S_ISDIR(mode):
            raise StoreError(f"{path} is {kind}, not a file", hint="remove it: rscap never made such a thing")
    return path


def _followed(root: Path, link: Path) -> int:
    """The mode of what a link leads to, or that of a plain file where it leads to nothing inside the folder yet."""
    try:
        home, target = root.resolve(), link.resolve()
        if target.is_relative_to(home) or target.parent == _blobs(home):
            return target.stat().st_mode
    except FileNotFoundError:
        return stat.S_IFREG
    except (OSError, RuntimeError) as error:  # a loop of links
        raise StoreError(f"{link} is a link that cannot be followed: {error}", hint="remove it") from None
    raise StoreError(
        f"{link} is a link that leads out of {root}, to {link.readlink()}: it is not followed",
        hint="put the file itself there, if you trust it",
    )


def _blobs(home: Path) -> Path | None:
    """Where a cache of the Hub keeps the files of a snapshot: models--owner--name/snapshots/<commit>/config.json."""
    return home.parents[1] / "blobs" if home.parent.name == "snapshots" else None


def plain_files(folder: Path) -> list[Path]:
    """The files of a folder and of those below it, by name; a folder that is a link is left out.

    Raises:
        StoreError: as `plain_path`, or a folder cannot be read.
    """

    def unreadable(error: OSError) -> None:
        raise StoreError(f"{error.filename} cannot be read: {error.strerror}") from error

    found = []
    for place, _, names in os.walk(folder, onerror=unreadable):
        found += [plain_path(folder, str((Path(place) / name).relative_to(folder))) for name in names]
    return sorted(path for path in found if path.is_file())


def check_model_folder(folder: Path) -> None:
    """Refuse a folder of a base model or an adapter that no library should be pointed at.

    Raises:
        StoreError: a file that is none of this folder, a configuration that is no JSON object or too large, or one that
            asks for code of its own to be run; names the file.
    """
    for path in plain_files(folder):
        configures = path.parent == folder and path.name.endswith("config.json")
        if configures and (asked := read_config(path).get("auto_map")):
            raise StoreError(
                f"{path} asks to run code of its own (auto_map: {json.dumps(asked)[:100]})",
                hint="rscap runs no code from a model's folder; take `auto_map` out if the model needs none",
            )


def read_config(path: Path, *, most: int = _MOST_OF_A_CONFIG) -> dict[str, Any]:
    """The JSON object of a configuration of at most `most` bytes.

    Raises:
        StoreError: missing, unreadable, too large, no JSON, or another value than an object.
    """
    try:
        value = json.loads(read_plain(path, most=most))
    except FileNotFoundError:
        raise StoreError(f"{path} does not exist") from None
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path} is not JSON: {str(error)[:200]}") from error
    if not isinstance(value, dict):
        raise StoreError(f"{path} holds a JSON {type(value).__name__}, not an object")
    return value
