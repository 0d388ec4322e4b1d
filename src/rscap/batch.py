"""Examples become one `Batch`: one image, its K captions, one sequence.

    tokens     I I I … <bos> caption en \n | a plane | two planes | …      inputs (<eos> is only ever predicted)
    branch     0 0 0 …   0      0    0  0  | 1   1   | 2    2     | …      -1 is padding
    position   1 2 3 …                  P  | P+1 …   | P+1  …     | …
    attends    whole prefix                | prefix + own past only
    targets    –                    k=1..K | plane <eos> | …         (a branch's first token: from the prefix's last)

The prefix is computed once and every caption is conditioned on it alone, so the loss and its gradients are those of K
separate sequences. Dropout is the one difference: a mask drawn on the prefix is shared by the K captions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Generic, TypeVar

import numpy as np
import torch
from PIL.Image import Image, Resampling
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rscap.data import Rejected
from rscap.errors import DataError
from rscap.model.load import Base
from rscap.model.spec import ImageSpec
from rscap.prompt import Prompter
from rscap.records import Example

PADDING = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One example, encoded: pixels and the packed sequence of its prefix and captions."""

    example_id: str
    pixels: Tensor
    """float[3, H, W] in [-1, 1]."""
    tokens: list[int]
    branch: list[int]
    positions: list[int]
    sources: list[int]
    """Index of the token each target is predicted from."""
    targets: list[int]
    captions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """B packed rows, padded to N tokens, with S supervised positions over all rows."""

    pixel_values: Tensor
    """float[B, 3, H, W]"""
    tokens: Tensor
    """int[B, N]"""
    branch: Tensor
    """int[B, N]: 0 prefix, k the k-th caption, -1 padding"""
    positions: Tensor
    """int[B, N], counted from 1; they restart after the prefix in every branch"""
    source_rows: Tensor
    """int[S]: the row a target is predicted in"""
    source_columns: Tensor
    """int[S]: the token it is predicted from"""
    targets: Tensor
    """int[S]: token ids, one `<eos>` per caption"""
    example_ids: tuple[str, ...] = ()
    captions: int = 0
    rejected: tuple[Rejected, ...] = ()

    @property
    def images(self) -> int:
        return len(self.example_ids)

    @property
    def supervised(self) -> int:
        """How many tokens are supervised, `<eos>` included."""
        return self.targets.numel()

    def attention(self, window: int | None) -> Tensor:
        """bool[B, N, N]: who sees whom; see `attention`."""
        return attention(self.branch, self.positions, window=window)

    def halves(self) -> list[Batch]:
        """The batch cut in two by rows, for when it does not fit in memory; a batch of one row cannot be cut."""
        middle = self.images // 2
        return [self._rows(0, middle), self._rows(middle, self.images)] if middle else [self]

    def _rows(self, start: int, end: int) -> Batch:
        inside = (self.source_rows >= start) & (self.source_rows < end)
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in values.items():
            if name in ("source_rows", "source_columns", "targets"):
                values[name] = value[inside]
            elif torch.is_tensor(value):
                values[name] = value[start:end]
        values |= {
            "source_rows": values["source_rows"] - start,
            "example_ids": self.example_ids[start:end],
            "captions": int(self.branch[start:end].amax(dim=1).clamp(min=0).sum()),
            "rejected": (),
        }
        return Batch(**values)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with its tensors on `device`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        moved = {name: value.to(device, non_blocking=True) for name, value in values.items() if torch.is_tensor(value)}
        return Batch(**{**values, **moved})


def pack(prefix: Sequence[int], suffixes: Sequence[Sequence[int]]) -> dict[str, list[int]]:
    """Lay out one prefix and its K suffixes (each closed by `<eos>`) as one sequence; see the picture above."""
    start = len(prefix)
    tokens, branch, positions = list(prefix), [0] * start, list(range(1, start + 1))
    sources: list[int] = []
    targets: list[int] = []
    for k, suffix in enumerate(suffixes, start=1):
        inputs = suffix[:-1]
        sources += [start - 1, *range(len(tokens), len(tokens) + len(inputs))]
        targets += suffix
        tokens += inputs
        branch += [k] * len(inputs)
        positions += range(start + 1, start + 1 + len(inputs))
    return {"tokens": tokens, "branch": branch, "positions": positions, "sources": sources, "targets": targets}


def attention(branch: Tensor, positions: Tensor, *, window: int | None = None) -> Tensor:
    """Who sees whom: bool[B, N, N], True where the row's token (second axis) attends to the column's (third axis).

    The prefix sees itself whole; a branch sees the prefix and its own past; padding sees only itself, so that no row of
    the softmax is empty. `window` is Gemma 2's sliding window, measured in positions: a suffix token sees the `window`
    positions that end with its own. The prefix stays bidirectional whatever the window, as in transformers.
    """
    query, key = branch.unsqueeze(2), branch.unsqueeze(1)
    distance = positions.unsqueeze(2) - positions.unsqueeze(1)
    prefix = (query == 0) & (key == 0)
    past = (query > 0) & ((key == 0) | (key == query)) & (distance >= 0)
    if window is not None:
        past &= distance < window
    itself = torch.eye(branch.shape[1], dtype=torch.bool, device=branch.device)
    return prefix | past | itself


def collate(rows: Sequence[Row], *, pad: int, rejected: Sequence[Rejected] = ()) -> Batch:
    """Pad encoded rows on the right and stack them; a batch of no images still tells what was rejected."""
    width = max((len(row.tokens) for row in rows), default=0)

    def padded(lists: list[list[int]], fill: int) -> Tensor:
        return torch.tensor([values + [fill] * (width - len(values)) for values in lists], dtype=torch.long)

    return Batch(
        pixel_values=torch.stack([row.pixels for row in rows]) if rows else torch.empty(0),
        tokens=padded([row.tokens for row in rows], pad),
        branch=padded([row.branch for row in rows], PADDING),
        positions=padded([row.positions for row in rows], 1),
        source_rows=torch.tensor([index for index, row in enumerate(rows) for _ in row.targets], dtype=torch.long),
        source_columns=torch.tensor([column for row in rows for column in row.sources], dtype=torch.long),
        targets=torch.tensor([token for row in rows for token in row.targets], dtype=torch.long),
        example_ids=tuple(row.example_id for row in rows),
        captions=sum(row.captions for row in rows),
        rejected=tuple(rejected),
    )


def pixels(image: Image, spec: ImageSpec) -> Tensor:
    """An RGB image as float[3, R, R]: resized bicubically to a square, scaled, normalised (SigLIP's preprocessing)."""
    side = spec.resolution_px
    if image.size != (side, side):
        image = image.resize((side, side), Resampling.BICUBIC)
    array = torch.from_numpy(np.array(image, dtype=np.uint8)).permute(2, 0, 1).to(torch.float32).div_(255.0)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (spec.mean, spec.std))
    return array.sub_(mean).div_(std).contiguous()


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """Encodes examples; picklable, so that data workers can carry it."""

    prompter: Prompter
    image: ImageSpec

    @classmethod
    def of(cls, base: Base) -> Encoder:
        """The encoder of a base model: its tokenizer's token layout and its pixels."""
        prompter = Prompter(base.tokenizer, image_token_id=base.image_token_id, image_tokens=base.image_tokens)
        return cls(prompter=prompter, image=base.image)

    def __call__(
        self, example: Example, *, prefix: str, captions: Sequence[str], change: Callable[[Image], Image] | None = None
    ) -> Row:
        """Encode one example with the captions to be learned; none for generation. `change` augments the image.

        Raises:
            DataError: the image cannot be decoded or a caption cannot be learned; names the example.
        """
        suffixes = [self.prompter.suffix(caption, example_id=example.id) for caption in captions]
        image = example.image.load()
        return Row(
            example_id=example.id,
            pixels=pixels(image if change is None else change(image), self.image),
            captions=len(suffixes),
            **pack(self.prompter.prefix(prefix), suffixes),
        )


Place = TypeVar("Place")


class _Rows(Dataset[Row | Rejected], Generic[Place]):
    """The encoded row of each place that a sampler names."""

    def __init__(self, encode: Callable[[Place], Row], name: Callable[[Place], str]) -> None:
        self.encode, self.name = encode, name

    def __getitem__(self, place: Place) -> Row | Rejected:
        try:
            return self.encode(place)
        except DataError as error:
            return Rejected(row=self.name(place), reason=error.message)


@dataclass(frozen=True, slots=True)
class _Collate:
    pad: int

    def __call__(self, items: list[Row | Rejected]) -> Batch:
        rows = [item for item in items if isinstance(item, Row)]
        return collate(rows, pad=self.pad, rejected=[item for item in items if isinstance(item, Rejected)])


def batches(
    examples: Sequence[Example], encode: Callable[[Example], Row], *, size: int, pad: int, workers: int = 0
) -> Iterator[Batch]:
    """Batches of `size` examples in the order given; what cannot be encoded is told in `Batch.rejected`, never lost."""
    everyone = range(len(examples))
    groups = (everyone[start : start + size] for start in range(0, len(examples), size))
    listed = _Listed(examples, encode)
    return stream(groups, listed.encode_at, name=listed.name_at, pad=pad, workers=workers)


def stream(
    groups: Iterable[Sequence[Place]],
    encode: Callable[[Place], Row],
    *,
    name: Callable[[Place], str],
    pad: int,
    workers: int = 0,
) -> Iterator[Batch]:
    """One batch a group of places, in order; groups may never end. `name` says which example lies at a place."""
    loader = DataLoader(
        _Rows(encode, name),
        batch_sampler=groups,  # type: ignore[arg-type]  # any iterable of lists of keys serves
        num_workers=workers,
        collate_fn=_Collate(pad),
        # Forked workers inherit torch's thread pool half alive; started afresh they do not.
        multiprocessing_context="spawn" if workers else None,
    )
    return iter(loader)


@dataclass(frozen=True, slots=True)
class _Listed:
    """Examples by their position in a list."""

    examples: Sequence[Example]
    encode: Callable[[Example], Row]

    def encode_at(self, position: int) -> Row:
        return self.encode(self.examples[position])

    def name_at(self, position: int) -> str:
        return self.examples[position].id
