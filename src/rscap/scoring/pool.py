"""The IDF pool: in how many images' references every n-gram occurs. Saved, it makes the CIDEr of subsets comparable."""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np

from rscap.errors import ScoreError
from rscap.opening import read_plain
from rscap.scoring.corpus import Corpus, Floats, Ints, NgramTable
from rscap.scoring.protocol import prepare, tokenizer_label
from rscap.scoring.resampling import check_references
from rscap.store import atomic_path

_FORMAT = "rscap-idf-pool/1"
_KEYS = ("bigrams", "trigrams", "fourgrams")
_MAX_BYTES = 2**28
"""Of one array; the pool of 4,454 images with five references has 1.1 MB in all."""


@dataclass(frozen=True)
class IdfPool:
    """Document frequencies of the n-grams of `n` images' references, under one protocol.

    Raises:
        ScoreError: numbers that no references have: n below 1, a frequency of 0 or above n, arrays that do not fit.
    """

    protocol: str
    tokenizer: str
    n: int
    table: NgramTable
    frequency: Ints
    """int[table.size], at least 1: in how many images' references each n-gram occurs."""

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ScoreError(f"n is {self.n}: an IDF pool has at least one image")
        words = self.table.words
        if any(one >= other for one, other in pairwise(words)):
            raise ScoreError("words are not in order, or occur twice")
        above = len(words)
        for key, numbers in zip(_KEYS, self.table.keys, strict=True):
            _check_integers(key, numbers)
            if len(numbers) and (numbers[0] < 0 or numbers[-1] >= above * len(words) or (np.diff(numbers) <= 0).any()):
                raise ScoreError(f"{key} are not rising numbers from 0 to {above * len(words):,}")
            above = len(numbers)
        _check_integers("frequency", self.frequency)
        if len(self.frequency) != self.table.size:
            raise ScoreError(f"frequency has {len(self.frequency):,} entries for {self.table.size:,} n-grams")
        if len(self.frequency) and (self.frequency.min() < 1 or self.frequency.max() > self.n):
            odd = next(value for value in self.frequency.tolist() if not 1 <= value <= self.n)
            raise ScoreError(f"frequency {odd} of an n-gram is not from 1 to n = {self.n}")

    @classmethod
    def build(
        cls, references: Mapping[str, Sequence[str]] | Collection[Sequence[str]], *, protocol: str = "coco"
    ) -> IdfPool:
        """The pool of these images' references: `{id: captions}`, or the captions alone.

        Raises:
            ScoreError: there are no images, or one has no reference.
        """
        named = references if isinstance(references, Mapping) else dict(enumerate(references))
        check_references(named)
        groups = list(named.values())
        texts = iter(prepare(protocol, [text for own in groups for text in own]))
        prepared = [[next(texts) for _ in own] for own in groups]
        return cls.of(Corpus.build([], prepared), len(prepared), protocol)

    @classmethod
    def of(cls, corpus: Corpus, n: int, protocol: str) -> IdfPool:
        """The pool of the references of a corpus that was prepared under `protocol`."""
        if n == 0:
            raise ScoreError("an IDF pool needs at least one image")
        frequency, table = corpus.document_frequency, corpus.table
        in_pool = frequency > 0
        word_count = int(in_pool[: len(table.words)].sum())  # the words of references come first in a corpus
        keys, place = [], np.cumsum(in_pool[: len(table.words)]) - 1
        for order, old in enumerate(table.keys, start=1):
            kept = in_pool[table.offsets[order] : table.offsets[order + 1]]
            parent, word = np.divmod(old[kept], max(1, len(table.words)))
            keys.append(place[parent] * word_count + word)
            place = np.cumsum(kept) - 1
        return cls(
            protocol=protocol,
            tokenizer=tokenizer_label(protocol),
            n=n,
            table=NgramTable(words=table.words[:word_count], keys=tuple(keys)),
            frequency=frequency[in_pool],
        )

    def weights(self, table: NgramTable) -> Floats:
        """float[table.size]: log N - log max(1, df) for every n-gram of `table`; df is 0 outside the pool."""
        number = table.translate(self.table)
        known = number >= 0
        weights = np.full(table.size, np.log(self.n))
        weights[known] -= np.log(self.frequency[number[known]])
        return weights

    @cached_property
    def digest(self) -> str:
        """Eight hexadecimal digits that name the pool: equal for equal references, whatever their order."""
        content = hashlib.sha256(f"{_FORMAT}|{self.protocol}|{self.tokenizer}|{self.n}|".encode())
        content.update("\n".join(self.table.words).encode("utf-8", "surrogatepass"))
        for array in (*self.table.keys, self.frequency):
            content.update(array.astype("<i8").tobytes())
        return content.hexdigest()[:8]

    def save(self, path: Path | str) -> None:
        """Write the pool as one NumPy archive without pickled objects."""
        header = "\n".join([_FORMAT, self.protocol, self.tokenizer, str(self.n)])
        with atomic_path(Path(path)) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(
                stream,
                header=np.frombuffer(header.encode(), dtype=np.uint8),
                words=np.frombuffer("\n".join(self.table.words).encode("utf-8", "surrogatepass"), dtype=np.uint8),
                frequency=self.frequency,
                bigrams=self.table.keys[0],
                trigrams=self.table.keys[1],
                fourgrams=self.table.keys[2],
            )

    @classmethod
    def load(cls, path: Path | str) -> IdfPool:
        """Read a pool that `save` wrote.

        Raises:
            ScoreError: the file is missing, is no pool of this format, or has a damaged or too large array; names it.
        """
        path = Path(path)
        try:
            arrays = _arrays(path)
            header = arrays["header"].tobytes().decode().split("\n")
            joined = arrays["words"].tobytes().decode("utf-8", "surrogatepass")
        except FileNotFoundError:
            raise ScoreError(f"{path} does not exist", hint="`--save-pool FILE` writes an IDF pool") from None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ScoreError(f"{path} is not an IDF pool: {error}", hint="`--save-pool FILE` writes one") from error
        if len(header) != 4 or header[0] != _FORMAT or not header[3].isdecimal():
            raise ScoreError(f"{path}: header {header!r:.100}, expected {_FORMAT!r}, protocol, tokenizer and n")
        table = NgramTable(words=tuple(joined.split("\n")) if joined else (), keys=tuple(arrays[key] for key in _KEYS))
        try:
            return cls(header[1], header[2], int(header[3]), table, arrays["frequency"])
        except ScoreError as error:
            raise ScoreError(f"{path}: {error.message}", hint="write it again with `--save-pool FILE`") from None


def _check_integers(key: str, values: Ints) -> None:
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise ScoreError(f"{key} is an array {values.dtype} {values.shape}, expected one row of whole numbers")


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an archive, none of them unpacked before its size is known to be reasonable.

    Raises:
        ValueError: an array is too large, or larger than its part of the archive.
    """
    arrays = {}
    with zipfile.ZipFile(io.BytesIO(read_plain(path))) as archive:
        for key in ("header", "words", "frequency", *_KEYS):
            part = archive.getinfo(f"{key}.npy")
            if part.file_size > _MAX_BYTES:
                raise ValueError(f"{key} has {part.file_size:,} bytes; at most {_MAX_BYTES:,} are read")
            with archive.open(part) as stream:
                version = np.lib.format.read_magic(stream)
                read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                if version not in read_header:
                    raise ValueError(f"{key} is of an unknown version of NumPy's format")
                shape, _, dtype = read_header[version](stream)
                if math.prod(shape) * dtype.itemsize > part.file_size:
                    raise ValueError(f"{key} claims shape {shape}, more than the archive holds")
            with archive.open(part) as stream:
                arrays[key] = np.lib.format.read_array(stream, allow_pickle=False)
    return arrays
