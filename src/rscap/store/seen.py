"""seen.npz of a run folder: the images that it was trained on, and those by which its weights were selected."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rscap.errors import StoreError, WrittenByNewer
from rscap.opening import read_plain
from rscap.store.outputs import atomic_path

_VERSION = 1


class SeenImage(NamedTuple):
    """One image that a run has seen."""

    id: str
    digest: bytes | None
    """16 bytes that name it by its pixels; None where they could not be read."""
    look: bytes | None
    """8 bytes that hardly change when it is encoded again; None where it could not be read."""
    trained: bool
    selected: bool


@dataclass(frozen=True, eq=False)
class Seen:
    """The images a run has seen, n in all, in columns; a row of zeros means that a digest or a look is not known."""

    ids: tuple[str, ...]
    digests: NDArray[np.uint8]
    """uint8[n, 16]."""
    looks: NDArray[np.uint8]
    """uint8[n, 8]."""
    trained: NDArray[np.bool_]
    """bool[n]: whether it was learned from. What a method looks at before it starts is among these."""
    selected: NDArray[np.bool_]
    """bool[n]: whether the weights were selected by it."""

    @classmethod
    def of(cls, images: Iterable[SeenImage]) -> Seen:
        """The table of these images, one row each."""
        rows = list(images)
        return cls(
            ids=tuple(row.id for row in rows),
            digests=_bytes([row.digest for row in rows], 16),
            looks=_bytes([row.look for row in rows], 8),
            trained=np.array([row.trained for row in rows], dtype=bool),
            selected=np.array([row.selected for row in rows], dtype=bool),
        )

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[SeenImage]:
        for number, name in enumerate(self.ids):
            digest, look = self.digests[number], self.looks[number]
            yield SeenImage(
                id=name,
                digest=digest.tobytes() if digest.any() else None,
                look=look.tobytes() if digest.any() else None,
                trained=bool(self.trained[number]),
                selected=bool(self.selected[number]),
            )


def _bytes(values: list[bytes | None], width: int) -> NDArray[np.uint8]:
    joined = b"".join(bytes(width) if value is None else value for value in values)
    return np.frombuffer(joined, dtype=np.uint8).reshape(-1, width)


def write_seen(path: Path, seen: Seen) -> None:
    """Write seen.npz in one move: NumPy's own format, without pickle; the same table gives the same bytes."""
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(
            stream,
            version=np.array(_VERSION),
            ids=np.frombuffer("".join(map(_line, seen.ids)).encode("utf-8", "surrogatepass"), dtype=np.uint8),
            digests=seen.digests,
            looks=seen.looks,
            trained=seen.trained,
            selected=seen.selected,
        )


def read_seen(path: Path) -> Seen:
    """Read seen.npz.

    Raises:
        StoreError: the file is missing, is no such table, or is of a later version.
    """
    try:
        with io.BytesIO(read_plain(path)) as stream, np.load(stream, allow_pickle=False) as table:
            if (version := int(table["version"])) > _VERSION:
                raise WrittenByNewer(
                    f"{path} was written by a newer rscap: its format is version {version}, and this rscap reads up to "
                    f"version {_VERSION}",
                    hint="read it with a newer rscap",
                )
            names = table["ids"].tobytes().decode("utf-8", "surrogatepass")
            found = Seen(
                ids=tuple(map(_name, names.split("\n")[:-1])),
                digests=table["digests"].astype(np.uint8, casting="safe"),
                looks=table["looks"].astype(np.uint8, casting="safe"),
                trained=table["trained"].astype(bool, casting="safe"),
                selected=table["selected"].astype(bool, casting="safe"),
            )
    except FileNotFoundError:
        raise StoreError(f"{path} does not exist") from None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise StoreError(f"{path} is not a table of the images a run has seen: {error}") from error
    n = len(found)
    shapes = (found.digests.shape, found.looks.shape, found.trained.shape, found.selected.shape)
    if shapes != ((n, 16), (n, 8), (n,), (n,)):
        raise StoreError(f"{path} is damaged: {n} ids, and columns of shapes {', '.join(map(str, shapes))}")
    return found


def _line(name: str) -> str:
    """An id on one line: the few that hold a backslash or a line break are escaped."""
    return name.replace("\\", "\\\\").replace("\n", "\\n") + "\n"


def _name(line: str) -> str:
    return "\\".join(part.replace("\\n", "\n") for part in line.split("\\\\"))
