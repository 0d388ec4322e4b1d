"""What a scene is: a digest, so that no caption is taken for that of a file that has changed, and when it was made.

local    SHA-256 of the first 64 KiB, the size and the time of change; each record adds the pixels of its window
remote   the ETag and the length that the server tells, or else the description of the raster; and the pixels
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import numpy as np
import rasterio._io

from rscap.errors import SceneError
from rscap.scene.opening import is_remote
from rscap.scene.values import Values

HEADER_BYTES = 64 * 1024
_DIGITS = 32
_TIMEOUT_S = 20
_BUCKETS = {"s3://": "/vsis3/", "gs://": "/vsigs/", "az://": "/vsiaz/", "oss://": "/vsioss/"}


@dataclass(frozen=True, slots=True)
class Identity:
    """Which file a scene is."""

    path: str
    digest: str
    """`file:…`, `etag:…` or `pixels:…`, with 32 hexadecimal digits."""
    file: Path | None
    """The file on this machine's disks, if it is one."""
    state: tuple[int, int, int] | None
    """Its size, time of change in nanoseconds, and inode."""
    changed: datetime | None
    """When the file was last changed."""

    def check_unchanged(self) -> None:
        """Refuse a file that was changed or removed since it was opened.

        Raises:
            SceneError: names it.
        """
        if self.file is None or self.state is None:
            return
        if (now := _state(self.file)) != self.state:
            what = "vanished" if now is None else "was changed"
            raise SceneError(
                f"{self.path}: the file {what} while it was read",
                hint="run the same command again once the file is there and at rest",
            )

    def of_window(self, values: Values) -> str:
        """The digest of what was read of one window of this scene."""
        total = hashlib.sha256(self.digest.encode())
        total.update(repr(values.bands.shape).encode() + str(values.bands.dtype).encode())
        total.update(np.ascontiguousarray(values.bands).tobytes())
        total.update(values.valid.tobytes())
        return f"{self.digest.partition(':')[0]}:{total.hexdigest()[:_DIGITS]}"


def identify(path: str, dataset: Any) -> Identity:
    """The identity of an opened scene.

    Raises:
        SceneError: a local file that cannot be read.
    """
    file = local_file(path)
    if file is not None:
        try:
            state, digest = _state(file), _file_digest(file)
        except OSError as error:
            raise SceneError(f"{path}: cannot be read: {error.strerror or error}") from None
        if state is None:
            raise SceneError(f"{path}: the file is gone", hint="is it on a disk that was unmounted?")
        return Identity(path, digest, file, state, datetime.fromtimestamp(state[1] / 1e9, UTC))
    etag, length, changed = _told(path)
    if etag:
        return Identity(path, _digest("etag", etag, length), None, None, changed)
    described = (dataset.profile, dataset.overviews(1) if dataset.count else (), dataset.tags())
    return Identity(path, _digest("pixels", repr(described)), None, None, changed)


def digest_of(path: str) -> str | None:
    """The digest of a scene in a local file; None where there is none."""
    file = local_file(path)
    try:
        return None if file is None else _file_digest(file)
    except OSError:
        return None


def _file_digest(file: Path) -> str:
    with file.open("rb") as stream:
        found = os.fstat(stream.fileno())
        return _digest("file", stream.read(HEADER_BYTES), str(found.st_size), str(found.st_mtime_ns))


def local_file(path: str) -> Path | None:
    """The file on a local disk that a path reads: itself, the archive it lies in, or the file of a sub-dataset."""
    if is_remote(path):
        return None
    if (plain := Path(path)).is_file():
        return plain
    found = re.match(r"^[A-Za-z0-9]+:\"?([^\"]+?)\"?:[^/\\]*$", path) or re.match(r"^(?:/vsi[a-z]+)+/(.+)$", path)
    inner = found.group(1) if found else path
    for candidate in (inner, f"/{inner}"):
        place = Path(candidate)
        for one in (place, *place.parents):  # of /vsizip/a.zip/b.tif the archive
            if one.is_file():
                return one
    return None


def _state(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


def _digest(kind: str, *parts: str | bytes) -> str:
    total = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        total.update(len(content).to_bytes(8, "big") + content)
    return f"{kind}:{total.hexdigest()[:_DIGITS]}"


def _told(path: str) -> tuple[str, str, datetime | None]:
    """ETag, length and time of change, as the server tells them; empty where it does not."""
    address = path.removeprefix("/vsicurl/")
    headers = _headers(address) if address.startswith(("http://", "https://")) else _headers_by_gdal(path)
    try:
        changed = parsedate_to_datetime(headers.get("last-modified", ""))
    except ValueError:
        changed = None
    length = headers.get("content-range", "").rpartition("/")[2] or headers.get("content-length", "")
    return headers.get("etag", ""), length, changed


def _headers(address: str) -> dict[str, str]:
    request = urllib.request.Request(address, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            return {name.lower(): value for name, value in answer.headers.items()}
    except (urllib.error.URLError, OSError, ValueError):
        return {}


def _headers_by_gdal(path: str) -> dict[str, str]:
    """Headers of an object in a bucket, asked with the credentials that GDAL uses; rasterio has no function for it."""
    for scheme, folder in _BUCKETS.items():
        path = folder + path.removeprefix(scheme) if path.startswith(scheme) else path
    try:
        gdal = ctypes.CDLL(rasterio._io.__file__)
        ask, free = gdal.VSIGetFileMetadata, gdal.CSLDestroy
    except (OSError, AttributeError):
        return {}
    ask.restype = ctypes.POINTER(ctypes.c_char_p)
    ask.argtypes, free.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p], [ctypes.c_void_p]
    found = ask(path.encode(), b"HEADERS", None)
    if not found:
        return {}
    lines = list[str]()
    while (line := found[len(lines)]) is not None:
        lines.append(line.decode("latin-1"))
    free(found)
    return {name.lower(): value for name, _, value in (line.partition("=") for line in lines)}


def scene_time(dataset: Any, identity: Identity) -> tuple[str | None, str | None]:
    """When a scene was taken, RFC 3339 in UTC, and what says so: the TIFF's own tag, else the file's time of change."""
    tag = dataset.tags().get("TIFFTAG_DATETIME", "")
    found = re.fullmatch(r"\s*(\d{4}):(\d\d):(\d\d)[ T](\d\d):(\d\d):(\d\d)\s*", tag)
    if found:
        try:
            return _rfc3339(
                datetime.strptime(" ".join(found.groups()), "%Y %m %d %H %M %S").replace(tzinfo=UTC)
            ), "TIFFTAG_DATETIME"
        except ValueError:
            pass  # 0000:00:00 and the like
    if identity.changed is None:
        return None, None
    return _rfc3339(identity.changed), "file" if identity.file else "Last-Modified"


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
