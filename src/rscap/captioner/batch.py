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

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from rscap.captioner.prompt import Prompter
from rscap.model.families import ImageSpec
from rscap.model.features import Features
from rscap.model.load import Base
from rscap.model.loss import Draw
from rscap.records import Example, Picture, Rejected

PADDING = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedRow:
    """One example, encoded: pixels and the packed sequence of its prefix and captions."""

    example_id: str
    pixels: Tensor
    """As `ImageSpec.pixels` makes them; empty where `features` stand in their place."""
    tokens: list[int]
    branch: list[int]
    positions: list[int]
    sources: list[int]
    """Index of the token each target is predicted from."""
    targets: list[int]
    captions: int
    features: Tensor | None = None
    """float[T, V]: what a frozen vision tower sees, where it was computed before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """B packed rows, padded to N tokens, with S supervised positions over all rows."""

    pixel_values: Tensor
    """float[B, …]: pixels of the rows; empty where `features` stand in their place"""
    tokens: Tensor
    """int[B, N]"""
    branch: Tensor
    """int[B, N]: 0 prefix, k the k-th caption, -1 padding"""
    positions: Tensor
    """int[B, N]; they restart after the prefix in every branch"""
    source_rows: Tensor
    """int[S]: the row a target is predicted in"""
    source_columns: Tensor
    """int[S]: the token it is predicted from"""
    source_slots: Tensor
    """int[S]: where that token stands in its row of `source_grid`"""
    source_grid: Tensor
    """int[B, M]: the columns that targets are predicted from, row by row; shorter rows are filled with column 0"""
    targets: Tensor
    """int[S]: token ids, one `<eos>` per caption"""
    features: Tensor | None = None
    """float[B, T, V]: what a frozen vision tower sees, where it was computed before"""
    weights: Tensor | None = None
    """float[S]: of each target in the loss, where they are not all 1"""
    draw: Draw | None = None
    """How targets were drawn, if they were"""
    example_ids: tuple[str, ...] = ()
    captions: int = 0
    rejected: tuple[Rejected, ...] = ()
    rejected_at: tuple[int, ...] = ()
    """The position of each rejected item among all items of the batch, usable ones included, counted from 0."""

    @property
    def images(self) -> int:
        return len(self.example_ids)

    @property
    def supervised(self) -> int:
        """How many tokens are supervised, `<eos>` included."""
        return self.targets.numel()

    def halves(self) -> list[Batch]:
        """The batch cut in two by rows, for when it does not fit in memory; a batch of one row cannot be cut."""
        middle = self.images // 2
        return [self._rows(0, middle), self._rows(middle, self.images)] if middle else [self]

    def parts(self, size: int) -> list[Batch]:
        """The batch cut by rows into parts of at most `size`."""
        if size >= self.images:
            return [self]
        return [self._rows(start, min(start + size, self.images)) for start in range(0, self.images, size)]

    def _rows(self, start: int, end: int) -> Batch:
        inside = (self.source_rows >= start) & (self.source_rows < end)
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in values.items():
            if name in ("source_rows", "source_columns", "source_slots", "targets", "weights"):
                values[name] = None if value is None else value[inside]
            elif isinstance(value, Draw):
                values[name] = value._replace(rows=value.rows[inside])
            elif torch.is_tensor(value) and len(value):  # pixels are empty where features stand in their place
                values[name] = value[start:end]
        values |= {
            "source_rows": values["source_rows"] - start,
            "example_ids": self.example_ids[start:end],
            "captions": int(self.branch[start:end].amax(dim=1).clamp(min=0).sum()),
            "rejected": (),
            "rejected_at": (),
        }
        return Batch(**values)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with its tensors on `device`."""
        return self._with_tensors(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory, which a GPU reads while it computes; the loader calls this."""
        return self._with_tensors(Tensor.pin_memory)

    def _with_tensors(self, change: Callable[[Tensor], Tensor]) -> Batch:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        changed: dict[str, Any] = {name: change(value) for name, value in values.items() if torch.is_tensor(value)}
        if self.draw is not None:
            changed["draw"] = self.draw._replace(forbidden=change(self.draw.forbidden), rows=change(self.draw.rows))
        return replace(self, **changed)


def pack(prefix: Sequence[int], suffixes: Sequence[Sequence[int]], *, first: int = 1) -> dict[str, list[int]]:
    """Lay out one prefix and its K suffixes (each closed by `<eos>`) as one sequence; see the picture above.

    Positions are counted from `first`.
    """
    start = len(prefix)
    tokens, branch, positions = list(prefix), [0] * start, list(range(first, first + start))
    sources: list[int] = []
    targets: list[int] = []
    for k, suffix in enumerate(suffixes, start=1):
        inputs = suffix[:-1]
        sources += [start - 1, *range(len(tokens), len(tokens) + len(inputs))]
        targets += suffix
        tokens += inputs
        branch += [k] * len(inputs)
        positions += range(first + start, first + start + len(inputs))
    return {"tokens": tokens, "branch": branch, "positions": positions, "sources": sources, "targets": targets}


def collate(items: Sequence[PackedRow | Rejected], *, pad: int) -> Batch:
    """Pad encoded rows on the right and stack them; a batch without images still lists what was rejected."""
    rows = [item for item in items if isinstance(item, PackedRow)]
    rejected = {place: item for place, item in enumerate(items) if isinstance(item, Rejected)}

    def padded(lists: list[list[int]], fill: int) -> Tensor:
        width = max(map(len, lists), default=0)
        return torch.tensor([values + [fill] * (width - len(values)) for values in lists], dtype=torch.long)

    cached = [row.features for row in rows if row.features is not None]
    if cached and len(cached) != len(rows):
        raise ValueError(f"{len(cached)} of {len(rows)} rows carry features; it is all or none")
    return Batch(
        pixel_values=torch.stack([row.pixels for row in rows]) if rows and not cached else torch.empty(0),
        features=torch.stack(cached) if cached else None,
        tokens=padded([row.tokens for row in rows], pad),
        branch=padded([row.branch for row in rows], PADDING),
        positions=padded([row.positions for row in rows], 1),
        source_rows=torch.tensor([index for index, row in enumerate(rows) for _ in row.targets], dtype=torch.long),
        source_columns=torch.tensor([column for row in rows for column in row.sources], dtype=torch.long),
        source_slots=torch.tensor([slot for row in rows for slot in range(len(row.sources))], dtype=torch.long),
        source_grid=padded([row.sources for row in rows], 0),
        targets=torch.tensor([token for row in rows for token in row.targets], dtype=torch.long),
        example_ids=tuple(row.example_id for row in rows),
        captions=sum(row.captions for row in rows),
        rejected=tuple(rejected.values()),
        rejected_at=tuple(rejected),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """Encodes examples; picklable, so that data workers can carry it."""

    prompter: Prompter
    image: ImageSpec
    features: Features | None = None
    """What a frozen vision tower sees of each example, in place of pixels."""

    @classmethod
    def of(cls, base: Base) -> Encoder:
        """The encoder of a base model: its tokenizer's token layout and its pixels."""
        return cls(prompter=Prompter(base.layout), image=base.image)

    def __call__(
        self, example: Example, *, prefix: str, captions: Sequence[str], change: Callable[[Image], Image] | None = None
    ) -> PackedRow:
        """Encode one example with the captions to be learned; none for generation. `change` augments the image.

        Raises:
            DataError: the image cannot be decoded or a caption cannot be learned; names the example.
            StoreError: cached features lack the example or are damaged.
        """
        if self.features and change is not None:
            raise ValueError("features were computed of the image as it is; changes to it would be lost")
        suffixes = [self.prompter.suffix(caption, example_id=example.id) for caption in captions]
        seen = self.features(example.id) if self.features else None
        return PackedRow(
            example_id=example.id,
            pixels=self._pixels(example, change) if seen is None else torch.empty(0),
            features=seen,
            captions=len(suffixes),
            **pack(self.prompter.prefix(prefix), suffixes, first=self.prompter.layout.first_position),
        )

    def asked(self, picture: Picture | Example, *, prefix: Sequence[int]) -> PackedRow:
        """Encode one picture with the ids of a prefix, to generate captions for it.

        Raises:
            DataError: the image cannot be decoded; names it.
            StoreError: cached features lack the picture or are damaged.
        """
        seen = self.features(picture.id) if self.features else None
        return PackedRow(
            example_id=picture.id,
            pixels=self._pixels(picture, None) if seen is None else torch.empty(0),
            features=seen,
            captions=0,
            **pack(prefix, (), first=self.prompter.layout.first_position),
        )

    def _pixels(self, example: Picture | Example, change: Callable[[Image], Image] | None) -> Tensor:
        image = example.image.load()
        return self.image.pixels(image if change is None else change(image))
