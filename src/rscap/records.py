"""The nouns that cross doors between rooms: frozen records, never bare dicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from PIL.Image import Image

Stopped = Literal["eos", "length"]


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What is known of an image before a pixel is decoded."""

    format: str
    """As Pillow names it; `pixels` for an image that exists in memory only."""
    mode: str
    width: int
    height: int


class ImageHandle(Protocol):
    """Where the pixels of one example come from; cheap to hold, decoded only when asked. Must be picklable.

    Whoever writes a handle writes these five; see `rscap.data.images` for those of files, tables and memory.
    """

    @property
    def name(self) -> str:
        """What an error message calls this image: a path, or `table.parquet row 17`."""

    @property
    def identity(self) -> str:
        """What the digest of a source pins, without decoding: file name and size in bytes where there is a file."""

    def load(self) -> Image:
        """Decode to an RGB image of the source's own size; the caller may change it.

        Raises:
            ImageError: the image is missing, broken or too large to be decoded safely; names it.
        """

    def header(self) -> ImageHeader:
        """Format, mode and size, without decoding.

        Raises:
            ImageError: what `load` would refuse by the header alone.
        """

    def data(self) -> bytes | None:
        """The encoded bytes as they are; None for an image that has none because it is drawn or exists in memory.

        Raises:
            ImageError: the image is missing or cannot be read.
        """


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that cannot be used."""

    row: str
    """Where it stands, e.g. `captions.csv line 17`."""
    reason: str


@dataclass(frozen=True, slots=True)
class Note:
    """Something a reader of results should know about a row that is used all the same."""

    row: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One image with its reference captions, whatever source it came from."""

    id: str
    captions: tuple[str, ...]
    image: ImageHandle
    split: str
    source: str
    scene_class: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """An image to be captioned that belongs to no data set."""

    id: str
    image: ImageHandle


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One generated caption: a line of a file of predictions."""

    example_id: str
    caption: str
    prefix: str
    tokens: int
    """How many tokens were generated, `<eos>` included."""
    stopped: Stopped
    """`length`: max_new_tokens cut it short."""
    near_ties: int = 0
    """Steps at which the two best tokens lay within rounding error of each other."""


@dataclass(frozen=True, slots=True)
class TokenScore:
    """One generated token, and how sure the model was of it."""

    text: str
    """What it adds to the caption; nothing for `<eos>`."""
    logprob: float
    """The natural logarithm of its probability to the model, before penalties and temperature."""
    margin: float | None
    """How far the choice was from another one: the score of the best token less that of the second best, or the
    distance of a draw from the edge of the token's share. None in beam search, which chooses whole captions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A prediction with how sure the model was."""

    prediction: Prediction
    tokens: tuple[TokenScore, ...]
    """Every generated token, `<eos>` included."""
    margin: float
    """The closest choice of the caption; see `TokenScore.margin`. In beam search it may be one between two captions."""

    @property
    def confidence(self) -> float:
        """The mean log-probability of a token, at most 0."""
        return sum(token.logprob for token in self.tokens) / len(self.tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreSheet:
    """All that is known about how well a set of predictions did: a score sheet, as a file too.

    `items[id][metric]` is the item score; `corpus[metric]` the corpus score; `intervals[metric]` its 95 % bootstrap
    interval over images; a metric that could not be computed is absent from `corpus`, and `unscored` counts the
    examples without a prediction. `extra` holds what the scorer adds (kept statistics, flags, scores by source …).
    """

    signature: str
    n: int
    corpus: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    items: Mapping[str, Mapping[str, float]]
    unscored: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """The corpus scores, and not the thousands of item scores: a notebook shows this."""
        scores = ", ".join(f"{metric} {score:.3f}" for metric, score in self.corpus.items())
        return f"<ScoreSheet of {self.n:,} images: {scores}; {self.signature}>"
