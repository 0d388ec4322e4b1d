"""`rscap caption`: image files that belong to no data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rscap.batch import Encoder
from rscap.data import FileImage, Rejected
from rscap.evaluate.subject import Subject
from rscap.generate import Say, generate, to_stderr
from rscap.model.run import best_device
from rscap.records import Example, Prediction


def caption_files(subject: Subject, images: Sequence[Path], *, say: Say = to_stderr) -> Iterator[Prediction | Rejected]:
    """Caption image files, in order; the path is the id, and a file that is no image is told as `Rejected`."""
    base, captioner = subject.load(best_device())
    examples = [Example(id=str(path), captions=(), image=FileImage(path), split="", source="") for path in images]
    yield from generate(
        captioner, Encoder.of(base), examples, prefix=subject.prefix, settings=subject.generate, say=say
    )
