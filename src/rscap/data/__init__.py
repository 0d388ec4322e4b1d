"""Sources, splits, caption choice, inspection and audit: data one can trust."""

from rscap.data.choice import SCHEMES, choose, order
from rscap.data.images import (
    ArrowImage,
    EncodedImage,
    FileImage,
    ImageInput,
    MissingImage,
    PixelImage,
    content_digest,
    opened,
)
from rscap.data.opening import open_data, open_source, source_of
from rscap.data.pixels import decode, probe
from rscap.data.source import Source

__all__ = [
    "SCHEMES",
    "ArrowImage",
    "EncodedImage",
    "FileImage",
    "ImageInput",
    "MissingImage",
    "PixelImage",
    "Source",
    "choose",
    "content_digest",
    "decode",
    "open_data",
    "open_source",
    "opened",
    "order",
    "probe",
    "source_of",
]
