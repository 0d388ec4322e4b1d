"""Image handles: cheap to hold, picklable, decoded only when asked (see `rscap.records.ImageHandle`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from rscap.data.images import ImageHeader, decode, probe
from rscap.errors import ImageError


@dataclass(frozen=True, slots=True)
class FileImage:
    """An image file on disk."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def identity(self) -> str:
        """File name and size in bytes: what the source's digest pins."""
        return f"{self.path.name}:{self.path.stat().st_size}"

    def load(self) -> Image.Image:
        return decode(self.path, name=self.name)

    def header(self) -> ImageHeader:
        """Format, mode and size, without decoding."""
        return probe(self.path, name=self.name)

    def data(self) -> bytes:
        """The file's bytes as they are."""
        self.header()  # a missing file, a pipe or a bomb is refused with its name
        return self.path.read_bytes()


@dataclass(frozen=True, slots=True)
class ArrowImage:
    """One cell of a memory-mapped Arrow table; the table is shared by all its handles and pickled by reference."""

    table: Any = field(repr=False, compare=False, hash=False)
    """A `datasets.Dataset` whose `image` column yields `{"bytes", "path"}`, not decoded."""
    row: int
    name: str
    size_bytes: int

    @property
    def identity(self) -> str:
        """Name and size in bytes: what the source's digest pins."""
        return f"{self.name}:{self.size_bytes}"

    def load(self) -> Image.Image:
        return decode(self.data(), name=self.name)

    def header(self) -> ImageHeader:
        """Format, mode and size, without decoding."""
        return probe(self.data(), name=self.name)

    def data(self) -> bytes:
        """The encoded bytes as they are."""
        cell = self.table[self.row]["image"]
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        if not isinstance(content, bytes):
            raise ImageError(f"{self.name}: the image cell holds no bytes")
        return content


@dataclass(frozen=True, slots=True)
class MissingImage:
    """The image of an annotation whose pixels are not at hand: enough to inspect captions, not to load."""

    name: str

    @property
    def identity(self) -> str:
        """The name alone: there is no file to size up."""
        return self.name

    def load(self) -> Image.Image:
        raise self._error()

    def header(self) -> ImageHeader:
        """Always refused: there is nothing to read."""
        raise self._error()

    def data(self) -> bytes:
        """Always refused: there is nothing to read."""
        raise self._error()

    def _error(self) -> ImageError:
        return ImageError(
            f"{self.name}: the source was opened for its captions alone, without images",
            hint="put the images beside the annotations and open the source with its images",
        )
