"""An image out of a request: its bytes, judged by their header before anything is decoded."""

from __future__ import annotations

import base64
import binascii
import re

from rscap.data.images import EncodedImage, opened
from rscap.data.pixels import probe
from rscap.errors import ImageError
from rscap.records import Picture
from rscap.serving.problems import Problem, problem_of

_DATA = re.compile(r"data:(?P<kind>[\w.+-]{1,40}/[\w.+-]{1,60})?(?P<more>(?:;[\w=.+-]{1,80}){0,4}),", re.ASCII)


def is_address(url: str) -> bool:
    """Whether an `image_url` names a place and does not hold the image."""
    return url[:5].lower() != "data:"


def bytes_of(url: str, *, param: str) -> bytes:
    """The image in a `data:` URI.

    Raises:
        Problem: 400, it is not one of an image in base64.
    """
    head = _DATA.match(url, 0, 500)
    if head is None:
        raise Problem(400, f"{param} is no data URI of an image: data:image/png;base64,…", param=param)
    kind, more = (head.group("kind") or "").lower(), head.group("more").lower().split(";")
    if not kind.startswith("image/"):
        raise Problem(400, f"{param} holds {kind or 'text'} and no image", param=param, code="invalid_image")
    if "base64" not in more:
        raise Problem(400, f"{param}: an image is sent in base64", param=param, code="invalid_image")
    try:
        return base64.b64decode(url[head.end() :].encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise Problem(400, f"{param} is not base64", param=param, code="invalid_image") from None


def picture_of(content: bytes, *, name: str | None, max_pixels: int, param: str) -> Picture:
    """A picture of these bytes. Without a name its id is that of its content, `image-` and 32 hexadecimal digits.

    Raises:
        Problem: 400, no image, or one of too many pixels.
    """
    called = name or "the image"
    try:
        probe(content, name=called, max_pixels=max_pixels)
    except ImageError as error:
        raise problem_of(error, param=param) from None
    return Picture(id=name or opened(content).name, image=EncodedImage(content, called))
