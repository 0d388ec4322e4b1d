"""What a file is that cannot be decoded: its format by name, and what to do about it."""

from __future__ import annotations

import io
from pathlib import Path

from PIL.TiffImagePlugin import ImageFileDirectory_v2

_HEAD_BYTES = 4096
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_WIDTH, _HEIGHT, _BITS, _BANDS, _SAMPLE_FORMAT = 256, 257, 258, 277, 339
_SAMPLES = {2: " (signed)", 3: " (float)", 5: " (complex)", 6: " (complex)"}

_CONVERT = "convert it, e.g. `magick {name} {stem}.png`"
_RASTER = "convert it, e.g. `gdal_translate -b RED -b GREEN -b BLUE -ot Byte -scale {name} {stem}_8bit.tif`"
_AGAIN = "download it again"
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
)


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
