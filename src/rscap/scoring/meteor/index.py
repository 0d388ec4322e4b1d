"""METEOR's tables as arrays: built once from the installed pycocoevalcap's jar and paraphrases, then memory-mapped.

~/.cache/rscap/meteor-<digest>/
  meta.json        function words, prefixes, and the size of every array file
  phrase_words.npy     bytes[W]    words of the paraphrase table, sorted; a word's id is its place
  phrase_keys.npy      int64[P]    edges of the trie of phrases, sorted: parent * W + word leads to node place + 1
  paraphrase_bounds.npy  int32[P+2]  node n has the paraphrases targets[bounds[n]:bounds[n+1]]
  paraphrase_targets.npy int32[T]    nodes, in the order of the published file
  synset_words.npy     bytes[S]    words of WordNet, sorted
  synset_bounds.npy, synset_ids.npy        int32: word s has the synsets ids[bounds[s]:bounds[s+1]]
  exception_words.npy  bytes[E]    irregular forms, sorted
  exception_bounds.npy, exception_bases.npy int32: places of their base forms in synset_words
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import json
import os
import shutil
import sys
import tempfile
import zipfile
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rscap.progress import to_stderr
from rscap.scoring.measures import MetricUnavailable

HINT = "pip install 'rscap[meteor]'"
FUNCTION_WORDS = "function/english.words"
PREFIXES = "nonbreaking/english.prefixes"
SYNSETS = "synonym/english.synsets"
EXCEPTIONS = "synonym/english.exceptions"
MEMBERS = (FUNCTION_WORDS, PREFIXES, SYNSETS, EXCEPTIONS)


class MeteorUnavailable(MetricUnavailable):
    """METEOR cannot be computed here: its tables are not installed, or not the ones of METEOR 1.5."""


@dataclass(frozen=True, slots=True)
class MeteorFiles:
    """The files that hold the tables."""

    jar: Path
    paraphrases: Path

    @classmethod
    def find(cls) -> MeteorFiles:
        """The tables of the installed pycocoevalcap; the package is located, not imported.

        Raises:
            MeteorUnavailable: pycocoevalcap is not installed, or lacks one of the files; names it.
        """
        spec = importlib.util.find_spec("pycocoevalcap")
        if spec is None or not spec.submodule_search_locations:
            raise MeteorUnavailable(
                "METEOR's tables come with the package pycocoevalcap, which is not installed", hint=HINT
            )
        folder = Path(spec.submodule_search_locations[0]) / "meteor"
        source = cls(jar=folder / "meteor-1.5.jar", paraphrases=folder / "data" / "paraphrase-en.gz")
        for path in (source.jar, source.paraphrases):
            if not path.is_file():
                raise MeteorUnavailable(
                    f"{path} is missing from the installed pycocoevalcap", hint=f"reinstall it: {HINT}"
                )
        return source

    def digest(self, version: str) -> str:
        """A digest of the tables' contents and of `version`, from the checksums that zip and gzip files carry.

        Raises:
            MeteorUnavailable: the jar is not a zip file, or lacks a table.
        """
        digest = hashlib.sha256(version.encode())
        try:
            with zipfile.ZipFile(self.jar) as jar:
                for name in MEMBERS:
                    member = jar.getinfo(name)
                    digest.update(f"{name} {member.CRC} {member.file_size}\n".encode())
        except (zipfile.BadZipFile, KeyError) as error:
            raise MeteorUnavailable(
                f"{self.jar} does not hold METEOR 1.5: {error}", hint=f"reinstall it: {HINT}"
            ) from None
        with self.paraphrases.open("rb") as stream:
            size = stream.seek(0, io.SEEK_END)
            stream.seek(max(0, size - 8))
            digest.update(f"{size} ".encode() + stream.read())
        return digest.hexdigest()[:16]

    def lines(self, member: str) -> list[str]:
        """The lines of one table of the jar."""
        with zipfile.ZipFile(self.jar) as jar:
            return jar.read(member).decode("utf-8").splitlines()

    def paraphrase_pairs(self) -> Iterator[tuple[bytes, bytes]]:
        """(phrase, its paraphrase) in the order of the file, whose entries are three lines: probability and both.

        Raises:
            MeteorUnavailable: the file is damaged.
        """
        try:
            with gzip.open(self.paraphrases, "rb") as stream:
                while stream.readline():
                    yield stream.readline().rstrip(b"\n"), stream.readline().rstrip(b"\n")
        except (EOFError, gzip.BadGzipFile) as error:
            raise MeteorUnavailable(f"{self.paraphrases} is damaged: {error}", hint=f"reinstall it: {HINT}") from None


VERSION = "rscap-meteor-index-1"
LONGEST_PHRASE = 7
ROOT = 0

Ints = NDArray[np.integer[Any]]
Words = NDArray[np.bytes_]


@dataclass(frozen=True, slots=True)
class Index:
    """The arrays listed above."""

    function_words: frozenset[str]
    prefix_lines: str
    phrase_words: Words
    phrase_keys: Ints
    paraphrase_bounds: Ints
    paraphrase_targets: Ints
    synset_words: Words
    synset_bounds: Ints
    synset_ids: Ints
    exception_words: Words
    exception_bounds: Ints
    exception_bases: Ints


ARRAYS = tuple(name for name in Index.__slots__ if name not in ("function_words", "prefix_lines"))


def load(source: MeteorFiles) -> Index:
    """The index of `source`: from the cache, or else built and put there.

    Where nothing can be kept (a read-only or full disk, no home folder), the index is built in memory every time.
    """
    try:
        folder = cache_folder() / f"meteor-{source.digest(VERSION)}"
    except RuntimeError as error:  # a user without a home folder
        return _unkept(_built(source), str(error))
    if (index := _open(folder)) is not None:
        return index
    built = _built(source)
    try:
        _write(built, folder)
    except (OSError, ValueError) as error:  # NumPy reports a full disk without the number of the error
        return _unkept(built, f"{folder.parent}: {getattr(error, 'strerror', None) or error}")
    return _open(folder) or _unkept(built, f"{folder} cannot be read back after it was written")


def _unkept(built: Index, reason: str) -> Index:
    to_stderr(
        f"note: METEOR's tables cannot be kept ({reason}); every command that needs them builds them again, in about "
        "15 s. RSCAP_CACHE names another folder"
    )
    return built


def cache_folder() -> Path:
    """`$RSCAP_CACHE`, or the platform's folder for caches."""
    if chosen := os.environ.get("RSCAP_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "rscap"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "rscap"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rscap"


def _open(folder: Path) -> Index | None:
    """The index in `folder`; None if it is missing or a file has not the size that meta.json states."""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        for name in ARRAYS:
            if (folder / f"{name}.npy").stat().st_size != meta["bytes"][name]:
                return None
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Index(function_words=frozenset(meta["function_words"]), prefix_lines=meta["prefixes"], **arrays)


def _built(source: MeteorFiles) -> Index:
    return Index(
        function_words=frozenset(word for line in source.lines(FUNCTION_WORDS) if (word := line.strip())),
        prefix_lines="\n".join(source.lines(PREFIXES)),
        **_phrase_arrays(source),
        **_synset_arrays(source),
    )


def _write(index: Index, folder: Path) -> None:
    """Write the index beside `folder` and rename it into place; of several builders the first one wins."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        sizes = {}
        for name in ARRAYS:
            np.save(temporary / f"{name}.npy", getattr(index, name))
            sizes[name] = (temporary / f"{name}.npy").stat().st_size
        meta = {
            "version": VERSION,
            "bytes": sizes,
            "function_words": sorted(index.function_words),
            "prefixes": index.prefix_lines,
        }
        (temporary / "meta.json").write_text(json.dumps(meta, ensure_ascii=False), encoding="utf-8")
        temporary.chmod(0o755)
        _publish(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _publish(temporary: Path, folder: Path) -> None:
    """Rename `temporary` to `folder`; what is already there is kept if it is whole, and moved out of the way if not."""
    for _ in range(3):
        try:
            temporary.rename(folder)
            return
        except OSError:
            if _open(folder) is not None:
                return
            damaged = Path(tempfile.mkdtemp(prefix=f".{folder.name}.damaged.", dir=folder.parent))
            try:
                folder.rename(damaged / "index")
            except FileNotFoundError:
                pass  # another builder moved it first
            finally:
                shutil.rmtree(damaged, ignore_errors=True)


def _phrase_arrays(source: MeteorFiles) -> dict[str, Any]:
    """The trie of all phrases and their paraphrases."""
    numbers: dict[bytes, int] = {}
    pairs = array("i")
    for phrase, paraphrase in source.paraphrase_pairs():
        pairs.append(numbers.setdefault(phrase, len(numbers)))
        pairs.append(numbers.setdefault(paraphrase, len(numbers)))
    words = sorted({word for phrase in numbers for word in phrase.split(b" ")})
    nodes, keys = _trie(list(numbers), words)
    ends = nodes[np.frombuffer(pairs, dtype=np.int32).reshape(-1, 2)]
    order = np.argsort(ends[:, 0], kind="stable")
    bounds = np.searchsorted(ends[order, 0], np.arange(len(keys) + 2))
    return {
        "phrase_words": np.array(words),
        "phrase_keys": keys,
        "paraphrase_bounds": bounds.astype(np.int32),
        "paraphrase_targets": ends[order, 1].astype(np.int32),
    }


def _trie(phrases: Sequence[bytes], words: Sequence[bytes]) -> tuple[Ints, Ints]:
    """(the node of every phrase, the sorted keys of all edges): breadth first, so deeper nodes have larger keys."""
    place = {word: number for number, word in enumerate(words)}
    grid = np.full((len(phrases), LONGEST_PHRASE), -1, dtype=np.int32)
    for row, phrase in enumerate(phrases):
        numbers = [place[word] for word in phrase.split(b" ")]
        grid[row, : len(numbers)] = numbers
    nodes = np.full(len(phrases), ROOT, dtype=np.int64)
    levels: list[Ints] = []
    known = 1
    for depth in range(LONGEST_PHRASE):
        here = np.flatnonzero(grid[:, depth] >= 0)
        keys, inverse = np.unique(nodes[here] * len(words) + grid[here, depth], return_inverse=True)
        nodes[here] = known + inverse
        known += len(keys)
        levels.append(keys)
    return nodes, np.concatenate(levels)


def _synset_arrays(source: MeteorFiles) -> dict[str, Any]:
    """WordNet's words with their synsets, and its irregular forms, but for entries with `_`, which no token holds."""
    lines = source.lines(SYNSETS)
    synsets = {
        word.encode(): line.split() for word, line in zip(lines[::2], lines[1::2], strict=True) if "_" not in word
    }
    words = sorted(synsets)
    place = {word: number for number, word in enumerate(words)}
    bases: dict[bytes, list[int]] = {}
    lines = source.lines(EXCEPTIONS)
    for base, forms in zip(lines[::2], lines[1::2], strict=True):
        for form in forms.split():
            known = bases.setdefault(form.encode(), [])
            if base.encode() in place:
                known.append(place[base.encode()])
    forms_ = sorted(bases)
    return {
        "synset_words": np.array(words),
        "synset_bounds": _bounds([len(synsets[word]) for word in words]),
        "synset_ids": np.array([int(number) for word in words for number in synsets[word]], dtype=np.int32),
        "exception_words": np.array(forms_),
        "exception_bounds": _bounds([len(bases[form]) for form in forms_]),
        "exception_bases": np.array([number for form in forms_ for number in bases[form]], dtype=np.int32),
    }


def _bounds(lengths: Sequence[int]) -> Ints:
    """int32[len + 1]: the bounds of rows of these lengths in one flat array."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
