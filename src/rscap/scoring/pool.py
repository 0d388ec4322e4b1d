"""The IDF pool: in how many images' references every n-gram occurs. Saved, it makes the CIDEr of subsets comparable."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from rscap.errors import ScoreError
from rscap.scoring.corpus import Corpus
from rscap.scoring.ngrams import Floats, Ints, NgramTable
from rscap.scoring.pairing import check_references
from rscap.scoring.protocol import prepare, tokenizer_label
from rscap.store import atomic_path

_FORMAT = "rscap-idf-pool/1"


@dataclass(frozen=True)
class IdfPool:
    """Document frequencies of the n-grams of `n` images' references, under one protocol."""

    protocol: str
    tokenizer: str
    n: int
    table: NgramTable
    frequency: Ints
    """int[table.size], at least 1: in how many images' references each n-gram occurs."""

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
            ScoreError: the file is missing or is not a pool of this format.
        """
        try:
            with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            form, protocol, tokenizer, n = arrays["header"].tobytes().decode().split("\n")
            joined = arrays["words"].tobytes().decode("utf-8", "surrogatepass")
            keys = (arrays["bigrams"], arrays["trigrams"], arrays["fourgrams"])
        except FileNotFoundError:
            raise ScoreError(f"{path} does not exist", hint="`--save-pool FILE` writes an IDF pool") from None
        except (OSError, ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile) as error:
            raise ScoreError(f"{path} is not an IDF pool: {error}", hint="`--save-pool FILE` writes one") from error
        if form != _FORMAT:
            raise ScoreError(f"{path} is of format {form!r}, expected {_FORMAT!r}")
        words = tuple(joined.split("\n")) if joined else ()
        return cls(protocol, tokenizer, int(n), NgramTable(words=words, keys=keys), arrays["frequency"])
