"""A model that is loaded once and asked often: images in, captions out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice, repeat
from math import inf
from os import PathLike
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Union, overload

from rscap.captioner.batch import Batch, Encoder, PackedRow, collate
from rscap.captioner.choice import Decoded
from rscap.captioner.consensus import Consensus
from rscap.captioner.decoding import decode_in_parts, images_together
from rscap.captioner.fitting import Fitting
from rscap.captioner.loader import Workers, ahead, batches
from rscap.data.images import opened
from rscap.data.source import check_rejected
from rscap.errors import DataError, ImageError, ModelError
from rscap.model.load import Base
from rscap.model.memory import release
from rscap.model.packed import PackedModel
from rscap.progress import Progress, Say, to_stderr
from rscap.recipe import GenerateSection, with_decoding
from rscap.records import (
    Answer,
    Example,
    ImageHandle,
    ImageHeader,
    Picture,
    Prediction,
    Rejected,
    TokenScore,
)

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

Errors = Literal["raise", "keep"]

OneImage = Union["str", "PathLike[str]", bytes, "Image", "np.ndarray[Any, Any]", ImageHandle, Example, Picture]
"""A path, the bytes of a file, a PIL image, `uint8[H, W, 3]` in RGB, an image handle, or an example with its id."""


class Captioner:
    """A model with its prompt and decode settings, ready to caption; `rscap.load` makes one from a run or a base.

    Several threads may share it: one lock lets one batch at a time through the model, so they take turns, and each gets
    the captions that it would get alone. How many images fit in memory is learned once and kept. Captioners of one base
    model and several adapters share the lock: the first is passed as `beside` to the others.
    """

    def __init__(
        self,
        packed: PackedModel,
        encoder: Encoder,
        *,
        prefix: str,
        settings: GenerateSection | None = None,
        name: str = "model",
        base: Base | None = None,
        beside: Captioner | None = None,
        merged: bool = False,
        pool: Path | None = None,
    ) -> None:
        self.merged = merged  # recorded in the signature, since merged weights are rounded once more
        self.encoder = encoder
        self.prefix = prefix
        self.settings = GenerateSection() if settings is None else settings
        self.name = name
        self._packed: PackedModel | None = packed
        self._base = base
        self._fitting = Fitting()
        self._consensus = Consensus(self.encoder.prompter, pool, self._fitting)
        self._lock: Lock = beside._lock if beside else Lock()  # they share weights, a device and its memory
        self._words: Lock = beside._words if beside else Lock()  # a tokenizer serves one thread at a time

    def __repr__(self) -> str:
        state = "closed" if self._packed is None else f"{self._packed.device}, {self._packed.compute_dtype}"
        return f"<Captioner {self.name!r}, {state}, prompt {self.prefix!r}>"

    @property
    def packed(self) -> PackedModel:
        """The model itself.

        Raises:
            ModelError: the captioner was closed.
        """
        if self._packed is None:
            raise ModelError(f"the captioner of {self.name} is closed", hint="load the model again")
        return self._packed

    @property
    def base(self) -> Base:
        """The base model as it was loaded, with its processor.

        Raises:
            ModelError: the captioner was closed, or made around a model that was not loaded by name.
        """
        if self._base is None:
            raise ModelError(f"the captioner of {self.name} holds no base model", hint="load the model by its name")
        return self._base

    @overload
    def caption(
        self, images: OneImage, *, errors: Literal["raise"] = "raise", prefix: str | None = None, **decode: Any
    ) -> Prediction: ...

    @overload
    def caption(
        self,
        images: Iterable[OneImage],
        *,
        errors: Literal["raise"] = "raise",
        prefix: str | None = None,
        **decode: Any,
    ) -> list[Prediction]: ...

    @overload
    def caption(
        self, images: OneImage, *, errors: Errors, prefix: str | None = None, **decode: Any
    ) -> Prediction | Rejected: ...

    @overload
    def caption(
        self, images: Iterable[OneImage], *, errors: Errors, prefix: str | None = None, **decode: Any
    ) -> list[Prediction | Rejected]: ...

    def caption(self, images: Any, *, errors: Errors = "raise", prefix: str | None = None, **decode: Any) -> Any:
        """Caption one image, or several in order.

        Args:
            images: one image gives a `Prediction`; a list, tuple or other iterable a list. An image is a path, a PIL
                image, `uint8[H, W, 3]` (RGB), the bytes of a file, or an example of a data set, whose id the
                prediction then carries.
            errors: what a broken image does: `raise`, or `keep` a `Rejected` with the reason in its place.
            prefix: the words before the caption, in place of those the model was trained with.
            decode: decode settings of this call, such as `beams=3` or `max_new_tokens=32`; see docs/decoding.md.

        Raises:
            ImageError: an image cannot be decoded (with `errors="raise"`); names it.
            RecipeError: unknown or contradictory decode settings.
            OutOfMemory: a single image does not fit.
        """
        if _is_several(images):
            return list(self.stream(images, errors=errors, prefix=prefix, **decode))
        (found,) = self.stream([images], errors=errors, prefix=prefix, **decode)
        return found

    def stream(
        self, images: Iterable[Any], *, errors: Errors = "raise", prefix: str | None = None, **decode: Any
    ) -> Iterator[Prediction | Rejected]:
        """Caption images as they come, in order; holds at most `batch_size` of them. Arguments as for `caption`.

        If iterating over `images` fails, the captions of the images before the failure come first.
        """
        if not _is_several(images):
            raise ImageError(
                f"stream takes several images, found one object of type {type(images).__name__}",
                hint="caption(image) captions one, and stream([image]) too",
            )
        if errors not in ("raise", "keep"):
            raise ValueError(f"errors is 'raise' or 'keep', not {errors!r}")
        settings = with_decoding(self.settings, decode)
        return self._streamed(iter(images), errors, self.prefix if prefix is None else prefix, settings)

    def _streamed(
        self, images: Iterator[Any], errors: Errors, prefix: str, settings: GenerateSection
    ) -> Iterator[Prediction | Rejected]:
        for chunk in _chunks(images, images_together(self.packed, settings, self.encoder.image)):
            found = self.predictions(chunk, prefix=prefix, settings=settings)
            for picture, item in zip(chunk, found, strict=True):
                if isinstance(item, Rejected) and errors == "raise":
                    picture.image.load()  # raises the error itself, with its hint
                    raise DataError(item.reason)
                yield item

    def predictions(
        self,
        pictures: Sequence[Example | Picture],
        *,
        prefix: str | None = None,
        settings: GenerateSection | None = None,
        workers: Workers = 0,
        say: Say = to_stderr,
    ) -> Iterator[Prediction | Rejected]:
        """Caption pictures in their order; a `Rejected` stands in the place of one that cannot be decoded.

        On a GPU, a thread decodes the images of the next batch while the model captions the current one. If a batch
        does not fit in memory, `say` reports it, and the captioner decodes it and all later ones in smaller parts.

        Raises:
            OutOfMemory: a single image does not fit.
        """
        for item in self._asked(pictures, prefix, settings, workers, say, scored=False):
            yield item.prediction if isinstance(item, Answer) else item

    def answers(
        self,
        pictures: Sequence[Example | Picture],
        *,
        prefix: str | None = None,
        settings: GenerateSection | None = None,
        workers: Workers = 0,
        say: Say = to_stderr,
    ) -> Iterator[Answer | Rejected]:
        """The same as `predictions`, with the probability of every token and how close each choice was."""
        return self._asked(pictures, prefix, settings, workers, say, scored=True)

    def _asked(
        self,
        pictures: Sequence[Example | Picture],
        prefix: str | None,
        settings: GenerateSection | None,
        workers: Workers,
        say: Say,
        *,
        scored: bool,
    ) -> Iterator[Answer | Rejected]:
        self._refuse_training()
        prefix = self.prefix if prefix is None else prefix
        settings = self.settings if settings is None else settings
        encode = partial(self.encoder.asked, prefix=self._ids(prefix))
        size = images_together(self.packed, settings, self.encoder.image)
        coming = batches(pictures, encode, size=size, pad=self.encoder.prompter.pad, workers=workers, say=say)
        if self.packed.device.type != "cpu":  # on a CPU the two thread pools would compete for the cores
            coming = ahead(coming)
        for batch in coming:
            with self._lock:
                found = self._decoded(batch, prefix, settings, say, scored)
            yield from _in_place(batch, found)

    def encoded(self, picture: Example | Picture, *, prefix: str | None = None) -> PackedRow:
        """Decode and resize a picture and add its prompt, ready for `answers_of`; takes a few hundred kilobytes.

        This does not wait for the model, so a server can refuse or prepare pictures while the model captions others.

        Raises:
            DataError: the image cannot be decoded, or the words spell a special token.
        """
        return self.encoder.asked(picture, prefix=self._ids(self.prefix if prefix is None else prefix))

    def answers_of(
        self, rows: Sequence[PackedRow], *, prefix: str, settings: GenerateSection, say: Say = to_stderr
    ) -> list[Answer]:
        """Caption rows that `encoded` prepared with this prefix, as one batch.

        Raises:
            OutOfMemory: a single image does not fit.
            NotFinite: an activation overflowed.
        """
        self._refuse_training()
        with self._lock:
            return self._decoded(collate(rows, pad=self.encoder.prompter.pad), prefix, settings, say, scored=True)

    def _refuse_training(self) -> None:
        if self.packed.net.training:  # the caller may hold the model too, so its mode is not changed here
            raise ValueError("the model is in training mode, where dropout changes captions: call eval() on it first")

    def _ids(self, prefix: str) -> tuple[int, ...]:
        with self._words:
            return tuple(self.encoder.prompter.prefix(prefix))

    def _decoded(self, batch: Batch, prefix: str, settings: GenerateSection, say: Say, scored: bool) -> list[Answer]:
        if not batch.images:
            return []
        if settings.choose == "consensus":
            drawn = self._consensus.drawn(self.packed, batch, settings=settings, say=say)
            with self._words:
                found = list(zip(batch.example_ids, self._consensus.chosen(drawn, settings), strict=True))
        else:
            found = list(
                decode_in_parts(
                    self.packed,
                    batch,
                    settings=settings,
                    eos=self.encoder.prompter.eos,
                    fitting=self._fitting,
                    say=say,
                    scored=scored,
                )
            )
        with self._words:
            return [
                Answer(
                    prediction=self._prediction(example_id, decoded, prefix),
                    tokens=self._token_scores(decoded, each=settings.beams == 1),
                    margin=min(decoded.margins, default=inf),
                )
                for example_id, decoded in found
            ]

    def _token_scores(self, decoded: Decoded, *, each: bool) -> tuple[TokenScore, ...]:
        """The scores of the tokens, if they were computed; with `each`, every token has a margin of its own."""
        if not decoded.logprobs:
            return ()
        margins = decoded.margins if each else repeat(None, len(decoded.ids))
        found = zip(self.encoder.prompter.pieces(decoded.ids), decoded.logprobs, margins, strict=True)
        return tuple(TokenScore(*one) for one in found)

    def _prediction(self, example_id: str, decoded: Decoded, prefix: str) -> Prediction:
        prompter = self.encoder.prompter
        return Prediction(
            example_id=example_id,
            caption=prompter.caption(decoded.ids),
            prefix=prefix,
            tokens=len(decoded.ids),
            stopped="eos" if decoded.ids[-1] == prompter.eos else "length",
            near_ties=decoded.near_ties,
        )

    def close(self) -> None:
        """Free the memory of the model; a closed captioner raises an error when it is used again."""
        with self._lock:
            if self._packed is not None:
                device = self._packed.device
                self._packed = self._base = None
                release(device)

    def __enter__(self) -> Captioner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def caption_all(
    captioner: Captioner,
    pictures: Sequence[Example | Picture],
    *,
    max_rejected_share: float,
    way_out: str,
    done: Sequence[Prediction] = (),
    workers: Workers = 0,
    progress: Progress | None = None,
    each: Callable[[Prediction | Rejected], None] | None = None,
    say: Say = to_stderr,
) -> tuple[list[Prediction], list[Rejected]]:
    """All predictions of a list of pictures, in order, and the pictures that cannot be decoded.

    `done` are predictions that an earlier call made of the first pictures, which are not captioned again; `each` is
    called with every new item.

    Raises:
        DataError: more than `max_rejected_share` of the pictures cannot be decoded; `way_out` is the hint.
        OutOfMemory: a single image does not fit.
    """
    items: list[Prediction | Rejected] = [*done]
    if progress and items:
        progress(len(items), len(pictures))
    for item in captioner.predictions(pictures[len(items) :], workers=workers, say=say):
        items.append(item)
        if each:
            each(item)
        if progress:
            progress(len(items), len(pictures))
    rejected = [item for item in items if isinstance(item, Rejected)]
    check_rejected(rejected, of=len(pictures), allowed=max_rejected_share, way_out=way_out)
    return [item for item in items if isinstance(item, Prediction)], rejected


def _is_several(images: Any) -> bool:
    """Whether this is a collection of images. Strings, bytes, files, mappings and arrays of numbers are iterable, but
    are not collections of images.

    The keys of a mapping or a table would be taken for paths, and the lines of a file for images.
    """
    if not isinstance(images, Iterable) or isinstance(images, str | bytes | bytearray | memoryview | Mapping):
        return False
    if hasattr(images, "read") or getattr(images, "ndim", 1) != 1:
        return False
    kind = getattr(getattr(images, "dtype", None), "kind", "O")
    return kind in "OSU"  # an array or a column of names


def _chunks(images: Iterator[Any], size: int) -> Iterator[list[Example | Picture]]:
    """Lists of up to `size` images. If iterating over `images` fails, the images before the failure come first."""
    numbered = enumerate(images)
    while True:
        chunk: list[Example | Picture] = []
        try:
            for number, image in islice(numbered, size):
                chunk.append(_picture(image, number))
        except Exception:
            if chunk:
                yield chunk
            raise
        if not chunk:
            return
        yield chunk


def _picture(image: Any, number: int) -> Example | Picture:
    named = image if isinstance(image, Example | Picture) else None
    given = named.image if named else image
    try:
        handle: ImageHandle = opened(given)
    except ImageError as error:
        handle = _Unusable(f"image {number}", error)
    if named:  # a caller's own Example or Picture may hold a path
        return named if handle is given else replace(named, image=handle)
    return Picture(id=handle.name, image=handle)


@dataclass(frozen=True, slots=True)
class _Unusable:
    """The handle of something that is not an image: it fails when it is decoded, as a broken file does."""

    name: str
    error: ImageError

    @property
    def identity(self) -> str:
        return self.name

    def load(self) -> Image:
        raise self.error

    def header(self) -> ImageHeader:
        raise self.error

    def data(self) -> bytes:
        raise self.error


def _in_place(batch: Batch, found: Sequence[Answer]) -> Iterator[Answer | Rejected]:
    """Answers and rejections of one batch in the order in which the pictures were asked for."""
    broken, captioned = dict(zip(batch.rejected_at, batch.rejected, strict=True)), iter(found)
    for place in range(len(broken) + len(found)):
        yield broken[place] if place in broken else next(captioned)
