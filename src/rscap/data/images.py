"""Image handles for files, table cells, bytes and pixels in memory (`rscap.records.ImageHandle`).

`opened` turns whatever a caller of the library has into one of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rscap.data.pixels import decode, faint, pages_in, probe, upright_rgb
from rscap.errors import ImageError
from rscap.progress import Say
from rscap.records import ImageHandle, ImageHeader

ImageInput = str | PathLike[str] | bytes | Image.Image | NDArray[np.uint8] | ImageHandle
"""All that `opened` takes."""


@dataclass(frozen=True, slots=True)
class FileImage:
    """An image file on disk."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def identity(self) -> str:
        """File name and size in bytes."""
        try:
            return f"{self.path.name}:{self.path.stat().st_size}"
        except (OSError, ValueError) as error:  # the latter: a zero byte in the name
            raise ImageError(f"{self.name}: cannot be read: {getattr(error, 'strerror', None) or error}") from None

    def load(self) -> Image.Image:
        return decode(self.path, name=self.name)

    def header(self) -> ImageHeader:
        return probe(self.path, name=self.name)

    def data(self) -> bytes:
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
        """Name and size in bytes."""
        return f"{self.name}:{self.size_bytes}"

    def load(self) -> Image.Image:
        return decode(self.data(), name=self.name)

    def header(self) -> ImageHeader:
        return probe(self.data(), name=self.name)

    def data(self) -> bytes:
        cell = self.table[self.row]["image"]
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        if not isinstance(content, bytes):
            raise ImageError(f"{self.name}: the image cell holds no bytes")
        return content


@dataclass(frozen=True, slots=True)
class ArchiveImage:
    """An image in an archive (tar), read from its place there when it is asked for."""

    archive: Path
    offset: int
    """Of its first byte in the archive."""
    size_bytes: int
    name: str

    @property
    def identity(self) -> str:
        """Name and size in bytes."""
        return f"{self.name}:{self.size_bytes}"

    def load(self) -> Image.Image:
        return decode(self.data(), name=self.name)

    def header(self) -> ImageHeader:
        return probe(self.data(), name=self.name)

    def data(self) -> bytes:
        try:
            with self.archive.open("rb") as stream:
                stream.seek(self.offset)
                content = stream.read(self.size_bytes)
        except OSError as error:
            raise ImageError(f"{self.name}: {self.archive} cannot be read: {error.strerror}") from None
        if len(content) < self.size_bytes:
            raise ImageError(f"{self.name}: {self.archive} is cut off", hint="copy it again")
        return content


@dataclass(frozen=True, slots=True)
class MissingImage:
    """The image of an annotation whose file is missing: enough to inspect captions, not to load."""

    name: str

    @property
    def identity(self) -> str:
        """The name alone: there is no file whose size could be read."""
        return self.name

    def load(self) -> Image.Image:
        raise self._error()

    def header(self) -> ImageHeader:
        raise self._error()

    def data(self) -> bytes:
        raise self._error()

    def _error(self) -> ImageError:
        return ImageError(
            f"{self.name}: the source was opened for its captions alone, without images",
            hint="put the images beside the annotations and open the source with its images",
        )


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """The bytes of an image file in memory."""

    content: bytes = field(repr=False)
    name: str

    @property
    def identity(self) -> str:
        """Name and size in bytes."""
        return f"{self.name}:{len(self.content)}"

    def load(self) -> Image.Image:
        return decode(self.content, name=self.name)

    def header(self) -> ImageHeader:
        return probe(self.content, name=self.name)

    def data(self) -> bytes:
        return self.content


@dataclass(frozen=True, slots=True)
class PixelImage:
    """Decoded RGB pixels in memory."""

    pixels: Image.Image = field(repr=False)
    name: str

    @property
    def identity(self) -> str:
        """The name: `opened` makes it from the pixels."""
        return self.name

    def load(self) -> Image.Image:
        return self.pixels.copy()

    def header(self) -> ImageHeader:
        return ImageHeader("pixels", self.pixels.mode, *self.pixels.size)

    def data(self) -> None:
        """None: these pixels were never a file."""


@dataclass(frozen=True, slots=True)
class TellingImage:
    """An image that tells, when it is decoded, that it shows next to nothing: its caption would be made up."""

    image: ImageHandle
    say: Say = field(repr=False)

    @property
    def name(self) -> str:
        return self.image.name

    @property
    def identity(self) -> str:
        """That of the image."""
        return self.image.identity

    def load(self) -> Image.Image:
        decoded = self.image.load()
        if (count := pages(self.image)) > 1:
            self.say(f"note: {self.name} has {count} pages, of which the first is shown")
        if why := faint(decoded):
            self.say(f"note: {self.name} shows next to nothing: {why}")
        return decoded

    def header(self) -> ImageHeader:
        return self.image.header()

    def data(self) -> bytes | None:
        return self.image.data()


_OF_SEVERAL = (".tif", ".tiff", ".gif", ".webp", ".png")


def pages(image: ImageHandle) -> int:
    """How many images a file holds; 1 for kinds of files that hold one."""
    if not image.name.lower().endswith(_OF_SEVERAL) or (content := image.data()) is None:
        return 1
    return pages_in(content)


def content_digest(image: Image.Image) -> bytes:
    """The 16 bytes that name an image by what it shows, whatever file or format it came in.

    They are the first half of SHA-256 over height and width (8 bytes each, big endian) and the RGB pixels in rows.

    Args:
        image: as a handle's `load` gives it; another mode than RGB is converted.
    """
    total = hashlib.sha256(image.height.to_bytes(8, "big") + image.width.to_bytes(8, "big"))
    total.update((image if image.mode == "RGB" else image.convert("RGB")).tobytes())
    return total.digest()[:16]


def opened(value: ImageInput) -> ImageHandle:
    """A handle for one image in any form: a path, bytes, a Pillow image, a `uint8[H, W, 3]` array, or a handle.

    Paths and bytes are not read yet, so a missing or broken file shows when the handle is asked. Pillow images and
    arrays are copied: what the caller changes later changes nothing here. An image in memory is named by its content,
    `image-` and 32 hexadecimal digits: those of `content_digest`, or for bytes those of their own SHA-256.

    Raises:
        ImageError: a value of another type, or an array of another shape, type or range; the hint says how to
            convert it.
    """
    if isinstance(value, str | PathLike):
        return FileImage(Path(value))
    if isinstance(value, bytes | bytearray | memoryview):
        content = bytes(value)
        return EncodedImage(content, f"image-{hashlib.sha256(content).hexdigest()[:32]}")
    if isinstance(value, Image.Image):
        return _named(upright_rgb(value, name=getattr(value, "filename", "") or "Pillow image"))
    if isinstance(value, np.ndarray):
        return _named(Image.fromarray(_checked(value)))
    if all(hasattr(type(value), method) for method in ("load", "header", "data")):
        return _of_contract(value)
    raise ImageError(f"an object of type {type(value).__name__} is not an image", hint=_way_in(value))


def _of_contract(handle: Any) -> ImageHandle:
    """A handle, of our own or of a caller's class.

    Raises:
        ImageError: it has no `name` or no `identity` in words.
    """
    for part in ("name", "identity"):
        if not isinstance(getattr(handle, part, None), str):
            raise ImageError(
                f"an image handle of type {type(handle).__name__} has no {part!r}, a string",
                hint="rscap.records.ImageHandle says what a handle has",
            )
    return handle if type(handle).__module__.startswith("rscap.") else OwnImage(handle)


@dataclass(frozen=True, slots=True)
class OwnImage:
    """A handle of a caller's class, held to the contract of `rscap.records.ImageHandle`."""

    handle: Any

    @property
    def name(self) -> str:
        return str(self.handle.name)

    @property
    def identity(self) -> str:
        """What the caller's handle says."""
        return str(self.handle.identity)

    def load(self) -> Image.Image:
        found = self._asked("load", Image.Image)
        return found if found.mode == "RGB" else upright_rgb(found, name=self.name)

    def header(self) -> ImageHeader:
        return self._asked("header", ImageHeader)

    def data(self) -> bytes | None:
        return self._asked("data", bytes, type(None))

    def _asked(self, method: str, *kinds: type) -> Any:
        try:
            found = getattr(self.handle, method)()
        except ImageError:
            raise
        except Exception as error:  # a caller's own code may raise anything
            raise ImageError(f"{self.name}: its {method}() failed: {type(error).__name__}: {error}") from error
        if not isinstance(found, kinds):
            raise ImageError(
                f"{self.name}: its {method}() returned {type(found).__name__}, not {kinds[0].__name__}",
                hint="rscap.records.ImageHandle says what a handle has",
            )
        return found


def _way_in(value: Any) -> str:
    """What to hand in for an object that is no image."""
    if hasattr(value, "read"):
        return "hand in the path of an open file, or its bytes: file.read()"
    if isinstance(value, Mapping):
        return "hand in the image that it holds; several images go in a list"
    return "hand in a path, bytes, a Pillow image or a uint8[H, W, 3] array; several images go in a list"


def _named(pixels: Image.Image) -> PixelImage:
    return PixelImage(pixels, f"image-{content_digest(pixels).hex()}")


def _checked(array: NDArray[Any]) -> NDArray[np.uint8]:
    """The array, if it is `uint8[H, W, 3]` and not an image that is black because it was scaled to 0 … 1."""
    way_out = _wrong_type(array) or _wrong_shape(array.shape)
    if way_out is None and array.max() == 1:
        way_out = "its values are 0 and 1 alone: scale them to 0..255"
    if way_out:
        raise ImageError(
            f"an array of type {array.dtype} and shape {array.shape} is not an image of type uint8 and shape (H, W, 3)",
            hint=way_out,
        )
    return cast("NDArray[np.uint8]", np.ascontiguousarray(array))


def _wrong_type(array: NDArray[Any]) -> str | None:
    if array.dtype == np.uint8:
        return None
    if np.issubdtype(array.dtype, np.floating):
        return "scale to 0..255 and convert to uint8: (array * 255).round().astype('uint8') if its values are 0..1"
    if array.dtype == np.bool_:
        return "scale to 0..255 and convert to uint8: array.astype('uint8') * 255"
    if np.issubdtype(array.dtype, np.integer):
        return "scale to 0..255 and convert to uint8: which value is white depends on the sensor"
    return "convert it to numbers of type uint8"


def _wrong_shape(shape: tuple[int, ...]) -> str | None:
    if 0 in shape:
        return "it has no pixels"
    match shape:
        case (_, _, 3):
            return None
        case (_, _):
            return "grey: repeat to three channels, np.repeat(array[:, :, None], 3, axis=2)"
        case (_, _, 1):
            return "grey: repeat to three channels, np.repeat(array, 3, axis=2)"
        case (_, _, 4):
            return "drop the alpha channel: array[:, :, :3]"
        case (3, _, _):
            return "channels come first: transpose, array.transpose(1, 2, 0)"
        case (_, _, _):
            return "choose the red, green and blue bands: array[:, :, [red, green, blue]]"
        case (_, _, _, _):
            return "several images: hand them in as a list of arrays"
        case _:
            return "an image has height, width and three channels"
