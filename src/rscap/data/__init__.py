"""Sources, splits, caption choice, inspection and audit: data one can trust."""

from rscap.data.choice import SCHEMES, choose, order
from rscap.data.images import ArrowImage, FileImage, MissingImage, decode, probe
from rscap.data.opening import open_source
from rscap.data.source import Note, Rejected, Source

__all__ = [
    "SCHEMES",
    "ArrowImage",
    "FileImage",
    "MissingImage",
    "Note",
    "Rejected",
    "Source",
    "choose",
    "decode",
    "open_source",
    "order",
    "probe",
]
