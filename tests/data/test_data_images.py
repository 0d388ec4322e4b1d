"""Every kind of pixel comes out as upright 8-bit RGB, every kind of damage as a named ImageError."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rscap.data.images import FileImage, ImageInput, content_digest, opened
from rscap.data.pixels import MAX_PIXELS, decode, faint, probe
from rscap.errors import ImageError
from rscap.sample import RenderedScene


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=format, **options)
    return stream.getvalue()


def gradient(size: tuple[int, int] = (40, 24)) -> Image.Image:
    """A picture without symmetry: no flip or turn of it equals another."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([x * 255 // width, y * 255 // height, (x * y) % 256], axis=2).astype(np.uint8)
    return Image.fromarray(pixels)


def png(width: int, height: int) -> bytes:
    """A valid PNG header that declares a size, with next to no pixels behind it."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP", "PPM"])
def test_lossless_formats_keep_every_pixel(format: str) -> None:
    """An RGB picture in a lossless format decodes to the very same pixels."""
    picture = gradient()
    assert np.array_equal(np.asarray(decode(encoded(picture, format), name="x")), np.asarray(picture))


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "JPEG2000"])
def test_lossy_formats_stay_close(format: str) -> None:
    """A lossy format decodes to RGB of the same size and nearly the same brightness."""
    picture = gradient()
    result = decode(
        encoded(picture, format, quality=95) if format != "JPEG2000" else encoded(picture, format), name="x"
    )
    assert (result.mode, result.size) == ("RGB", picture.size)
    assert abs(float(np.asarray(result).mean()) - float(np.asarray(picture).mean())) < 4


def test_float_tiff_within_unit_range() -> None:
    """Floats from 0 to 1 are multiplied by 255."""
    image = Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32))
    assert np.asarray(decode(encoded(image, "TIFF"), name="x"))[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("values", [[0.0, 1500.0], [-0.1, 0.2], [float("nan"), 0.5], [float("inf"), 0.5]])
def test_floats_without_defined_brightness_are_refused(values: list[float]) -> None:
    """Reflectances, negative numbers, NaN and infinity are not guessed at."""
    image = Image.fromarray(np.array([values], dtype=np.float32))
    with pytest.raises(ImageError, match=r"scene\.tif: values"):
        decode(encoded(image, "TIFF"), name="scene.tif")


def deep(brightest: int, format: str) -> bytes:
    """Grey of 16 bits from 0 to `brightest`."""
    return encoded(Image.fromarray(np.array([[0, brightest // 2, brightest]], dtype=np.uint16)), format)


def deep_rgb_png(value: int) -> bytes:
    """A PNG of one pixel, RGB with 16 bits a channel."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    pixel = zlib.compress(b"\0" + struct.pack(">HHH", value, value // 2, 0))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixel) + chunk(b"IEND", b"")


@pytest.mark.parametrize("brightest", [0, 255, 4095, 10_000, 40_000, 65_535])
def test_images_deeper_than_eight_bits_are_refused(brightest: int) -> None:
    """Which value is white is not known, whatever part of the range is used: refused, with the values and a command."""
    for format in ("PNG", "TIFF", "PPM"):
        with pytest.raises(ImageError, match=f"values from about 0 to {brightest}: which value is white") as caught:
            decode(deep(brightest, format), name="x")
        assert f"gdal_translate -ot Byte -scale 0 {max(brightest, 1)} 0 255" in str(caught.value.hint)
    with pytest.raises(ImageError, match="more than 8 bits a channel"):
        decode(deep_rgb_png(brightest), name="x")


def test_deep_grey_in_another_byte_order_is_refused_with_its_own_values() -> None:
    """A big-endian TIFF names the same values."""
    image = Image.frombytes("I;16B", (3, 1), np.array([[0, 32_896, 65_535]], dtype=">u2").tobytes())
    with pytest.raises(ImageError, match="from about 0 to 65535"):
        decode(encoded(image, "TIFF"), name="x")


def test_what_shows_nothing_is_told() -> None:
    """One colour, or nothing brighter than 16 of 255; a dim picture is a picture."""
    assert faint(Image.new("RGB", (4, 4), (9, 9, 9))) == "all of one colour, (9, 9, 9)"
    assert faint(gradient().point(lambda value: value // 20)) == "nearly black: its brightest value is 12 of 255"
    assert faint(gradient().point(lambda value: value // 8)) is None


def multiband_tiff(bands: int, bits: int) -> bytes:
    """A TIFF of one row of two pixels with `bands` samples each, photometric min-is-black, as rasters are written."""
    data = bytes(2 * bands * bits // 8)
    sizes = struct.pack(f"<{bands}H", *[bits] * bands)
    entries = [(256, 3, 1, 2), (257, 3, 1, 1), (258, 3, bands, 200), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 400)]
    entries += [(277, 3, 1, bands), (278, 3, 1, 1), (279, 4, 1, len(data))]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    start = b"II*\0" + struct.pack("<I", 8) + directory
    return (start.ljust(200, b"\0") + sizes).ljust(400, b"\0") + data


UNKNOWN = {
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer", "git lfs pull"),
    "avif": (b"\0\0\0\x20ftypavif" + bytes(40), "AVIF", "magick"),
    "heic": (b"\0\0\0\x18ftypheic" + bytes(40), "HEIC", "magick"),
    "jxl": (b"\xff\x0a" + bytes(40), "JPEG XL", "magick"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG", "magick"),
    "pdf": (b"%PDF-1.7", "PDF", "magick"),
    "npy": (b"\x93NUMPY\x01\x00", "NumPy array", "8 bits"),
    "hdf5": (b"\x89HDF\r\n\x1a\n", "HDF5", "gdal_translate"),
    "fits": (b"SIMPLE  =                    T", "FITS", "gdal_translate"),
    "zip": (b"PK\x03\x04" + bytes(40), "zip archive", "unpack"),
    "gzip": (b"\x1f\x8b\x08" + bytes(40), "gzip archive", "unpack"),
    "mac": (b"\x00\x05\x16\x07" + bytes(40), "AppleDouble", "._"),
    "html": (b"\n<!doctype html><html>404</html>", "HTML page", "download it again"),
    "json": (b'{"error": "not found"}', "JSON", "download it again"),
    "mp4": (b"\0\0\0\x18ftypisom" + bytes(40), "a video (MP4)", "ffmpeg"),
    "exr": (b"\x76\x2f\x31\x01" + bytes(40), "OpenEXR", "8 bits"),
    "dicom": (bytes(128) + b"DICM", "DICOM", "8 bits"),
    "pickle": (b"\x80\x04\x95", "a Python pickle, which is never opened", "8 bits"),
    "rar": (b"Rar!\x1a\x07", "a RAR archive", "unpack"),
    "xml": (b"<?xml version='1.0'?><Error/>", "XML", "download it again"),
    "a broken PNG": (b"\x89PNG\r\n\x1a\n" + bytes(40), "a PNG whose header is damaged", "copy it again"),
    "a broken JPEG 2000": (
        b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60),
        "a JPEG 2000 whose header is damaged",
        "copy it again",
    ),
    "zeros": (bytes(500), "nothing but zeros", "download it again"),
    "12 bands": (multiband_tiff(12, 16), "TIFF of 12 bands of 16 bits", "-b RED -b GREEN -b BLUE"),
    "16-bit RGB as bands": (multiband_tiff(3, 16), "TIFF of 3 bands of 16 bits", "-ot Byte"),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_a_format_that_is_not_decoded_is_called_by_its_name(
    case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As bytes and as a file: what it is, what to do about it, and no line of the decoder's own on the terminal."""
    content, what, way_out = UNKNOWN[case]
    path = tmp_path / "image.jpg"
    path.write_bytes(content)
    for data in (content, path):
        with pytest.raises(ImageError) as caught:
            decode(data, name="the-name")
        assert caught.value.message.startswith("the-name: this is")
        assert what in caught.value.message
        assert way_out in str(caught.value.hint)
    assert capfd.readouterr() == ("", "")


def test_palette_grey_bilevel_and_cmyk_become_rgb() -> None:
    """Every mode comes out as RGB with the brightness that its own conversion says."""
    picture = gradient()
    for mode, format in [("P", "PNG"), ("P", "GIF"), ("L", "JPEG"), ("1", "PNG"), ("CMYK", "JPEG"), ("CMYK", "TIFF")]:
        converted = picture.convert(mode)
        result = decode(encoded(converted, format), name="x")
        assert result.mode == "RGB"
        expected = np.asarray(converted.convert("RGB"), dtype=float)
        assert np.abs(np.asarray(result, dtype=float) - expected).mean() < 12, (mode, format)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_are_laid_on_black(mode: str) -> None:
    """Transparent means no data: full transparency is black, none keeps the colour, half is half as bright."""
    alpha = Image.fromarray(np.array([[0, 128, 255]], dtype=np.uint8))
    white = Image.new("RGB" if mode == "RGBA" else "L", (3, 1), "white")
    white.putalpha(alpha)
    assert np.asarray(decode(encoded(white, "PNG"), name="x"))[0, :, 0].tolist() == [0, 128, 255]


def test_palette_with_transparent_entries_is_laid_on_black_without_a_warning() -> None:
    """A palette whose transparency stands in bytes makes Pillow warn; the warning stays inside."""
    image = Image.new("P", (2, 1))
    image.putpalette([255, 255, 255, 255, 0, 0])
    image.putpixel((1, 0), 1)
    result = decode(encoded(image, "PNG", transparency=b"\x00\xff"), name="x")
    assert np.asarray(result)[0].tolist() == [[0, 0, 0], [255, 0, 0]]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_exif_orientation_is_applied_once(orientation: int, format: str) -> None:
    """However the camera was held, the decoded picture is upright."""
    upright = gradient()
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = upright if undo is None else upright.transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    result = decode(encoded(stored, format, exif=exif), name="x")
    assert np.array_equal(np.asarray(result), np.asarray(upright))


def test_broken_exif_does_not_lose_the_picture() -> None:
    """EXIF that cannot be read says nothing about the pixels, which are whole."""
    data = encoded(gradient(), "PNG", exif=b"Exif\x00\x00MM\x00\x2a\xff\xff\xff\xff rubbish")
    assert decode(data, name="x").size == gradient().size


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_of_an_animation_is_taken(format: str) -> None:
    """Of several frames the first is decoded."""
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if format == "WEBP" else {}
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert np.asarray(decode(data, name="x"))[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("size", [(200_000, 200_000), (12_000, 9_000), (2**31 - 1, 2**31 - 1)])
def test_a_png_bomb_is_refused_by_its_header(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of 100 bytes that declares gigabytes is refused before a pixel is decoded."""
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    for read in (decode, probe):
        with pytest.raises(ImageError, match=r"bomb\.png"):
            read(png(*size), name="bomb.png")


def test_the_limit_is_an_argument() -> None:
    """A caller may lower the limit; an image at the limit is decoded, one pixel more is not."""
    data = encoded(gradient((10, 10)), "PNG")
    assert decode(data, name="x", max_pixels=100).size == (10, 10)
    with pytest.raises(ImageError, match="10 x 10 pixels, more than the 99"):
        decode(data, name="x", max_pixels=99)
    assert MAX_PIXELS >= 8192 * 8192


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF"])
def test_truncated_files_are_refused(format: str, share: float) -> None:
    """A file cut short is never decoded to a half-grey picture."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = encoded(noise, format)
    with pytest.raises(ImageError, match=r"cut\.img"):
        decode(data[: int(len(data) * share)], name="cut.img")


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"GIF89a", b"\xff\xd8\xff", b"<svg/>", b"%!PS-Adobe-3.0 EPSF", b"BM" + b"\xff" * 60, b"x" * 999],
)
def test_what_is_no_image_is_an_error_with_its_name(data: bytes) -> None:
    """Bytes that are no image give an ImageError that names them."""
    with pytest.raises(ImageError, match=r"a/b\.jpg"):
        decode(data, name="a/b.jpg")


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a folder, a pipe and a NUL in the name are errors; a pipe does not hang."""
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (tmp_path / "none.jpg", tmp_path, tmp_path / "pipe.jpg", Path("nul\0.jpg")):
        with pytest.raises(ImageError) as caught:
            decode(path, name="the-name")
        assert "the-name" in str(caught.value)


def test_probe_reads_the_header_alone() -> None:
    """Format, mode and size are known without decoding: a file cut after its header still tells them."""
    header = probe(encoded(gradient(), "PNG")[:60], name="x")
    assert (header.format, header.mode, header.width, header.height) == ("PNG", "RGB", 40, 24)


def forms(picture: Image.Image, folder: Path) -> dict[str, ImageInput]:
    """One picture in every form that the library takes."""
    path = folder / "a.png"
    path.write_bytes(encoded(picture, "PNG"))
    return {
        "str": str(path),
        "path": path,
        "bytes": path.read_bytes(),
        "pillow": picture,
        "array": np.asarray(picture),
        "array, another memory order": np.asfortranarray(np.asarray(picture)),
        "handle": FileImage(path),
    }


def test_every_form_of_an_image_opens_to_the_same_pixels(tmp_path: Path) -> None:
    """A path, bytes, a Pillow image, an array and a handle of one picture load alike, and so does a pickled handle."""
    picture = gradient()
    for form, value in forms(picture, tmp_path).items():
        handle = opened(value)
        again = pickle.loads(pickle.dumps(handle))
        assert np.array_equal(np.asarray(handle.load()), np.asarray(picture)), form
        assert np.array_equal(np.asarray(again.load()), np.asarray(picture)), form
        assert (handle.header().width, handle.header().height) == picture.size, form
        assert again.identity == handle.identity, form


def test_an_image_in_memory_is_named_by_its_content(tmp_path: Path) -> None:
    """Equal pixels have one name whatever form they came in; another pixel, or another shape of them, has another."""
    picture = gradient((40, 24))
    other = picture.copy()
    other.putpixel((0, 0), (1, 2, 3))
    names = [opened(one).name for one in (picture, np.asarray(picture), other, picture.resize((24, 40)))]
    assert names[0] == names[1] == f"image-{content_digest(picture).hex()}"
    assert len(set(names)) == 3
    reshaped = Image.frombytes("RGB", (24, 40), picture.tobytes())
    assert content_digest(reshaped) != content_digest(picture)
    data = encoded(picture, "PNG")
    assert opened(data).name == f"image-{hashlib.sha256(data).hexdigest()[:32]}"


def test_the_digest_of_content_is_what_its_docstring_says() -> None:
    """Half of SHA-256 over height, width (8 bytes each, big endian) and the RGB bytes row by row."""
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    expected = hashlib.sha256(struct.pack(">QQ", 2, 3) + bytes(range(18))).digest()[:16]
    assert content_digest(Image.fromarray(pixels)) == expected


def test_what_the_caller_changes_later_changes_nothing() -> None:
    """Pixels are copied when they are handed in and when they are handed out."""
    pixels = np.asarray(gradient()).copy()
    picture = gradient()
    handles = [opened(pixels), opened(picture)]
    pixels[:] = 0
    picture.paste("white", (0, 0, 10, 10))
    for handle in handles:
        handle.load().paste("white", (0, 0, 10, 10))
        assert np.array_equal(np.asarray(handle.load()), np.asarray(gradient()))


def test_a_pillow_image_is_opened_as_its_file_would_be() -> None:
    """Orientation and transparency mean the same in memory as in a file, and 16-bit grey is refused in both."""
    turned = Image.Exif()
    turned[0x0112] = 6
    data = encoded(gradient(), "JPEG", exif=turned)
    clear = gradient().convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    deep = Image.fromarray(np.linspace(0, 65535, 960, dtype=np.uint16).reshape(24, 40))
    with pytest.raises(ImageError, match="more than 8 bits"):
        opened(Image.open(io.BytesIO(encoded(deep, "PNG")))).load()
    for content in (data, encoded(clear, "PNG")):
        assert np.array_equal(
            np.asarray(opened(Image.open(io.BytesIO(content))).load()), np.asarray(decode(content, name="x"))
        )


WRONG_INPUTS = {
    "float": (np.zeros((4, 5, 3), np.float32), "scale to 0..255 and convert to uint8"),
    "int64": (np.zeros((4, 5, 3), np.int64), "scale to 0..255 and convert to uint8"),
    "uint16": (np.zeros((4, 5, 3), np.uint16), "scale to 0..255 and convert to uint8"),
    "bool": (np.zeros((4, 5, 3), bool), "scale to 0..255 and convert to uint8"),
    "text": (np.full((4, 5, 3), "a"), "convert it to numbers"),
    "channels first": (np.zeros((3, 4, 5), np.uint8), "transpose"),
    "grey": (np.zeros((4, 5), np.uint8), "repeat to three channels"),
    "one channel": (np.zeros((4, 5, 1), np.uint8), "repeat to three channels"),
    "alpha": (np.zeros((4, 5, 4), np.uint8), "drop the alpha channel"),
    "bands": (np.zeros((4, 5, 12), np.uint8), "red, green and blue bands"),
    "batch": (np.zeros((2, 4, 5, 3), np.uint8), "list of arrays"),
    "flat": (np.zeros(60, np.uint8), "height, width and three channels"),
    "empty": (np.zeros((0, 5, 3), np.uint8), "no pixels"),
    "0 and 1": (np.eye(9, dtype=np.uint8)[:, :, None].repeat(3, 2), "0 and 1 alone"),
    "list": ([[0, 0, 0]], "uint8[H, W, 3]"),
    "None": (None, "uint8[H, W, 3]"),
    "file object": (io.BytesIO(b"x"), "file.read()"),
}


@pytest.mark.parametrize("case", WRONG_INPUTS)
def test_what_is_no_image_is_refused_with_the_way_out(case: str) -> None:
    """An array of another shape, type or range, or another object, is an ImageError whose hint says how to convert."""
    value, way_out = WRONG_INPUTS[case]
    with pytest.raises(ImageError) as refused:
        opened(value)  # type: ignore[arg-type]
    assert way_out in (refused.value.hint or "")


def test_a_broken_image_shows_when_it_is_asked(tmp_path: Path) -> None:
    """Paths and bytes are not read when they are opened; loading names the file, or the name made of the bytes."""
    missing, broken = opened(tmp_path / "gone.png"), opened(b"no image")
    for handle in (missing, broken):
        with pytest.raises(ImageError, match=re.escape(handle.name)):
            handle.load()


HANDLES = {
    "file": lambda folder: opened(forms(gradient(), folder)["path"]),
    "bytes": lambda folder: opened(encoded(gradient(), "PNG")),
    "pixels": lambda folder: opened(gradient()),
    "sample": lambda folder: RenderedScene("airport", 0),
}


@pytest.mark.parametrize("kind", HANDLES)
def test_every_handle_keeps_the_whole_contract(kind: str, tmp_path: Path) -> None:
    """A handle has a name and an identity; its header agrees with its pixels, its data decode to them where it has any.

    What it hands out may be changed.
    """
    handle = HANDLES[kind](tmp_path)
    pixels = handle.load()
    assert pixels.mode == "RGB"
    assert handle.name
    assert handle.name.rpartition("/")[2] in handle.identity
    assert (handle.header().width, handle.header().height) == pixels.size
    data = handle.data()
    assert data is None or np.array_equal(np.asarray(decode(data, name="x")), np.asarray(pixels))
    before = pixels.tobytes()
    pixels.paste("white", (0, 0, 9, 9))
    assert handle.load().tobytes() == before
