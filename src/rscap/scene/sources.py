"""Which scenes are meant: files, folders, patterns, addresses, lists; each once, in one order."""

from __future__ import annotations

import re
from collections.abc import Iterable
from glob import glob
from os import PathLike, fspath
from pathlib import Path
from urllib.parse import unquote

from rscap.errors import SceneError
from rscap.scene.opening import is_remote
from rscap.store.archive import LEDGER, STATE_SUFFIX

SUFFIXES = (".tif", ".tiff", ".gtiff", ".vrt", ".jp2", ".j2k", ".img", ".png", ".jpg", ".jpeg", ".webp")
"""Files that are taken from a folder. Any other format that GDAL reads is taken where it is named."""
LISTS = (".txt", ".lst")


def scenes_of(given: str | PathLike[str] | Iterable[str | PathLike[str]]) -> list[str]:
    """The scenes that are meant, sorted, so that no result depends on the order in which they were named.

    Args:
        given: one or several of: a file, a sub-dataset by its name, an address, a folder (with the folders in it), a
            pattern such as `2024/*.tif`, or a text file (.txt) with one of these a line.

    Raises:
        SceneError: nothing is found; names what was looked for.
    """
    wanted = [given] if isinstance(given, str | PathLike) else list(given)
    found: dict[str, None] = {}
    for one in wanted:
        found |= dict.fromkeys(_expanded(fspath(one)))
    if not found:
        raise SceneError("there is no scene to caption", hint="name a raster, a folder, a pattern or a list of them")
    return sorted(found)


def _expanded(name: str) -> list[str]:
    path = Path(name)
    _refuse_secret(name)
    if is_remote(name) or path.is_file():
        return _listed(path) if path.suffix.lower() in LISTS and not is_remote(name) else [name]
    if path.is_dir():
        files = (one for one in path.rglob("*") if one.suffix.lower() in SUFFIXES and one.is_file())
        inside = [str(one) for one in files if not _is_result(one, path)]
        if not inside:
            raise SceneError(f"{name}: no scene in this folder", hint=f"looked for {', '.join(SUFFIXES)}")
        return inside
    if any(letter in name for letter in "*?[") and not name.startswith("/vsi"):
        matching = [one for one in glob(name, recursive=True) if Path(one).is_file()]
        if not matching:
            raise SceneError(f"{name}: no file matches", hint="quote the pattern, so that the shell leaves it alone")
        return matching
    return [name]  # whether it is there shows when it is opened


_SIGNED = re.compile(r"[?&](?:[\w-]*signature|sig|[\w-]*token|[\w-]*key|password)=", re.IGNORECASE)
"""What clouds put behind an address in place of a password: Azure's `sig`, `X-Amz-Signature`, `access_token` …"""


def _refuse_secret(name: str) -> None:
    """Refuse an address with a secret: it would be in every file that is written.

    Raises:
        SceneError: it holds a user's name or password, or a signature.
    """
    address = unquote(name)  # GDAL takes `/vsicurl?url=https%3A%2F%2F…` too
    if "://" not in address or not is_remote(name):
        return
    behind = address.partition("://")[2]
    place = behind.partition("?")[0]
    if "@" in place.partition("/")[0] or re.search(r"^[^/]*:.*@", place):
        raise SceneError(
            f"the address of a scene on {place.rpartition('@')[2].partition('/')[0]} holds a name or a password, which "
            "would be in every file that is written",
            hint="name it without, and give both to GDAL: GDAL_HTTP_USERPWD=name:password",
        )
    if _SIGNED.search(address):
        raise SceneError(
            f"the address of a scene on {place.partition('/')[0]} holds a signature or key, which would be in every "
            "file that is written",
            hint="name it without, and give GDAL the key: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "AZURE_STORAGE_SAS_TOKEN",
        )


def _is_result(file: Path, root: Path) -> bool:
    """Whether a picture lies in a folder of results that an earlier call left below `root`."""
    above = [one for one in file.parents if one == root or one.is_relative_to(root)]
    return any(one.suffix == STATE_SUFFIX or (one / LEDGER).is_file() for one in above)


def _listed(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SceneError(f"{path}: this list of scenes cannot be read: {error}") from None
    names = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not names:
        raise SceneError(f"{path}: this list names no scene", hint="one scene a line")
    return [one for name in names for one in _expanded(name)]
