"""Bytes in, RGB out: the one place where an image file is decoded.

Every file is treated as untrusted. The size is read from the header and judged before a pixel is decoded, so a
"bomb" of a few kilobytes that unpacks to gigabytes costs nothing. Whatever a decoder raises comes out as an
`ImageError` that names the file, its format where that is known, and what to do about it.
"""

from __future__ import annotations

import io
import logging
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from rscap.errors import ImageError
from rscap.records import ImageHeader

MAX_PIXELS = 2**26
"""Largest image that is decoded (67 million pixels, 8,192 x 8,192): 200 MB as RGB."""

_PLUGINS = (  # named, since Pillow imports only some of its plugins by itself
    JpegImagePlugin.JpegImageFile,
    PngImagePlugin.PngImageFile,
    TiffImagePlugin.TiffImageFile,
    WebPImagePlugin.WebPImageFile,
    BmpImagePlugin.BmpImageFile,
    GifImagePlugin.GifImageFile,
    Jpeg2KImagePlugin.Jpeg2KImageFile,
    PpmImagePlugin.PpmImageFile,
)
FORMATS: tuple[str, ...] = tuple(str(plugin.format) for plugin in _PLUGINS)
"""Formats that are tried. Others (EPS, PSD, FITS …) need outside programs or are no photographs."""

logging.getLogger("PIL").addHandler(logging.NullHandler())  # or decoders print lines that name no file

_ORIENTATION = 0x0112  # the EXIF tag; values 2 to 8 as in the EXIF standard, 1 is upright
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(data: bytes | Path, *, name: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode one image to RGB, upright, in its own size.

    EXIF orientation is applied. Floats are scaled from 0 … 1. Transparent pixels are laid on black: in overhead images
    transparent means "no data". Of an animation or a multi-page file the first frame is taken.

    Integers deeper than 8 bits are refused: sensors of 10 to 14 bits and reflectances up to 10,000 fill a small part of
    16 bits, and the file does not say which value is white. `rscap scene` stretches such scenes by a rule.

    Args:
        data: the bytes of the file, or its path.
        name: what an error calls this image.
        max_pixels: a header that declares more is refused before decoding.

    Raises:
        ImageError: missing, empty, not an image, truncated, too large, or without a defined brightness; the hint says
            how to convert it.
    """
    with _opened(data, name, max_pixels) as image:
        deep = _is_deep(image)
        image.load()
        return _rgb(_upright(image), name, deep=deep)


def upright_rgb(image: Image.Image, *, name: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """A copy of an opened Pillow image as `decode` would give it: RGB, upright, in its own size.

    Raises:
        ImageError: it cannot be decoded, has too many pixels or no defined brightness.
    """
    with _decoders_errors(name):
        _require_size(image, name, max_pixels)
        deep = _is_deep(image)
        image.load()
        return _rgb(_upright(image), name, deep=deep)


def probe(data: bytes | Path, *, name: str, max_pixels: int = MAX_PIXELS) -> ImageHeader:
    """Read the header alone; refuses what `decode` would refuse by its header.

    Raises:
        ImageError: missing, empty, not an image, or too large.
    """
    with _opened(data, name, max_pixels) as image:
        return ImageHeader(image.format or "?", image.mode, image.width, image.height)


def pages_in(data: bytes) -> int:
    """How many images a file holds, one behind the other; 1 also where that cannot be told."""
    try:
        with _opened(data, "", MAX_PIXELS) as image:
            return int(getattr(image, "n_frames", 1))
    except ImageError:
        return 1


@contextmanager
def _opened(data: bytes | Path, name: str, max_pixels: int) -> Iterator[Image.Image]:
    """Yield the lazily opened image; whatever goes wrong, inside the block too, is an ImageError."""
    stream: io.BytesIO | Path = io.BytesIO(data) if isinstance(data, bytes) else data
    _require_content(data, name)
    with _decoders_errors(name, data), Image.open(stream, formats=FORMATS) as image:
        _require_size(image, name, max_pixels)
        yield image


@contextmanager
def _decoders_errors(name: str, data: bytes | Path | None = None) -> Iterator[None]:
    """Turn whatever a decoder raises inside the block into an ImageError that names the image, and what `data` is."""
    with warnings.catch_warnings():
        # Only Pillow's: where threads decode at once, a filter that outlives its block must do no harm.
        warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
        try:
            yield
        except ImageError:
            raise
        except Image.UnidentifiedImageError:
            told = None if data is None else describe(data)
            if told:
                raise ImageError(f"{name}: this is {told[0]}", hint=told[1]) from None
            raise ImageError(f"{name}: not an image in a known format", hint=f"known: {', '.join(FORMATS)}") from None
        except Image.DecompressionBombError as error:
            raise ImageError(f"{name}: refused before decoding: {error}") from error
        except Exception as error:  # decoders raise nearly anything: struct.error, KeyError, SyntaxError …
            raise ImageError(f"{name}: cannot be decoded: {error or type(error).__name__}") from error


def _require_content(data: bytes | Path, name: str) -> None:
    if isinstance(data, bytes):
        size = len(data)
    else:
        try:
            status = data.stat()
        except (OSError, ValueError) as error:  # ValueError: a NUL inside the path
            raise ImageError(f"{name}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait for ever
            raise ImageError(f"{name}: not a regular file")
        size = status.st_size
    if size == 0:
        raise ImageError(f"{name}: empty, 0 bytes")


def _require_size(image: Image.Image, name: str, max_pixels: int) -> None:
    if 0 in image.size:
        raise ImageError(f"{name}: {image.width} x {image.height} pixels: there is nothing to see")
    if image.width * image.height > max_pixels:
        raise ImageError(
            f"{name}: {image.width} x {image.height} pixels, more than the {max_pixels} that are decoded safely",
            hint="cut large scenes into windows first",
        )


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation (TIFF is turned by the decoder, which then drops the tag)."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # broken EXIF says nothing about the pixels, which are whole
        orientation = 1
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _is_deep(image: Image.Image) -> bool:
    """Does a colour image that was not loaded yet have 16 bits a channel, of which the decoder keeps the upper 8?"""
    return any(";16" in str(part[3]) for part in getattr(image, "tile", ()))


def _rgb(image: Image.Image, name: str, *, deep: bool) -> Image.Image:
    if deep or image.mode.startswith("I"):
        raise _deep(image, name)
    if image.mode == "F":
        image = _eight_bit(image, name)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        black = Image.new("RGBA", layer.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, layer).convert("RGB")
    return image.convert("RGB") if image.mode != "RGB" else image.copy()


def _eight_bit(image: Image.Image, name: str) -> Image.Image:
    """Floats from 0 to 1 as 8-bit grey; a plain conversion would clip instead of scale."""
    values = np.asarray(image, dtype=np.float64)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1.0):  # false for NaN, too
        raise ImageError(
            f"{name}: values from {low:g} to {high:g} in mode F have no defined brightness",
            hint="scale them to 0 … 1 or to 8 bits first",
        )
    return Image.fromarray(np.rint(values * 255.0).astype(np.uint8))


def _deep(image: Image.Image, name: str) -> ImageError:
    """The refusal of integers deeper than 8 bits, with the values that are there and the command that scales them."""
    if image.mode.startswith("I"):
        values = np.asarray(image)
        low, high = int(values.min()), int(values.max())
    else:  # of colour the decoder keeps the upper 8 of 16 bits
        upper = np.asarray(image.convert("RGB"))
        low, high = 257 * int(upper.min()), 257 * int(upper.max())
    return ImageError(
        f"{name}: more than 8 bits a channel, with values from about {low} to {high}: which value is white "
        "is not known",
        hint="choose the values that become black and white: gdal_translate -ot Byte -scale "
        f"{low} {max(high, low + 1)} 0 255 IN.tif OUT.tif; `rscap scene` stretches a GeoTIFF by itself",
    )


FAINT = 16
"""An image none of whose pixels is brighter than this, of 255, shows next to nothing."""


def faint(image: Image.Image) -> str | None:
    """Why there is next to nothing to see in an RGB image, in words; None for any other."""
    extremes = image.getextrema()
    if all(low == high for low, high in extremes):  # type: ignore[misc]
        return f"all of one colour, {tuple(low for low, _ in extremes)}"  # type: ignore[misc]
    brightest = max(high for _, high in extremes)  # type: ignore[misc]
    return f"nearly black: its brightest value is {brightest} of 255" if brightest < FAINT else None


_HEAD_BYTES = 4096
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_WIDTH, _HEIGHT, _BITS, _BANDS, _SAMPLE_FORMAT = 256, 257, 258, 277, 339
_SAMPLES = {2: " (signed)", 3: " (float)", 5: " (complex)", 6: " (complex)"}

_CONVERT = "convert it, e.g. `magick {name} {stem}.png`"
_RASTER = "convert it, e.g. `gdal_translate -b RED -b GREEN -b BLUE -ot Byte -scale {name} {stem}_8bit.tif`"
_AGAIN = "download it again"
_COPY = "copy it again from its source"
_SIGNATURES: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"version https://git-lfs", "a Git LFS pointer, not the image itself", "fetch the images: `git lfs pull`"),
    (8, b"avif", "AVIF", _CONVERT),
    (8, b"avis", "AVIF", _CONVERT),
    (8, b"hei", "HEIC", _CONVERT),
    (8, b"hev", "HEIC", _CONVERT),
    (8, b"mif1", "HEIC or AVIF", _CONVERT),
    (8, b"msf1", "HEIC or AVIF", _CONVERT),
    (0, b"\xff\x0a", "JPEG XL", _CONVERT),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL", _CONVERT),
    (0, b"8BPS", "a Photoshop file", _CONVERT),
    (0, b"%!PS", "PostScript", _CONVERT),
    (0, b"%PDF", "PDF", _CONVERT),
    (0, b"<svg", "SVG", _CONVERT),
    (0, b"\x93NUMPY", "a NumPy array", "save it as an image of 8 bits"),
    (0, b"\x89HDF", "HDF5 or NetCDF", _RASTER),
    (0, b"CDF", "NetCDF", _RASTER),
    (0, b"SIMPLE  =", "FITS", _RASTER),
    (0, b"NITF", "NITF", _RASTER),
    (0, b"GRIB", "GRIB", _RASTER),
    (0, b"PK\x03\x04", "a zip archive", "unpack it"),
    (0, b"\x1f\x8b", "a gzip archive", "unpack it"),
    (0, b"\x00\x05\x16\x07", "a companion file that macOS wrote (AppleDouble)", "use the file whose name lacks the ._"),
    (0, b"<!DOCTYPE", "an HTML page, as a failed download leaves it", _AGAIN),
    (0, b"<html", "an HTML page, as a failed download leaves it", _AGAIN),
    (0, b"{", "JSON, as a failed download leaves it", _AGAIN),
    (0, b"<?xml", "XML, as a failed download leaves it", _AGAIN),
    (4, b"ftyp", "a video (MP4)", "extract its frames, e.g. `ffmpeg -i {name} {stem}_%04d.png`"),
    (0, b"\0\0\1\xba", "a video (MPEG)", "extract its frames, e.g. `ffmpeg -i {name} {stem}_%04d.png`"),
    (0, b"\0\0\1\0", "an icon (ICO)", _CONVERT),
    (0, b"DDS ", "DDS", _CONVERT),
    (0, b"qoif", "QOI", _CONVERT),
    (0, b"\x76\x2f\x31\x01", "OpenEXR", "scale its values to 8 bits and save it as PNG"),
    (128, b"DICM", "DICOM", "scale its values to 8 bits and save it as PNG"),
    (0, b"MATLAB", "a MATLAB file", "save it as an image of 8 bits"),
    (0, b"LASF", "a point cloud (LAS)", "render it as an image first"),
    (0, b"PAR1", "a parquet table", "open the table itself as the data set"),
    (0, b"\x80\x04", "a Python pickle, which is never opened", "save it as an image of 8 bits"),
    (0, b"Rar!", "a RAR archive", "unpack it"),
    (0, b"7z\xbc\xaf", "a 7z archive", "unpack it"),
    (0, b"BZh", "a bzip2 archive", "unpack it"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive", "unpack it"),
    (0, b"\xff\xd8\xff", "a JPEG whose header is damaged", _COPY),
    (0, b"\x89PNG", "a PNG whose header is damaged", _COPY),
    (0, b"GIF8", "a GIF whose header is damaged", _COPY),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 whose header is damaged", _COPY),
)
"""Where a signature stands, the signature, what it tells, and the way out; the first that fits."""


def describe(data: bytes | Path) -> tuple[str, str] | None:
    """What the file is and what to do about it, in words; None where its first bytes do not tell.

    Args:
        data: the bytes of the file, or its path.
    """
    head = _head(data)
    name = data.name if isinstance(data, Path) else "IMAGE"
    names = {"name": name, "stem": Path(name).stem}
    if head.startswith(_TIFF):
        return f"a TIFF {_tiff(data)} that cannot be decoded", _RASTER.format(**names)
    text = head.lstrip()
    for start, signature, what, way_out in _SIGNATURES:
        at = head if start else text
        if at[start : start + len(signature)].lower() == signature.lower():
            return what, way_out.format(**names)
    if head and not head.strip(b"\0"):
        return "nothing but zeros, as a download that was cut off leaves it", _AGAIN
    return None


def _head(data: bytes | Path) -> bytes:
    if isinstance(data, bytes):
        return data[:_HEAD_BYTES]
    with data.open("rb") as stream:
        return stream.read(_HEAD_BYTES)


def _tiff(data: bytes | Path) -> str:
    """`of 12 bands of 16 bits`, as far as its directory tells."""
    try:
        with io.BytesIO(data) if isinstance(data, bytes) else data.open("rb") as stream:
            directory = ImageFileDirectory_v2(stream.read(8))
            stream.seek(directory.next)
            directory.load(stream)
        bands = int(directory.get(_BANDS, 1))
        bits = directory.get(_BITS, (1,))
        kind = _SAMPLES.get(int(directory.get(_SAMPLE_FORMAT, (1,))[0]), "")
        return f"of {bands} {'band' if bands == 1 else 'bands'} of {int(bits[0])} bits{kind}"
    except Exception:  # a broken directory is no reason to say nothing
        return "of an unusual kind"
