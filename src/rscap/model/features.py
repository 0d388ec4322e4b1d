"""A cache on disk of what a frozen vision tower computes from each image.

FOLDER/<key>/
  index.json     what the features depend on, their shape and type, and each row's image digest and checksum
  features.bin   one row per image, memory-mapped: the projector's input, in the precision of products

A row is found by the digest of the image's bytes, so runs on any part of a data set share rows, and a changed image has
none. `<key>` is a digest of everything else that features depend on: the tower's weights, the preprocessing, the
precision, the kind of device and the versions of the libraries. A row counts only once the index names it, so an
interrupted build resumes where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
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
VERSIONS = ("rscap", "torch", "transformers")
"""The packages whose versions features depend on."""
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
class FeatureSpec:
    """What all rows of one cache have in common."""

    depends_on: Mapping[str, Any]
    """Everything that the features of an image depend on, except the image."""
    tokens: int
    width: int
    dtype: torch.dtype

    @property
    def key(self) -> str:
        """The name of the cache's folder."""
        text = json.dumps({**self.depends_on, "dtype": str(self.dtype)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def row_bytes(self) -> int:
        return self.tokens * self.width * self.dtype.itemsize


@dataclass(slots=True)
class FeatureCache:
    """The rows of one specification, open for reading and, inside `locked`, for appending.

    Rows are appended in three steps: `write` them, name their checksums in `checksums`, `commit`.
    """

    folder: Path
    spec: FeatureSpec
    checksums: dict[str, int] = field(default_factory=dict)
    """CRC-32 of each row, by the digest of its image, in the order of rows."""

    @classmethod
    def open(cls, parent: Path, spec: FeatureSpec) -> FeatureCache:
        """The cache of this specification below `parent`; empty if there is none yet.

        Raises:
            StoreError: its index is damaged or belongs to another specification, or its rows are missing.
        """
        cache = cls(parent / spec.key, spec)
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
                raise StoreError(f"{self.index_file} is damaged: its {name!r} does not match its folder", hint=_HINT)
        rows = index["rows"]
        held = self.rows_file.stat().st_size if self.rows_file.is_file() else 0
        if held < len(rows) * self.spec.row_bytes:
            raise StoreError(
                f"{self.rows_file} holds {held:,} bytes, {len(rows):,} rows of {self.spec.row_bytes:,} are expected",
                hint=_HINT,
            )
        self.checksums = dict(rows)

    def replaced(self) -> list[tuple[Path, str]]:
        """Folders beside this one whose features differ from it by versions of packages alone, with what differs.

        They are never read again by these versions: `(Path(".features/0f3a…"), "rscap 0.1.0")`.
        """
        own = self._index()
        found = []
        for path in sorted(self.folder.parent.glob("*/index.json")):
            try:
                index = read_json(path)
                versions = {name: index["depends_on"].pop(name) for name in VERSIONS}
                same = all(index[name] == own[name] for name in ("tokens", "width", "dtype"))
            except (StoreError, OSError, KeyError, TypeError, AttributeError):
                continue  # a damaged one is named when it is opened
            if same and index["depends_on"] == {k: v for k, v in own["depends_on"].items() if k not in VERSIONS}:
                other = [
                    f"{name} {version}" for name, version in versions.items() if version != own["depends_on"][name]
                ]
                found += [(path.parent, ", ".join(other))] if other else []
        return found

    @contextmanager
    def locked(self) -> Iterator[FeatureCache]:
        """Become the only process that appends rows; waits while another one does."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock"):
            self.reload()
            yield self

    def check_space(self, images: int) -> int:
        """Bytes that this many additional rows need.

        Raises:
            StoreError: the disk has less free space.
        """
        needed = images * self.spec.row_bytes
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if needed > _SPARE * free:
            raise StoreError(
                f"the vision features of {images:,} images take {needed / 2**30:.1f} GiB, and {self.folder} has "
                f"{free / 2**30:.1f} GiB free",
                hint="set train.features_folder to a larger disk, or set train.cache_features = false",
            )
        return needed

    def begin(self) -> None:
        """Make the file of rows, if there is none; the processes that `write` then open it."""
        self.rows_file.touch()

    def write(self, rows: Sequence[bytes], *, number: int) -> None:
        """Write rows, as `row_of` makes them, from row `number` on; several processes may write rows of their own."""
        with self.rows_file.open("r+b") as stream:
            stream.seek(number * self.spec.row_bytes)  # overwrites what an interrupted build left
            stream.writelines(rows)

    def row_of(self, features: Tensor) -> bytes:
        """The row of one image's float[T, V]."""
        return _bytes(features.to(self.spec.dtype))

    def commit(self) -> None:
        """Make the rows in `checksums` valid: they reach the disk before the index names them."""
        if self.rows_file.exists():
            with self.rows_file.open("rb") as stream:
                os.fsync(stream.fileno())
        write_json(self.index_file, self._index())

    def features(self, digests: Mapping[str, str], unusable: Mapping[str, str]) -> Features:
        """The rows of examples, by the digest of each one's image, and why other examples have none.

        Raises:
            StoreError: an image has no row.
        """
        numbers = {digest: number for number, digest in enumerate(self.checksums)}
        absent = [name for name, digest in digests.items() if digest not in numbers]
        if absent:
            raise StoreError(f"{self.folder} has no features of {len(absent):,} images: {absent[:3]}")
        rows = {name: (numbers[digest], self.checksums[digest]) for name, digest in digests.items()}
        return Features(self.rows_file, self.spec, rows, unusable)

    def _index(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "depends_on": dict(self.spec.depends_on),
            "tokens": self.spec.tokens,
            "width": self.spec.width,
            "dtype": str(self.spec.dtype).removeprefix("torch."),
            "rows": list(self.checksums.items()),
        }


_HINT = "delete the folder; rscap then computes the features again"


@dataclass(slots=True)
class Features:
    """Rows of examples, read from a memory map; picklable: each data worker maps the file itself."""

    file: Path
    spec: FeatureSpec
    rows: Mapping[str, tuple[int, int]]
    """Number and checksum of each example's row, by the example's id."""
    unusable: Mapping[str, str]
    """Why other examples have no row."""
    _map: np.ndarray | None = field(default=None, repr=False, compare=False)

    def __getstate__(self) -> tuple[Any, ...]:
        return self.file, self.spec, self.rows, self.unusable

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.file, self.spec, self.rows, self.unusable = state
        self._map = None

    def __call__(self, example_id: str) -> Tensor:
        """float[T, V] of one example.

        Raises:
            ImageError: its image could not be decoded when the features were computed.
            StoreError: it has no row, or its row is damaged.
        """
        if example_id in self.unusable:
            raise ImageError(self.unusable[example_id])
        if example_id not in self.rows:
            raise StoreError(f"{self.file} has no features of {example_id}")
        number, checksum = self.rows[example_id]
        if self._map is None:
            self._map = np.memmap(self.file, dtype=np.uint8, mode="r")
        size = self.spec.row_bytes
        row = np.array(self._map[number * size : (number + 1) * size])
        if zlib.crc32(row.data) != checksum:
            raise StoreError(f"{self.file}: row {number}, of {example_id}, is damaged", hint=_HINT)
        return torch.from_numpy(row).view(self.spec.dtype).view(self.spec.tokens, self.spec.width)


def _bytes(value: Tensor) -> bytes:
    flat = value.detach().cpu().contiguous().flatten()
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
