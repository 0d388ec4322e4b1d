"""What a frozen vision tower sees of each image, computed once and kept on disk.

FOLDER/<key>/
  index.json     what the features depend on, their shape and type, and for each row the image's digest and a checksum
  features.bin   one row an image, memory-mapped: what the tower hands to the projector, in the precision of products

A row is found by the digest of its image's bytes, so runs on any part of a data set share the rows, and an image that
was changed has none. `<key>` is a digest of all else that features depend on: the tower's weights, the preprocessing,
the precision, the kind of device and the versions of the libraries. Rows are valid once the index names them, so a
build that is cut short goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor, nn

from rscap.errors import ImageError, StoreError
from rscap.records import ImageHandle
from rscap.store import read_json, write_json

_FORMAT = 1
_SPARE = 0.95
"""Share of the free space that a cache may fill."""


def tower_digest(tower: nn.Module) -> str:
    """SHA-256 over names, types, shapes and bytes of all weights of a tower, 4-bit ones as they are packed."""
    total = hashlib.sha256()
    for name, value in sorted(tower.state_dict().items()):
        if isinstance(value, Tensor):
            total.update(f"{name}\0{value.dtype}\0{tuple(value.shape)}\n".encode())
            total.update(_bytes(value))
    return total.hexdigest()


def image_digest(image: ImageHandle) -> str:
    """SHA-256 of an image's encoded bytes; of its pixels where it has none because it is drawn or in memory.

    Raises:
        ImageError: the image is missing or cannot be decoded.
    """
    data = image.data()
    if data is not None:
        return hashlib.sha256(data).hexdigest()
    pixels = image.load()
    return hashlib.sha256(f"{pixels.mode} {pixels.size}\n".encode() + pixels.tobytes()).hexdigest()


@dataclass(frozen=True, slots=True)
class Kind:
    """What the rows of one cache have in common."""

    depends_on: Mapping[str, Any]
    """All that the features of an image depend on, besides the image."""
    tokens: int
    width: int
    dtype: torch.dtype

    @property
    def key(self) -> str:
        """The name of its folder."""
        text = json.dumps({**self.depends_on, "dtype": str(self.dtype)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def row_bytes(self) -> int:
        return self.tokens * self.width * self.dtype.itemsize


@dataclass(slots=True)
class FeatureCache:
    """The rows of one kind, open for reading and, inside `locked`, for more rows."""

    folder: Path
    kind: Kind
    checksums: dict[str, int] = field(default_factory=dict)
    """CRC-32 of each row, by the digest of its image, in the order of rows."""

    @classmethod
    def open(cls, parent: Path, kind: Kind) -> FeatureCache:
        """The cache of this kind below `parent`, empty where there is none yet.

        Raises:
            StoreError: its index is damaged or speaks of something else, or its rows are missing.
        """
        cache = cls(parent / kind.key, kind)
        cache.reload()
        return cache

    @property
    def index_file(self) -> Path:
        return self.folder / "index.json"

    @property
    def rows_file(self) -> Path:
        return self.folder / "features.bin"

    def reload(self) -> None:
        """Read the index again: another process may have added rows."""
        if not self.index_file.is_file():
            self.checksums = {}
            return
        index = read_json(self.index_file)
        expected = self._index()
        for name in ("format", "depends_on", "tokens", "width", "dtype"):
            if not isinstance(index, dict) or index.get(name) != expected[name]:
                raise StoreError(f"{self.index_file} is damaged: its {name!r} is not what its folder says", hint=_HINT)
        rows = index["rows"]
        held = self.rows_file.stat().st_size if self.rows_file.is_file() else 0
        if held < len(rows) * self.kind.row_bytes:
            raise StoreError(
                f"{self.rows_file} holds {held:,} bytes, {len(rows):,} rows of {self.kind.row_bytes:,} are expected",
                hint=_HINT,
            )
        self.checksums = dict(rows)

    @contextmanager
    def locked(self) -> Iterator[FeatureCache]:
        """Be the only process that adds rows; waits for another that does."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock"):
            self.reload()
            yield self

    def check_space(self, images: int) -> int:
        """Bytes that this many more rows take.

        Raises:
            StoreError: the disk has less to spare.
        """
        needed = images * self.kind.row_bytes
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if needed > _SPARE * free:
            raise StoreError(
                f"the vision features of {images:,} images take {needed / 2**30:.1f} GiB, and {self.folder} has "
                f"{free / 2**30:.1f} GiB free",
                hint="name a larger disk with train.features_folder, or leave train.cache_features out",
            )
        return needed

    def add(self, digests: list[str], features: Tensor) -> None:
        """Append rows float[B, I, H]; they count from the next `commit` on."""
        mode = "r+b" if self.rows_file.exists() else "w+b"
        with self.rows_file.open(mode) as stream:
            stream.seek(len(self.checksums) * self.kind.row_bytes)  # over what a build that was cut short left behind
            for digest, row in zip(digests, features.to(self.kind.dtype), strict=True):
                data = _bytes(row)
                stream.write(data)
                self.checksums[digest] = zlib.crc32(data)

    def commit(self) -> None:
        """Make the rows added so far valid: they are on the disk before the index names them."""
        if self.rows_file.exists():
            with self.rows_file.open("rb") as stream:
                os.fsync(stream.fileno())
        write_json(self.index_file, self._index())

    def features(self, digests: Mapping[str, str], unusable: Mapping[str, str]) -> Features:
        """The rows of examples, given the digest of each one's image, and why there is none for others.

        Raises:
            StoreError: an image has no row.
        """
        numbers = {digest: number for number, digest in enumerate(self.checksums)}
        absent = [name for name, digest in digests.items() if digest not in numbers]
        if absent:
            raise StoreError(f"{self.folder} lacks the features of {len(absent):,} images: {absent[:3]}")
        rows = {name: (numbers[digest], self.checksums[digest]) for name, digest in digests.items()}
        return Features(self.rows_file, self.kind, rows, unusable)

    def _index(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "depends_on": dict(self.kind.depends_on),
            "tokens": self.kind.tokens,
            "width": self.kind.width,
            "dtype": str(self.kind.dtype).removeprefix("torch."),
            "rows": list(self.checksums.items()),
        }


_HINT = "delete the folder; the features are then computed anew"


@dataclass(slots=True)
class Features:
    """Rows of examples, read from the memory map; picklable, each data worker maps the file for itself."""

    file: Path
    kind: Kind
    rows: Mapping[str, tuple[int, int]]
    """Number and checksum of each example's row, by the example's id."""
    unusable: Mapping[str, str]
    """Why other examples have none."""
    _map: np.ndarray | None = field(default=None, repr=False, compare=False)

    def __getstate__(self) -> tuple[Any, ...]:
        return self.file, self.kind, self.rows, self.unusable

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.file, self.kind, self.rows, self.unusable = state
        self._map = None

    def __call__(self, example_id: str) -> Tensor:
        """float[I, H] of one example.

        Raises:
            ImageError: its image could not be decoded when the features were computed.
            StoreError: it has no row, or its row is damaged.
        """
        if example_id in self.unusable:
            raise ImageError(self.unusable[example_id])
        if example_id not in self.rows:
            raise StoreError(f"{self.file} holds no features of {example_id}")
        number, checksum = self.rows[example_id]
        if self._map is None:
            self._map = np.memmap(self.file, dtype=np.uint8, mode="r")
        size = self.kind.row_bytes
        row = np.array(self._map[number * size : (number + 1) * size])
        if zlib.crc32(row.data) != checksum:
            raise StoreError(f"{self.file}: row {number}, of {example_id}, is damaged", hint=_HINT)
        return torch.from_numpy(row).view(self.kind.dtype).view(self.kind.tokens, self.kind.width)


def _bytes(value: Tensor) -> bytes:
    flat = value.detach().cpu().contiguous().flatten()
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
